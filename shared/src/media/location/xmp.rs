//! Properties of XMP, which is XML: `exif:GPSLatitude="52,31.2N"` or `<exif:GPSLatitude>52,31.2N</exif:GPSLatitude>`,
//! those of drones, such as `drone-dji:GpsLatitude`, and the items of Sony's XML in MP4s, `<Item name="Latitude"
//! value="52:31:12"/>`.

use std::ops::Range;

use memchr::memmem;

use super::names::{LONGEST, blanks, is_of_name, is_position_with_prefix, text_length};

/// The part to fill with spaces to remove the property whose name contains `at` of `text`; if its end is not found, the
/// part of its value that is there. `None` if this is not a property of a position, or has no value.
pub(super) fn property(text: &[u8], at: usize) -> Option<Range<usize>> {
    let (start, end) = name(text, at)?;
    let before = text[start.checked_sub(1)?];
    if matches!(before, b'"' | b'\'') {
        return item(text, start - 1, end);
    }
    let colon = memchr::memchr(b':', &text[start..end])?;
    // A namespace declaration is not a property, whatever its name.
    if colon == 0 || text[start..].starts_with(b"xmlns:") || !is_position_with_prefix(&text[start..end]) {
        return None;
    }
    let sign = end + blanks(text.get(end..)?);
    if before == b'<' {
        return element(text, start, end);
    }
    if text.get(sign) != Some(&b'=') {
        return None;
    }
    let quote = sign + 1 + blanks(text.get(sign + 1..)?);
    let mark = *text.get(quote).filter(|mark| matches!(mark, b'"' | b'\''))?;
    let value = value(text, quote + 1, mark);
    let is_whole = text.get(value.end) == Some(&mark) && before.is_ascii_whitespace();
    if is_whole { Some(start..value.end + 1) } else { unless_blank(text, value) }
}

/// The range of the name that contains `at`, with its prefix.
fn name(text: &[u8], at: usize) -> Option<(usize, usize)> {
    let is_part = |byte: &&u8| is_of_name(**byte) || **byte == b':';
    let start = at - text.get(..at)?.iter().rev().take(LONGEST).take_while(is_part).count();
    let end = at + text.get(at..)?.iter().take(LONGEST).take_while(is_part).count();
    Some((start, end))
}

/// The element with this name: from its `<` to the end of its end tag.
fn element(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let (close, has_attributes) = tag(text, end)?;
    if text[close - 1] == b'/' {
        return has_attributes.then_some(start - 1..close + 1);
    }
    let content = close + 1;
    let mut from = content;
    while let Some(found) = memmem::find(text.get(from..)?, b"</") {
        let tag = from + found;
        if let Some(length) = closing(&text[tag..], &text[start..end]) {
            let is_text = text_length(&text[content..tag]) == tag - content;
            return if is_text {
                Some(start - 1..tag + length)
            } else {
                unless_blank(text, value(text, content, b'<'))
            };
        }
        from = tag + 2;
    }
    unless_blank(text, value(text, content, b'<'))
}

/// The end of the tag whose name ends at `at`, and whether it has attributes.
fn tag(text: &[u8], at: usize) -> Option<(usize, bool)> {
    let (mut quote, mut has_attributes) = (None, false);
    for (index, byte) in text.iter().enumerate().skip(at) {
        match (quote, byte) {
            (None, b'>') => return Some((index, has_attributes)),
            (None, b'"' | b'\'') => (quote, has_attributes) = (Some(*byte), true),
            (Some(mark), byte) if mark == *byte => quote = None,
            (None, b'<') | (_, 0xff) => return None,
            _ => {}
        }
    }
    None
}

/// The empty element with `name="Latitude"` and a value: from its `<` to its `>`. `quote` is the position of the name's
/// quote.
fn item(text: &[u8], quote: usize, end: usize) -> Option<Range<usize>> {
    let head = text.get(..quote)?.strip_suffix(b"name=")?;
    let start = memchr::memrchr(b'<', head)?;
    let close = end + memchr::memchr(b'>', text.get(end..)?)?;
    let is_item = is_position_with_prefix(&text[quote + 1..end])
        && text[close - 1] == b'/'
        && text_length(&text[start..close]) == close - start
        && memmem::find(&text[end..close], b"value=").is_some();
    is_item.then_some(start..close + 1)
}

/// The text from `start`, up to `end` or a byte that cannot be part of a text.
fn value(text: &[u8], start: usize, end: u8) -> Range<usize> {
    let rest = text.get(start..).unwrap_or_default();
    let length = rest.iter().take_while(|byte| **byte != end && **byte != b'<').count();
    start..start + text_length(&rest[..length])
}

/// The length of the tag at the start of `text`, if it is the end tag of this name.
fn closing(text: &[u8], name: &[u8]) -> Option<usize> {
    let rest = text.strip_prefix(b"</")?.strip_prefix(name)?;
    let blanks = blanks(rest);
    (rest.get(blanks) == Some(&b'>')).then_some(2 + name.len() + blanks + 1)
}

fn unless_blank(text: &[u8], part: Range<usize>) -> Option<Range<usize>> {
    text[part.clone()].iter().any(|byte| *byte != b' ').then_some(part)
}
