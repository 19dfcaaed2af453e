//! Names that others chose: what is taken prints the same, and leads nowhere else.

use std::path::{Component, Path};

use shared::digest::Digest;
use shared::layout::{self, BackupName, ImageId};
use shared::store::Key;

pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = Key::new(text) {
        assert_eq!((key.as_str(), key.to_string().parse().as_ref()), (text, Ok(&key)));
        stays_below(&key);
        is_the_only_key(&key);
    }
    if let Ok(id) = ImageId::new(text) {
        assert!(id.as_str() == text && !text.contains('/') && text != layout::RESERVED_NAME);
        let key = layout::image(&id);
        stays_below(&key);
        assert_eq!((key.name(), layout::parse_image(&key).as_ref()), (text, Some(&id)));
        if let Some(uuid) = id.uuid() {
            let (_, extension) = text.split_once('.').expect("it has an extension");
            assert_eq!(ImageId::generate(uuid, extension), id, "it has another name than the image of its UUID");
        }
    }
    if let Ok(name) = text.parse::<BackupName>() {
        assert_eq!((name.to_string().as_str(), BackupName::at(name.moment())), (text, name));
        let key = layout::manifest(name);
        stays_below(&key);
        assert_eq!(layout::parse_manifest(&key), Some(name));
        assert!(name.next().to_string().as_str() >= text, "names sort by time");
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
}

/// A key, joined to a folder, names something inside that folder.
fn stays_below(key: &Key) {
    let root = Path::new("/root");
    let path = root.join(key.as_str());
    let below = path.strip_prefix(root).expect("it stays below its root");
    assert!(below.components().all(|component| matches!(component, Component::Normal(_))), "{key}");
    assert!(below.components().count() == key.segments().count() && !key.as_str().contains('\0'), "{key}");
    assert!(key.as_str().len() <= 900 && key.segments().all(|segment| segment.len() <= 200), "{key}");
}

/// What is read out of a key has that key and no other.
fn is_the_only_key(key: &Key) {
    let built = [
        layout::parse_image(key).map(|id| layout::image(&id)),
        layout::parse_ticket(key).map(layout::ticket),
        layout::parse_commit(key).map(layout::commit),
        layout::parse_archived_image(key).map(|digest| layout::archived_image(&digest)),
        layout::parse_page(key).map(|digest| layout::page(&digest)),
        layout::parse_chunk(key).map(|digest| layout::chunk(&digest)),
        layout::parse_manifest(key).map(layout::manifest),
    ];
    for built in built.iter().flatten() {
        assert_eq!(built, key);
    }
}
