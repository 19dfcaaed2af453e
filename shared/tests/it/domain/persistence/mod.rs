//! Starts that follow each other: what outlives whom, what was wiped, and what is only not mounted.

mod unmounted;

use std::collections::BTreeMap;
use std::path::Path;

use futures::TryStreamExt;

use super::*;
use shared::config::Location;
use shared::health::{Health, Status};
use shared::layout::{self, ImageId};
use shared::persistence::{Deployment, Fenced, Instance, Machine, MountPoint, PersistenceStatus};
use shared::store::testing::{Fault, FaultStore};
use shared::store::{DiskStore, ErrorKind, Store};
use shared::{Keepsake, Settings};

/// A folder on a file system of this kind that is mounted there.
fn folder_on(at: &str, point: &str, file_system: &str) -> MountPoint {
    let mountinfo = format!("1 0 8:1 / {point} rw - {file_system} device rw\n");
    MountPoint::Folder {
        at: at.into(),
        mount: Machine::of_texts(&mountinfo, None, None).mount_of(Path::new(at)).cloned(),
    }
}

/// A folder that is mounted itself.
fn folder(point: &str, file_system: &str) -> MountPoint {
    folder_on(point, point, file_system)
}

/// All in `/data`, on what is mounted at `point`.
fn all_on(point: &str, id: &str) -> Deployment {
    let at = |at: &str| folder_on(at, point, "ext4");
    let (uploads, archive) = (at("/data/uploads"), at("/data/backups"));
    Deployment { instance: Some(instance(id)), uploads, archive, ..Deployment::unknown(&at("/data")) }
}

fn instance(id: &str) -> Instance {
    Instance { kind: "deployment".to_owned(), id: id.to_owned() }
}

/// All on one volume.
fn on_a_volume(id: &str) -> Deployment {
    all_on("/data", id)
}

/// All on the disk that the system lies on.
fn on_the_root(id: &str) -> Deployment {
    all_on("/", id)
}

/// As a platform has it that wipes the instance's own disk.
fn on_fly(deployment: Deployment) -> Deployment {
    Deployment { platform: Some(shared::config::Platform::Fly), ..deployment }
}

/// Like `deployment`, with a volume at `uploads/` alone.
fn with_uploads(deployment: Deployment) -> Deployment {
    Deployment { uploads: folder("/data/uploads", "ext4"), ..deployment }
}

/// Like `deployment`, with an archive elsewhere.
fn with_archive(archive: MountPoint, deployment: Deployment) -> Deployment {
    Deployment { archive, archive_elsewhere: true, ..deployment }
}

/// Serves what lies in `world`, with its archive there or in another world.
fn process(world: &World, archive: Option<&World>, known: &Deployment) -> Keepsake {
    let primary = world.raw();
    let archive = archive.map_or_else(|| primary.below(&layout::default_archive()), World::raw);
    let uploads = known.is_volume(Location::Uploads).then(|| primary.below(&layout::uploads_mirror()));
    let mirrors = uploads.into_iter().collect();
    Keepsake::new(primary, archive, mirrors, world.clock.clone(), Settings::default())
}

/// Starts as the server does.
async fn start_with(keepsake: Keepsake, known: Deployment) -> Keepsake {
    keepsake.persistence.set_deployment(known).await;
    let recovered = keepsake.recovery.recover().await;
    assert!(recovered.is_ok() || keepsake.persistence.fenced().is_some(), "{recovered:?}");
    keepsake.persistence.note_start().await;
    keepsake
}

/// Notes a start without a recovery before it.
async fn note_start(keepsake: &Keepsake, known: Deployment) {
    keepsake.persistence.set_deployment(known).await;
    keepsake.persistence.note_start().await;
}

async fn start(world: &World, known: Deployment) -> Keepsake {
    start_with(process(world, None, &known), known).await
}

async fn start_beside(world: &World, archive: &World, known: Deployment) -> Keepsake {
    start_with(process(world, Some(archive), &known), known).await
}

async fn verdict(keepsake: &Keepsake) -> PersistenceStatus {
    keepsake.health.report().await.persistence.status
}

fn check<'a>(health: &'a Health, name: &str) -> (Status, &'a str) {
    let check = health.checks.iter().find(|check| check.name == name).unwrap();
    (check.status, &check.message)
}

/// Everything in a world, byte for byte.
async fn all(world: &World) -> BTreeMap<String, Vec<u8>> {
    let keys: Vec<_> = world.raw().list("", None).map_ok(|meta| meta.key).try_collect().await.unwrap();
    let mut all = BTreeMap::new();
    for key in keys {
        all.insert(key.to_string(), world.raw().read(&key).await.unwrap().0.to_vec());
    }
    all
}

/// A world whose objects under `prefix` are away, as when what was mounted there is not.
async fn without(world: &World, prefix: &str) -> World {
    let mounted = World { memory: std::sync::Arc::new(world.memory.snapshot()), clock: world.clock.clone() };
    mounted.remove(prefix).await;
    mounted
}

/// The bytes of an image as a reader gets them.
async fn served(keepsake: &Keepsake, id: &ImageId) -> Vec<u8> {
    let (_, entry) = keepsake.images.get(id.as_str()).await.unwrap();
    let (store, meta) = keepsake.bytes.verified(id, entry.live().unwrap().sha256.unwrap()).await.unwrap();
    store.read(&meta.key).await.unwrap().0.to_vec()
}

#[tokio::test]
async fn only_another_instance_proves_that_data_outlives_one() {
    let world = World::new();
    let keepsake = start(&world, on_a_volume("4f1c2d3e5a6b")).await;
    upload(&keepsake, 1).await.unwrap();
    assert_eq!(verdict(&keepsake).await, PersistenceStatus::Unproven);
    world.pass(jiff::SignedDuration::from_hours(1));
    let again = start(&world, on_a_volume("4f1c2d3e5a6b")).await;
    assert_eq!(verdict(&again).await, PersistenceStatus::Unproven, "the process was started again, and nothing else");
    let redeployed = start(&world, on_a_volume("77aa")).await;
    let health = redeployed.health.report().await;
    assert_eq!((health.persistence.status, health.status), (PersistenceStatus::Proven, Status::Ok));
    let told = "data written by deployment 4f1c2d3e… on 2026-11-20T08:00:00.000Z was still here after 1 restart";
    assert_eq!(health.persistence.evidence, told);
    start(&world, on_a_volume("88bb")).await;
    let back = start(&world, on_a_volume("4f1c2d3e5a6b")).await.health.report().await.persistence;
    assert!(back.status == PersistenceStatus::Proven && back.evidence.contains("deployment 77aa"), "{}", back.evidence);
}

#[tokio::test]
async fn what_a_wiped_disk_remembers_is_its_own_starts_only() {
    let world = World::new();
    start(&world, on_fly(on_the_root("one"))).await;
    world.remove("").await;
    let health = start(&world, on_fly(on_the_root("two"))).await.health.report().await;
    assert_eq!((health.persistence.status, health.status), (PersistenceStatus::Ephemeral, Status::Warn));
    let warning = health.persistence.warning.clone().unwrap();
    assert!(warning.starts_with("Storage may be ephemeral") && warning.contains("fly volumes create"), "{warning}");
    assert_eq!(check(&health, "persistence"), (Status::Warn, warning.as_str()));
}

#[tokio::test]
async fn starts_at_the_same_time_are_all_noted() {
    let world = World::new();
    start(&world, on_a_volume("first")).await;
    // Each operation of this store yields, so that all read the ledger before one of them writes it.
    let store = std::sync::Arc::new(FaultStore::new(std::sync::Arc::clone(&world.memory) as _));
    let ids = ["a", "b", "c", "d", "e", "f"];
    let at_once = ids.map(|id| {
        let keepsake = world.open_on(store.clone());
        async move { note_start(&keepsake, on_a_volume(id)).await }
    });
    futures::future::join_all(at_once).await;
    let ledger = String::from_utf8(all(&world).await["starts.json"].clone()).unwrap();
    for id in ids {
        assert!(ledger.contains(&format!("\"id\": \"{id}\"")), "{id} is not in {ledger}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_start_at_once_on_one_disk_are_all_noted() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new();
    let starts = (0..8).map(|n| {
        let disk = Store::new(std::sync::Arc::new(DiskStore::open(folder.path()).unwrap()), folder.path());
        let archive = disk.below(&layout::default_archive());
        let keepsake = Keepsake::new(disk, archive, Vec::new(), world.clock.clone(), Settings::default());
        tokio::spawn(async move { note_start(&keepsake, on_a_volume(&format!("n{n}"))).await })
    });
    futures::future::try_join_all(starts).await.unwrap();
    let ledger = std::fs::read_to_string(folder.path().join("starts.json")).unwrap();
    assert!((0..8).all(|n| ledger.contains(&format!("\"id\": \"n{n}\""))), "{ledger}");
}

#[tokio::test]
async fn a_ledger_keeps_the_first_instance_and_the_newest_and_counts_the_rest() {
    let world = World::new();
    for n in 0..60 {
        start(&world, on_a_volume(&format!("n{n:02}"))).await;
    }
    let health = start(&world, on_a_volume("last")).await.health.report().await;
    let told = "data written by deployment n00 on 2026-11-20T08:00:00.000Z was still here after 60 restarts";
    assert_eq!(health.persistence.evidence, told);
    let ledger = String::from_utf8(all(&world).await["starts.json"].clone()).unwrap();
    assert_eq!(ledger.matches("\"id\"").count(), 21);
}

#[tokio::test]
async fn a_torn_or_rotten_ledger_is_set_aside_and_begun_anew() {
    let world = World::new();
    start(&world, on_a_volume("one")).await;
    let good = all(&world).await["starts.json"].clone();
    let mut rotten = good.clone();
    rotten[good.len() / 2] ^= 1;
    for damaged in [&good[..good.len() / 2], &rotten, b"", b"{}", b"\xff\xfe"] {
        world.put("starts.json", damaged).await;
        let keepsake = start(&world, on_a_volume("two")).await;
        assert_eq!(verdict(&keepsake).await, PersistenceStatus::Unproven, "what cannot be trusted proves nothing");
        assert_eq!(
            verdict(&start(&world, on_a_volume("three")).await).await,
            PersistenceStatus::Proven,
            "it was begun anew"
        );
        let kept = all(&world).await.into_iter().filter(|(key, bytes)| key.contains("quarantine/") && bytes == damaged);
        assert_eq!(kept.count(), 1);
    }
}

// The pauses between tries to write it pass at once.
#[tokio::test(start_paused = true)]
async fn a_ledger_that_cannot_be_written_or_read_stops_no_start() {
    let world = World::new();
    upload_all(&start(&world, on_a_volume("one")).await, 0..1).await;
    for kind in [ErrorKind::ReadOnly, ErrorKind::Full, ErrorKind::Unavailable, ErrorKind::Changed] {
        let unwritable = world.open_failing(move |operation| {
            (operation.name == "put" && operation.key.ends_with("starts.json")).then_some(Fault::Before(kind))
        });
        let keepsake = start_with(unwritable, on_a_volume("two")).await;
        assert_eq!(
            verdict(&keepsake).await,
            PersistenceStatus::Proven,
            "{kind:?}: what is read counts though nothing is written"
        );
    }
    let unreadable = world.open_failing(|operation| {
        (operation.name == "get" && operation.key.ends_with("starts.json"))
            .then_some(Fault::Before(ErrorKind::Unavailable))
    });
    assert_eq!(verdict(&start_with(unreadable, on_a_volume("two")).await).await, PersistenceStatus::Unproven);
}

#[tokio::test]
async fn volume_at_uploads_keeps_images_and_records_and_health_warns() {
    let world = World::new();
    let known = |id: &str| with_uploads(on_fly(on_the_root(id)));
    let keepsake = start(&world, known("one")).await;
    let ids = upload_all(&keepsake, 0..3).await;
    let before = seen(&keepsake).await;
    world.remove("backups/").await;
    world.remove_catalog("").await;
    world.remove("starts.json").await;
    let redeployed = start(&world, known("two")).await;
    assert_eq!(seen(&redeployed).await, before);
    assert_eq!(served(&redeployed, &ids[0]).await, png(0));
    let health = redeployed.health.report().await;
    assert_eq!(
        (health.persistence.status, health.persistence.mount.as_deref()),
        (PersistenceStatus::Proven, Some("/data/uploads"))
    );
    let (status, message) = check(&health, "backups");
    assert!(status == Status::Warn && message.contains("BACKUP_URL"), "{message}");
}

#[tokio::test]
async fn wiped_disk_recovers_from_external_archive_and_proves_it() {
    let (disk, archive) = (World::new(), World::new());
    let known = |id: &str| with_archive(MountPoint::Service, on_fly(on_the_root(id)));
    let keepsake = start_beside(&disk, &archive, known("one")).await;
    upload_all(&keepsake, 0..3).await;
    let before = seen(&keepsake).await;
    let health = keepsake.health.report().await;
    assert_eq!((health.persistence.status, health.persistence.warning), (PersistenceStatus::Unproven, None));
    for id in ["two", "two", "three"] {
        if id != "two" || !disk.keys("uploads/").await.is_empty() {
            disk.remove("").await;
        }
        let redeployed = start_beside(&disk, &archive, known(id)).await;
        assert_eq!(seen(&redeployed).await, before, "a wipe is no volume that is not mounted");
        let persistence = redeployed.health.report().await.persistence;
        assert_eq!(persistence.status, PersistenceStatus::Proven, "{}", persistence.evidence);
        assert!(persistence.evidence.contains("in the archive, which brought everything back"));
    }
    // What came back is proof only where all of it did.
    disk.remove("").await;
    archive.remove("images/").await;
    let incomplete = start_beside(&disk, &archive, known("four")).await;
    assert_eq!(verdict(&incomplete).await, PersistenceStatus::Unproven);
}

#[tokio::test]
async fn a_place_of_another_store_is_said_plainly_and_left_alone() {
    let [ours, theirs] = [1, 2].map(|seed| {
        let clock = shared::clock::Clock::manual_seeded("2026-11-20T08:00:00Z".parse().unwrap(), seed);
        World { clock, ..World::new() }
    });
    for world in [&ours, &theirs] {
        upload_all(&start(world, with_uploads(on_the_root("one"))).await, 0..2).await;
        start(world, with_uploads(on_the_root("one"))).await;
    }
    let archive = without(&theirs, "uploads/").await;
    archive.remove_catalog("").await;
    let foreign = World::new();
    for (key, bytes) in all(&archive).await {
        foreign.put(key.strip_prefix("backups/").unwrap_or("starts.json"), &bytes).await;
    }
    let before = (all(&ours).await, all(&foreign).await);
    let known = with_archive(folder("/mnt/other", "ext4"), with_uploads(on_the_root("two")));
    let keepsake = start_beside(&ours, &foreign, known).await;
    assert_eq!(keepsake.persistence.fenced(), Some(Fenced::Foreign(Location::Archive)));
    assert!(upload(&keepsake, 9).await.is_err() && keepsake.pruner.prune(false).await.is_err());
    assert_eq!(seen(&keepsake).await.len(), 2);
    let health = keepsake.health.report().await;
    assert_eq!(health.status, Status::Error);
    assert!(check(&health, "persistence").1.starts_with("The archive belongs to another store"));
    assert!((all(&ours).await, all(&foreign).await) == before);

    // Another store's volume at uploads/.
    ours.remove("uploads/").await;
    for (key, bytes) in all(&theirs).await.into_iter().filter(|(key, _)| key.starts_with("uploads/")) {
        ours.put(&key, &bytes).await;
    }
    let before = all(&ours).await;
    let keepsake = start(&ours, with_uploads(on_the_root("three"))).await;
    assert_eq!(keepsake.persistence.fenced(), Some(Fenced::Foreign(Location::Uploads)));
    assert!(all(&ours).await == before);
}

#[tokio::test]
async fn a_store_from_before_there_were_ledgers_gets_them_at_its_first_start() {
    let world = World::new();
    let older = world.open();
    older.recovery.recover().await.unwrap();
    upload_all(&older, 0..2).await;
    let keepsake = start(&world, with_uploads(on_the_root("one"))).await;
    assert_eq!((keepsake.persistence.fenced(), verdict(&keepsake).await), (None, PersistenceStatus::Unproven));
    let keys = world.keys("").await;
    for key in ["starts.json", "backups/starts.json", "uploads/.keepsake/starts.json"] {
        assert!(keys.iter().any(|found| found == key), "{key} is not in {keys:?}");
    }
}

#[tokio::test]
async fn a_start_that_dies_at_any_operation_leaves_what_the_next_one_can_use() {
    for at in 0.. {
        let world = World::new();
        upload_all(&world.open(), 0..2).await;
        let known = with_uploads(on_the_root("one"));
        let store = FaultStore::with_plan(std::sync::Arc::clone(&world.memory) as _, move |operation| {
            (operation.sequence >= at).then_some(Fault::Before(ErrorKind::Unavailable))
        });
        let primary = Store::new(std::sync::Arc::new(store.clone()), &std::env::temp_dir());
        let (archive, uploads) = (primary.below(&layout::default_archive()), primary.below(&layout::uploads_mirror()));
        let dying = Keepsake::new(primary, archive, vec![uploads], world.clock.clone(), Settings::default());
        dying.persistence.set_deployment(known.clone()).await;
        let recovered = dying.recovery.recover().await.is_ok();
        if recovered {
            dying.persistence.note_start().await;
        }
        let done = store.counts().values().sum::<u64>() <= at;
        // Whatever was written, the volume that is there is the store's own.
        let keepsake = start(&world, known).await;
        assert_eq!((keepsake.persistence.fenced(), seen(&keepsake).await.len()), (None, 2), "died at operation {at}");
        if done {
            assert!(at > 20, "{at} operations are no start");
            break;
        }
    }
}
