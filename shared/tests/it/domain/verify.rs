//! Rot: what is read through, what is repaired from what, and what is never served.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures::FutureExt;

use super::{World, png, seen, upload_all};
use crate::world::parts_of;
use shared::backup::Kind;
use shared::digest::Digest;
use shared::health::Status;
use shared::images::Patch;
use shared::layout::{self, ImageId};
use shared::store::testing::{Fault, FaultStore, Operation};
use shared::store::{Body, ErrorKind, Key, ObjectStore, PutMode};
use shared::verify::{Findings, SLICES, Slice};
use shared::{Error, Keepsake, Settings};

/// Other bytes of the same length.
fn rotten(bytes: &[u8]) -> Vec<u8> {
    let mut rotten = bytes.to_vec();
    let middle = rotten.len() / 2;
    rotten[middle] ^= 0x10;
    rotten
}

/// A store with so many images and a backup of them.
async fn world_of(images: u32) -> (World, Keepsake, Vec<ImageId>) {
    let world = World::new();
    let keepsake = world.open();
    keepsake.recovery.recover().await.unwrap();
    let ids = upload_all(&keepsake, 0..images).await;
    keepsake.backups.create(Kind::Manual).await.unwrap();
    (world, keepsake, ids)
}

/// The page of the newest backup, which has only one.
async fn page_of_newest(world: &World, keepsake: &Keepsake) -> Digest {
    let newest = keepsake.backups.list().await.unwrap()[0].name;
    let (pages, _) = parts_of(world, &keepsake.backups.manifest(newest).await.unwrap()).await;
    let [page] = pages.into_iter().collect::<Vec<_>>()[..] else { panic!("one page") };
    page
}

fn set(id: &ImageId) -> BTreeSet<ImageId> {
    BTreeSet::from([id.clone()])
}

impl World {
    async fn rot_image(&self, id: &ImageId, n: u32) {
        self.put(layout::image(id).as_str(), &rotten(&png(n))).await;
    }

    async fn rot_copy(&self, n: u32) {
        self.put(&format!("backups/images/{}", Digest::of(&png(n))), &rotten(&png(n))).await;
    }
}

#[tokio::test]
async fn each_copy_is_repaired_from_the_other_and_only_where_that_is_asked_for() {
    let (world, keepsake, ids) = world_of(4).await;
    world.rot_image(&ids[0], 0).await;
    world.rot_copy(1).await;
    world.remove(layout::image(&ids[2]).as_str()).await;
    world.remove(&format!("backups/images/{}", Digest::of(&png(3)))).await;

    let looked = keepsake.verifier.verify(Slice::WHOLE, false).await.unwrap();
    assert_eq!((looked.images, looked.damaged.len()), (4, 4));
    assert!(looked.needs_attention() && looked.repaired.is_empty() && looked.copied.is_empty());
    let repaired = keepsake.verifier.verify(Slice::WHOLE, true).await.unwrap();
    assert!(!repaired.needs_attention());
    assert_eq!(repaired.repaired, BTreeSet::from([ids[0].clone(), ids[2].clone()]));
    assert_eq!(repaired.copied, BTreeSet::from([ids[1].clone(), ids[3].clone()]));
    assert_eq!(world.keys("backups/quarantine/").await.len(), 2, "what was replaced is kept for a person to look at");
    let after = keepsake.verifier.verify(Slice::WHOLE, false).await.unwrap();
    assert!((after.images, after.repaired.len() + after.copied.len()) == (4, 0) && !after.needs_attention());
    let seen = seen(&keepsake).await;
    assert!(ids.iter().zip(0..).all(|(id, n)| seen[id].1 == Some(png(n))));
}

#[tokio::test]
async fn an_image_that_is_right_in_no_place_is_reported_and_left_as_it_is() {
    let (world, keepsake, ids) = world_of(2).await;
    world.rot_image(&ids[1], 1).await;
    world.rot_copy(1).await;
    let found = keepsake.verifier.verify(Slice::WHOLE, true).await.unwrap();
    assert_eq!((found.lost, found.repaired.len()), (set(&ids[1]), 0));
    assert_eq!(seen(&keepsake).await[&ids[1]].1, Some(rotten(&png(1))), "a person may still make something of it");
    let health = keepsake.health.report().await;
    let check = health.checks.iter().find(|check| check.name == "verification").unwrap();
    assert!(check.status == Status::Warn && check.message.contains("right in no place: 1"), "{}", check.message);
}

#[tokio::test]
async fn corrupt_image_is_served_from_replica_and_repaired() {
    let (world, keepsake, ids) = world_of(2).await;
    world.rot_image(&ids[0], 0).await;
    let (store, meta) = keepsake.bytes.verified(&ids[0], Digest::of(&png(0))).await.unwrap();
    assert_eq!(store.read(&meta.key).await.unwrap().0, png(0));
    keepsake.verifier.repair_suspects().await.unwrap();
    assert_eq!(seen(&keepsake).await[&ids[0]].1, Some(png(0)));

    world.rot_image(&ids[1], 1).await;
    world.rot_copy(1).await;
    assert!(matches!(keepsake.bytes.verified(&ids[1], Digest::of(&png(1))).await, Err(Error::MissingBytes)));
    keepsake.verifier.repair_suspects().await.unwrap();
}

#[tokio::test]
async fn corrupt_page_is_put_back_or_its_backups_are_named() {
    let (world, keepsake, ids) = world_of(3).await;
    let page = page_of_newest(&world, &keepsake).await;
    let key = format!("backups/{}", layout::page(&page));
    for damage in [Some(&b"{}"[..]), None] {
        match damage {
            Some(bytes) => world.put(&key, bytes).await,
            None => world.remove(&key).await,
        }
        let found = keepsake.verifier.verify(Slice::WHOLE, false).await.unwrap();
        assert!(!found.damaged_backups.is_empty() && found.needs_attention());
        assert!(!keepsake.verifier.verify(Slice::WHOLE, true).await.unwrap().needs_attention());
    }
    keepsake.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    keepsake.core.catalog.compact().await.unwrap();
    world.spoil_page(&page, b"{}").await;
    let found = keepsake.verifier.verify(Slice::WHOLE, true).await.unwrap();
    let listed = keepsake.backups.list().await.unwrap();
    let names: BTreeSet<_> = listed.iter().map(|backup| backup.name).collect();
    assert_eq!(found.damaged_backups, names, "each of them has this page");

    world.put(&format!("backups/{}/manifest.json", listed[0].name), b"{}").await;
    assert!(keepsake.verifier.verify(Slice::WHOLE, true).await.unwrap().damaged_backups.contains(&listed[0].name));
}

#[tokio::test]
async fn verify_reads_replicas_of_deleted_images() {
    let (world, keepsake, ids) = world_of(3).await;
    keepsake.images.delete(ids[1].as_str(), shared::Any).await.unwrap();
    let well = keepsake.verifier.verify(Slice::WHOLE, true).await.unwrap();
    assert_eq!((well.images, well.deleted, well.needs_attention()), (2, 1, false));
    world.rot_copy(1).await;
    let found = keepsake.verifier.verify(Slice::WHOLE, true).await.unwrap();
    assert_eq!(found.lost_copies, BTreeSet::from([Digest::of(&png(1))]));
    let listed = keepsake.backups.list().await.unwrap();
    assert!(!listed.is_empty() && listed.iter().all(|backup| found.damaged_backups.contains(&backup.name)));
}

#[tokio::test]
async fn failed_repair_blocks_no_other_and_is_reported_in_health() {
    let (world, keepsake, ids) = world_of(4).await;
    for (id, n) in ids.iter().zip(0..) {
        world.rot_image(id, n).await;
    }
    let unlucky = layout::image(&ids[0]);
    let failing = world.open_failing(move |operation| {
        (operation.name == "put" && operation.key == unlucky.as_str()).then_some(Fault::Before(ErrorKind::Refused))
    });
    assert!(failing.verifier.verify(Slice::WHOLE, true).await.is_err());
    let seen = seen(&keepsake).await;
    assert!((1..4).all(|n: usize| seen[&ids[n]].1 == Some(png(n as u32))));
    assert_eq!(keepsake.verifier.verifications().await.unwrap().damaged.keys().collect::<Vec<_>>(), [&ids[0]]);
    let health = keepsake.health.report().await;
    let check = health.checks.iter().find(|check| check.name == "verification").unwrap();
    assert!(check.status == Status::Warn && check.message.contains("one wrong copy: 1"), "{}", check.message);

    // A store that takes no writes is verified all the same.
    let read_only =
        world.open_failing(|operation| (operation.name == "put").then_some(Fault::Before(ErrorKind::ReadOnly)));
    assert_eq!(read_only.verifier.verify(Slice::WHOLE, false).await.unwrap().damaged, set(&ids[0]));
}

#[tokio::test]
async fn damage_is_reported_until_a_verification_finds_it_repaired() {
    let (world, keepsake, ids) = world_of(20).await;
    world.rot_image(&ids[7], 7).await;
    world.rot_copy(7).await;
    keepsake.verifier.verify(Slice::WHOLE, false).await.unwrap();
    let slices = |of| (1..=of).map(move |number| Slice::new(number, of).unwrap());
    for slice in slices(7) {
        keepsake.verifier.verify(slice, false).await.unwrap();
        assert_eq!(keepsake.verifier.verifications().await.unwrap().lost.len(), 1, "{slice}");
    }
    world.put(layout::image(&ids[7]).as_str(), &png(7)).await;
    for slice in slices(5) {
        keepsake.verifier.verify(slice, true).await.unwrap();
    }
    assert!(keepsake.verifier.verifications().await.unwrap().lost.is_empty());
}

#[tokio::test]
async fn slices_cover_everything_and_the_oldest_is_next() {
    let (world, keepsake, ids) = world_of(20).await;
    keepsake.images.delete(ids[3].as_str(), shared::Any).await.unwrap();
    let whole = keepsake.verifier.verify(Slice::WHOLE, false).await.unwrap();
    assert_eq!(keepsake.verifier.verifications().await.unwrap().complete_since(), Some(world.clock.now()));
    let mut sum = Findings::default();
    for number in 1..=5 {
        let found = keepsake.verifier.verify(Slice::new(number, 5).unwrap(), false).await.unwrap();
        assert!(found.images < 20);
        sum.images += found.images;
        sum.bytes += found.bytes;
        sum.deleted += found.deleted;
        sum.pieces += found.pieces;
    }
    assert_eq!(sum, whole);

    let mut taken = BTreeSet::new();
    for _ in 0..SLICES {
        world.clock.advance(jiff::SignedDuration::from_hours(1));
        let next = keepsake.verifier.verifications().await.unwrap().next_slice();
        assert!(taken.insert(next.to_string()));
        keepsake.verifier.verify(next, false).await.unwrap();
    }
    let record = keepsake.verifier.verifications().await.unwrap();
    assert_eq!(record.next_slice().to_string(), format!("1/{SLICES}"));
    let since = world.clock.now().duration_since(record.complete_since().unwrap());
    assert_eq!(since, jiff::SignedDuration::from_hours(i64::from(SLICES) - 1));
}

#[tokio::test]
async fn upload_does_not_reuse_a_corrupt_replica() {
    let (world, keepsake, ids) = world_of(1).await;
    keepsake.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    world.rot_copy(0).await;
    let again = upload_all(&keepsake, 0..1).await;
    world.remove("uploads/").await;
    world.open().recovery.recover().await.unwrap();
    assert_eq!(seen(&world.open()).await[&again[0]].1, Some(png(0)));
}

#[tokio::test]
async fn pending_replica_is_not_damage() {
    let world = World::new();
    let settings = Settings { archive_sync: false, ..Settings::default() };
    let keepsake = world.open_with(Arc::clone(&world.memory) as _, settings);
    upload_all(&keepsake, 0..2).await;
    assert!(!keepsake.verifier.verify(Slice::WHOLE, false).await.unwrap().needs_attention());
    // One that is there and wrong was not on its way.
    world.put(&format!("backups/images/{}", Digest::of(&png(0))), &rotten(&png(0))).await;
    assert_eq!(keepsake.verifier.verify(Slice::WHOLE, true).await.unwrap().copied.len(), 1);
    world.remove("backups/images/").await;
    world.clock.advance(jiff::SignedDuration::from_hours(2));
    assert_eq!(keepsake.verifier.verify(Slice::WHOLE, false).await.unwrap().damaged.len(), 2);
}

/// A store that lists these keys and fails to return their bytes, as a service does that found rot in them, until they are
/// put again.
fn open_rotten(world: &World, settings: Settings, keys: &[String]) -> Keepsake {
    let rotten = Mutex::new(BTreeSet::from_iter(keys.iter().cloned()));
    let plan = move |operation: &Operation| {
        let mut rotten = rotten.lock().unwrap();
        if matches!(operation.name, "put" | "copy") {
            rotten.remove(&operation.key);
        }
        let fails = operation.name == "get" && rotten.contains(&operation.key);
        fails.then_some(Fault::Before(ErrorKind::Unavailable))
    };
    world.open_with(Arc::new(FaultStore::with_plan(Arc::clone(&world.memory) as _, plan)), settings)
}

fn copy_key(n: u32) -> String {
    format!("backups/images/{}", Digest::of(&png(n)))
}

#[tokio::test]
async fn an_unreadable_copy_is_named_and_repaired_from_the_other() {
    let (world, _, ids) = world_of(3).await;
    let keys = [layout::image(&ids[0]).to_string(), copy_key(1)];
    let keepsake = open_rotten(&world, Settings::default(), &keys);
    let looked = keepsake.verifier.verify(Slice::WHOLE, false).await.unwrap();
    assert_eq!(looked.damaged, BTreeSet::from([ids[0].clone(), ids[1].clone()]));
    assert!(looked.lost.is_empty());
    let health = keepsake.health.report().await;
    let check = health.checks.iter().find(|check| check.name == "verification").unwrap();
    assert!(check.status == Status::Warn && check.message.contains(ids[0].as_str()), "{}", check.message);

    let repaired = keepsake.verifier.verify(Slice::WHOLE, true).await.unwrap();
    assert_eq!((repaired.repaired, repaired.copied), (set(&ids[0]), set(&ids[1])));
    let after = keepsake.verifier.verify(Slice::WHOLE, false).await.unwrap();
    assert!(!after.needs_attention(), "{after:?}");
    assert_eq!(seen(&keepsake).await[&ids[0]].1, Some(png(0)));
}

#[tokio::test]
async fn unreadable_image_is_served_from_replica_and_repaired() {
    let (world, _, ids) = world_of(2).await;
    let keys = [layout::image(&ids[0]).to_string(), layout::image(&ids[1]).to_string()];
    let keepsake = open_rotten(&world, Settings::default(), &keys);
    // Only images that the catalog holds are repaired.
    keepsake.core.catalog.refresh().await.unwrap();
    let (store, meta) = keepsake.bytes.verified(&ids[0], Digest::of(&png(0))).await.unwrap();
    assert_eq!(store.read(&meta.key).await.unwrap().0, png(0));
    let (_, entry) = keepsake.images.get(ids[1].as_str()).await.unwrap();
    let (store, meta) = keepsake.bytes.readable(&ids[1], entry.live().unwrap()).await.unwrap();
    assert_eq!(store.read(&meta.key).await.unwrap().0, png(1));
    keepsake.verifier.repair_suspects().await.unwrap();
    let seen = seen(&keepsake).await;
    assert!(ids.iter().zip(0..).all(|(id, n)| seen[id].1 == Some(png(n))));
}

#[tokio::test]
async fn an_image_unreadable_in_both_places_is_damaged_but_not_lost() {
    let (world, _, ids) = world_of(1).await;
    let keepsake = open_rotten(&world, Settings::default(), &[layout::image(&ids[0]).to_string(), copy_key(0)]);
    let found = keepsake.verifier.verify(Slice::WHOLE, true).await.unwrap();
    assert_eq!((found.damaged, found.lost), (set(&ids[0]), BTreeSet::new()));
    assert!(keepsake.bytes.verified(&ids[0], Digest::of(&png(0))).await.is_err());
    // Its bytes were not given up: the service may return them again.
    assert_eq!(seen(&world.open()).await[&ids[0]].1, Some(png(0)));
}

#[tokio::test]
async fn unrepairable_image_is_reported_in_health() {
    let (world, _, ids) = world_of(1).await;
    let keys = [layout::image(&ids[0]).to_string(), copy_key(0)];
    let keepsake = open_rotten(&world, Settings::default(), &keys);
    keepsake.core.catalog.refresh().await.unwrap();
    assert!(keepsake.bytes.verified(&ids[0], Digest::of(&png(0))).await.is_err());
    keepsake.verifier.repair_suspects().await.unwrap();
    let record = keepsake.verifier.verifications().await.unwrap();
    assert_eq!(record.damaged.keys().collect::<Vec<_>>(), [&ids[0]]);
    assert_eq!(record.complete_since(), None, "this was no verification of everything");
}

#[tokio::test]
async fn unreadable_manifests_and_pages_are_damaged_backups() {
    let (world, keepsake, ids) = world_of(2).await;
    let name = keepsake.backups.list().await.unwrap()[0].name;
    let page = format!("backups/{}", layout::page(&page_of_newest(&world, &keepsake).await));
    let keepsake = open_rotten(&world, Settings::default(), &[page]);
    assert!(keepsake.verifier.verify(Slice::WHOLE, false).await.unwrap().damaged_backups.contains(&name));
    assert_eq!(keepsake.verifier.verify(Slice::WHOLE, true).await.unwrap().rewritten, 1);
    let keepsake = open_rotten(&world, Settings::default(), &[format!("backups/{name}/manifest.json")]);
    let found = keepsake.verifier.verify(Slice::WHOLE, true).await.unwrap();
    assert_eq!((found.damaged_backups, found.images), (BTreeSet::from([name]), ids.len() as u64));
}

#[tokio::test]
async fn replica_written_during_verify_is_not_damage() {
    let world = World::new();
    let settings = Settings { archive_sync: false, ..Settings::default() };
    let memory = Arc::clone(&world.memory);
    let plan = move |operation: &Operation| {
        if operation.name == "head" && operation.key.starts_with("backups/images/") {
            let (body, key) = (Body::from(png(0)), Key::new(operation.key.clone()).unwrap());
            memory.put(&key, &body, &PutMode::Overwrite).now_or_never().unwrap().unwrap();
        }
        None
    };
    let keepsake = world.open_with(Arc::new(FaultStore::with_plan(Arc::clone(&world.memory) as _, plan)), settings);
    upload_all(&keepsake, 0..1).await;
    let found = keepsake.verifier.verify(Slice::WHOLE, false).await.unwrap();
    assert!(!found.needs_attention(), "{found:?}");
    assert_eq!(world.keys("backups/images/").await, [copy_key(0)], "it was made meanwhile");
}

#[tokio::test]
async fn queued_replica_of_an_old_image_is_not_damage() {
    let world = World::new();
    let settings = Settings { archive_sync: false, ..Settings::default() };
    let keepsake = world.open_with(Arc::clone(&world.memory) as _, settings);
    let ids = upload_all(&keepsake, 0..1).await;
    world.pass(jiff::SignedDuration::from_hours(2));
    assert_eq!(keepsake.verifier.verify(Slice::WHOLE, false).await.unwrap().damaged.len(), 1);
    // An import or a restore of an old image is such a commit as well.
    let edit = Patch { description: Some(Some("edited".to_owned())), ..Patch::default() };
    keepsake.images.edit(ids[0].as_str(), &edit, shared::Any).await.unwrap();
    assert!(!keepsake.verifier.verify(Slice::WHOLE, false).await.unwrap().needs_attention());
    keepsake.maintenance.catch_up().await.unwrap();
    assert!(!keepsake.verifier.verify(Slice::WHOLE, false).await.unwrap().needs_attention());
    assert_eq!(world.keys("backups/images/").await, [copy_key(0)]);
}

#[test]
fn a_slice_is_one_of_so_many() {
    for good in ["1/1", "30/30", "7/720"] {
        assert_eq!(good.parse::<Slice>().unwrap().to_string(), good);
    }
    for bad in ["", "1", "0/3", "4/3", "1/0", "-1/3", "a/b", "1/3/5"] {
        assert!(bad.parse::<Slice>().is_err(), "{bad}");
    }
}

/// A picture that is stored lying and shown standing: `png(1)` with Exif before its pixels.
fn turned_png() -> Vec<u8> {
    let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let mut chunk = [&26_u32.to_be_bytes()[..], b"eXIf", exif].concat();
    chunk.extend(crc32fast::hash(&chunk[4..]).to_be_bytes());
    let plain = png(1);
    [&plain[..33], &chunk, &plain[33..]].concat()
}

#[tokio::test]
async fn sizes_in_records_of_older_versions_are_put_right_by_a_repair() {
    let world = World::new();
    world.open().recovery.recover().await.unwrap();
    let bytes = turned_png();
    let record = serde_json::json!({
        "type": "image", "contentType": "image/png", "size": bytes.len(), "width": 3, "height": 2,
        "sha256": Digest::of(&bytes), "description": "old",
    });
    let older = serde_json::json!({ "a.png": record, "b.png": record, "gone.png": record });
    world.put("uploads/a.png", &bytes).await;
    world.put("uploads/b.png", &bytes).await;
    world.put("image-metadata.json", older.to_string().as_bytes()).await;
    let keepsake = world.open();
    keepsake.recovery.recover().await.unwrap();
    world.remove("uploads/gone.png").await;
    let patch = Patch { description: Some(Some("edited".to_owned())), ..Patch::default() };
    keepsake.images.edit("b.png", &patch, shared::Any).await.unwrap();
    let said = async |keepsake: &Keepsake, id: &str| {
        let (_, entry) = keepsake.images.get(id).await.unwrap();
        let record = entry.live().unwrap().clone();
        (record.width, record.height, record.orientation, record.description.unwrap(), entry.stamp)
    };
    let before = said(&keepsake, "a.png").await;
    assert_eq!((before.0, before.1, before.2), (Some(3), Some(2), None));

    keepsake.verifier.verify(Slice::WHOLE, false).await.unwrap();
    assert_eq!(said(&keepsake, "a.png").await, before, "without a repair nothing is written");
    keepsake.verifier.verify(Slice::WHOLE, true).await.unwrap();
    for (id, description) in [("a.png", "old"), ("b.png", "edited")] {
        let (width, height, orientation, kept, stamp) = said(&keepsake, id).await;
        assert_eq!((width, height, orientation, &*kept), (Some(2), Some(3), Some(6), description));
        let elsewhere = said(&world.open(), id).await;
        assert_eq!((elsewhere.0, elsewhere.4), (Some(2), stamp));
    }
    let once = said(&keepsake, "a.png").await;
    keepsake.verifier.verify(Slice::WHOLE, true).await.unwrap();
    assert_eq!(said(&keepsake, "a.png").await, once, "once is enough");
}
