//! Which names of metadata fields stand for a position, whichever format holds them.

/// The longest name that is examined, in bytes.
pub(super) const LONGEST: usize = 64;

/// Complete names of position fields, in lower case: those of the W3C's Basic Geo vocabulary and of Darwin Core.
const WHOLE: [&[u8]; 7] = [b"lat", b"long", b"lon", b"lng", b"lat_long", b"latlong", b"footprintwkt"];
/// Endings of names, in lower case; the third is a misspelling in DJI's first drones.
const ENDS: [&[u8]; 6] = [b"latitude", b"longitude", b"longtitude", b"latituderef", b"longituderef", b"coordinates"];
/// Names that are part of a position only with this prefix.
const WITH_PREFIX: [&[u8]; 2] = [b"geo:alt", b"georss:point"];

/// Whether a field with this local name is part of a position: `GPSLatitude`, `decimalLongitude`, `lat`.
///
/// Fields with words, such as `City` or `Location`, are not: a person wrote them.
pub(super) fn is_position(local: &[u8]) -> bool {
    let name = local.to_ascii_lowercase();
    name.starts_with(b"gps") || WHOLE.contains(&&name[..]) || ENDS.iter().any(|end| name.ends_with(end))
}

/// The same for a name that may have a prefix, such as `exif:GPSLatitude` or
/// `http://ns.adobe.com/exif/1.0/GPSLatitude`.
pub(super) fn is_position_with_prefix(name: &[u8]) -> bool {
    let local = name.rsplit(|byte| matches!(byte, b':' | b'/' | b'#')).next().unwrap_or_default();
    is_position(local) || WITH_PREFIX.contains(&name)
}

/// Whether a byte can be part of an XML name without its prefix.
pub(super) fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// White space in XML and JSON.
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The number of white space bytes at the start of `text`, up to a limit.
pub(super) fn blanks(text: &[u8]) -> usize {
    text.iter().take(256).take_while(|byte| is_blank(**byte)).count()
}

/// The number of bytes at the start of `text` that belong to a text, not to binary data.
pub(super) fn text_length(text: &[u8]) -> usize {
    text.iter().take_while(|byte| **byte != 0xff && (**byte >= b' ' || is_blank(**byte))).count()
}
