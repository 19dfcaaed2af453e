//! [`Key`]: the validated name of an object.

use std::fmt;

/// The name of an object: one or more segments joined by `/`.
///
/// Invariants, checked when a key is made:
/// - it is 1 to 900 bytes of UTF-8, so that it fits S3's 1,024 together with a prefix;
/// - no segment is empty, `.` or `..`, longer than 200 bytes, or starts with [`Key::RESERVED_PREFIX`];
/// - it holds no control character, no NUL and no backslash.
///
/// It follows that a key, joined to a folder, stays inside that folder, and that the same key is valid on a disk and
/// in a bucket.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// A string that cannot be a [`Key`], with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be a key: {1}")]
pub struct InvalidKey(pub String, pub &'static str);

impl Key {
    /// Segments with this prefix belong to a backend (temporary files of the disk store) and never name an object.
    pub const RESERVED_PREFIX: &'static str = ".tmp-";

    /// Checks `raw` against the invariants.
    pub fn new(raw: impl Into<String>) -> Result<Self, InvalidKey> {
        let raw = raw.into();
        match Self::fault(&raw) {
            None => Ok(Self(raw)),
            Some(reason) => Err(InvalidKey(raw, reason)),
        }
    }

    fn fault(raw: &str) -> Option<&'static str> {
        if raw.is_empty() || raw.len() > 900 {
            return Some("it must be 1 to 900 bytes long");
        }
        if raw.chars().any(|c| c.is_control() || c == '\\') {
            return Some("it holds a control character or a backslash");
        }
        raw.split('/').find_map(|segment| match segment {
            "" => Some("it has an empty segment"),
            "." | ".." => Some("it has a relative segment"),
            s if s.len() > 200 => Some("a segment is longer than 200 bytes"),
            s if s.starts_with(Self::RESERVED_PREFIX) => Some("a segment starts with a reserved prefix"),
            _ => None,
        })
    }

    /// The key as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments, from the outermost in.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::str::FromStr for Key {
    type Err = InvalidKey;

    fn from_str(s: &str) -> Result<Self, InvalidKey> {
        Self::new(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_can_be_any_name_a_person_gives_a_photo() {
        for good in ["a", "uploads/Ünï cödé (1).jpg", "uploads/a+b%20c#d?.png", ".keepsake/x", "uploads/.hidden"] {
            assert!(Key::new(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_key_never_leads_out_of_the_store() {
        let long = "x".repeat(201);
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", ".", "a/./b", "a\0b", "a\\b", "a\nb", "x/.tmp-1", &long] {
            assert!(Key::new(bad).is_err(), "{bad:?}");
        }
    }
}
