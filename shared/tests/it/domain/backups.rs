//! Backups: when they are made, what they cost, and what becomes of those that are cut off.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::SignedDuration;
use rustix::io::Errno;

use super::{World, png, upload, upload_all};
use shared::Settings;
use shared::backup::Kind;
use shared::health::Status;
use shared::images::Fields;
use shared::restore::Mode;
use shared::store::testing::fs::{Call, CallFault, FaultyFileSystem, SimulatedDisk};
use shared::store::testing::{Fault, FaultStore};
use shared::store::{Body, DiskStore, ErrorKind};
use shared::upload::NewImage;
use shared::verify::Slice;

#[tokio::test]
async fn automatic_backup_of_dead_process_is_made_once_by_recovery() {
    for n in 0..40 {
        let world = World::new();
        let keepsake = world.open();
        keepsake.recovery.recover().await.unwrap();
        upload_all(&keepsake, 0..9).await;
        let dying = world
            .open_failing(move |operation| (operation.sequence >= n).then_some(Fault::Before(ErrorKind::Unavailable)));
        let acknowledged = upload(&dying, 9).await.is_ok();
        let after = world.open();
        after.recovery.recover().await.unwrap();
        if !acknowledged {
            upload(&after, 10).await.unwrap();
        }
        upload(&after, 11).await.unwrap();
        let listed = after.backups.list().await.unwrap();
        let automatic = listed.iter().filter(|backup| backup.kind == Kind::Auto).count();
        assert_eq!(automatic, 1, "operation {n}");
    }
}

#[tokio::test]
async fn a_backup_writes_only_what_changed_since_the_last() {
    let world = World::new();
    let keepsake = world.open();
    upload_all(&keepsake, 0..5).await;
    keepsake.backups.create(Kind::Manual).await.unwrap();
    let (images, chunks) = (world.keys("backups/images/").await.len(), world.keys("backups/catalog/").await.len());
    keepsake.backups.create(Kind::Manual).await.unwrap();
    assert_eq!(world.keys("backups/catalog/").await.len(), chunks, "an equal state has equal chunks");
    upload(&keepsake, 1).await.unwrap();
    assert_eq!(world.keys("backups/images/").await.len(), images, "equal bytes are kept once");
    assert_eq!(keepsake.backups.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_backup_after_ten_keyed_uploads_writes_as_much_as_after_ten_others() {
    let world = World::new();
    let settings = Settings { backup_every: 1_000_000, ..Settings::default() };
    let keepsake = world.open_with(Arc::clone(&world.memory) as _, settings);
    upload_all(&keepsake, 0..1_000).await;
    let mut chunks = BTreeSet::new();
    let mut backup = async || {
        world.pass(SignedDuration::from_secs(1));
        keepsake.backups.create(Kind::Manual).await.unwrap();
        let before = chunks.len();
        chunks.extend(world.keys("backups/catalog/").await);
        chunks.len() - before
    };
    assert!(backup().await > 3, "scattered names would change more chunks than two");
    for n in 0..10 {
        let time = format!("{:012x}", world.clock.now().as_millisecond());
        let key = format!("{}-{}-7000-8000-{n:012}", &time[..8], &time[8..]);
        let image = NewImage { body: Body::from(png(2_000 + n)), original_name: None };
        let uploaded = keepsake.uploads.upload(vec![image], Fields::default(), Some(&key)).await.unwrap();
        assert_eq!(uploaded.images[0].0.as_str()[..13], key[..13], "the time of the key");
    }
    assert!(backup().await <= 2);
}

#[tokio::test]
async fn corrupt_replica_is_rewritten_before_the_first_backup() {
    let world = World::new();
    let keepsake = world.open();
    upload_all(&keepsake, 0..3).await;
    let key = world.keys("backups/images/").await[0].clone();
    let good = world.raw().read(&store::Key::new(&*key).unwrap()).await.unwrap().0;
    let mut rotten = good.to_vec();
    rotten[10] ^= 1;
    world.put(&key, &rotten).await;
    keepsake.backups.create(Kind::Manual).await.unwrap();
    assert_eq!(world.raw().read(&store::Key::new(&*key).unwrap()).await.unwrap().0, good);
}

#[tokio::test]
async fn a_warm_read_costs_two_requests_whatever_the_store_holds() {
    let world = World::new();
    upload_all(&world.open(), 0..30).await;
    let counted = Arc::new(FaultStore::new(Arc::clone(&world.memory) as _));
    let keepsake = world.open_on(Arc::clone(&counted) as _);
    keepsake.core.catalog.compact().await.unwrap();
    let before: u64 = counted.counts().values().sum();
    keepsake.images.list(&shared::images::Filter::default(), None, 50).await.unwrap();
    assert_eq!(counted.counts().values().sum::<u64>() - before, 2);
}

#[tokio::test]
async fn a_backup_does_not_lean_on_chunks_that_are_gone() {
    let world = World::new();
    let keepsake = world.open();
    let ids = upload_all(&keepsake, 0..11).await;
    world.remove("backups/catalog/").await;
    for keepsake in [keepsake, world.open()] {
        let made = keepsake.backups.create(Kind::Manual).await.unwrap();
        let plan = keepsake.restores.plan(made.name, Mode::Exact).await.unwrap();
        assert_eq!(plan.kept, ids.len() as u64);
    }
}

#[tokio::test]
async fn an_automatic_backup_that_failed_is_made_by_the_next_upload() {
    let world = World::new();
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let plan = {
        let broken = Arc::clone(&broken);
        move |operation: &store::testing::Operation| {
            let fails =
                broken.load(std::sync::atomic::Ordering::SeqCst) && operation.key.starts_with("backups/catalog/");
            fails.then_some(Fault::Before(ErrorKind::Unavailable))
        }
    };
    let keepsake = world.open_failing(plan);
    upload_all(&keepsake, 0..10).await;
    assert!(keepsake.backups.list().await.unwrap().is_empty());
    broken.store(false, std::sync::atomic::Ordering::SeqCst);
    let next = upload(&keepsake, 10).await.unwrap();
    assert!(next.backup.is_some());
    upload_all(&keepsake, 11..20).await;
    assert_eq!(keepsake.backups.list().await.unwrap().len(), 2, "and the one after is made in its turn");
}

#[tokio::test]
async fn a_manifest_that_changes_is_read_again() {
    let world = World::new();
    let keepsake = world.open();
    upload_all(&keepsake, 0..1).await;
    let name = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    let key = format!("backups/{name}/manifest.json");
    let whole = world.raw().read(&store::Key::new(&*key).unwrap()).await.unwrap().0;
    assert_eq!(keepsake.backups.list().await.unwrap().len(), 1);
    world.put(&key, &whole[..whole.len() / 2]).await;
    assert!(keepsake.backups.list().await.unwrap().is_empty());
    world.put(&key, &whole).await;
    assert_eq!(keepsake.backups.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_unreadable_manifest_hides_no_other_backup() {
    let world = World::new();
    let keepsake = world.open();
    keepsake.recovery.recover().await.unwrap();
    upload_all(&keepsake, 0..2).await;
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(keepsake.backups.create(Kind::Manual).await.unwrap().name);
    }
    for unreadable in names.clone() {
        let key = format!("backups/{unreadable}/manifest.json");
        let keepsake = world.open_failing(move |operation| {
            (operation.name == "get" && operation.key == key).then_some(Fault::Before(ErrorKind::Refused))
        });
        let listed: Vec<_> = keepsake.backups.list().await.unwrap().into_iter().map(|backup| backup.name).collect();
        let others: Vec<_> = names.iter().copied().filter(|name| *name != unreadable).rev().collect();
        assert_eq!(listed, others);
        let health = keepsake.health.report().await;
        let check = health.checks.iter().find(|check| check.name == "backups").unwrap();
        assert_eq!((check.status, health.backups), (Status::Warn, 2), "{}", check.message);
        assert!(check.message.contains(&unreadable.to_string()), "{}", check.message);
        let made = keepsake.backups.create(Kind::Manual).await.unwrap().name;
        keepsake.recovery.recover().await.unwrap();
        let error = keepsake.restores.restore(unreadable, Mode::Merge).await.unwrap_err();
        assert_eq!(error.store_kind(), Some(ErrorKind::Refused));
        world.open().backups.delete(made).await.unwrap();
    }
}

#[tokio::test]
async fn a_backup_folder_without_read_permission_hides_no_other_backup() {
    for call in ["open_at", "entries"] {
        let (world, disk) = (World::new(), SimulatedDisk::new());
        disk.set_now(world.clock.now());
        let whole = world.open_on(Arc::new(DiskStore::open_on(Arc::new(disk.clone()), "disk").unwrap()));
        whole.recovery.recover().await.unwrap();
        upload_all(&whole, 0..2).await;
        let (first, second) = (
            whole.backups.create(Kind::Manual).await.unwrap().name,
            whole.backups.create(Kind::Manual).await.unwrap().name,
        );
        let folder = second.to_string();
        let plan = move |at: &Call| (at.name == call && at.on == folder).then_some(CallFault::Fails(Errno::ACCESS));
        let refusing = FaultyFileSystem::with_plan(Arc::new(disk), plan);
        let keepsake = world.open_on(Arc::new(DiskStore::open_on(Arc::new(refusing), "disk").unwrap()));
        let all = keepsake.backups.all().await.unwrap();
        assert_eq!(all.listed.iter().map(|backup| backup.name).collect::<Vec<_>>(), [first], "{call}");
        assert_eq!(all.unreadable, [second], "{call}");
        // Of another millisecond, and so in another folder.
        world.pass(SignedDuration::from_secs(1));
        keepsake.backups.create(Kind::Manual).await.unwrap();
        keepsake.recovery.recover().await.unwrap();
        let found = keepsake.verifier.verify(Slice::WHOLE, false).await.unwrap();
        assert!(found.damaged_backups.contains(&second), "{call}");
        assert!(keepsake.pruner.prune(false).await.is_err(), "{call}: what cannot be read may name anything");
    }
}
