//! The store's own operations: what `put` and `delete` promise, whatever folders had to be made for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::TryStreamExt;
use jiff::Timestamp;
use rustix::io::Errno;

use super::check::States;
use super::now;
use shared::store::fs::{FileSystem, Open};
use shared::store::testing::fs::{Call, CallFault, FaultyFileSystem, SimulatedDisk};
use shared::store::{Body, DiskStore, ErrorKind, Key, PutMode, Store};

type Objects = BTreeMap<String, Vec<u8>>;

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn open(disk: &SimulatedDisk) -> Store {
    open_on(Arc::new(disk.clone()))
}

fn open_on(files: Arc<dyn FileSystem>) -> Store {
    Store::new(Arc::new(DiskStore::open_on(files, "/").unwrap()), "bodies here stay in memory".as_ref())
}

fn put(store: &Store, name: &str, bytes: &[u8], mode: &PutMode) -> Result<(), ErrorKind> {
    now(store.put(&key(name), &Body::from(bytes.to_vec()), mode)).map(drop).map_err(|e| e.kind)
}

fn objects(store: &Store) -> Objects {
    let keys: Vec<Key> = now(store.list("", None).map_ok(|meta| meta.key).try_collect()).unwrap();
    let read = |key: Key| (key.to_string(), now(store.read(&key)).unwrap().0.to_vec());
    keys.into_iter().map(read).collect()
}

/// Whatever a crash leaves while `work` runs, there are the objects of before or those of after it, and after it those of
/// after it. Unfinished files are not seen, and go.
fn all_or_nothing(disk: &SimulatedDisk, work: impl FnOnce(&Store)) -> usize {
    all_or_nothing_on(disk, &open(disk), work)
}

fn all_or_nothing_on(disk: &SimulatedDisk, store: &Store, work: impl FnOnce(&Store)) -> usize {
    let before = objects(store);
    disk.record();
    work(store);
    let after = objects(store);
    let (mut states, done) = (States::default(), disk.moment());
    let moments: Vec<_> = disk.recorded().into_iter().map(|moment| (moment, false)).chain([(done, true)]).collect();
    let mut count = 0;
    for (moment, acknowledged) in moments {
        if acknowledged {
            count += states.count();
            states = States::default();
        }
        for survivor in states.new_at(&moment) {
            let store = open(&survivor);
            let found = objects(&store);
            let allowed = found == after || found == before && !acknowledged;
            assert!(allowed, "after {moment:?}, acknowledged {acknowledged}: {found:?}");
            now(store.sweep_unfinished(Timestamp::MAX)).unwrap();
            assert!(!survivor.moment().tree().keys().any(|path| path.contains(".tmp-")), "after {moment:?}");
            assert_eq!(objects(&store), found);
            // The store goes on, also where a folder came back empty.
            put(&store, "a/b/next", b"next", &PutMode::Create).unwrap();
            assert_eq!(objects(&store).len(), found.len() + 1);
        }
    }
    count + states.count()
}

fn used() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    put(&store, "a/b/x", b"before", &PutMode::Create).unwrap();
    put(&store, "a/y", b"other", &PutMode::Create).unwrap();
    disk
}

#[test]
fn put_is_atomic_and_durable_once_acknowledged() {
    for disk in [SimulatedDisk::new(), used()] {
        for name in ["x", "a/new", "a/b/new", "c/d/e/new"] {
            let disk = disk.moment().copy();
            let count = all_or_nothing(&disk, |store| put(store, name, b"new bytes", &PutMode::Create).unwrap());
            assert!(count > 5, "{count} states of {name}");
        }
    }
}

#[test]
fn put_is_atomic_on_file_systems_with_links_instead_of_renames() {
    let disk = used();
    let plan = |call: &Call| (call.name == "rename_new_at").then_some(CallFault::Fails(Errno::INVAL));
    let files = FaultyFileSystem::with_plan(Arc::new(disk.clone()), plan);
    all_or_nothing_on(&disk, &open_on(Arc::new(files)), |store| put(store, "a/new", b"new", &PutMode::Create).unwrap());
}

#[test]
fn an_overwrite_and_an_update_leave_the_old_bytes_or_the_new_ones() {
    all_or_nothing(&used(), |store| put(store, "a/b/x", b"after", &PutMode::Overwrite).unwrap());
    let disk = used();
    let etag = now(open(&disk).head(&key("a/b/x"))).unwrap().etag;
    all_or_nothing(&disk, |store| put(store, "a/b/x", b"after", &PutMode::Update(etag)).unwrap());
}

#[test]
fn acknowledged_delete_survives_crash() {
    all_or_nothing(&used(), |store| now(store.delete(&key("a/b/x"))).unwrap());
}

#[test]
fn consecutive_puts_and_deletes_become_durable_in_order() {
    let disk = used();
    for n in 0..3_u8 {
        all_or_nothing(&disk, |store| put(store, "a/b/x", &[n], &PutMode::Overwrite).unwrap());
        all_or_nothing(&disk, |store| now(store.delete(&key("a/b/x"))).unwrap());
        all_or_nothing(&disk, |store| put(store, "a/b/x", &[n, n], &PutMode::Create).unwrap());
    }
}

/// What another process did and has not synced.
fn others(disk: &SimulatedDisk, name: &str, f: impl FnOnce(&dyn store::fs::Handle)) {
    let mut folder = disk.root().unwrap();
    for segment in name.split('/').filter(|segment| !segment.is_empty()) {
        folder = folder.open_at(segment, Open::Folder).unwrap();
    }
    f(&*folder);
}

/// After every crash, there is exactly this.
fn certain(disk: &SimulatedDisk, expected: &[&str]) {
    for survivor in disk.moment().crashes() {
        assert_eq!(objects(&open(&survivor)).into_keys().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn loser_of_a_create_race_may_rely_on_the_winner() {
    let disk = used();
    others(&disk, "a", |folder| {
        let file = folder.open_at("new", Open::New).unwrap();
        file.write(b"theirs").unwrap();
        file.sync().unwrap();
    });
    assert_eq!(put(&open(&disk), "a/new", b"mine", &PutMode::Create), Err(ErrorKind::AlreadyExists));
    certain(&disk, &["a/b/x", "a/new", "a/y"]);
}

#[test]
fn a_put_into_a_folder_that_another_has_just_made_is_durable() {
    let disk = used();
    others(&disk, "a", |folder| folder.make_folder_at("new").unwrap());
    others(&disk, "a/new", |folder| folder.make_folder_at("deep").unwrap());
    put(&open(&disk), "a/new/deep/x", b"mine", &PutMode::Create).unwrap();
    certain(&disk, &["a/b/x", "a/new/deep/x", "a/y"]);
}

#[test]
fn a_delete_of_what_another_has_just_deleted_is_durable() {
    let disk = used();
    others(&disk, "a", |folder| folder.unlink_at("y").unwrap());
    now(open(&disk).delete(&key("a/y"))).unwrap();
    certain(&disk, &["a/b/x"]);
}

/// XFS lets the sync of a folder succeed where it has just shut itself down and thrown the change away.
#[test]
fn sync_of_a_shut_down_file_system_is_not_trusted() {
    let create: Work = |store| put(store, "a/c/new", b"new", &PutMode::Create);
    let overwrite: Work = |store| put(store, "a/b/x", b"after", &PutMode::Overwrite);
    let delete: Work = |store| now(store.delete(&key("a/b/x"))).map_err(|e| e.kind);
    let taken: Work = |store| put(store, "a/b/x", b"after", &PutMode::Create);
    let mut cases = 0;
    for work in [create, overwrite, delete, taken] {
        for nth in 0.. {
            let (disk, syncs) = (used(), AtomicU64::new(0));
            let plan = move |call: &Call| {
                let strikes = call.name == "sync" && syncs.fetch_add(1, Ordering::SeqCst) == nth;
                strikes.then_some(CallFault::ShutsDown)
            };
            let files = Arc::new(FaultyFileSystem::with_plan(Arc::new(disk), plan));
            let outcome = work(&open_on(Arc::clone(&files) as _));
            if files.root().is_ok() {
                break;
            }
            cases += 1;
            assert_eq!(outcome, Err(ErrorKind::Unavailable), "sync {nth}");
        }
    }
    assert_eq!(cases, 4 + 4 + 1 + 3);
}

/// Whether the work is done, or why not.
type Work = fn(&Store) -> Result<(), ErrorKind>;

#[test]
fn failed_sync_is_not_acknowledged_and_retry_is_durable() {
    let create: Work = |store| put(store, "a/c/new", b"new", &PutMode::Create);
    let overwrite: Work = |store| put(store, "a/b/x", b"after", &PutMode::Overwrite);
    let delete: Work = |store| now(store.delete(&key("a/b/x"))).map_err(|e| e.kind);
    let mut failures = 0;
    for work in [create, overwrite, delete] {
        let after = {
            let disk = used();
            work(&open(&disk)).unwrap();
            objects(&open(&disk))
        };
        for nth in 0.. {
            let (disk, syncs) = (used(), AtomicU64::new(0));
            let before = objects(&open(&disk));
            let plan = move |call: &Call| {
                let fails = call.name == "sync" && syncs.fetch_add(1, Ordering::SeqCst) == nth;
                fails.then_some(CallFault::Fails(Errno::IO))
            };
            let files = FaultyFileSystem::with_plan(Arc::new(disk.clone()), plan);
            let outcome = work(&open_on(Arc::new(files)));
            if outcome.is_ok() {
                break;
            }
            failures += 1;
            assert_eq!(outcome, Err(ErrorKind::Unavailable), "sync {nth}");
            for survivor in disk.moment().crashes() {
                let found = objects(&open(&survivor));
                assert!(found == before || found == after, "sync {nth}: {found:?}");
            }
            work(&open(&disk)).unwrap();
            for survivor in disk.moment().crashes() {
                assert_eq!(objects(&open(&survivor)), after, "sync {nth}, tried again");
            }
        }
    }
    // A new process makes sure of each folder on the way, then of the file, then of its name.
    assert_eq!(failures, 4 + 4 + 1);
}
