//! Pruning and deleting backups: what goes, what never does, and what a crash leaves.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};

use super::{World, png, seen, upload, upload_all};
use crate::world::{catalog_of, entries, parts_of};
use shared::backup::Kind;
use shared::config::Keep;
use shared::digest::Digest;
use shared::images::Fields;
use shared::layout::{BackupName, parse_manifest};
use shared::prune::Pruned;
use shared::restore::Mode;
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::store::{Body, ErrorKind, Key, ObjectStore, PutMode};
use shared::testing::catalog::{backup_parts, stored_pages};
use shared::upload::NewImage;
use shared::{Error, Keepsake, Settings};

pub const DAY: SignedDuration = SignedDuration::from_hours(24);

pub fn name_of(key: &str) -> Key {
    Key::new(key).unwrap()
}

fn name(moment: &str) -> BackupName {
    BackupName::at(moment.parse::<Timestamp>().unwrap())
}

pub fn few(last: u32) -> Settings {
    Settings { keep: Keep { last, daily: 0, weekly: 0, monthly: 0 }, ..Settings::default() }
}

pub fn keepsake(world: &World, last: u32) -> Keepsake {
    world.open_with(Arc::clone(&world.memory) as _, few(last))
}

/// Looks at every object: each backup that is listed has all its parts, and what a record or a tombstone names is there.
pub async fn assert_whole(world: &World, when: &str) {
    let fresh = world.open();
    fresh.core.catalog.refresh().await.unwrap();
    let archive = fresh.core.archive.store();
    let right = async |digest: &Digest| {
        let key = shared::layout::archived_image(digest);
        archive.hash(&key).await.is_ok_and(|(_, found)| found == *digest)
    };
    for digest in entries(&fresh).await.values().filter_map(|entry| entry.content_digest()) {
        assert!(right(&digest).await, "{when}: the replica of {digest}, which the catalog names, is gone");
    }
    for location in ["", "backups/"] {
        let pages = stored_pages(catalog_of(world, location).await);
        pages.unwrap_or_else(|e| panic!("{when}: the root in {location:?} is not whole: {e}"));
    }
    for key in world.keys("backups/backup-").await {
        let key = Key::new(key.strip_prefix("backups/").unwrap()).unwrap();
        let Some(backup) = parse_manifest(&key) else { continue };
        let manifest = fresh.backups.manifest(backup).await.unwrap_or_else(|e| panic!("{when}: {backup}: {e}"));
        let parts = backup_parts(&manifest, catalog_of(world, "backups/").await);
        let (_, entries) = parts.unwrap_or_else(|e| panic!("{when}: {backup} lacks a page: {e}"));
        for (id, entry) in entries {
            let digest = entry.live().and_then(|record| record.sha256).filter(|_| !manifest.missing.contains(&id));
            let Some(digest) = digest else { continue };
            assert!(right(&digest).await, "{when}: {backup} lacks the bytes of {id}");
        }
    }
}

#[test]
fn backups_are_thinned_by_last_day_week_and_month() {
    let keep = |last, daily, weekly, monthly| Keep { last, daily, weekly, monthly };
    // Newest first; 2026-11-16 is a Monday, 2026-01-01 a Thursday of the week that began in 2025.
    let all = [
        "2026-11-20T18:00:00Z",
        "2026-11-20T09:00:00Z",
        "2026-11-19T23:59:59.999Z",
        "2026-11-16T00:00:00Z",
        "2026-11-15T23:59:59Z",
        "2026-10-31T12:00:00Z",
        "2026-01-01T00:00:00Z",
        "2025-12-31T23:00:00Z",
        "2025-11-20T00:00:00Z",
    ];
    let table = [
        (keep(0, 0, 0, 0), vec![0]),
        (keep(1, 0, 0, 0), vec![0]),
        (keep(3, 0, 0, 0), vec![0, 1, 2]),
        (keep(99, 0, 0, 0), (0..9).collect()),
        (keep(0, 1, 0, 0), vec![0]),
        (keep(0, 3, 0, 0), vec![0, 2, 3]),
        (keep(0, 99, 0, 0), vec![0, 2, 3, 4, 5, 6, 7, 8]),
        (keep(0, 0, 2, 0), vec![0, 4]),
        (keep(0, 0, 4, 0), vec![0, 4, 5, 6]),
        (keep(0, 0, 99, 0), vec![0, 4, 5, 6, 8]),
        (keep(0, 0, 0, 2), vec![0, 5]),
        (keep(0, 0, 0, 99), vec![0, 5, 6, 7, 8]),
        (keep(2, 2, 2, 2), vec![0, 1, 2, 4, 5]),
    ];
    let names: Vec<BackupName> = all.iter().map(|moment| name(moment)).collect();
    for (keep, stay) in table {
        let expected: BTreeSet<BackupName> = stay.into_iter().map(|at: usize| names[at]).collect();
        assert_eq!(keep.of(&names).into_iter().collect::<BTreeSet<_>>(), expected, "{keep:?}");
    }
    assert!(Keep::default().of(&[]).is_empty());
}

/// A place with every kind of thing that may go or must stay; the last upload is two days old.
pub async fn worn() -> World {
    let world = World::new();
    let keepsake = keepsake(&world, 1);
    keepsake.recovery.recover().await.unwrap();
    let ids = upload_all(&keepsake, 0..4).await;
    keepsake.backups.create(Kind::Auto).await.unwrap();
    world.pass(DAY);
    // In the first backup only, and then in none but for its tombstone.
    keepsake.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    keepsake.images.delete(ids[1].as_str(), shared::Any).await.unwrap();
    keepsake.backups.create(Kind::Safety).await.unwrap();
    world.pass(31 * DAY);
    keepsake.images.delete(ids[2].as_str(), shared::Any).await.unwrap();
    // The first two tombstones go.
    keepsake.core.catalog.compact().await.unwrap();
    keepsake.core.catalog.compact().await.unwrap();
    upload_all(&keepsake, 10..12).await;
    keepsake.backups.create(Kind::Manual).await.unwrap();
    world.pass(SignedDuration::from_mins(1));
    keepsake.backups.create(Kind::Auto).await.unwrap();
    world.pass(2 * DAY);
    world
}

#[tokio::test]
async fn prune_dry_run_lists_what_a_run_removes() {
    let world = worn().await;
    let before = world.keys("").await;
    let planned = keepsake(&world, 1).pruner.prune(true).await.unwrap();
    assert_eq!(world.keys("").await, before, "a dry run changes nothing");
    assert_eq!((planned.removed.len(), planned.kept.len()), (2, 2), "{planned:?}");
    assert_eq!(
        planned.images,
        [0, 1].map(|n| Digest::of(&png(n))).into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
    // In each location, all pages that neither its root nor a backup that stays has.
    let mut named = BTreeSet::new();
    for location in ["", "backups/"] {
        named.extend(stored_pages(catalog_of(&world, location).await).unwrap());
    }
    for name in &planned.kept {
        named.extend(parts_of(&world, &world.open().backups.manifest(*name).await.unwrap()).await.0);
    }
    let mut unnamed = [world.pages("").await, world.pages("backups/").await].map(Vec::from_iter).concat();
    unnamed.retain(|page| !named.contains(page));
    assert!(unnamed.len() > 2);
    let mut pages = planned.pages.clone();
    pages.sort();
    unnamed.sort();
    assert_eq!((pages, planned.held_back), (unnamed, None));
    let pruned = keepsake(&world, 1).pruner.prune(false).await.unwrap();
    assert_eq!(pruned, planned);
    let after = world.keys("").await;
    // What is referenced now has come.
    assert_eq!(after.len(), before.len() - 2 - 2 - planned.pages.len() + 1, "{after:#?}");
    assert_whole(&world, "after a prune").await;
    let again = keepsake(&world, 1).pruner.prune(false).await.unwrap();
    assert_eq!(again, Pruned { kept: planned.kept, ..Pruned::default() });
}

#[tokio::test]
async fn a_prune_removes_nothing_without_conditional_deletes() {
    let whole = worn().await;
    let world = World { memory: Arc::new(MemoryStore::without_conditional_deletes()), clock: whole.clock.clone() };
    for key in whole.keys("").await {
        let bytes = whole.raw().read(&name_of(&key)).await.unwrap().0;
        world.memory.set_now(whole.raw().head(&name_of(&key)).await.unwrap().modified);
        world.put(&key, &bytes).await;
    }
    let before = world.keys("").await;
    let sound = keepsake(&whole, 1).pruner.prune(true).await.unwrap();
    assert!(!sound.removed.is_empty() && sound.held_back.is_none(), "there is something to prune");
    let process = keepsake(&world, 1);
    for dry_run in [true, false] {
        let pruned = process.pruner.prune(dry_run).await.unwrap();
        assert_eq!((pruned.removed.len(), pruned.objects(), pruned.bytes), (0, 0, 0), "dry run: {dry_run}");
        assert!(pruned.held_back.unwrap().contains("no conditional deletes"));
        assert_eq!(pruned.kept.len(), sound.removed.len() + sound.kept.len());
    }
    let after: Vec<String> = world.keys("").await.into_iter().filter(|key| !key.ends_with("restore.json")).collect();
    assert_eq!(after, before.into_iter().filter(|key| !key.ends_with("restore.json")).collect::<Vec<_>>());
    assert!(process.health.report().await.primary_writable());
}

#[tokio::test]
async fn prune_spares_objects_younger_than_a_day() {
    let world = worn().await;
    let keepsake = keepsake(&world, 1);
    // Young by its bytes, though nothing names it; old by its name, though put today; put long ago, though named for today.
    world.put(&format!("backups/images/{}", Digest::of(b"young")), b"young").await;
    let old = keepsake.backups.list().await.unwrap().into_iter().find(|backup| backup.kind == Kind::Safety).unwrap();
    let key = format!("backups/{}/manifest.json", old.name);
    let bytes = world.raw().read(&Key::new(&*key).unwrap()).await.unwrap().0;
    world.put(&key, &bytes).await;
    let pruned = keepsake.pruner.prune(false).await.unwrap();
    assert!(pruned.kept.contains(&old.name) && pruned.removed.len() == 1, "{pruned:?}");
    assert!(world.keys("backups/images/").await.contains(&format!("backups/images/{}", Digest::of(b"young"))));
    assert_whole(&world, "after a prune").await;
    world.pass(DAY + SignedDuration::from_mins(1));
    assert_eq!(keepsake.pruner.prune(false).await.unwrap().removed, [old.name]);
    assert!(!world.keys("backups/images/").await.contains(&format!("backups/images/{}", Digest::of(b"young"))));
}

#[tokio::test]
async fn interrupted_prune_keeps_backups_whole_and_is_finished_by_next() {
    let mut complete = None;
    for n in 0.. {
        let world = worn().await;
        let expected = complete.get_or_insert(keepsake(&world, 1).pruner.prune(true).await.unwrap()).clone();
        for fault in [Fault::Before(ErrorKind::Unavailable), Fault::After(ErrorKind::Unavailable)] {
            let world = worn().await;
            let plan = move |operation: &Operation| (operation.sequence >= n).then_some(fault);
            let failing = Arc::new(FaultStore::with_plan(Arc::clone(&world.memory) as _, plan));
            let outcome = world.open_with(failing, few(1)).pruner.prune(false).await;
            assert_whole(&world, &format!("died at operation {n}")).await;
            world.clock.advance(SignedDuration::from_secs(61));
            keepsake(&world, 1).pruner.prune(false).await.unwrap();
            assert_whole(&world, &format!("died at operation {n}, then finished")).await;
            let left = keepsake(&world, 1).pruner.prune(true).await.unwrap();
            assert_eq!(left, Pruned { kept: expected.kept.clone(), ..Pruned::default() }, "operation {n}");
            if outcome.is_ok() {
                assert!(n > 15);
                return;
            }
        }
    }
}

#[tokio::test]
async fn on_a_full_disk_a_prune_and_the_delete_of_a_backup_go_on() {
    let world = worn().await;
    let full = |operation: &Operation| (operation.name == "put").then_some(Fault::Before(ErrorKind::Full));
    let failing = Arc::new(FaultStore::with_plan(Arc::clone(&world.memory) as _, full));
    let keepsake = world.open_with(failing, few(1));
    let newest = keepsake.backups.list().await.unwrap()[0].name;
    keepsake.backups.delete(newest).await.unwrap();
    assert_eq!(keepsake.backups.list().await.unwrap().len(), 3);
    let planned = keepsake.pruner.prune(true).await.unwrap();
    assert!(!planned.removed.is_empty() && !planned.images.is_empty(), "{planned:?}");
    assert_eq!(keepsake.pruner.prune(false).await.unwrap(), planned);
    assert_whole(&world, "after a prune of a full disk").await;
    // Beside a restore it waits there too.
    let lease = r#"{"holder":"01a20c87-1075-7675-957c-7fc02efe5572","renewed":"NOW"}"#;
    world
        .put("backups/restore.json", lease.replace("NOW", &shared::clock::format_millis(world.clock.now())).as_bytes())
        .await;
    assert!(matches!(keepsake.pruner.prune(false).await, Err(Error::RestoreRunning)));
    assert!(matches!(keepsake.backups.delete(planned.kept[0]).await, Err(Error::RestoreRunning)));
    world.clock.advance(SignedDuration::from_secs(61));
    keepsake.backups.delete(planned.kept[0]).await.unwrap();
}

#[tokio::test]
async fn a_backup_can_be_deleted_and_no_process_leans_on_it_afterwards() {
    let world = World::new();
    let keepsakes = [keepsake(&world, 1), keepsake(&world, 1)];
    keepsakes[0].recovery.recover().await.unwrap();
    upload_all(&keepsakes[0], 0..3).await;
    let made = keepsakes[1].backups.create(Kind::Manual).await.unwrap();
    let unknown = name("2020-01-01T00:00:00Z");
    assert!(matches!(keepsakes[0].backups.delete(unknown).await, Err(Error::NoSuchBackup(_))));
    world.pass(2 * DAY);
    keepsakes[0].backups.delete(made.name).await.unwrap();
    assert!(matches!(keepsakes[0].backups.delete(made.name).await, Err(Error::NoSuchBackup(_))));
    for keepsake in &keepsakes {
        assert!(keepsake.backups.list().await.unwrap().is_empty());
        assert!(matches!(keepsake.restores.restore(made.name, Mode::Merge).await, Err(Error::NoSuchBackup(_))));
    }
    assert_eq!(keepsakes[0].pruner.prune(false).await.unwrap().held_back, None);
    let present = stored_pages(catalog_of(&world, "").await).unwrap();
    assert!(world.pages("backups/").await.is_subset(&present.into_iter().collect()), "its page was left to the prune");
    for keepsake in &keepsakes {
        world.pass(SignedDuration::from_secs(1));
        keepsake.backups.create(Kind::Manual).await.unwrap();
        assert_whole(&world, "a backup after the one before was deleted").await;
    }
}

#[tokio::test]
async fn what_a_backup_left_when_it_was_cut_off_goes_after_a_day() {
    let world = worn().await;
    let key = format!("backups/backup-2026-11-20T08-00-00-000Z/intent-{}.json", world.clock.new_id());
    let left = async || world.keys("backups/backup-").await.iter().any(|key| key.contains("intent-"));
    let dying =
        world.open_failing(|o| o.key.ends_with("manifest.json").then_some(Fault::Before(ErrorKind::Unavailable)));
    dying.backups.create(Kind::Manual).await.unwrap_err();
    assert!(left().await, "{key}");
    keepsake(&world, 1).pruner.prune(false).await.unwrap();
    assert!(left().await, "it may be under way");
    world.pass(2 * DAY);
    keepsake(&world, 1).pruner.prune(false).await.unwrap();
    assert!(!left().await);
    keepsake(&world, 1).backups.create(Kind::Manual).await.unwrap();
    assert!(!left().await, "one that is finished leaves nothing");
}

/// Bytes that were stored long ago and that nothing names: whoever stores them now gets a copy that stays.
#[tokio::test]
async fn reusing_an_old_object_refreshes_its_mtime() {
    let world = World::new();
    let keepsake = keepsake(&world, 1);
    keepsake.recovery.recover().await.unwrap();
    let (old, key) = (png(7), Key::new(format!("backups/images/{}", Digest::of(&png(7)))).unwrap());
    let head = async || world.raw().head(&key).await.unwrap();
    world.raw().put(&key, &Body::from(old.clone()), &PutMode::Create).await.unwrap();
    let first = head().await;
    world.pass(SignedDuration::from_hours(11));
    upload(&keepsake, 7).await.unwrap();
    assert_eq!(head().await, first, "a young one is left as it is");
    world.pass(SignedDuration::from_hours(2));
    let image = NewImage { body: Body::from(old), original_name: None };
    keepsake.uploads.upload(vec![image], Fields::default(), None).await.unwrap();
    assert_ne!(head().await.etag, first.etag);
    assert_eq!(head().await.modified, world.clock.now());
}

#[tokio::test]
async fn objects_referenced_during_a_prune_stay() {
    let world = worn().await;
    let id = upload(&world.open(), 0).await.unwrap().images[0].0.clone();
    // The commit vanishes, and comes back once the prune has read what is named; its replica was never made young.
    let key = Key::new(world.keys("image-metadata.d/").await.pop().unwrap()).unwrap();
    let commit = world.raw().fetch(&key).await.unwrap();
    world.raw().delete(&key).await.unwrap();
    world.raw().delete(&Key::new(format!("backups/{key}")).unwrap()).await.unwrap();
    world.pass(2 * DAY);
    let memory = Arc::clone(&world.memory);
    let hook = move |operation: &Operation| {
        if operation.name == "list" && operation.key == "backups/quarantine/" {
            memory.put(&key, &commit, &PutMode::Overwrite).now_or_never().unwrap().unwrap();
        }
        None
    };
    let store = Arc::new(FaultStore::with_plan(Arc::clone(&world.memory) as _, hook));
    let pruned = world.open_with(store, few(1)).pruner.prune(false).await.unwrap();
    assert!(!pruned.images.contains(&Digest::of(&png(0))) && pruned.images.contains(&Digest::of(&png(1))));
    assert!(world.open().images.get(id.as_str()).await.is_ok());
    assert_whole(&world, "after a prune").await;
}

#[tokio::test]
async fn idle_process_reads_commits_although_the_pages_of_its_root_are_pruned() {
    let world = World::new();
    let idle = keepsake(&world, 1);
    let busy = keepsake(&world, 1);
    busy.recovery.recover().await.unwrap();
    upload_all(&busy, 0..2).await;
    busy.core.catalog.compact().await.unwrap();
    idle.core.catalog.refresh().await.unwrap();
    upload_all(&busy, 2..4).await;
    busy.core.catalog.compact().await.unwrap();
    world.pass(2 * DAY);
    assert!(!busy.pruner.prune(false).await.unwrap().pages.is_empty());
    upload_all(&busy, 4..5).await;
    idle.core.catalog.refresh().await.unwrap();
    assert_eq!(seen(&idle).await.len(), 5);
}
