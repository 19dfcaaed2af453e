//! What recovery does with each thing it can find.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::SignedDuration;
use uuid::Uuid;

use super::{World, png, seen, upload_all};
use crate::world::found_nothing;
use shared::clock::{Clock, format_millis};
use shared::health::Status;
use shared::layout::{self, ImageId};
use shared::media::Limits;
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::store::{ErrorKind, Store};
use shared::{Keepsake, Settings};

#[tokio::test]
async fn files_of_interrupted_upload_are_quarantined_once_it_cannot_run() {
    let world = World::new();
    let keepsake = world.open();
    keepsake.recovery.recover().await.unwrap();
    let ids = upload_all(&keepsake, 0..2).await;
    let orphan = format!("uploads/{}", ImageId::generate(Uuid::from_u128(5), "png"));
    world.put(&orphan, &png(5)).await;
    world.clock.advance(SignedDuration::from_hours(23));
    assert_eq!(world.open().recovery.recover().await.unwrap().set_aside, 0);
    assert!(world.keys("uploads/").await.contains(&orphan));

    world.clock.advance(SignedDuration::from_hours(2));
    assert_eq!(world.open().recovery.recover().await.unwrap().set_aside, 1);
    assert!(!world.keys("uploads/").await.contains(&orphan));
    assert_eq!(world.keys("backups/quarantine/").await.len(), 1, "set aside is not deleted");
    assert_eq!(seen(&world.open()).await.len(), ids.len(), "a failed upload does not turn up later");
}

#[tokio::test]
async fn image_without_metadata_is_adopted_until_its_record_returns() {
    // The root with its pages, or the metadata file alone.
    for returning in ["catalog", "image-metadata.json"] {
        let world = World::new();
        let keepsake = world.open();
        let ids = upload_all(&keepsake, 0..3).await;
        keepsake.core.catalog.compact().await.unwrap();
        let kept = world.copy().await;
        world.remove_catalog("").await;
        world.remove("backups/").await;

        let again = world.open();
        let report = again.recovery.recover().await.unwrap();
        assert_eq!((report.adopted, report.archived), (3, 0));
        let adopted = seen(&again).await;
        assert_eq!(adopted.keys().collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
        assert_eq!(adopted[&ids[1]], (Some(String::new()), Some(png(1))));
        assert_eq!(world.keys("backups/images/").await.len(), 3, "adopted images get their replica");

        for location in ["", "backups/"] {
            world.remove_catalog(location).await;
        }
        for key in kept.keys(returning).await {
            world.put(&key, &kept.raw().read(&store::Key::new(&*key).unwrap()).await.unwrap().0).await;
        }
        let real = world.open();
        real.recovery.recover().await.unwrap();
        assert_eq!(seen(&real).await[&ids[1]].0.as_deref(), Some("number 1"), "{returning}");
    }
}

#[tokio::test]
async fn a_photo_that_a_telephone_named_is_adopted_like_any_other() {
    let world = World::new();
    world.open().recovery.recover().await.unwrap();
    world.put("uploads/3F2504E0-4F89-11D3-9A0C-0305E82C3301.JPG", &png(1)).await;
    world.clock.advance(SignedDuration::from_hours(2));
    let report = world.open().recovery.recover().await.unwrap();
    assert_eq!((report.adopted, report.set_aside), (1, 0));
}

#[tokio::test]
async fn a_file_dated_in_the_future_is_adopted_as_of_now() {
    let world = World::new();
    world.pass(SignedDuration::from_hours(24 * 365));
    world.put("uploads/holiday.png", &png(1)).await;
    world.clock.advance(SignedDuration::from_hours(-24 * 364));
    let keepsake = world.open();
    assert_eq!(keepsake.recovery.recover().await.unwrap().adopted, 1);
    let (_, entry) = keepsake.images.get("holiday.png").await.unwrap();
    assert_eq!(entry.live().unwrap().upload_date, Some(format_millis(world.clock.now())));
}

#[tokio::test]
async fn records_are_restored_from_metadata_mirror_in_uploads() {
    let world = World::new();
    let open = || {
        let primary = Store::new(Arc::clone(&world.memory) as _, &std::env::temp_dir());
        let (archive, mirror) = (primary.below(&layout::default_archive()), primary.below(&layout::uploads_mirror()));
        Keepsake::new(primary, archive, vec![mirror], world.clock.clone(), Settings::default())
    };
    let keepsake = open();
    keepsake.recovery.recover().await.unwrap();
    let ids = upload_all(&keepsake, 0..12).await;
    keepsake.core.catalog.compact().await.unwrap();
    upload_all(&keepsake, 12..13).await;
    keepsake.images.delete(ids[2].as_str(), shared::Any).await.unwrap();
    let before = seen(&keepsake).await;
    drop(keepsake);
    world.remove_catalog("").await;
    world.remove("backups/").await;

    let again = open();
    let report = again.recovery.recover().await.unwrap();
    assert_eq!((report.metadata_restored, report.archived), (true, 12));
    assert_eq!(seen(&again).await, before);
}

#[tokio::test]
async fn changes_during_archive_outage_recover_from_metadata_mirror() {
    let (world, settings) = (World::new(), Settings { archive_sync: false, ..Settings::default() });
    let open = |archive: FaultStore| {
        let primary = Store::new(Arc::clone(&world.memory) as _, &std::env::temp_dir());
        let (archive, mirror) = (Store::new(Arc::new(archive), &std::env::temp_dir()), layout::uploads_mirror());
        let mirror = primary.below(&mirror);
        Keepsake::new(primary, archive, vec![mirror], world.clock.clone(), settings.clone())
    };
    let archive = Arc::new(MemoryStore::new());
    let away = Arc::new(AtomicBool::new(false));
    let is_away = Arc::clone(&away);
    let gone = move |_: &Operation| is_away.load(Ordering::SeqCst).then_some(Fault::Before(ErrorKind::Unavailable));
    let keepsake = open(FaultStore::with_plan(Arc::clone(&archive) as _, gone));
    keepsake.recovery.recover().await.unwrap();
    away.store(true, Ordering::SeqCst);
    let ids = upload_all(&keepsake, 0..3).await;
    assert!(keepsake.replication.compact().await.is_err());
    drop(keepsake);
    world.remove_catalog("").await;

    let again = open(FaultStore::with_plan(archive as _, |_: &Operation| None));
    again.recovery.recover().await.unwrap();
    let records = seen(&again).await;
    assert_eq!(records.keys().collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    assert_eq!(records[&ids[1]].0.as_deref(), Some("number 1"));
}

#[tokio::test]
async fn interrupted_delete_is_finished_and_spares_new_file_of_same_name() {
    let world = World::new();
    let keepsake = world.open();
    let ids = upload_all(&keepsake, 0..2).await;
    for id in &ids {
        keepsake.images.delete(id.as_str(), shared::Any).await.unwrap();
    }
    let (deleted, other) = (format!("uploads/{}", ids[0]), format!("uploads/{}", ids[1]));
    world.put(&deleted, &png(0)).await;
    world.put(&other, &png(77)).await;
    world.clock.advance(SignedDuration::from_hours(25));
    assert_eq!(world.open().recovery.recover().await.unwrap().deletes_finished, 1);
    assert_eq!(world.keys("uploads/").await, [other]);
    assert!(seen(&world.open()).await.is_empty());
}

#[tokio::test]
async fn recovery_leaves_files_that_the_store_refuses_to_delete() {
    let world = World::new();
    let keepsake = world.open();
    keepsake.recovery.recover().await.unwrap();
    let ids = upload_all(&keepsake, 0..2).await;
    keepsake.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    let (deleted, kept) = (format!("uploads/{}", ids[0]), format!("uploads/{}", ids[1]));
    let orphan = format!("uploads/{}", ImageId::generate(Uuid::from_u128(5), "png"));
    world.put(&deleted, &png(0)).await;
    world.put(&orphan, &png(5)).await;
    world.clock.advance(SignedDuration::from_hours(25));
    // As a service without conditional deletes does.
    let refuses = |operation: &Operation| {
        let hit = operation.name == "delete" && operation.key.starts_with("uploads/");
        hit.then_some(Fault::Before(ErrorKind::Refused))
    };
    for _ in 0..2 {
        let report = world.open_failing(refuses).recovery.recover().await.unwrap();
        assert_eq!((report.set_aside, report.deletes_finished), (0, 0));
    }
    let left = world.keys("uploads/").await;
    assert!(left.len() == 3 && [deleted, kept, orphan].iter().all(|key| left.contains(key)), "{left:?}");
    assert_eq!(world.keys("backups/quarantine/").await.len(), 1);
    let report = world.open().recovery.recover().await.unwrap();
    assert_eq!((report.set_aside, report.deletes_finished), (1, 1));
    assert_eq!(seen(&world.open()).await.len(), 1);
}

#[tokio::test]
async fn a_process_whose_clock_is_hours_ahead_leaves_an_upload_under_way_alone() {
    let world = World::new();
    world.open().recovery.recover().await.unwrap();
    let under_way = format!("uploads/{}", ImageId::generate(world.clock.new_id(), "png"));
    world.put(&under_way, &png(1)).await;
    let ahead = Clock::manual(world.clock.now() + SignedDuration::from_hours(20));
    let primary = Store::new(Arc::clone(&world.memory) as _, &std::env::temp_dir());
    let archive = primary.below(&layout::default_archive());
    let other = Keepsake::new(primary, archive, Vec::new(), ahead, Settings::default());
    assert_eq!(other.recovery.recover().await.unwrap().set_aside, 0);
    assert_eq!(world.keys("uploads/").await, [under_way]);
}

#[tokio::test]
async fn an_image_that_is_nowhere_is_reported_and_its_record_kept() {
    let world = World::new();
    let keepsake = world.open();
    let ids = upload_all(&keepsake, 0..2).await;
    world.remove(&format!("uploads/{}", ids[0])).await;
    world.remove("backups/images/").await;
    let again = world.open();
    let report = again.recovery.recover().await.unwrap();
    assert_eq!((report.missing, report.archived), (vec![ids[0].clone()], 1));
    assert_eq!(seen(&again).await[&ids[0]], (Some("number 0".to_owned()), None));
    let told = async || {
        let health = again.health.report().await;
        let check = health.checks.into_iter().find(|check| check.name == "recovery").unwrap();
        (health.missing, check.status)
    };
    assert_eq!(told().await, (1, Status::Warn));
    world.put(&format!("uploads/{}", ids[0]), &png(0)).await;
    assert_eq!(told().await, (0, Status::Ok), "somebody brought it");
}

#[tokio::test]
async fn a_truncated_image_is_set_aside_before_it_is_replaced() {
    let world = World::new();
    let ids = upload_all(&world.open(), 0..1).await;
    world.put(&format!("uploads/{}", ids[0]), &png(0)[..20]).await;
    let again = world.open();
    let report = again.recovery.recover().await.unwrap();
    assert_eq!((report.brought_back, report.set_aside), (1, 1));
    assert_eq!(seen(&again).await[&ids[0]].1, Some(png(0)));
}

#[tokio::test]
async fn a_recovery_of_a_healthy_store_changes_nothing() {
    let world = World::new();
    let keepsake = world.open();
    upload_all(&keepsake, 0..12).await;
    keepsake.recovery.recover().await.unwrap();
    let before = world.keys("").await;
    let report = world.open().recovery.recover().await.unwrap();
    assert!(found_nothing(&report), "{report:?}");
    assert_eq!(world.keys("").await, before);
}

#[tokio::test]
async fn the_archive_of_another_store_is_refused() {
    let (one, two) = (
        World::new(),
        World { clock: Clock::manual_seeded("2026-11-21T08:00:00Z".parse().unwrap(), 2), ..World::new() },
    );
    for world in [&one, &two] {
        let keepsake = world.open();
        keepsake.recovery.recover().await.unwrap();
        upload_all(&keepsake, 0..1).await;
        keepsake.core.catalog.compact().await.unwrap();
    }
    let (primary, archive) = (one.raw(), two.raw().below(&layout::default_archive()));
    let before = one.keys("").await;
    let mixed = Keepsake::new(primary, archive, Vec::new(), one.clock.clone(), Settings::default());
    let error = mixed.recovery.recover().await.unwrap_err();
    let shared::Error::Catalog(error) = error else { panic!("{error:?}") };
    assert!(matches!(error.cause(), shared::catalog::CatalogError::ForeignStore { .. }), "{error}");
    assert_eq!(one.keys("").await, before);
}

#[tokio::test]
async fn an_image_above_the_limit_of_pixels_is_adopted() {
    for (pixels, frames) in [(5, 1_000), (100, 0)] {
        let world = World::new();
        // One has a name as Keepsake makes them, one has a name that people gave.
        let names = [ImageId::generate(Uuid::from_u128(5), "png").to_string(), "holiday.png".to_owned()];
        for (name, n) in names.iter().zip(0..) {
            world.put(&format!("uploads/{name}"), &png(n)).await;
        }
        let media = Limits { max_pixels: pixels, max_frames: frames };
        let open = || world.open_with(Arc::clone(&world.memory) as _, Settings { media, ..Settings::default() });
        let report = open().recovery.recover().await.unwrap();
        assert_eq!((report.adopted, report.images), (2, 2), "{pixels} pixels");
        world.pass(SignedDuration::from_hours(25));
        let keepsake = open();
        assert_eq!(keepsake.recovery.recover().await.unwrap().set_aside, 0, "{pixels} pixels");
        for (name, n) in names.iter().zip(0..) {
            let (_, entry) = keepsake.images.get(name).await.unwrap();
            let record = entry.live().unwrap();
            assert_eq!((record.width, record.height, record.size), (Some(3), Some(2), Some(png(n).len() as u64)));
        }
        assert!(seen(&keepsake).await.values().all(|(_, bytes)| bytes.is_some()));
    }
}
