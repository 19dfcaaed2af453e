//! Where a page of a list ends, as an opaque word for clients.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use shared::catalog::Position;
use shared::layout::ImageId;

/// Writes a position: the base64url of its time in nanoseconds and its name.
pub(crate) fn encode((at, id): &Position) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {id}", at.as_nanosecond()))
}

/// Reads what [`encode`] wrote; `None` for anything else.
pub(crate) fn decode(cursor: &str) -> Option<Position> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (at, id) = text.split_once(' ')?;
    Some((Timestamp::from_nanosecond(at.parse().ok()?).ok()?, ImageId::new(id).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_the_position_it_was() {
        for (at, name) in [(Timestamp::MIN, "a b.jpg"), (Timestamp::MAX, "Ü.jpg"), (Timestamp::UNIX_EPOCH, "x")] {
            let position = (at, ImageId::new(name).unwrap());
            assert_eq!(decode(&encode(&position)), Some(position));
        }
    }

    #[test]
    fn nothing_else_is_a_cursor() {
        let forged =
            ["1 ../x", "1 ", "x y", "1", "99999999999999999999999999 a"].map(|text| URL_SAFE_NO_PAD.encode(text));
        for bad in forged.iter().map(String::as_str).chain(["", "!", "####", "AAAA"]) {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
