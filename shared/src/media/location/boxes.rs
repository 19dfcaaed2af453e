//! Positions in MP4 and QuickTime files: the boxes `©xyz` and `loci`, and values as written by Apple's phones.

use std::ops::Range;

/// The maximum length of a box with a position; a value is shorter.
const LONGEST: usize = 1024;
/// What precedes the value in a `data` box: length, name, type and language.
const BEFORE_VALUE: usize = 16;
/// What precedes the text in a `©xyz` box: length, name, length of the text, language.
const BEFORE_TEXT: usize = 12;
/// Length, name, version, language, an empty name, a role, three numbers and two empty texts.
const SHORTEST_LOCI: usize = 8 + 4 + 2 + 1 + 1 + 12 + 2;

/// Whether `ftyp` at `name` of `bytes` is the first box of an MP4: with a brand, and with a valid length.
pub(super) fn is_first(bytes: &[u8], name: usize) -> bool {
    let brand = bytes.get(name + 4..).and_then(<[u8]>::first_chunk::<4>);
    whole(bytes, name).is_some_and(|(_, size)| size.is_multiple_of(4))
        && brand.is_some_and(|brand| brand.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' '))
}

/// The content of the box whose name begins at `name` of `bytes`, if that box contains a position. An empty one would
/// be invalid, so the box has to be renamed.
pub(super) fn position(bytes: &[u8], name: usize) -> Option<Range<usize>> {
    let (start, size) = whole(bytes, name)?;
    let content = bytes.get(name + 4..start + size)?;
    let is_place = if bytes.get(name..name + 4)? == b"loci" {
        size >= SHORTEST_LOCI && content.starts_with(&[0; 4])
    } else {
        let length = usize::from(u16::from_be_bytes(*content.first_chunk()?));
        size > BEFORE_TEXT && length <= size - BEFORE_TEXT
    };
    is_place.then_some(name + 4..start + size)
}

/// The value in the box `data` whose name begins at `name` of `bytes`, if that is a position in ISO 6709 format.
pub(super) fn value(bytes: &[u8], name: usize) -> Option<Range<usize>> {
    let (start, size) = whole(bytes, name)?;
    let part = start + BEFORE_VALUE..start + size;
    is_iso_6709(bytes.get(part.clone())?).then_some(part)
}

/// The start and the length of a box whose name begins at `name`, if valid.
fn whole(bytes: &[u8], name: usize) -> Option<(usize, usize)> {
    let start = name.checked_sub(4)?;
    let size = u32::from_be_bytes(*bytes.get(start..)?.first_chunk()?) as usize;
    (BEFORE_TEXT..=LONGEST).contains(&size).then_some((start, size))
}

/// Whether it is a latitude and a longitude, such as `+52.5200+013.4050/` or `-27.5916+086.5640+8850/`.
fn is_iso_6709(text: &[u8]) -> bool {
    let numbers = text.split(|byte| *byte == b'/').next().unwrap_or_default();
    let signs = numbers.iter().filter(|byte| matches!(byte, b'+' | b'-')).count();
    let digits = numbers.iter().filter(|byte| byte.is_ascii_digit()).count();
    let known = signs + digits + numbers.iter().filter(|byte| **byte == b'.').count();
    matches!(numbers.first(), Some(b'+' | b'-')) && signs >= 2 && digits >= 4 && known == numbers.len()
}
