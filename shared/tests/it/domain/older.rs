//! Records of the older format, which have no digest until someone has looked at their files.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;

use super::{World, png, seen};
use crate::world::entries;
use shared::backup::Kind;
use shared::images::Patch;
use shared::layout::{self, ImageId};
use shared::restore::Mode;
use shared::store::{Body, PutMode};

/// Takes a metadata file of the older format in, by a process that ends before it looks at the files.
async fn take_in(world: &World, older: &[u8]) {
    world.put("image-metadata.json", older).await;
    let importer = world.open();
    importer.core.catalog.load().await.unwrap();
    importer.core.catalog.compact().await.unwrap();
}

/// A store that serves, into which someone copies a file and a metadata file of the older format.
async fn with_older_record() -> (World, ImageId) {
    let world = World::new();
    world.open().recovery.recover().await.unwrap();
    world.put("uploads/old.png", &png(1)).await;
    take_in(&world, br#"{"old.png": {"description": "old", "camera": "Box"}}"#).await;
    (world, ImageId::new("old.png").unwrap())
}

#[tokio::test]
async fn deleting_an_image_that_was_only_just_imported_can_be_undone() {
    let (world, id) = with_older_record().await;
    let keepsake = world.open();
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap();
    assert_eq!((backup.images, backup.bytes, backup.missing.len()), (1, png(1).len() as u64, 0));
    keepsake.images.delete(id.as_str(), shared::Any).await.unwrap();
    assert!(world.keys("uploads/").await.is_empty());
    keepsake.restores.restore(backup.name, Mode::Merge).await.unwrap();
    assert_eq!(seen(&keepsake).await[&id], (Some("old".to_owned()), Some(png(1))));

    let (world, id) = with_older_record().await;
    world.open().images.delete(id.as_str(), shared::Any).await.unwrap();
    assert_eq!(world.keys("backups/images/").await.len(), 1, "a replica is made before the only one goes");
}

#[tokio::test]
async fn an_imported_record_that_was_edited_first_still_gets_its_digest() {
    let (world, id) = with_older_record().await;
    let patch = Patch { description: Some(Some("edited".to_owned())), ..Patch::default() };
    world.open().images.edit(id.as_str(), &patch, shared::Any).await.unwrap();
    world.open().recovery.recover().await.unwrap();
    world.remove("uploads/").await;
    let again = world.open();
    assert_eq!(again.recovery.recover().await.unwrap().brought_back, 1);
    assert_eq!(seen(&again).await[&id], (Some("edited".to_owned()), Some(png(1))));
    assert_eq!(world.open().recovery.recover().await.unwrap().imported, 0, "once is enough");
}

#[tokio::test]
async fn an_edit_by_hand_is_taken_in_whenever_a_compaction_meets_it() {
    for n in 0..40 {
        let world = World::new();
        let keepsake = world.open();
        keepsake.recovery.recover().await.unwrap();
        super::upload(&keepsake, 1).await.unwrap();
        let operations = Arc::new(AtomicU64::new(0));
        let (counted, raw) = (Arc::clone(&operations), world.raw());
        let keepsake = world.open_failing(move |_| {
            if counted.fetch_add(1, Ordering::SeqCst) == n {
                let older = Body::from(br#"{"old.png": {"url": "https://example.com/a.png"}}"#.to_vec());
                raw.put(&layout::metadata_file(), &older, &PutMode::Overwrite).now_or_never().unwrap().unwrap();
            }
            None
        });
        keepsake.core.catalog.compact().await.unwrap();
        if operations.load(Ordering::SeqCst) <= n {
            assert!(n > 10);
            return;
        }
        // This process ends, and the next one finds it, in the file or in a root.
        world.open().recovery.recover().await.unwrap();
        assert_eq!(seen(&world.open()).await.len(), 2, "operation {n}");
    }
    panic!("a compaction takes more than 40 operations");
}

#[tokio::test]
async fn edit_of_field_imported_with_other_type_survives_restart() {
    let world = World::new();
    world.open().recovery.recover().await.unwrap();
    world.put("uploads/old.png", &png(1)).await;
    let older = br#"{"old.png": {"order": null, "groupId": 5, "category": 7, "size": "70", "sha256": ""}}"#;
    take_in(&world, older).await;
    let patch = Patch { order: Some(Some(3)), group_id: Some(None), ..Patch::default() };
    let edited = world.open().images.edit("old.png", &patch, shared::Any).await.unwrap().1;
    assert!(world.open().recovery.recover().await.unwrap().imported > 0);
    let again = world.open();
    assert_eq!(again.recovery.recover().await.unwrap().imported, 0, "what its bytes say of it is kept as well");
    let (_, entry) = again.images.get("old.png").await.unwrap();
    let (record, edited) = (entry.live().unwrap(), edited.live().unwrap());
    assert_eq!((record.order, record.size), (Some(3), Some(png(1).len() as u64)));
    assert_eq!((record.extra.get("category"), record.extra.get("groupId")), (Some(&7.into()), None));
    assert_eq!(edited.extra.get("groupId"), None, "what was cleared does not show through");
}

#[tokio::test]
async fn a_backup_says_which_images_it_cannot_bring_back() {
    let world = World::new();
    world.open().recovery.recover().await.unwrap();
    let older = br#"{"gone.png": {"category": "x"}, "link": {"url": "https://example.com/a.png"}}"#;
    take_in(&world, older).await;
    let keepsake = world.open();
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap();
    assert_eq!(backup.missing, [ImageId::new("gone.png").unwrap()]);
    for id in ["gone.png", "link"] {
        keepsake.images.delete(id, shared::Any).await.unwrap();
    }
    let restored = keepsake.restores.restore(backup.name, Mode::Merge).await.unwrap();
    assert_eq!(restored.plan.restored.len(), 1, "the link comes back, and nothing is claimed of the other");
}

#[tokio::test]
async fn the_metadata_file_has_every_documented_field() {
    let world = World::new();
    let keepsake = world.open();
    keepsake.recovery.recover().await.unwrap();
    let id = super::upload(&keepsake, 1).await.unwrap().images[0].0.clone();
    keepsake.replication.compact().await.unwrap();
    let read = async |key: &str| {
        let bytes = world.raw().read(&store::Key::new(key).unwrap()).await.unwrap().0;
        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()
    };
    for place in ["image-metadata.json", "backups/image-metadata.json"] {
        let checkpoint = read(place).await;
        let record = checkpoint[id.as_str()].as_object().unwrap();
        assert_eq!(record.get("groupId"), Some(&serde_json::Value::Null), "{place}: {record:?}");
    }
    // A process that reads it alone knows the same, and a backup by it needs no other page.
    keepsake.backups.create(Kind::Manual).await.unwrap();
    let pages = world.keys("backups/catalog/").await;
    world.remove("catalog").await;
    world.remove("backups/catalog.json").await;
    let restarted = world.open();
    restarted.recovery.recover().await.unwrap();
    restarted.backups.create(Kind::Manual).await.unwrap();
    assert_eq!(world.keys("backups/catalog/").await, pages);
    let stored = entries(&restarted).await;
    assert!(!stored[&id].live().unwrap().extra.contains_key("groupId"));
}
