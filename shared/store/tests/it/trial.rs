//! The trial that a start makes on a disk: what file systems it takes, and what it says of the others.

use std::collections::HashSet;
use std::error::Error as _;
use std::fs;
use std::sync::Arc;

use rustix::io::Errno;
use store::testing::fs::{Call, CallFault, FaultyFileSystem, SimulatedDisk};
use store::{Body, DiskStore, ErrorKind, ObjectStore, PutMode, StoreError};
use tempfile::TempDir;

use crate::backend::key;
use crate::fuse_like::{FuseLike, Habits};

fn with(habits: Habits) -> (SimulatedDisk, DiskStore) {
    let disk = SimulatedDisk::new();
    let files = FuseLike { inner: Arc::new(disk.clone()), habits };
    (disk, DiskStore::open_on(Arc::new(files), "/photos").unwrap())
}

/// Every name on a disk but that of the lock file.
fn names(disk: &SimulatedDisk) -> Vec<String> {
    disk.moment().tree().into_keys().filter(|name| name != ".keepsake.lock").collect()
}

/// The kind of a refusal and what it says.
async fn refusal(store: &DiskStore) -> (ErrorKind, String) {
    let error = store.check_conditional_writes(&key("scratch")).await.unwrap_err();
    (error.kind, error.source().unwrap().to_string())
}

async fn is_refused(habits: Habits, fault: &str) {
    let (disk, store) = with(habits);
    let (kind, sentence) = refusal(&store).await;
    assert_eq!(kind, ErrorKind::Refused, "{sentence}");
    assert!(sentence.starts_with("the file system of /photos (fuse) "), "{sentence}");
    assert!(sentence.contains(fault) && sentence.contains("mount the NAS by NFS"), "{sentence}");
    assert_eq!(names(&disk), Vec::<String>::new(), "the trial left something behind");
}

#[tokio::test]
async fn a_real_folder_passes_the_trial_and_stays_empty() {
    let folder = TempDir::new().unwrap();
    let store = DiskStore::open(folder.path()).unwrap();
    store.check_conditional_writes(&key("backups/scratch")).await.unwrap();
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".keepsake.lock"]);
}

#[tokio::test]
async fn file_systems_with_harmless_habits_pass_the_trial() {
    let harmless = [
        Habits::NONE,
        Habits::SSHFS,
        Habits { granule_ns: 2_000_000_000, ..Habits::NONE },
        Habits { granule_ns: 10_000_000, no_rename_new: true, ..Habits::NONE },
        Habits { no_links: true, ..Habits::NONE },
        Habits { counts_no_links: true, ..Habits::SSHFS },
    ];
    for habits in harmless {
        let (disk, store) = with(habits);
        store.check_conditional_writes(&key("scratch")).await.unwrap();
        assert_eq!(names(&disk), Vec::<String>::new(), "{habits:?}");
    }
}

#[tokio::test]
async fn a_file_system_without_times_is_refused_at_the_start() {
    is_refused(Habits { ignores_times: true, ..Habits::NONE }, "does not keep the time of modification").await;
}

#[tokio::test]
async fn a_file_system_that_cannot_make_new_names_is_refused() {
    is_refused(Habits { no_rename_new: true, no_links: true, ..Habits::NONE }, "nor make hard links").await;
}

#[tokio::test]
async fn a_file_system_whose_renames_change_times_is_refused() {
    is_refused(Habits { renames_touch: true, ..Habits::NONE }, "once it has its name").await;
}

#[tokio::test]
async fn a_file_system_whose_reads_change_times_is_refused() {
    is_refused(Habits { reads_touch: true, ..Habits::NONE }, "or was read").await;
}

/// A store where each call of this name on this file fails.
fn failing(name: &'static str, on: &'static str, errno: Errno) -> (SimulatedDisk, DiskStore) {
    let disk = SimulatedDisk::new();
    let plan = move |call: &Call| (call.name == name && call.on.starts_with(on)).then_some(CallFault::Fails(errno));
    let files = FaultyFileSystem::with_plan(Arc::new(disk.clone()), plan);
    (disk, DiskStore::open_on(Arc::new(files), "/photos").unwrap())
}

#[tokio::test]
async fn the_trial_names_the_call_that_a_file_system_lacks() {
    let lacking = [
        ("lock", ".keepsake.lock", Errno::NOSYS, ErrorKind::Refused, "does not lock files"),
        ("lock", ".keepsake.lock", Errno::NOLCK, ErrorKind::Refused, "does not lock files"),
        ("sync", ".tmp-", Errno::INVAL, ErrorKind::Refused, "does not write a file through"),
        ("sync", "/", Errno::INVAL, ErrorKind::Refused, "does not write a folder through"),
        ("set_times", ".tmp-", Errno::PERM, ErrorKind::Refused, "does not keep the time of modification"),
        ("write", ".tmp-", Errno::IO, ErrorKind::Unavailable, "fails when a small file is written"),
        ("rename_at", ".tmp-", Errno::IO, ErrorKind::Unavailable, "does not replace one file by another"),
    ];
    for (name, on, errno, expected, fault) in lacking {
        let (_, store) = failing(name, on, errno);
        let (kind, sentence) = refusal(&store).await;
        assert_eq!(kind, expected, "{name}: {sentence}");
        assert!(sentence.contains(fault), "{name}: {sentence}");
    }
}

#[tokio::test]
async fn a_full_or_read_only_disk_is_not_refused_at_the_start() {
    let (disk, store) = with(Habits::NONE);
    disk.set_capacity(0);
    store.check_conditional_writes(&key("scratch")).await.unwrap();
    let (disk, store) = with(Habits::NONE);
    disk.set_file_capacity(1);
    store.check_conditional_writes(&key("scratch")).await.unwrap();
    let (disk, store) = with(Habits::NONE);
    disk.set_read_only(true);
    store.check_conditional_writes(&key("scratch")).await.unwrap();
}

#[tokio::test]
async fn a_count_of_no_free_inodes_is_not_believed_where_files_can_be_made() {
    let (_, store) = with(Habits { counts_no_files: true, ..Habits::NONE });
    assert_eq!(store.files().await.unwrap().unwrap().free, 0);
    store.check_conditional_writes(&key("scratch")).await.unwrap();
    assert_eq!(store.files().await.unwrap(), None);
    let (_, store) = with(Habits::NONE);
    store.check_conditional_writes(&key("scratch")).await.unwrap();
    assert!(store.files().await.unwrap().unwrap().free > 0);
}

#[tokio::test]
async fn the_trial_is_made_in_the_folder_that_will_hold_objects() {
    let disk = SimulatedDisk::new();
    let store = DiskStore::open_on(Arc::new(disk.clone()), "/photos").unwrap();
    store.put(&key("backups/x"), &Body::from(vec![1]), &PutMode::Create).await.unwrap();
    disk.record();
    store.check_conditional_writes(&key("backups/images/scratch")).await.unwrap();
    let names = disk.recorded().into_iter().flat_map(|moment| moment.tree().into_keys());
    let tried: HashSet<_> = names.filter(|name| name.contains(".tmp-")).collect();
    assert!(!tried.is_empty() && tried.iter().all(|name| name.starts_with("backups/.tmp-")), "{tried:?}");
}

/// Puts versions of one object one after the other, and looks at each.
async fn versions(habits: Habits) -> Result<(), StoreError> {
    let (_, store) = with(habits);
    let x = key("x");
    let mut seen = HashSet::new();
    let mut tag = store.put(&x, &Body::from(vec![0]), &PutMode::Create).await?;
    for n in 1..50 {
        assert_eq!(store.head(&x).await?.etag, tag, "{habits:?}");
        assert!(seen.insert(tag.clone()), "{habits:?}: {tag:?} came again");
        let mode = if n % 2 == 0 { PutMode::Update(tag) } else { PutMode::Overwrite };
        tag = store.put(&x, &Body::from(vec![n]), &mode).await?;
    }
    Ok(())
}

#[tokio::test]
async fn versions_within_one_tick_of_coarse_times_have_different_tags() {
    for granule_ns in [10_000_000, 1_000_000_000, 2_000_000_000] {
        versions(Habits { granule_ns, ..Habits::NONE }).await.unwrap();
    }
}

#[tokio::test]
async fn a_tag_stays_the_same_where_the_inode_number_changes() {
    versions(Habits { inode_of_name: true, no_rename_new: true, ..Habits::NONE }).await.unwrap();
    versions(Habits::SSHFS).await.unwrap();
}

#[tokio::test]
async fn setting_the_access_time_leaves_the_lock_files_stamp() {
    // The first overwrite notes itself in the lock file; the stamp that lies there must outlive it.
    let folder = TempDir::new().unwrap();
    let store = DiskStore::open(folder.path()).unwrap();
    for _ in 0..2 {
        store.put(&key("x"), &Body::from(vec![1]), &PutMode::Overwrite).await.unwrap();
    }
    let modified = |name: &str| fs::metadata(folder.path().join(name)).unwrap().modified().unwrap();
    assert_eq!(modified("x"), modified(".keepsake.lock"));
}
