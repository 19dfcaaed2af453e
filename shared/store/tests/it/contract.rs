//! The sentences of `ObjectStore`'s contract, but for the tenth, which is in [`listing`](crate::listing).

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use futures::stream::TryStreamExt;
use jiff::Timestamp;
use store::digest::Digest;
use store::{Body, ETag, ErrorKind, ObjectMeta, PutMode, Store};

use crate::backend::{Backend, key, put, read};

const MANY: usize = 50;

async fn create(store: &Store, name: &str, bytes: Vec<u8>) -> Result<ETag, ErrorKind> {
    store.put(&key(name), &bytes.into(), &PutMode::Create).await.map_err(|e| e.kind)
}

async fn update(store: &Store, name: &str, bytes: Vec<u8>, etag: &ETag) -> Result<ETag, ErrorKind> {
    store.put(&key(name), &bytes.into(), &PutMode::Update(etag.clone())).await.map_err(|e| e.kind)
}

async fn keys(store: &Store, prefix: &str) -> Vec<String> {
    store.list(prefix, None).map_ok(|meta| meta.key.to_string()).try_collect().await.unwrap()
}

pub async fn s01_a_put_outlives_the_store_that_made_it(backend: &Backend) {
    let etag = put(&backend.store, "uploads/a.png", b"bytes").await;
    let reopened = backend.reopened();
    let (bytes, found) = reopened.read(&key("uploads/a.png")).await.unwrap();
    assert_eq!((&bytes[..], found), (&b"bytes"[..], etag));
}

pub async fn s02_a_reader_sees_the_old_bytes_or_the_new_ones(backend: &Backend) {
    let bodies = [vec![b'a'; 300_000], vec![b'b'; 200_001]];
    put(&backend.store, "x", &bodies[0]).await;
    let done = AtomicBool::new(false);
    let writer = async {
        for round in 1..40 {
            put(&backend.store, "x", &bodies[round % 2]).await;
        }
        done.store(true, Ordering::Relaxed);
    };
    let reader = async {
        while !done.load(Ordering::Relaxed) {
            let bytes = read(&backend.store, "x").await;
            assert!(bodies.contains(&bytes), "{} bytes of {:?} and others", bytes.len(), bytes.first());
        }
    };
    tokio::join!(writer, reader);
}

pub async fn s03_of_concurrent_creates_exactly_one_succeeds(backend: &Backend) {
    let tasks = (0..MANY).map(|n| {
        let store = backend.store.clone();
        tokio::spawn(async move { create(&store, "new/one", vec![n as u8; 100 + n]).await })
    });
    let results: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    let winners: Vec<_> = (0..MANY).filter(|n| results[*n].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    assert!(results.iter().all(|r| r.is_ok() || *r == Err(ErrorKind::AlreadyExists)), "{results:?}");
    let (bytes, etag) = backend.store.read(&key("new/one")).await.unwrap();
    assert_eq!((bytes.to_vec(), Ok(etag)), (vec![winners[0] as u8; 100 + winners[0]], results[winners[0]].clone()));
}

pub async fn s03_a_create_over_an_object_changes_nothing(backend: &Backend) {
    let etag = create(&backend.store, "x", b"first".to_vec()).await.unwrap();
    assert_eq!(create(&backend.store, "x", b"second".to_vec()).await, Err(ErrorKind::AlreadyExists));
    let (bytes, found) = backend.store.read(&key("x")).await.unwrap();
    assert_eq!((&bytes[..], found), (&b"first"[..], etag));
}

pub async fn s04_an_update_succeeds_only_on_the_version_it_names(backend: &Backend) {
    let store = &backend.store;
    let first = put(store, "x", b"1").await;
    let second = update(store, "x", b"2".to_vec(), &first).await.unwrap();
    assert_eq!(update(store, "x", b"3".to_vec(), &first).await, Err(ErrorKind::Changed));
    assert_eq!(read(store, "x").await, b"2");
    store.delete(&key("x")).await.unwrap();
    assert_eq!(update(store, "x", b"4".to_vec(), &second).await, Err(ErrorKind::Changed));
    assert!(store.head(&key("x")).await.unwrap_err().is_not_found(), "an update brought back what was deleted");
}

pub async fn s04_of_concurrent_updates_exactly_one_succeeds(backend: &Backend) {
    let etag = put(&backend.store, "x", b"start").await;
    let tasks = (0..MANY).map(|n| {
        let (store, etag) = (backend.store.clone(), etag.clone());
        tokio::spawn(async move { update(&store, "x", n.to_string().into_bytes(), &etag).await })
    });
    let results: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    let winners: Vec<_> = (0..MANY).filter(|n| results[*n].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    assert!(results.iter().all(|r| r.is_ok() || *r == Err(ErrorKind::Changed)), "{results:?}");
    assert_eq!(read(&backend.store, "x").await, winners[0].to_string().into_bytes());
}

pub async fn s04_no_increment_of_a_counter_is_lost(backend: &Backend) {
    let other = if backend.of_one_process { backend.store.clone() } else { backend.reopened() };
    count_up(&[backend.store.clone(), other], 40).await;
}

/// Increments one counter `times` in all, by tasks that share out these stores, and sees that none is lost.
pub async fn count_up(stores: &[Store], times: usize) {
    put(&stores[0], "counter", b"0").await;
    let tasks = (0..times).map(|n| {
        let store = stores[n % stores.len()].clone();
        tokio::spawn(async move {
            loop {
                let (bytes, etag) = store.read(&key("counter")).await.unwrap();
                let next = std::str::from_utf8(&bytes).unwrap().parse::<u64>().unwrap() + 1;
                match update(&store, "counter", next.to_string().into_bytes(), &etag).await {
                    Ok(_) => return,
                    Err(kind) => assert_eq!(kind, ErrorKind::Changed),
                }
            }
        })
    });
    join_all(tasks).await.into_iter().for_each(Result::unwrap);
    assert_eq!(read(&stores[0], "counter").await, times.to_string().into_bytes());
}

pub async fn s05_an_overwrite_succeeds_with_and_without_an_object(backend: &Backend) {
    let first = put(&backend.store, "x", b"first").await;
    let second = put(&backend.store, "x", b"other").await;
    assert_ne!(first, second);
    assert_eq!(read(&backend.store, "x").await, b"other");
}

pub async fn s06_bytes_come_back_as_they_went_in(backend: &Backend) {
    let sizes = [0, 1, 65_536, 131_072, 131_073, 700_000];
    for size in sizes.into_iter().filter(|size| *size as u64 >= backend.smallest) {
        let bytes: Vec<u8> = (0..size).map(|n: usize| (n % 251) as u8).collect();
        put(&backend.store, "memory", &bytes).await;
        assert_eq!(read(&backend.store, "memory").await, bytes, "{size} bytes from memory");

        let mut spool = backend.store.spool();
        for chunk in bytes.chunks(10_000) {
            spool.write(chunk).await.unwrap();
        }
        let body = spool.finish().await.unwrap();
        backend.store.put(&key("spooled"), &body, &PutMode::Create).await.unwrap();
        assert_eq!(read(&backend.store, "spooled").await, bytes, "{size} bytes spooled");
        assert_eq!(backend.store.hash(&key("spooled")).await.unwrap(), (size as u64, Digest::of(&bytes)));
        backend.store.delete(&key("spooled")).await.unwrap();
    }
}

pub async fn s07_a_range_is_cut_off_at_the_end(backend: &Backend) {
    for size in [0, 10, 300_000_u64].into_iter().filter(|size| *size >= backend.smallest) {
        let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let etag = put(&backend.store, "x", &bytes).await;
        let ends = [0, 1, 9, 10, 11, 140_000, size, size + 1, u64::MAX - 1, u64::MAX];
        for range in ends.iter().flat_map(|start| ends.iter().map(move |end| *start..*end)) {
            let Range { start, end } = range.clone();
            let object = backend.store.get(&key("x"), Some(range)).await.unwrap();
            assert_eq!((object.meta.size, &object.meta.etag), (size, &etag));
            let (from, to) = (start.min(size) as usize, end.min(size) as usize);
            let expected = bytes.get(from..to).unwrap_or_default();
            assert!(object.bytes().await.unwrap() == expected, "{start}..{end} of {size}");
        }
    }
}

pub async fn s08_what_was_never_put_is_not_found(backend: &Backend) {
    let store = &backend.store;
    let absent = ["never", "never/below", "present/below", "presen", "folder"];
    for when in ["in an empty store", "beside other objects"] {
        for name in absent {
            let error = store.get(&key(name), None).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::NotFound, "get {name} {when}");
            let error = store.get(&key(name), Some(5..9)).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::NotFound, "get a range of {name} {when}");
            let error = store.head(&key(name)).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::NotFound, "head {name} {when}");
        }
        put(store, "present", b"x").await;
        put(store, "folder/present", b"x").await;
    }
}

pub async fn s09_every_operation_tells_the_same_size_and_etag(backend: &Backend) {
    let sizes = [&b""[..], b"some bytes", b"other bytes"];
    for bytes in sizes.into_iter().filter(|bytes| bytes.len() as u64 >= backend.smallest) {
        let etag = put(&backend.store, "folder/x", bytes).await;
        let head = backend.store.head(&key("folder/x")).await.unwrap();
        let got = backend.store.get(&key("folder/x"), None).await.unwrap().meta;
        let listed: Vec<_> = backend.store.list("", None).try_collect().await.unwrap();
        assert_eq!((head.size, &head.etag), (bytes.len() as u64, &etag));
        assert_eq!((got.size, &got.etag), (head.size, &etag));
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].size, &listed[0].etag), (head.size, &etag));
        for meta in [&head, &got, &listed[0]] {
            assert_eq!(meta.key, key("folder/x"));
        }
    }
}

pub async fn s11_delete_removes_one_object_and_may_be_repeated(backend: &Backend) {
    for name in ["a/one", "a/two", "b"] {
        put(&backend.store, name, b"x").await;
    }
    for _ in 0..2 {
        backend.store.delete(&key("a/one")).await.unwrap();
        assert_eq!(keys(&backend.store, "").await, ["a/two", "b"]);
        assert!(backend.store.get(&key("a/one"), None).await.unwrap_err().is_not_found());
    }
    for absent in ["a", "b/below", "never/was/here"] {
        backend.store.delete(&key(absent)).await.unwrap();
    }
    assert_eq!(keys(&backend.store, "").await, ["a/two", "b"]);
    // What is gone can come again.
    create(&backend.store, "a/one", b"again".to_vec()).await.unwrap();
    assert_eq!(read(&backend.store, "a/one").await, b"again");
}

/// Names that something on the way (a URL, XML, a header, a shell, a path) could take for something else.
const ODD_NAMES: &[&str] = &[
    " leading and trailing spaces ",
    "!exclaimed (in brackets) *starred*~",
    "% 20 or %20 or %2F or %2e%2e",
    "&amp; <xml> 'quoted' \"twice\"",
    "+plus and space",
    "...",
    ".hidden",
    "C:drive;semi,comma@at$dollar",
    "[brackets] {braces} |pipe| ^caret `tick`",
    "a#fragment?query=1&more=2",
    "e\u{301} is not \u{e9}",
    "{\"json\": true}",
    "~",
    "日本語 Ünïcödé 🖼️.png",
    "-rf",
];

pub async fn s12_a_key_may_be_any_name(backend: &Backend) {
    let names: Vec<_> = ODD_NAMES.iter().map(|name| format!("odd/{name}")).collect();
    for name in &names {
        create(&backend.store, name, name.clone().into_bytes()).await.unwrap();
    }
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(keys(&backend.store, "odd/").await, sorted);
    for name in &names {
        assert_eq!(read(&backend.store, name).await, name.as_bytes());
        assert_eq!(keys(&backend.store, name).await, [name.as_str()]);
        let digest = Digest::of(name.as_bytes());
        backend.store.copy_to(&key(name), &backend.store, &key("copy"), digest, None).await.unwrap();
        assert_eq!(read(&backend.store, "copy").await, name.as_bytes());
        backend.store.delete(&key(name)).await.unwrap();
    }
    assert_eq!(keys(&backend.store, "").await, ["copy"]);
}

pub async fn s13_a_failed_put_leaves_everything_as_it_was(backend: &Backend) {
    let store = &backend.store;
    let etag = put(store, "x", b"before").await;
    let stale = update(store, "other", b"".to_vec(), &etag).await;
    assert_eq!(stale, Err(ErrorKind::Changed));
    for size in [10, 500_000] {
        assert_eq!(create(store, "x", vec![1; size]).await, Err(ErrorKind::AlreadyExists));
        assert_eq!(update(store, "x", vec![2; size], &ETag("\"stale\"".to_owned())).await, Err(ErrorKind::Changed));
    }
    assert_eq!(store.head(&key("x")).await.unwrap().etag, etag);
    assert_eq!(read(store, "x").await, b"before");
    assert_eq!(keys(store, "").await, ["x"]);
}

pub async fn s14_a_version_is_deleted_only_while_it_is_the_present_one(backend: &Backend) {
    let store = backend.store.below(&key("below"));
    for name in ["x", "folder/y"] {
        put(&store, name, b"first").await;
        let first = store.head(&key(name)).await.unwrap();
        put(&store, name, b"other").await;
        assert_eq!(store.delete_version(&first).await.unwrap_err().kind, ErrorKind::Changed);
        assert_eq!(read(&store, name).await, b"other");
        let listed: Vec<_> = store.list(name, None).try_collect().await.unwrap();
        store.delete_version(&listed[0]).await.unwrap();
        assert!(store.head(&key(name)).await.unwrap_err().is_not_found());
        assert_eq!(store.delete_version(&listed[0]).await.unwrap_err().kind, ErrorKind::Changed, "it is gone");
        assert_eq!(keys(&store, name).await, [""; 0]);
    }
    let below_an_object = { put(&store, "z", b"z").await };
    let absent = ObjectMeta { key: key("z/below"), size: 1, etag: below_an_object, modified: Timestamp::UNIX_EPOCH };
    assert_eq!(store.delete_version(&absent).await.unwrap_err().kind, ErrorKind::Changed);
}

pub async fn s14_of_updates_and_deletes_of_one_version_exactly_one_succeeds(backend: &Backend) {
    put(&backend.store, "x", b"start").await;
    let version = backend.store.head(&key("x")).await.unwrap();
    let tasks = (0..MANY).map(|n| {
        let (store, version) = (backend.store.clone(), version.clone());
        tokio::spawn(async move {
            match n % 2 {
                0 => store.delete_version(&version).await.map_err(|e| e.kind),
                _ => update(&store, "x", n.to_string().into_bytes(), &version.etag).await.map(drop),
            }
        })
    });
    let results: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    let winners: Vec<_> = (0..MANY).filter(|n| results[*n].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    assert!(results.iter().all(|r| r.is_ok() || *r == Err(ErrorKind::Changed)), "{results:?}");
    match winners[0] % 2 {
        0 => assert!(backend.store.head(&key("x")).await.unwrap_err().is_not_found()),
        _ => assert_eq!(read(&backend.store, "x").await, winners[0].to_string().into_bytes()),
    }
}

pub async fn s14_a_service_that_minds_conditions_of_deletes_is_taken(backend: &Backend) {
    assert!(backend.store.check_conditional_deletes(&key("scratch")).await.unwrap());
    assert_eq!(keys(&backend.store, "").await, [""; 0]);
}

/// For the backends that tell versions of the same bytes apart also within a second.
pub async fn s14_the_same_bytes_put_again_are_another_version(backend: &Backend) {
    for _ in 0..20 {
        put(&backend.store, "x", b"same").await;
        let version = backend.store.head(&key("x")).await.unwrap();
        put(&backend.store, "x", b"same").await;
        assert_eq!(backend.store.delete_version(&version).await.unwrap_err().kind, ErrorKind::Changed);
        assert_eq!(read(&backend.store, "x").await, b"same");
    }
}

pub async fn a_copy_has_the_bytes_of_its_source(backend: &Backend) {
    let elsewhere = crate::backend::memory().await;
    let bytes = vec![7; 400_000];
    put(&backend.store, "from", &bytes).await;
    put(&backend.store, "to", b"replaced").await;
    for to in [&backend.store, &backend.store.below(&key("below")), &backend.reopened(), &elsewhere.store] {
        backend.store.copy_to(&key("from"), to, &key("to"), Digest::of(&bytes), None).await.unwrap();
        assert_eq!(to.hash(&key("to")).await.unwrap(), (400_000, Digest::of(&bytes)));
        let (meta, digest) = to.digest(&key("to")).await.unwrap();
        assert_eq!((meta.size, digest), (400_000, Digest::of(&bytes)));
        assert_eq!(meta, to.head(&key("to")).await.unwrap());
    }
    elsewhere
        .store
        .copy_to(&key("to"), &backend.store, &key("back"), Digest::of(&bytes), Some("image/png"))
        .await
        .unwrap();
    assert_eq!(read(&backend.store, "back").await, bytes);
    let absent = backend.store.copy_to(&key("absent"), &backend.store, &key("to"), Digest::of(b""), None).await;
    assert!(absent.unwrap_err().is_not_found());
    assert_eq!(read(&backend.store, "to").await, bytes);
}

pub async fn a_copy_with_the_wrong_digest_leaves_its_destination_alone(backend: &Backend) {
    put(&backend.store, "from", b"rotten").await;
    put(&backend.store, "to", b"good").await;
    let etag = backend.store.head(&key("to")).await.unwrap().etag;
    for to in ["to", "new"] {
        let copied = backend.store.copy_to(&key("from"), &backend.store, &key(to), Digest::of(b"good"), None).await;
        assert_eq!(copied.unwrap_err().kind, ErrorKind::Corrupt);
    }
    assert_eq!(read(&backend.store, "to").await, b"good");
    assert_eq!(backend.store.head(&key("to")).await.unwrap().etag, etag);
    assert_eq!(keys(&backend.store, "").await, ["from", "to"]);
}

pub async fn a_folder_of_a_store_is_a_store(backend: &Backend) {
    let inner = backend.store.below(&key("backups")).below(&key("images"));
    create(&inner, "x", b"inner".to_vec()).await.unwrap();
    put(&backend.store, "backups/images-beside", b"outer").await;
    put(&backend.store, "x", b"outer").await;
    assert_eq!(read(&backend.store, "backups/images/x").await, b"inner");
    assert_eq!(inner.head(&key("x")).await.unwrap().key, key("x"));
    assert_eq!(inner.get(&key("x"), None).await.unwrap().meta.key, key("x"));
    assert_eq!(keys(&inner, "").await, ["x"]);
    assert_eq!(inner.list("", Some("x")).try_collect::<Vec<_>>().await.unwrap(), []);
    assert!(inner.head(&key("images-beside")).await.unwrap_err().is_not_found());
    let too_long = key(&["y".repeat(200), "y".repeat(200), "y".repeat(200), "y".repeat(200), "y".repeat(90)].join("/"));
    let refused = inner.put(&too_long, &Body::from(vec![]), &PutMode::Create).await;
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Refused);
    inner.delete(&key("x")).await.unwrap();
    assert_eq!(keys(&backend.store, "").await, ["backups/images-beside", "x"]);
}
