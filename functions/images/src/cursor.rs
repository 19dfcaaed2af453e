//! The end of a page of a list, as an opaque cursor for clients.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use shared::catalog::Position;
use shared::groups::Cursor;
use shared::layout::ImageId;

/// Encodes where a list of single images continues: the base64url of its last position, its time in nanoseconds and its
/// name.
pub(crate) fn encode((at, id): &Position) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {id}", at.as_nanosecond()))
}

/// Encodes where a list with groups continues: the same, and when the list was begun.
pub(crate) fn encode_grouped(Cursor { last: (at, id), started }: &Cursor) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}/{} {id}", at.as_nanosecond(), started.as_nanosecond()))
}

/// Decodes a cursor of either kind; `None` for anything else. A cursor of one list works in the other, where the
/// position is the same.
pub(crate) fn decode(cursor: &str) -> Option<Cursor> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (times, id) = text.split_once(' ')?;
    let moment = |nanoseconds: &str| Timestamp::from_nanosecond(nanoseconds.parse().ok()?).ok();
    let (at, started) = match times.split_once('/') {
        Some((at, started)) => (moment(at)?, moment(started)?),
        None => (moment(times)?, Timestamp::MAX),
    };
    Some(Cursor { last: (at, ImageId::new(id).ok()?), started })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_the_position_it_was() {
        for (at, name) in [(Timestamp::MIN, "a b.jpg"), (Timestamp::MAX, "Ü.jpg"), (Timestamp::UNIX_EPOCH, "x")] {
            let position = (at, ImageId::new(name).unwrap());
            assert_eq!(decode(&encode(&position)).unwrap().last, position);
            let grouped = Cursor { last: position, started: Timestamp::UNIX_EPOCH };
            assert_eq!(decode(&encode_grouped(&grouped)), Some(grouped));
        }
    }

    #[test]
    fn nothing_else_is_a_cursor() {
        let forged = ["1 ../x", "1 ", "x y", "1", "99999999999999999999999999 a", "1/ a", "/1 a", "1/1/1 a"]
            .map(|text| URL_SAFE_NO_PAD.encode(text));
        for bad in forged.iter().map(String::as_str).chain(["", "!", "####", "AAAA"]) {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
