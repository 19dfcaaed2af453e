//! Records of the older format, which have no digest until someone has looked at their files.

use super::{World, png, seen};
use shared::backup::Kind;
use shared::images::Patch;
use shared::layout::ImageId;
use shared::restore::Mode;

/// A store that serves, into which someone copies a file and a checkpoint of the older format.
async fn with_older_record() -> (World, ImageId) {
    let world = World::new();
    world.open().recovery.recover().await.unwrap();
    world.put("uploads/old.png", &png(1)).await;
    world.put("image-metadata.json", br#"{"old.png": {"description": "old", "camera": "Box"}}"#).await;
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
async fn edit_of_field_imported_with_other_type_survives_restart() {
    let world = World::new();
    world.open().recovery.recover().await.unwrap();
    world.put("uploads/old.png", &png(1)).await;
    let older = br#"{"old.png": {"order": null, "groupId": 5, "category": 7, "size": "70", "sha256": ""}}"#;
    world.put("image-metadata.json", older).await;
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
    world.put("image-metadata.json", older).await;
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
async fn the_checkpoint_has_every_documented_field() {
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
    // A process that reads it knows the same, and a backup by it needs no other chunk.
    keepsake.backups.create(Kind::Manual).await.unwrap();
    let chunks = world.keys("backups/catalog/").await;
    let restarted = world.open();
    restarted.recovery.recover().await.unwrap();
    restarted.backups.create(Kind::Manual).await.unwrap();
    assert_eq!(world.keys("backups/catalog/").await, chunks);
    assert!(!read(&chunks[0]).await.to_string().contains("groupId"));
}
