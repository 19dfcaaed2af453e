//! File names for saved images: derived from their original names, and safe on every system.

use super::ImageId;

/// The longest name in characters; most file systems allow 255 bytes.
const MAX_NAME: usize = 100;

/// A file name for an image with this original name, or its id if nothing usable remains.
pub fn safe(original_name: Option<&str>, id: &ImageId) -> String {
    original_name.and_then(of).unwrap_or_else(|| id.to_string())
}

/// The usable part of a name: the last segment of a path, without invisible characters and those that some systems
/// reject.
pub fn of(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let unfit = |sign: char| sign.is_control() || "<>:\"|?*".contains(sign);
    let shown = last.chars().filter(|sign| !hides(*sign));
    let clean: String = shown.map(|sign| if unfit(sign) { '_' } else { sign }).collect();
    let clean = clean.trim_matches(|sign: char| sign == '.' || sign.is_whitespace());
    // The beginning is cut off, since the end has the extension.
    let kept: String = clean.chars().skip(clean.chars().count().saturating_sub(MAX_NAME)).collect();
    (!kept.is_empty()).then_some(kept)
}

/// Whether a character is invisible, or changes the direction of text.
fn hides(sign: char) -> bool {
    matches!(sign, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
