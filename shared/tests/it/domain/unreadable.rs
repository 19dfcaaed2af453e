//! What cannot be read for a while: a bad cable, say. It is no proof that anything is damaged or missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use super::{World, png, seen, upload_all};
use shared::backup::Kind;
use shared::health::Status;
use shared::layout::{self, ImageId};
use shared::restore::Mode;
use shared::store::ErrorKind;
use shared::store::testing::Fault;
use shared::{Error, Keepsake};

/// Whether what a process reads is unreadable.
#[derive(Clone)]
struct Broken(Arc<AtomicBool>);

impl Broken {
    fn set(&self, broken: bool) {
        self.0.store(broken, Ordering::SeqCst);
    }
}

/// A process that can read none of the objects that `which` picks while it is broken, which it is not at first.
fn open(world: &World, which: impl Fn(&str) -> bool + Send + Sync + 'static) -> (Keepsake, Broken) {
    let broken = Broken(Arc::default());
    let shared = broken.clone();
    let plan = move |operation: &store::testing::Operation| {
        let hit = shared.0.load(Ordering::SeqCst) && operation.name == "get" && which(&operation.key);
        hit.then_some(Fault::Before(ErrorKind::Corrupt))
    };
    (world.open_failing(plan), broken)
}

/// A store with some images, of which none is compacted.
async fn filled() -> (World, Vec<ImageId>) {
    let world = World::new();
    world.open().recovery.recover().await.unwrap();
    let ids = upload_all(&world.open(), 0..3).await;
    (world, ids)
}

#[tokio::test]
async fn temporarily_unreadable_commits_and_their_images_stay() {
    let (world, ids) = filled().await;
    world.clock.advance(jiff::SignedDuration::from_hours(25));
    let before = world.keys("").await;
    let (keepsake, broken) = open(&world, |key| key.contains("image-metadata.d/"));
    broken.set(true);
    keepsake.recovery.recover().await.unwrap();
    let health = keepsake.health.report().await;
    assert!(health.checks.iter().any(|check| check.name == "catalog" && check.status == Status::Warn));
    assert_eq!(world.keys("").await, before, "nothing was deleted or set aside");
    broken.set(false);
    assert_eq!(seen(&keepsake).await.len(), ids.len(), "the same process sees them again");
    assert!(
        keepsake.health.report().await.checks.iter().all(|check| check.name != "catalog" || check.status == Status::Ok)
    );
    let after = world.open();
    after.recovery.recover().await.unwrap();
    assert!(seen(&after).await.values().all(|(said, bytes)| said.is_some() && bytes.is_some()));
}

#[tokio::test]
async fn a_file_without_a_record_that_cannot_be_read_is_not_set_aside() {
    let (world, _) = filled().await;
    let orphan = format!("uploads/{}", ImageId::generate(Uuid::from_u128(5), "png"));
    world.put(&orphan, &png(5)).await;
    world.clock.advance(jiff::SignedDuration::from_hours(25));
    let (unreadable, kept) = (orphan.clone(), orphan.clone());
    let (keepsake, broken) = open(&world, move |key| key == unreadable);
    broken.set(true);
    assert_eq!(keepsake.recovery.recover().await.unwrap().set_aside, 0);
    assert!(world.keys("uploads/").await.contains(&kept));
    broken.set(false);
    assert_eq!(keepsake.recovery.recover().await.unwrap().set_aside, 1);
    assert_eq!(world.keys("backups/quarantine/").await.len(), 1);
}

#[tokio::test]
async fn unreadable_root_without_replica_is_not_treated_as_empty() {
    let (world, ids) = filled().await;
    world.open().core.catalog.compact().await.unwrap();
    world.remove("backups/catalog.json").await;
    let (keepsake, broken) = open(&world, |key| key == "catalog.json");
    broken.set(true);
    let before = world.keys("").await;
    for outcome in [keepsake.images.get(ids[0].as_str()).await.map(drop), keepsake.recovery.recover().await.map(drop)] {
        assert_eq!(outcome.unwrap_err().store_kind(), Some(ErrorKind::Corrupt), "not that there is no such image");
    }
    assert_eq!(world.keys("").await, before);
    broken.set(false);
    assert_eq!(seen(&keepsake).await.len(), ids.len());
}

#[tokio::test]
async fn unreadable_page_without_replica_is_not_treated_as_empty() {
    let (world, ids) = filled().await;
    world.open().core.catalog.compact().await.unwrap();
    world.remove("backups/catalog/").await;
    let (keepsake, broken) = open(&world, |key| key.starts_with("catalog/"));
    broken.set(true);
    let before = world.keys("").await;
    for outcome in [keepsake.images.get(ids[0].as_str()).await.map(drop), keepsake.recovery.recover().await.map(drop)] {
        assert!(
            !matches!(outcome, Ok(()) | Err(Error::NoSuchImage(_))),
            "not that there is no such image: {outcome:?}"
        );
    }
    assert_eq!(world.keys("").await, before);
    broken.set(false);
    assert_eq!(seen(&keepsake).await.len(), ids.len());
}

#[tokio::test]
async fn unreadable_root_replica_does_not_stop_a_start() {
    let (world, ids) = filled().await;
    world.open().core.catalog.compact().await.unwrap();
    let (keepsake, broken) = open(&world, |key| key == "backups/catalog.json");
    broken.set(true);
    keepsake.recovery.recover().await.unwrap();
    upload_all(&keepsake, 3..4).await;
    keepsake.core.catalog.compact().await.unwrap();
    assert_eq!(seen(&keepsake).await.len(), ids.len() + 1);
    // It was written anew.
    let root = world.raw().read(&layout::root()).await.unwrap().0;
    let copy = store::Key::new("backups/catalog.json").unwrap();
    assert_eq!(world.raw().read(&copy).await.unwrap().0, root);
}

#[tokio::test]
async fn backup_with_unreadable_manifest_is_damaged_not_unknown() {
    let (world, _) = filled().await;
    let backup = world.open().backups.create(Kind::Manual).await.unwrap().name;
    let (keepsake, broken) = open(&world, |key| key.ends_with("/manifest.json"));
    broken.set(true);
    assert!(keepsake.backups.list().await.unwrap().is_empty());
    assert!(matches!(keepsake.backups.manifest(backup).await, Err(Error::DamagedBackup(_))));
    assert!(matches!(keepsake.restores.plan(backup, Mode::Merge).await, Err(Error::DamagedBackup(_))));
    broken.set(false);
    assert_eq!(keepsake.backups.list().await.unwrap().len(), 1, "the same process lists it again");
    keepsake.backups.manifest(backup).await.unwrap();
}
