//! Members of JSON objects, as in Content Credentials (JUMBF): `"exif:GPSLatitude": "52,31.2N"`.

use std::ops::Range;

use super::names::{LONGEST, blanks, is_blank, is_of_name, is_position_with_prefix};

/// The part to fill with spaces to remove the member whose name contains `at` of `text`, with one adjacent comma;
/// `None` if this is not a member of a position, or its end is not found. `after` is the end of the previous member, if
/// that was removed together with the comma between them.
pub(super) fn member(text: &[u8], at: usize, after: Option<usize>) -> Option<Member> {
    let is_part = |byte: &&u8| is_of_name(**byte) || matches!(**byte, b':' | b'/' | b'#');
    let start = at - text.get(..at)?.iter().rev().take(LONGEST).take_while(is_part).count();
    let end = at + text.get(at..)?.iter().take(LONGEST).take_while(is_part).count();
    if text.get(start.checked_sub(1)?) != Some(&b'"') || text.get(end) != Some(&b'"') {
        return None;
    }
    let colon = end + 1 + blanks(text.get(end + 1..)?);
    if text.get(colon) != Some(&b':') || !is_position_with_prefix(&text[start..end]) {
        return None;
    }
    let value = colon + 1 + blanks(text.get(colon + 1..)?);
    let value_end = value + value_length(text.get(value..)?)?;
    let name = start - 1;
    let before = name - text[..name].iter().rev().take_while(|byte| is_blank(**byte)).count();
    let is_first = after == Some(before);
    if !is_first && before > 0 && text[before - 1] == b',' {
        return Some(Member { part: before - 1..value_end, took_next_comma: false });
    }
    let next = value_end + blanks(text.get(value_end..)?);
    let took_next_comma = text.get(next) == Some(&b',');
    Some(Member { part: name..if took_next_comma { next + 1 } else { value_end }, took_next_comma })
}

/// A member of an object.
pub(super) struct Member {
    /// Its range, with a comma.
    pub(super) part: Range<usize>,
    /// Whether that is the comma after it.
    pub(super) took_next_comma: bool,
}

/// The length of the value at the start of `text`; `None` if there is none, or its end is not found.
fn value_length(text: &[u8]) -> Option<usize> {
    let (mut depth, mut is_string, mut is_escaped) = (0_u32, false, false);
    for (index, byte) in text.iter().enumerate() {
        let is_end = match byte {
            0xff => return None,
            _ if is_escaped => {
                is_escaped = false;
                false
            }
            b'\\' if is_string => {
                is_escaped = true;
                false
            }
            b'"' => {
                is_string = !is_string;
                !is_string && depth == 0
            }
            _ if is_string => false,
            b'{' | b'[' => {
                depth += 1;
                false
            }
            b'}' | b']' if depth > 0 => {
                depth -= 1;
                depth == 0
            }
            b',' | b'}' | b']' if depth == 0 => return trimmed(&text[..index]),
            _ => false,
        };
        if is_end {
            return Some(index + 1);
        }
    }
    None
}

/// The length of a number or a word, without trailing characters.
fn trimmed(text: &[u8]) -> Option<usize> {
    let length = text.trim_ascii_end().len();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    (length > 0 && text[..length].iter().all(is_plain)).then_some(length)
}
