//! Names in a source: which are unsafe, which can be ids here, which id another gets, how names that are not UTF-8 are
//! decoded, and how files of one name get different ones.

use std::collections::HashSet;

use encoding_rs::SHIFT_JIS;
use uuid::Uuid;

use super::source_file::SourceFile;
use crate::layout::ImageId;
use store::digest::{Digest, Hasher};

/// Longest accepted path in bytes.
const MAX_PATH: usize = 4096;

/// Why a path in an archive is one that no honest program writes; `None` if it leads to a location below the root.
pub(super) fn why_unsafe(path: &str) -> Option<&'static str> {
    let drive = path.as_bytes().get(1) == Some(&b':') && path.as_bytes()[0].is_ascii_alphabetic();
    match path {
        "" => Some("it is empty"),
        _ if path.len() > MAX_PATH => Some("it is too long"),
        _ if path.starts_with('/') || drive => Some("it is absolute"),
        _ if path.chars().any(char::is_control) => Some("it holds a control character"),
        _ if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) => Some("it has a relative segment"),
        _ => None,
    }
}

/// A Shift-JIS name as text, if it is valid.
pub(super) fn in_shift_jis(raw: &[u8]) -> Option<String> {
    let name = SHIFT_JIS.decode_without_bom_handling_and_without_replacement(raw)?;
    (!name.chars().any(char::is_control)).then(|| name.into_owned())
}

/// Whether a name is clearly Shift-JIS: the byte of a backslash is the second half of a character in that encoding, and
/// only there.
pub(super) fn shows_shift_jis(raw: &[u8]) -> bool {
    raw.contains(&b'\\') && in_shift_jis(raw).is_some_and(|name| !name.contains('\\'))
}

/// Sorts files by path, and makes equal paths distinct: the first file keeps the path, the others become `x (2).jpg`
/// and so on, always the same for the same files. Fails with a path that must not occur twice.
pub(super) fn make_distinct(files: &mut [SourceFile], refused: impl Fn(&str) -> bool) -> Result<(), String> {
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let twice = |pair: &[SourceFile]| pair[0].path == pair[1].path;
    if let Some(pair) = files.windows(2).find(|pair| twice(pair) && refused(&pair[0].path)) {
        return Err(pair[0].path.clone());
    }
    if !files.windows(2).any(twice) {
        return Ok(());
    }
    let mut taken: HashSet<String> = files.iter().map(|file| file.path.clone()).collect();
    let (mut last, mut number) = (String::new(), 1_u64);
    for file in &mut *files {
        if file.path != last {
            (last, number) = (file.path.clone(), 1);
            continue;
        }
        let path = loop {
            number += 1;
            let path = numbered(&last, number);
            if taken.insert(path.clone()) {
                break path;
            }
        };
        let path = std::mem::replace(&mut file.path, path);
        file.stored_name.get_or_insert(path);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(())
}

fn numbered(path: &str, number: u64) -> String {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    let end = path[name..].rfind('.').filter(|dot| *dot > 0).map_or(path.len(), |dot| name + dot);
    format!("{} ({number}){}", &path[..end], &path[end..])
}

/// Whether a file is one that an operating system leaves beside users' files: `.DS_Store`, `__MACOSX/…`, `Thumbs.db`.
pub(super) fn is_litter(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    path.split('/').any(|segment| segment == "__MACOSX")
        || name.starts_with("._")
        || matches!(name, ".DS_Store" | "Thumbs.db" | "desktop.ini")
}

/// The id for an image that cannot keep its name: always the same for the same content, so that importing twice has the
/// same effect as once.
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

/// The extension of a name, if an id may have it.
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
        for bad in ["", "/a", "a//b", "a/", "..", "../a", "a/../b", "./a", "C:/a", "c:a", "a\0b", "a\nb", "\u{7f}"] {
            assert!(why_unsafe(bad).is_some(), "{bad:?}");
        }
        for good in ["a", "uploads/Ünï (1).jpg", "a/b/c", "...", "a..b/c", ".hidden", "ab:c"] {
            assert_eq!(why_unsafe(good), None, "{good:?}");
        }
    }

    #[test]
    fn shift_jis_shows_by_a_backslash_inside_a_character_alone() {
        // 表/ソ, 旅行, a folder by a Windows program, München, and a name without a valid encoding.
        for (raw, shows, text) in [
            (&b"\x95\x5c/\x83\x5c"[..], true, Some("\u{8868}/\u{30bd}")),
            (b"\x97\xb7\x8d\x73", false, Some("\u{65c5}\u{884c}")),
            (b"a\\b", false, Some("a\\b")),
            (b"\x83\x5c\x5ca", false, Some("\u{30bd}\\a")),
            (b"\xff\x5c", false, None),
        ] {
            assert_eq!((shows_shift_jis(raw), in_shift_jis(raw).as_deref()), (shows, text), "{raw:?}");
        }
    }

    #[test]
    fn a_number_stands_before_the_end_of_a_name() {
        for (path, expected) in
            [("a/x.jpg", "a/x (2).jpg"), ("a.b/x", "a.b/x (2)"), (".x", ".x (2)"), ("x.tar.gz", "x.tar (2).gz")]
        {
            assert_eq!(numbered(path, 2), expected);
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
