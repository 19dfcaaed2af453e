//! Properties of XMP, which is XML: `exif:GPSLatitude="52,31.2N"` or `<exif:GPSLatitude>52,31.2N</exif:GPSLatitude>`, and
//! those of drones, such as `drone-dji:GpsLatitude`.

use std::ops::Range;

/// The longest name.
const LONGEST_NAME: usize = 64;

/// What to fill with spaces so that the property is gone whose name has its colon at `colon` of `text`; where its end cannot
/// be seen, its value alone as far as it can be seen. `None` where this is no property, or one without a value.
pub(super) fn property(text: &[u8], colon: usize) -> Option<Range<usize>> {
    let prefix = text.get(..colon)?.iter().rev().take_while(|byte| is_of_name(**byte)).count();
    let start = colon - prefix;
    let local = text.get(colon + 1..)?.iter().take(LONGEST_NAME).take_while(|byte| is_of_name(**byte)).count();
    let end = colon + 1 + local;
    if prefix == 0 || start == 0 {
        return None;
    }
    let before = text[start - 1];
    let sign = end + blanks(text.get(end..)?);
    match text.get(sign)? {
        b'=' if before != b'<' => {
            let quote = sign + 1 + blanks(text.get(sign + 1..)?);
            let mark = *text.get(quote).filter(|mark| matches!(mark, b'"' | b'\''))?;
            let value = value(text, quote + 1, mark);
            let is_whole = text.get(value.end) == Some(&mark) && before.is_ascii_whitespace();
            if is_whole { Some(start..value.end + 1) } else { unless_blank(text, value) }
        }
        b'>' if before == b'<' => {
            let value = value(text, sign + 1, b'<');
            match closing(&text[value.end..], &text[start..end]) {
                Some(length) => Some(start - 1..value.end + length),
                None => unless_blank(text, value),
            }
        }
        _ => None,
    }
}

/// The text from `start` on, up to `end` or a byte that no text holds.
fn value(text: &[u8], start: usize, end: u8) -> Range<usize> {
    let is_text = |byte: &&u8| **byte != end && !matches!(**byte, b'<' | 0xff) && (**byte >= b' ' || is_blank(**byte));
    start..start + text.get(start..).unwrap_or_default().iter().take_while(is_text).count()
}

/// The length of the tag at the start of `text`, if it ends an element of this name.
fn closing(text: &[u8], name: &[u8]) -> Option<usize> {
    let rest = text.strip_prefix(b"</")?.strip_prefix(name)?;
    let blanks = blanks(rest);
    (rest.get(blanks) == Some(&b'>')).then_some(2 + name.len() + blanks + 1)
}

fn unless_blank(text: &[u8], part: Range<usize>) -> Option<Range<usize>> {
    text[part.clone()].iter().any(|byte| *byte != b' ').then_some(part)
}

fn blanks(text: &[u8]) -> usize {
    text.iter().take(LONGEST_NAME).take_while(|byte| is_blank(**byte)).count()
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}
