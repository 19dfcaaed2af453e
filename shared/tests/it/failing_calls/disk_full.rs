//! The promise for a full disk: an upload that finds no room is refused and leaves nothing, deleting works at once, and
//! uploads go on as soon as there is room.

use super::bases::ContextOnPanic;
use super::test_store::TestStore;
use super::{answered, run};
use crate::world::{live, png};
use shared::clock::Clock;
use shared::health::Status;
use shared::images::Fields;
use shared::layout::ImageId;
use shared::store::Body;
use shared::store::fs::FileSystem;
use shared::store::testing::fs::SimulatedDisk;
use shared::upload::{NewImage, Uploaded};
use shared::{Keepsake, Result, Settings};

/// An image with something behind it, as long as an image that takes up room.
fn large(n: u32) -> Vec<u8> {
    [png(n), vec![n as u8; 3_000]].concat()
}

fn send(keepsake: &Keepsake, n: u32) -> Result<Uploaded> {
    let image = NewImage { body: Body::from(large(n)), original_name: None };
    run(keepsake.uploads.upload(vec![image], Fields::default(), None))
}

/// A disk with two images, whose records lie in a checkpoint; a clock; how many bytes they take.
fn disk_with_two() -> (SimulatedDisk, Vec<ImageId>, u64) {
    let disk = SimulatedDisk::new();
    let clock = Clock::manual("2026-11-20T08:00:00Z".parse().unwrap());
    let keepsake = open(&disk, &clock);
    run(keepsake.recovery.recover()).unwrap();
    let ids = (0..2).map(|n| send(&keepsake, n).unwrap().images[0].0.clone()).collect();
    run(keepsake.core.catalog.compact()).unwrap();
    let used = bytes(&disk);
    (disk.moment().copy(), ids, used)
}

/// How many bytes the files on a disk have.
fn bytes(disk: &SimulatedDisk) -> u64 {
    disk.moment().tree().values().flatten().map(|bytes| bytes.len() as u64).sum()
}

fn open(disk: &SimulatedDisk, clock: &Clock) -> Keepsake {
    open_with(disk, clock, 0)
}

fn open_with(disk: &SimulatedDisk, clock: &Clock, reserve_bytes: u64) -> Keepsake {
    let settings = Settings { reserve_bytes, ..Settings::default() };
    TestStore::Disk(disk.clone()).open(clock, &settings, None).unwrap()
}

fn later() -> Clock {
    Clock::manual_seeded("2026-11-21T08:00:00Z".parse().unwrap(), 3)
}

/// The ids of the images that are there, each with its bytes.
fn ids(disk: &SimulatedDisk) -> Vec<ImageId> {
    let keepsake = open(disk, &later());
    run(async {
        keepsake.core.catalog.refresh().await.unwrap();
        let live = live(&keepsake).await;
        for (id, record) in &live {
            keepsake.bytes.verified(id, record.sha256.unwrap()).await.unwrap();
        }
        live.into_keys().collect()
    })
}

#[test]
fn full_disk_stores_upload_or_refuses_it_without_traces() {
    let (full, two, used) = disk_with_two();
    let (mut refused, mut needed) = (0, None);
    for free in (0..12_000).step_by(61) {
        let _context = ContextOnPanic(format!("{free} bytes are free"));
        let disk = full.moment().copy();
        let before = disk.moment().tree();
        disk.set_capacity(used + free);
        let keepsake = open(&disk, &later());
        match send(&keepsake, 7) {
            Ok(uploaded) => {
                assert_eq!(uploaded.copies, 2);
                needed = needed.or(Some(free));
                assert_eq!(ids(&disk).len(), 3);
            }
            Err(error) => {
                refused += 1;
                assert!(needed.is_none(), "refused, though less was enough");
                assert_eq!(answered(error), (507, "insufficient-storage".to_owned()));
                // A replica of what an image holds may stay, as far as there was room for it: the next try uses it.
                let after = disk.moment().tree();
                let came: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
                assert!(came.iter().all(|path| path.starts_with("backups/images/")), "{came:?}");
                assert_eq!(ids(&disk), two);
                disk.set_capacity(u64::MAX);
                send(&keepsake, 7).unwrap();
                assert_eq!(ids(&disk).len(), 3, "uploads go on when there is room");
            }
        }
    }
    assert!(refused > 90 && needed.is_some(), "{refused} were refused, and {needed:?} bytes are enough");
}

#[test]
fn full_disk_deletes_images_with_any_number_of_free_bytes() {
    let (full, two, used) = disk_with_two();
    for free in (0..2_000).step_by(13) {
        let _context = ContextOnPanic(format!("{free} bytes are free"));
        let disk = full.moment().copy();
        disk.set_capacity(used + free);
        let keepsake = open(&disk, &later());
        run(keepsake.images.delete(two[0].as_str(), shared::Any)).unwrap();
        assert_eq!(ids(&disk), two[1..]);
        // Its bytes are free: less than those that the record of its deletion takes.
        assert!(bytes(&disk) < used);
        assert!(disk.moment().tree().keys().all(|path| !path.contains(".tmp-")));
        assert_eq!(disk.open_handles(), 0);
    }
}

/// How many files and folders are on a disk.
fn files(disk: &SimulatedDisk) -> u64 {
    let files = disk.root().unwrap().space().unwrap().files.unwrap();
    files.total - files.free
}

/// What health says of the primary.
fn health_of_primary(keepsake: &Keepsake) -> (Status, String) {
    let check = run(keepsake.health.report()).checks.into_iter().find(|check| check.name == "primary").unwrap();
    (check.status, check.message)
}

#[test]
fn uploads_leave_enough_inodes_for_every_delete() {
    let (full, _, _) = disk_with_two();
    full.set_file_capacity(500);
    let keepsake = open_with(&full, &later(), 1);
    assert_eq!(health_of_primary(&keepsake).0, Status::Ok);
    let mut sent = 0;
    let refused = loop {
        match send(&keepsake, 10 + sent) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(sent > 50 && refused.to_string().contains("inodes"), "{sent} were sent before: {refused}");
    assert_eq!(answered(refused), (507, "insufficient-storage".to_owned()));
    let (status, message) = health_of_primary(&keepsake);
    assert!(status == Status::Error && message.contains("inodes are free") && message.contains("500"), "{message}");
    let deleted = ids(&full);
    assert_eq!(deleted.len(), 2 + sent as usize);
    // Each delete writes its record before anything goes; the server compacts soon after.
    for (n, id) in deleted.iter().enumerate() {
        run(keepsake.images.delete(id.as_str(), shared::Any)).unwrap();
        if n % 5 == 4 {
            run(keepsake.core.catalog.compact()).unwrap();
        }
    }
    assert_eq!(ids(&full), []);
}

#[test]
fn a_disk_without_free_inodes_says_so_in_health_and_in_the_answer() {
    let (full, two, _) = disk_with_two();
    let mut refused = 0;
    for free in 0..8 {
        let _context = ContextOnPanic(format!("{free} inodes are free"));
        let disk = full.moment().copy();
        disk.set_file_capacity(files(&disk) + free);
        let keepsake = open(&disk, &later());
        let (status, message) = health_of_primary(&keepsake);
        assert_eq!((status == Status::Error, message.contains("inodes")), (free == 0, free == 0), "{message}");
        if let Err(error) = send(&keepsake, 7) {
            refused += 1;
            let sentence = error.is_out_of_inodes();
            assert_eq!(answered(error), (507, "insufficient-storage".to_owned()));
            assert!(sentence, "the answer does not name inodes");
            assert_eq!(ids(&disk), two);
        }
        assert_eq!(disk.open_handles(), 0);
    }
    assert!((1..8).contains(&refused), "{refused} uploads were refused");
}
