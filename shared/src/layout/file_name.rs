//! Names under which images are saved: made of what whoever uploaded them called them, and safe wherever they are.

use super::ImageId;

/// The longest name in characters; most file systems hold 255 bytes.
const MAX_NAME: usize = 100;

/// A name for an image of this original name, or its id where that leaves none.
pub fn safe(original_name: Option<&str>, id: &ImageId) -> String {
    original_name.and_then(of).unwrap_or_else(|| id.to_string())
}

/// What is left of a name: the end of a path, with no sign that hides something or that some system does not take.
pub fn of(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let unfit = |sign: char| sign.is_control() || "<>:\"|?*".contains(sign);
    let shown = last.chars().filter(|sign| !hides(*sign));
    let clean: String = shown.map(|sign| if unfit(sign) { '_' } else { sign }).collect();
    let clean = clean.trim_matches(|sign: char| sign == '.' || sign.is_whitespace());
    // What is cut off is the beginning, since the end says what it is.
    let kept: String = clean.chars().skip(clean.chars().count().saturating_sub(MAX_NAME)).collect();
    (!kept.is_empty()).then_some(kept)
}

/// Whether a sign is not seen, or turns the direction of those that are.
fn hides(sign: char) -> bool {
    matches!(sign, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
