//! What only a store of files can get wrong.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::stream::TryStreamExt;
use jiff::Timestamp;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use store::{Body, DiskStore, ErrorKind, Key, ObjectStore, PutMode, Result, Store};
use tempfile::TempDir;

use crate::backend::{Backend, disk, key, put, read};
use crate::contract::count_up;

/// The folder of a backend that [`disk`] made.
fn root(backend: &Backend) -> PathBuf {
    backend.folder().join("store")
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|e| e.kind)
}

async fn keys(store: &Store) -> Vec<String> {
    store.list("", None).map_ok(|meta| meta.key.to_string()).try_collect().await.unwrap()
}

/// A store on tmpfs, where there is one: it makes many versions within one tick of the kernel's clock, and there a file
/// that replaces another changes its place in the folder.
fn fast_disk() -> (TempDir, Store) {
    let memory = PathBuf::from("/dev/shm");
    let folder = TempDir::new_in(if memory.is_dir() { memory } else { std::env::temp_dir() }).unwrap();
    let store = Store::new(Arc::new(DiskStore::open(folder.path()).unwrap()), folder.path());
    (folder, store)
}

/// Every name below `folder`, the store's lock file left out.
fn names(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        names.push(entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            names.extend(self::names(&entry.path()));
        }
    }
    names.retain(|name| name != ".keepsake.lock");
    names
}

#[tokio::test]
async fn an_object_is_a_file_of_the_same_name_and_bytes() {
    let backend = disk().await;
    put(&backend.store, "uploads/a photo.jpg", b"bytes").await;
    let path = root(&backend).join("uploads/a photo.jpg");
    assert_eq!(fs::read(&path).unwrap(), b"bytes");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o200, 0o200);
    fs::write(root(&backend).join("uploads/by hand.jpg"), b"other").unwrap();
    assert_eq!(read(&backend.store, "uploads/by hand.jpg").await, b"other");
    assert_eq!(keys(&backend.store).await, ["uploads/a photo.jpg", "uploads/by hand.jpg"]);
    assert_eq!(names(&root(&backend)).len(), 3, "something was left behind: {:?}", names(&root(&backend)));
}

#[tokio::test]
async fn a_change_by_hand_is_another_version() {
    let backend = disk().await;
    let etag = put(&backend.store, "x", b"before").await;
    fs::write(root(&backend).join("x"), b"after.").unwrap();
    assert_ne!(backend.store.head(&key("x")).await.unwrap().etag, etag);
    let update = backend.store.put(&key("x"), &Body::from(b"ours".to_vec()), &PutMode::Update(etag)).await;
    assert_eq!(kind(update), Some(ErrorKind::Changed));
    assert_eq!(read(&backend.store, "x").await, b"after.");
}

#[tokio::test]
async fn the_root_may_be_a_link_and_is_made_where_it_is_missing() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("real")).unwrap();
    symlink(folder.path().join("real"), folder.path().join("link")).unwrap();
    let store = DiskStore::open(&folder.path().join("link/deep/store")).unwrap();
    store.put(&key("x"), &Body::from(vec![1]), &PutMode::Create).await.unwrap();
    assert!(folder.path().join("real/deep/store/x").is_file());
    fs::write(folder.path().join("file"), b"").unwrap();
    assert_eq!(kind(DiskStore::open(&folder.path().join("file"))), Some(ErrorKind::Refused));
}

#[tokio::test]
async fn a_link_to_a_folder_leads_nowhere() {
    let backend = disk().await;
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("secret"), b"secret").unwrap();
    put(&backend.store, "a/b", b"x").await;
    symlink(outside.path(), root(&backend).join("a/link")).unwrap();
    symlink(outside.path(), root(&backend).join("link")).unwrap();
    for name in ["link/secret", "a/link/secret", "link/new", "link/new/deep"] {
        let (store, name) = (&backend.store, key(name));
        is_refused(store, &name).await;
        let listed = store.list(name.as_str(), None).try_collect::<Vec<_>>().await;
        assert_eq!(kind(listed), Some(ErrorKind::Refused));
    }
    assert_eq!(keys(&backend.store).await, ["a/b"]);
    assert_eq!(names(outside.path()), ["secret"]);
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
}

/// Nothing can be done under a key that leads over a link.
async fn is_refused(store: &Store, name: &Key) {
    assert_eq!(kind(store.get(name, None).await), Some(ErrorKind::Refused));
    assert_eq!(kind(store.head(name).await), Some(ErrorKind::Refused));
    assert_eq!(kind(store.delete(name).await), Some(ErrorKind::Refused));
    for mode in [PutMode::Create, PutMode::Overwrite] {
        assert_eq!(kind(store.put(name, &Body::from(vec![1]), &mode).await), Some(ErrorKind::Refused));
    }
}

#[tokio::test]
async fn a_link_to_a_file_is_no_object() {
    let backend = disk().await;
    let outside = TempDir::new().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, b"secret").unwrap();
    put(&backend.store, "real", b"x").await;
    symlink(&secret, root(&backend).join("link")).unwrap();
    symlink("real", root(&backend).join("inside")).unwrap();
    symlink("nowhere", root(&backend).join("dangling")).unwrap();
    for name in ["link", "inside", "dangling"] {
        let (store, name) = (&backend.store, key(name));
        is_refused(store, &name).await;
    }
    assert_eq!(keys(&backend.store).await, ["real"]);
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    assert!(fs::symlink_metadata(root(&backend).join("link")).unwrap().is_symlink());
}

#[tokio::test]
async fn a_pipe_is_no_object_and_nobody_waits_for_it() {
    let backend = disk().await;
    put(&backend.store, "x", b"x").await;
    mknodat(CWD, root(&backend).join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert_eq!(kind(backend.store.get(&key("pipe"), None).await), Some(ErrorKind::Refused));
    assert_eq!(kind(backend.store.head(&key("pipe")).await), Some(ErrorKind::Refused));
    assert_eq!(keys(&backend.store).await, ["x"]);
}

#[tokio::test]
async fn a_folder_under_a_key_is_no_object_and_a_file_is_no_folder() {
    let backend = disk().await;
    let store = &backend.store;
    put(store, "folder/x", b"x").await;
    let body = Body::from(vec![1]);
    for name in ["folder", "folder/x/below", "folder/x/below/deep"] {
        let name = key(name);
        assert_eq!(kind(store.get(&name, None).await), Some(ErrorKind::NotFound));
        assert_eq!(kind(store.head(&name).await), Some(ErrorKind::NotFound));
        assert_eq!(kind(store.put(&name, &body, &PutMode::Create).await), Some(ErrorKind::Refused));
        assert_eq!(kind(store.put(&name, &body, &PutMode::Overwrite).await), Some(ErrorKind::Refused));
        store.delete(&name).await.unwrap();
    }
    assert_eq!(keys(store).await, ["folder/x"]);
}

#[tokio::test]
async fn the_lock_file_is_no_object() {
    let backend = disk().await;
    put(&backend.store, "x", b"1").await;
    for name in [".keepsake.lock", ".KEEPSAKE.lock", "deep/.keepsake.lock"] {
        let name = key(name);
        assert_eq!(kind(backend.store.get(&name, None).await), Some(ErrorKind::Refused));
        assert_eq!(kind(backend.store.delete(&name).await), Some(ErrorKind::Refused));
        let put = backend.store.put(&name, &Body::from(vec![1]), &PutMode::Overwrite).await;
        assert_eq!(kind(put), Some(ErrorKind::Refused));
    }
    let mode = fs::metadata(root(&backend).join(".keepsake.lock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(keys(&backend.store).await, ["x"]);
    // Someone may clear the folder of it at any time.
    fs::remove_file(root(&backend).join(".keepsake.lock")).unwrap();
    put(&backend.store, "x", b"2").await;
}

#[tokio::test]
async fn unfinished_files_are_never_listed_and_swept_when_they_are_old() {
    let backend = disk().await;
    put(&backend.store, "a/x", b"x").await;
    let root = root(&backend);
    let unfinished = [".tmp-0b1c8a9e-1f52-4a6d-9b8a-52a5f1f0a001", "a/.tmp-0b1c8a9e-1f52-4a6d-9b8a-52a5f1f0a002"];
    for name in unfinished {
        fs::write(root.join(name), b"half").unwrap();
    }
    fs::write(root.join("a/.tmp-of-another-program"), b"").unwrap();
    symlink("x", root.join("a/.tmp-0b1c8a9e-1f52-4a6d-9b8a-52a5f1f0a003")).unwrap();
    assert_eq!(keys(&backend.store).await, ["a/x"]);

    assert_eq!(backend.store.sweep_unfinished(Timestamp::UNIX_EPOCH).await.unwrap(), 0, "they are younger than that");
    assert!(unfinished.iter().all(|name| root.join(name).exists()));
    assert_eq!(backend.store.sweep_unfinished(Timestamp::MAX).await.unwrap(), 2);
    assert!(unfinished.iter().all(|name| !root.join(name).exists()));
    assert!(root.join("a/.tmp-of-another-program").exists());
    assert_eq!(read(&backend.store, "a/x").await, b"x");
}

#[tokio::test]
async fn an_etag_never_comes_again() {
    let (_folder, store) = fast_disk();
    let (mut etags, mut times) = (HashSet::new(), HashSet::new());
    for round in 0..1_000_u32 {
        let etag = put(&store, "x", &round.to_le_bytes()).await;
        assert!(etags.insert(etag.clone()), "{etag:?} came again in round {round}");
        // The number of a deleted file's inode may come again, so that only the time can tell versions apart.
        let time = store.head(&key("x")).await.unwrap().modified;
        assert!(times.insert(time), "{time} came again in round {round}");
        if round % 3 == 0 {
            store.delete(&key("x")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_brings_no_etag_back() {
    let backend = disk().await;
    put(&backend.store, "x", b"0").await;
    let ahead = SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800);
    fs::File::open(root(&backend).join(".keepsake.lock")).unwrap().set_modified(ahead).unwrap();
    let mut last = Timestamp::try_from(ahead).unwrap();
    for mode in [PutMode::Overwrite, PutMode::Create, PutMode::Create, PutMode::Overwrite] {
        if mode == PutMode::Create {
            backend.store.delete(&key("x")).await.unwrap();
        }
        backend.store.put(&key("x"), &Body::from(vec![1]), &mode).await.unwrap();
        let time = backend.store.head(&key("x")).await.unwrap().modified;
        assert!(time > last, "{time} after {last}");
        last = time;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_on_one_folder_lose_no_update() {
    let backend = disk().await;
    count_up(&[backend.reopened(), backend.reopened()], 400).await;
}

#[tokio::test]
async fn a_folder_that_was_removed_is_made_again() {
    let backend = disk().await;
    put(&backend.store, "uploads/deep/x", b"1").await;
    fs::remove_dir_all(root(&backend).join("uploads")).unwrap();
    assert_eq!(kind(backend.store.get(&key("uploads/deep/x"), None).await), Some(ErrorKind::NotFound));
    assert_eq!(kind(backend.store.head(&key("uploads/deep/x")).await), Some(ErrorKind::NotFound));
    assert_eq!(keys(&backend.store).await, Vec::<String>::new());
    backend.store.delete(&key("uploads/deep/x")).await.unwrap();
    put(&backend.store, "uploads/deep/x", b"2").await;
    assert_eq!(read(&backend.store, "uploads/deep/x").await, b"2");
}

#[tokio::test]
async fn a_store_that_lost_its_root_is_unavailable_not_empty() {
    let backend = disk().await;
    put(&backend.store, "uploads/x", b"1").await;
    fs::remove_dir_all(root(&backend)).unwrap();
    let (store, x) = (&backend.store, key("uploads/x"));
    assert_eq!(kind(store.get(&x, None).await), Some(ErrorKind::Unavailable));
    assert_eq!(kind(store.head(&x).await), Some(ErrorKind::Unavailable));
    for prefix in ["", "uploads/", "//"] {
        let listed = store.list(prefix, None).try_collect::<Vec<_>>().await;
        assert_eq!(kind(listed), Some(ErrorKind::Unavailable), "{prefix:?}");
    }
    assert_eq!(kind(store.delete(&x).await), Some(ErrorKind::Unavailable));
    assert_eq!(kind(store.status().await), Some(ErrorKind::Unavailable));
    assert_eq!(kind(store.put(&x, &Body::from(vec![1]), &PutMode::Create).await), Some(ErrorKind::Unavailable));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_misses_nothing_that_is_replaced_meanwhile() {
    let (_folder, store) = fast_disk();
    let names: Vec<_> = (0..700).map(|n| format!("folder/{n:03}")).collect();
    for name in &names {
        put(&store, name, b"first").await;
    }
    let (writer, replaced) = (store.clone(), names.clone());
    let writer = tokio::spawn(async move {
        for name in replaced.iter().cycle().step_by(7).take(1_500) {
            put(&writer, name, b"again").await;
        }
    });
    while !writer.is_finished() {
        assert_eq!(keys(&store).await, names);
    }
    writer.await.unwrap();
}

#[tokio::test]
async fn names_that_cannot_be_keys_are_left_out_of_a_listing() {
    use std::os::unix::ffi::OsStrExt;
    let backend = disk().await;
    put(&backend.store, "x", b"x").await;
    // Some file systems refuse such names themselves.
    let _ = fs::write(root(&backend).join(std::ffi::OsStr::from_bytes(b"not utf-8 \xff")), b"");
    let _ = fs::write(root(&backend).join("new\nline"), b"");
    fs::create_dir(root(&backend).join("back\\slash")).unwrap();
    fs::write(root(&backend).join("back\\slash/x"), b"").unwrap();
    assert_eq!(keys(&backend.store).await, ["x"]);
}

#[tokio::test]
async fn a_body_that_is_being_read_stays_whole_when_the_object_is_replaced() {
    let backend = disk().await;
    let old = vec![b'o'; 1_000_000];
    put(&backend.store, "x", &old).await;
    let object = backend.store.get(&key("x"), None).await.unwrap();
    put(&backend.store, "x", &vec![b'n'; 1_000_000]).await;
    backend.store.delete(&key("x")).await.unwrap();
    assert!(object.bytes().await.unwrap() == old);
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_read_is_corrupt() {
    let backend = disk().await;
    put(&backend.store, "x", &vec![b'o'; 1_000_000]).await;
    let object = backend.store.get(&key("x"), None).await.unwrap();
    fs::File::options().write(true).open(root(&backend).join("x")).unwrap().set_len(300_000).unwrap();
    assert_eq!(kind(object.bytes().await), Some(ErrorKind::Corrupt));
}

#[tokio::test]
async fn a_put_that_nobody_waits_for_is_whole_or_not_there() {
    let backend = disk().await;
    let body = Body::from(vec![b'x'; 3_000_000]);
    for _ in 0..20 {
        let store = backend.store.clone();
        let (x, mode) = (key("a/x"), PutMode::Create);
        let put = store.put(&x, &body, &mode);
        // Polled once, so that the blocking half has begun, and dropped.
        let _ = futures::poll!(Box::pin(put));
        // Another put of the same key waits for nothing, yet finds a whole object or none.
        match store.put(&x, &body, &mode).await {
            Ok(_) => {}
            Err(e) => assert_eq!(e.kind, ErrorKind::AlreadyExists),
        }
        assert_eq!(store.head(&x).await.unwrap().size, 3_000_000);
        store.delete(&x).await.unwrap();
    }
}

#[tokio::test]
async fn the_status_names_the_medium_and_its_room() {
    let folder = TempDir::new().unwrap();
    let store = DiskStore::open(folder.path()).unwrap();
    let status = store.status().await.unwrap();
    assert_eq!((status.kind, &status.read_only), ("disk", &None));
    assert!(status.total_bytes >= status.free_bytes && status.free_bytes > Some(0), "{status:?}");

    store.put(&key("uploads/x"), &Body::from(vec![1]), &PutMode::Create).await.unwrap();
    assert_eq!(store.device_of(&key("uploads")), Some(store.device()));
    assert_eq!(store.device_of(&key("absent")), None);
    assert_eq!(store.device_of(&key("uploads/x")), None);
}

#[tokio::test]
async fn the_same_bytes_put_again_are_another_version() {
    crate::contract::s14_the_same_bytes_put_again_are_another_version(&disk().await).await;
}
