//! Conversion between keys and Cloudinary's public ids.
//!
//! A public id may contain letters, digits, dots, hyphens, slashes and underscores; Cloudinary rejects or silently
//! replaces others. So every other byte of a key, and the underscore, becomes an underscore and two digits.

use crate::key::Key;

/// The maximum length of a public id, in bytes.
const LONGEST: usize = 255;

/// The public id of a key below `folder`; `None` if it would be too long.
pub(super) fn public_id(folder: &str, key: &Key) -> Option<String> {
    let mut id = format!("{folder}/");
    for byte in key.as_str().bytes() {
        match byte {
            b'.' | b'-' | b'/' => id.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => id.push(char::from(byte)),
            _ => id.push_str(&format!("_{byte:02x}")),
        }
    }
    (id.len() <= LONGEST).then_some(id)
}

/// The key of a public id; `None` if it is not one of ours.
pub(super) fn key(folder: &str, public_id: &str) -> Option<Key> {
    let mut rest = public_id.strip_prefix(folder)?.strip_prefix('/')?.bytes();
    let mut bytes = Vec::new();
    while let Some(byte) = rest.next() {
        match byte {
            b'_' => bytes.push(hex::decode([rest.next()?, rest.next()?]).ok()?[0]),
            _ => bytes.push(byte),
        }
    }
    let key = Key::new(String::from_utf8(bytes).ok()?).ok()?;
    // Accept only the canonical public id of the key.
    (self::public_id(folder, &key).as_deref() == Some(public_id)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_round_trips_through_a_name_that_cloudinary_keeps() {
        for name in ["image-metadata.json", "images/0a", "a b_c/ü%&?#\\+<>~'\"".replace('\\', "").as_str(), "日本/x."]
        {
            let id = public_id("my/folder", &Key::new(name).unwrap()).unwrap();
            assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b"./-_".contains(&b)), "{id}");
            assert_eq!(key("my/folder", &id).unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_is_not_ours_is_no_key() {
        for id in
            ["folder/a_2", "folder/a_zz", "folder/a_ff", "other/a", "folder", "folder/", "folder/a_61", "folder/_2F"]
        {
            assert_eq!(key("folder", id), None, "{id}");
        }
        assert_eq!(public_id("folder", &Key::new("ü".repeat(42)).unwrap()), None);
    }
}
