//! Names in what is to be taken in: which lead astray, which can be ids here, and which id another gets.

use uuid::Uuid;

use crate::digest::{Digest, Hasher};
use crate::layout::ImageId;

/// Longest path in bytes that is looked at.
const MAX_PATH: usize = 4096;

/// Why a path in an archive is one that no honest program writes; `None` where it leads to a place below the root.
pub(super) fn leads_astray(path: &str) -> Option<&'static str> {
    let drive = path.as_bytes().get(1) == Some(&b':') && path.as_bytes()[0].is_ascii_alphabetic();
    match path {
        "" => Some("it is empty"),
        _ if path.len() > MAX_PATH => Some("it is too long"),
        _ if path.starts_with('/') || drive => Some("it is absolute"),
        _ if path.contains('\\') => Some("it holds a backslash"),
        _ if path.chars().any(char::is_control) => Some("it holds a control character"),
        _ if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) => Some("it has a relative segment"),
        _ => None,
    }
}

/// Whether a file is one that a system leaves beside the files of people: `.DS_Store`, `__MACOSX/…`, `Thumbs.db`.
pub(super) fn is_litter(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    path.split('/').any(|segment| segment == "__MACOSX")
        || name.starts_with("._")
        || matches!(name, ".DS_Store" | "Thumbs.db" | "desktop.ini")
}

/// The id of what cannot keep its name: the same whenever the same comes again, so that taking it in twice is once.
pub(super) fn new_id(name: &str, content: Option<Digest>, extension: &str) -> ImageId {
    let mut hasher = Hasher::default();
    hasher.update(&(name.len() as u64).to_be_bytes());
    hasher.update(name.as_bytes());
    if let Some(content) = content {
        hasher.update(content.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finish().as_bytes()[..16]);
    ImageId::generate(Uuid::new_v8(bytes), extension)
}

/// The end of a name, where it is one that an id may have.
pub(super) fn extension(name: &str) -> Option<String> {
    let (_, extension) = name.rsplit('/').next()?.rsplit_once('.')?;
    let plain = (1..=10).contains(&extension.len()) && extension.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| extension.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leaves_the_root_leads_astray_and_odd_ones_do_not() {
        for bad in
            ["", "/a", "a//b", "a/", "..", "../a", "a/../b", "./a", "a\\b", "C:/a", "c:a", "a\0b", "a\nb", "\u{7f}"]
        {
            assert!(leads_astray(bad).is_some(), "{bad:?}");
        }
        for good in ["a", "uploads/Ünï (1).jpg", "a/b/c", "...", "a..b/c", ".hidden", "ab:c"] {
            assert_eq!(leads_astray(good), None, "{good:?}");
        }
    }

    #[test]
    fn a_new_id_is_the_same_for_the_same_and_another_for_anything_else() {
        let id = |name, content: &[u8]| new_id(name, Some(Digest::of(content)), "jpg");
        assert_eq!(id("a/b.jpg", b"1"), id("a/b.jpg", b"1"));
        assert!(id("a/b.jpg", b"1") != id("a/c.jpg", b"1") && id("a/b.jpg", b"1") != id("a/b.jpg", b"2"));
        assert!(new_id("a", None, "jpg") != id("a", b"") && new_id("a", None, "jpg").uuid().is_some());
    }
}
