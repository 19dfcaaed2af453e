//! Pruning by schedule: it looks at what was referenced when the last prune ended, and a sweep now and then finds the
//! rest.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

use jiff::SignedDuration;

use super::prune::{DAY, assert_whole, few, keepsake, name_of, worn};
use super::{World, png, upload, upload_all};
use crate::world::parts_of;
use shared::backup::Kind;
use shared::catalog::{Change, Content, Record};
use shared::digest::Digest;
use shared::layout::{BackupName, ImageId};
use shared::prune::{Pruned, SWEEP_EVERY};
use shared::store::ErrorKind;
use shared::store::testing::{Fault, FaultStore, Operation};
use shared::{Error, Keepsake};

impl World {
    /// As if everything had been looked at just now, and nothing removed.
    pub(crate) async fn note_sweep(&self) {
        let copy = self.copy().await;
        copy.open_with(Arc::clone(&copy.memory) as _, few(100)).pruner.prune(false).await.unwrap();
        let (pruned, _) = copy.raw().read(&name_of(PRUNED)).await.unwrap();
        self.put(PRUNED, &pruned).await;
    }

    /// What a sweep would remove beyond backups.
    async fn unfound(&self) -> (Vec<Digest>, Vec<Digest>) {
        let planned = self.open_with(Arc::clone(&self.memory) as _, few(100)).pruner.prune(true).await.unwrap();
        assert_eq!(planned.held_back, None);
        (planned.images, planned.pages)
    }
}

/// What was referenced when the last prune ended.
const PRUNED: &str = "backups/pruned.json";

/// Prunes in a process of its own, which has made its notes and makes no sweep; returns the operations that took.
async fn prune_by_schedule(world: &World) -> (Pruned, Vec<Operation>) {
    let operations = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&operations);
    let note = move |operation: &Operation| {
        noted.lock().unwrap().push(operation.clone());
        None
    };
    let store = FaultStore::with_plan(Arc::clone(&world.memory) as _, note);
    let keepsake = world.open_with(Arc::new(store), few(1));
    keepsake.core.catalog.refresh().await.unwrap();
    keepsake.core.catalog.view().note_all().await.unwrap();
    operations.lock().unwrap().clear();
    let pruned = keepsake.pruner.prune_by_schedule().await.unwrap();
    assert_eq!(pruned.held_back, None);
    let operations = std::mem::take(&mut *operations.lock().unwrap());
    let whole = ["backups/images/", "uploads/"];
    let listed = operations.iter().find(|operation| operation.name == "list" && whole.contains(&&*operation.key));
    assert_eq!(listed, None);
    (pruned, operations)
}

/// Commits a record for each of these numbers, and puts its replica. The bytes of each are the other number.
async fn store(world: &World, keepsake: &Keepsake, numbers: impl Iterator<Item = (u32, u32)>) {
    let mut changes = Vec::new();
    for (n, content) in numbers {
        let (bytes, id) = (content.to_string().into_bytes(), ImageId::new(&format!("{n:07}.png")).unwrap());
        let sha256 = Digest::of(&bytes);
        world.put(&format!("backups/images/{sha256}"), &bytes).await;
        let record = Record { sha256: Some(sha256), size: Some(bytes.len() as u64), ..Record::default() };
        changes.push((id, Change { version: 1, content: Content::Live(record) }));
    }
    keepsake.core.catalog.commit(changes).await.unwrap();
}

#[tokio::test]
async fn a_prune_by_schedule_costs_what_changed_and_not_what_is_stored() {
    let mut each = Vec::new();
    for images in [300, 3_000] {
        let world = World::new();
        let maker = keepsake(&world, 1);
        maker.recovery.recover().await.unwrap();
        let [alone, same_as_another] = [(9_999_999, 9_999_999), (9_999_998, 7)];
        store(&world, &maker, (0..images).map(|n| (n, n)).chain([same_as_another, alone])).await;
        maker.backups.create(Kind::Auto).await.unwrap();
        for (deleted, _) in [same_as_another, alone] {
            maker.images.delete(&format!("{deleted}.png"), shared::Any).await.unwrap();
        }
        world.pass(31 * DAY);
        maker.core.catalog.compact().await.unwrap();
        maker.core.catalog.compact().await.unwrap();
        maker.backups.create(Kind::Auto).await.unwrap();
        world.note_sweep().await;
        world.pass(2 * DAY);
        let (pruned, operations) = prune_by_schedule(&world).await;
        assert_eq!((pruned.removed.len(), pruned.images.len()), (1, 1), "{pruned:?}");
        assert!(!pruned.pages.is_empty());
        assert_eq!(world.unfound().await, (vec![], vec![]));
        // What differs are names, digests and times.
        let kind = |key: &str| match key.rsplit_once('/') {
            Some((folder, _)) if folder.contains("/backup-") => "backups/a backup/".to_owned(),
            Some((folder, _)) => format!("{folder}/"),
            None => key.to_owned(),
        };
        let mut asked: Vec<_> = operations.iter().map(|o| (o.name, kind(&o.key))).collect();
        asked.sort();
        let pages = asked.iter().filter(|asked| **asked == ("get", "catalog/".to_owned())).count();
        assert!(pages <= 8, "{pages} pages of {images} images");
        asked.retain(|asked| *asked != ("get", "catalog/".to_owned()));
        each.push(asked);
    }
    assert_eq!(each[0], each[1]);
    assert!(each[0].len() < 60, "{:#?}", each[0]);
}

#[tokio::test]
async fn it_removes_what_a_sweep_would() {
    let world = worn().await;
    let planned = keepsake(&world, 1).pruner.prune(true).await.unwrap();
    world.note_sweep().await;
    let (pruned, _) = prune_by_schedule(&world).await;
    assert!(!pruned.images.is_empty() && !pruned.pages.is_empty() && !pruned.removed.is_empty());
    let sets =
        |pruned: &Pruned| [&pruned.images, &pruned.pages].map(|all| all.iter().copied().collect::<BTreeSet<_>>());
    assert_eq!((sets(&pruned), pruned.removed, pruned.kept), (sets(&planned), planned.removed, planned.kept));
    assert_whole(&world, "after a prune by schedule").await;
    assert_eq!(world.unfound().await, (vec![], vec![]));
}

#[tokio::test]
async fn objects_of_a_deleted_backup_are_pruned_next() {
    let world = World::new();
    let keepsake = keepsake(&world, 1);
    keepsake.recovery.recover().await.unwrap();
    let ids = upload_all(&keepsake, 0..2).await;
    let first = keepsake.backups.create(Kind::Manual).await.unwrap();
    keepsake.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    world.pass(31 * DAY);
    keepsake.core.catalog.compact().await.unwrap();
    keepsake.core.catalog.compact().await.unwrap();
    keepsake.backups.create(Kind::Manual).await.unwrap();
    world.note_sweep().await;
    world.pass(2 * DAY);
    // The backup still names the image whose tombstone went.
    assert_eq!(prune_by_schedule(&world).await.0.images, []);
    assert_eq!(world.unfound().await, (vec![], vec![]));
    let (pages, _) = parts_of(&world, &first).await;
    keepsake.backups.delete(first.name).await.unwrap();
    let (pruned, _) = prune_by_schedule(&world).await;
    // From the primary and from the archive.
    assert_eq!(pruned.images, [Digest::of(&png(0))]);
    assert_eq!(pruned.pages.into_iter().collect::<HashSet<_>>(), pages);
    assert_whole(&world, "after a prune by schedule").await;
    assert_eq!(world.unfound().await, (vec![], vec![]));
}

#[tokio::test]
async fn object_referenced_only_by_a_tombstone_is_pruned_after_it() {
    let world = World::new();
    let keepsake = keepsake(&world, 1);
    keepsake.recovery.recover().await.unwrap();
    let ids = upload_all(&keepsake, 0..2).await;
    keepsake.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    keepsake.backups.create(Kind::Manual).await.unwrap();
    world.pass(31 * DAY);
    world.note_sweep().await;
    assert_eq!(prune_by_schedule(&world).await.0.images, [], "its tombstone stands");
    keepsake.core.catalog.compact().await.unwrap();
    keepsake.core.catalog.compact().await.unwrap();
    assert_eq!(prune_by_schedule(&world).await.0.images, [Digest::of(&png(0))], "though a backup names its tombstone");
    world.pass(DAY + SignedDuration::from_mins(1));
    prune_by_schedule(&world).await;
    assert_eq!(world.unfound().await, (vec![], vec![]));
}

#[tokio::test]
async fn what_a_backup_stored_that_was_cut_off_goes_with_its_intent() {
    let world = World::new();
    let maker = keepsake(&world, 1);
    maker.recovery.recover().await.unwrap();
    let ids = upload_all(&maker, 0..2).await;
    let no_manifest = |o: &Operation| o.key.ends_with("manifest.json").then_some(Fault::Before(ErrorKind::Unavailable));
    let before = world.pages("backups/").await;
    world.open_failing(no_manifest).backups.create(Kind::Manual).await.unwrap_err();
    let stored: Vec<Digest> = world.pages("backups/").await.difference(&before).copied().collect();
    maker.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    world.note_sweep().await;
    world.pass(2 * DAY);
    let (pruned, _) = prune_by_schedule(&world).await;
    assert!(!stored.is_empty() && stored.iter().all(|page| pruned.pages.contains(page)));
    assert!(world.keys("backups/backup-").await.is_empty());
    assert_eq!(world.unfound().await, (vec![], vec![]));
}

#[tokio::test]
async fn replicas_that_nothing_referenced_wait_for_the_occasional_sweep() {
    let world = World::new();
    let keepsake = keepsake(&world, 1);
    keepsake.recovery.recover().await.unwrap();
    upload(&keepsake, 1).await.unwrap();
    let (stray, gone) = (format!("backups/images/{}", Digest::of(b"stray")), [Digest::of(b"stray")]);
    world.put(&stray, b"stray").await;
    world.pass(2 * DAY);
    assert_eq!(keepsake.pruner.prune_by_schedule().await.unwrap().images, gone, "the first is a sweep");
    world.put(&stray, b"stray").await;
    let sweep = world.clock.now();
    world.pass(SWEEP_EVERY - SignedDuration::from_mins(1));
    assert_eq!(prune_by_schedule(&world).await.0.images, []);
    world.pass(SignedDuration::from_mins(1));
    assert_eq!(world.clock.now() - SWEEP_EVERY, sweep);
    assert_eq!(keepsake.pruner.prune_by_schedule().await.unwrap().images, gone);
    world.put(&stray, b"stray").await;
    world.pass(2 * DAY);
    assert_eq!(prune_by_schedule(&world).await.0.images, [], "which took note of itself");
    assert_eq!(keepsake.pruner.prune(false).await.unwrap().images, gone, "one by hand is a sweep");
}

#[tokio::test]
async fn a_sweep_is_due_where_it_is_not_known_what_was_referenced() {
    let with_stray = async || {
        let world = worn().await;
        world.put(&format!("backups/images/{}", Digest::of(b"stray")), b"stray").await;
        world.pass(2 * DAY);
        world.note_sweep().await;
        world
    };
    let is_swept = async |world: &World| {
        let pruned = keepsake(world, 1).pruner.prune_by_schedule().await.unwrap();
        assert!(pruned.images.contains(&Digest::of(b"stray")));
        assert_eq!(world.unfound().await, (vec![], vec![]));
    };

    // What the last prune noted cannot be read.
    let world = with_stray().await;
    world.put(PRUNED, b"rotten").await;
    is_swept(&world).await;

    // Nor can a page of a state that it noted: of a backup that is gone.
    let world = with_stray().await;
    let oldest = keepsake(&world, 1).backups.list().await.unwrap().pop().unwrap().name;
    let (pages, _) = parts_of(&world, &keepsake(&world, 1).backups.manifest(oldest).await.unwrap()).await;
    keepsake(&world, 1).backups.delete(oldest).await.unwrap();
    for page in &pages {
        world.spoil_page(page, b"rotten").await;
    }
    is_swept(&world).await;

    // A full disk, on which nothing can be noted.
    let world = with_stray().await;
    let full = |operation: &Operation| (operation.name == "put").then_some(Fault::Before(ErrorKind::Full));
    let failing = FaultStore::with_plan(Arc::clone(&world.memory) as _, full);
    world.open_with(Arc::new(failing), few(1)).pruner.prune_by_schedule().await.unwrap();
    assert!(world.keys(PRUNED).await.is_empty());
    is_swept(&world).await;

    // A damaged backup that is deleted: what it named was noted.
    let world = worn().await;
    world.note_sweep().await;
    let oldest = keepsake(&world, 1).backups.list().await.unwrap().pop().unwrap().name;
    world.put(&format!("backups/{oldest}/manifest.json"), b"rotten").await;
    keepsake(&world, 1).backups.delete(oldest).await.unwrap();
    prune_by_schedule(&world).await;
    assert_eq!(world.unfound().await, (vec![], vec![]));
}

#[tokio::test]
async fn interrupted_scheduled_prune_is_finished_without_a_sweep() {
    let old = async || {
        let world = worn().await;
        world.note_sweep().await;
        world
    };
    for n in 0.. {
        for fault in [Fault::Before(ErrorKind::Unavailable), Fault::After(ErrorKind::Unavailable)] {
            let world = old().await;
            let plan = move |operation: &Operation| (operation.sequence >= n).then_some(fault);
            let failing = Arc::new(FaultStore::with_plan(Arc::clone(&world.memory) as _, plan));
            let outcome = world.open_with(failing, few(1)).pruner.prune_by_schedule().await;
            assert_whole(&world, &format!("died at operation {n}")).await;
            world.pass(DAY + SignedDuration::from_mins(1));
            prune_by_schedule(&world).await;
            assert_whole(&world, &format!("died at operation {n}, then finished")).await;
            assert_eq!(world.unfound().await, (vec![], vec![]), "operation {n}");
            if outcome.is_ok() {
                assert!(n > 15);
                return;
            }
        }
    }
}

#[tokio::test]
async fn it_waits_for_a_restore_and_is_held_back_as_a_sweep_is() {
    let world = worn().await;
    world.note_sweep().await;
    let lease = r#"{"holder":"01a20c87-1075-7675-957c-7fc02efe5572","renewed":"NOW"}"#;
    let now = shared::clock::format_millis(world.clock.now());
    world.put("backups/restore.json", lease.replace("NOW", &now).as_bytes()).await;
    assert!(matches!(keepsake(&world, 1).pruner.prune_by_schedule().await, Err(Error::RestoreRunning)));
    world.remove("backups/restore.json").await;
    let name: BackupName = keepsake(&world, 1).backups.list().await.unwrap()[0].name;
    world.put(&format!("backups/{name}/manifest.json"), b"rotten").await;
    let before = world.keys("").await;
    let pruned = keepsake(&world, 1).pruner.prune_by_schedule().await.unwrap();
    assert!(pruned.held_back.is_some() && pruned.removed.is_empty(), "{pruned:?}");
    assert_eq!(world.keys("").await, before);
}

#[tokio::test]
async fn a_dropped_tombstone_is_counted_once_by_two_processes() {
    let world = World::new();
    let keeper = keepsake(&world, 1);
    keeper.recovery.recover().await.unwrap();
    let ids = upload_all(&keeper, 0..2).await;
    keeper.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    keeper.core.catalog.compact().await.unwrap();
    world.pass(31 * DAY);
    let other = world.open();
    other.recovery.recover().await.unwrap();
    upload(&other, 5).await.unwrap();
    let totals = async || {
        let fresh = world.open();
        fresh.core.catalog.refresh().await.unwrap();
        fresh.core.catalog.view().totals()
    };
    // Though the other has written the archive's root since the first last looked, it counts once.
    for process in [&other, &keeper, &other, &keeper] {
        process.core.catalog.compact().await.unwrap();
        assert_eq!(totals().await.uploads(), 3);
    }
    assert_eq!(totals().await.deleted, 0);
}
