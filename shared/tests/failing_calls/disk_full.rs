//! The promise for a full disk: an upload that finds no room is refused and leaves nothing, deleting works at once, and
//! uploads go on as soon as there is room.

use shared::clock::Clock;
use shared::layout::ImageId;
use shared::store::Body;
use shared::store::fs::SimulatedDisk;
use shared::upload::{Fields, NewImage, Uploaded};
use shared::{Keepsake, Result, Settings};

use crate::bases::Told;
use crate::places::Place;
use crate::world::png;
use crate::{answered, run};

/// An image with something behind it, as long as an image that takes up room.
fn large(n: u32) -> Vec<u8> {
    [png(n), vec![n as u8; 3_000]].concat()
}

fn send(keepsake: &Keepsake, n: u32) -> Result<Uploaded> {
    let image = NewImage { body: Body::from(large(n)), original_name: None };
    run(keepsake.upload(vec![image], Fields::default(), None))
}

/// A disk with two images, whose records lie in a checkpoint; a clock; how many bytes they take.
fn disk_with_two() -> (SimulatedDisk, Vec<ImageId>, u64) {
    let disk = SimulatedDisk::new();
    let clock = Clock::manual("2026-11-20T08:00:00Z".parse().unwrap());
    let keepsake = open(&disk, &clock);
    run(keepsake.recover()).unwrap();
    let ids = (0..2).map(|n| send(&keepsake, n).unwrap().images[0].0.clone()).collect();
    run(keepsake.catalog.fold()).unwrap();
    let used = bytes(&disk);
    (disk.moment().copy(), ids, used)
}

/// How many bytes the files on a disk have.
fn bytes(disk: &SimulatedDisk) -> u64 {
    disk.moment().tree().values().flatten().map(|bytes| bytes.len() as u64).sum()
}

fn open(disk: &SimulatedDisk, clock: &Clock) -> Keepsake {
    let settings = Settings { reserve_bytes: 0, ..Settings::default() };
    Place::Disk(disk.clone()).open(clock, &settings, None).unwrap()
}

fn later() -> Clock {
    Clock::manual_seeded("2026-11-21T08:00:00Z".parse().unwrap(), 3)
}

/// The ids of the images that are there, each with its bytes.
fn ids(disk: &SimulatedDisk) -> Vec<ImageId> {
    let keepsake = open(disk, &later());
    run(async {
        keepsake.catalog.refresh().await.unwrap();
        let live: Vec<_> = keepsake
            .catalog
            .read(|state| state.live().map(|(id, record)| (id.clone(), record.sha256.unwrap())).collect());
        for (id, digest) in &live {
            keepsake.sound_bytes(id, *digest).await.unwrap();
        }
        live.into_iter().map(|(id, _)| id).collect()
    })
}

#[test]
fn with_any_number_of_free_bytes_an_upload_is_stored_or_refused_without_a_trace() {
    let (full, two, used) = disk_with_two();
    let (mut refused, mut needed) = (0, None);
    for free in (0..12_000).step_by(61) {
        let _told = Told(format!("{free} bytes are free"));
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
                assert_eq!(answered(error), (507, "no-room".to_owned()));
                // A second copy of what an image holds may stay, as far as there was room for it: the next try uses it.
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
fn with_any_number_of_free_bytes_an_image_is_deleted_at_once() {
    let (full, two, used) = disk_with_two();
    for free in (0..2_000).step_by(13) {
        let _told = Told(format!("{free} bytes are free"));
        let disk = full.moment().copy();
        disk.set_capacity(used + free);
        let keepsake = open(&disk, &later());
        run(keepsake.delete_image(two[0].as_str(), |_| true)).unwrap();
        assert_eq!(ids(&disk), two[1..]);
        // Its bytes are free: less than those that the record of its deletion takes.
        assert!(bytes(&disk) < used);
        assert!(disk.moment().tree().keys().all(|path| !path.contains(".tmp-")));
        assert_eq!(disk.open_handles(), 0);
    }
}
