//! What only Cloudinary can get wrong: bytes that it alters, caches that lie, limits, lost replies, a second server.

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream::TryStreamExt;
use store::{Body, CloudinaryStore, ETag, ErrorKind, ObjectStore, PutMode, Result, Store};

use crate::backend::{cloudinary_store, key, put, read};
use crate::cloudinary_server::{self, Fake, Mishap};

const PHOTO: &[u8] = b"\xff\xd8\xff\xe1 a photo";

async fn start() -> (Fake, Arc<CloudinaryStore>, Store) {
    let server = cloudinary_server::start().await;
    let (backend, store) = open(&server);
    (server, backend, store)
}

fn open(server: &Fake) -> (Arc<CloudinaryStore>, Store) {
    let backend = Arc::new(cloudinary_store(server));
    (Arc::clone(&backend), Store::new(backend, &std::env::temp_dir()))
}

async fn create(store: &Store, name: &str, bytes: &[u8]) -> Result<ETag, ErrorKind> {
    store.put(&key(name), &Body::from(bytes.to_vec()), &PutMode::Create).await.map_err(|e| e.kind)
}

/// The sentence that a person reads.
fn said<T: std::fmt::Debug>(result: Result<T>) -> (ErrorKind, String) {
    let error = result.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    (error.kind, source)
}

#[tokio::test]
async fn pictures_become_images_and_everything_else_plain_bytes() {
    let (server, _, store) = start().await;
    create(&store, "images/1f", PHOTO).await.unwrap();
    create(&store, "image-metadata.json", b"{}").await.unwrap();
    assert_eq!(server.ids("image"), ["keepsake/images/1f"]);
    assert_eq!(server.ids("raw"), ["keepsake/image-metadata.json"]);
}

#[tokio::test]
async fn image_that_cloudinary_rejects_or_alters_is_stored_as_raw() {
    let (server, _, store) = start().await;
    create(&store, "images/heic", b"....ftypheic").await.unwrap();
    server.state().alters_images = true;
    create(&store, "images/1f", PHOTO).await.unwrap();
    assert_eq!(server.ids("image"), [""; 0]);
    assert_eq!(server.ids("raw"), ["keepsake/images/1f", "keepsake/images/heic"]);
    for store in [store, open(&server).1] {
        assert_eq!(read(&store, "images/1f").await, PHOTO);
        assert_eq!(store.list("images/", None).try_collect::<Vec<_>>().await.unwrap().len(), 2);
        assert_eq!(create(&store, "images/1f", PHOTO).await, Err(ErrorKind::AlreadyExists));
    }
    // What was an image and is delivered altered from now on is made anew the other way.
    server.state().alters_images = false;
    let (_, store) = open(&server);
    create(&store, "images/2e", PHOTO).await.unwrap();
    assert_eq!(server.ids("image"), ["keepsake/images/2e"]);
    server.state().alters_images = true;
    put(&store, "images/2e", PHOTO).await;
    assert_eq!(server.ids("image"), [""; 0]);
    assert_eq!(read(&store, "images/2e").await, PHOTO);
    store.delete(&key("images/2e")).await.unwrap();
    assert!(!server.ids("raw").contains(&"keepsake/images/2e".to_owned()));
}

#[tokio::test]
async fn versions_that_last_a_second_are_told_apart_all_the_same() {
    let (server, _, store) = start().await;
    server.state().uploads_in_a_second = 2;
    for name in ["image-metadata.json", "images/1f"] {
        let mut seen = HashSet::new();
        for n in 0..8 {
            let bytes = [PHOTO, &[n]].concat();
            assert!(seen.insert(put(&store, name, &bytes).await));
            assert_eq!(read(&store, name).await, bytes, "no cache passes older bytes for newer ones");
            store.delete(&key(name)).await.unwrap();
            assert!(seen.insert(create(&store, name, &bytes).await.unwrap()));
            assert_eq!(read(&store, name).await, bytes);
        }
    }
}

#[tokio::test]
async fn a_limit_of_requests_is_waited_for_a_little_and_then_told() {
    let (server, _, store) = start().await;
    let limited = Mishap::Refused(420, "Rate Limit Exceeded. Limit of 500 api operations reached.");
    server.next("GET /v1_1/demo-cloud/resources/image", limited.clone(), 3);
    create(&store, "x", b"bytes").await.unwrap();
    server.next("/raw/upload", limited, 4);
    let body = Body::from(b"other".to_vec());
    let (kind, sentence) = said(store.put(&key("x"), &body, &PutMode::Overwrite).await);
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(sentence.contains("limit of requests is used up until Wed, 08 Jul 2026 16:00:00 GMT"), "{sentence}");
    assert_eq!(read(&store, "x").await, b"bytes");
}

#[tokio::test]
async fn a_key_that_is_not_accepted_is_refused_with_a_sentence_and_never_shown() {
    let server = cloudinary_server::start().await;
    let other = store::CloudinaryOptions {
        cloud: cloudinary_server::CLOUD.to_owned(),
        key: cloudinary_server::KEY.to_owned(),
        secret: store::Secret::new("hunter2"),
        folder: "keepsake".to_owned(),
        endpoint: Some(server.endpoint()),
        first_wait: std::time::Duration::from_millis(1),
        ..store::CloudinaryOptions::new("images/")
    };
    let elsewhere = store::CloudinaryOptions { cloud: "elsewhere".to_owned(), ..other.clone() };
    for options in [other, elsewhere] {
        let store = CloudinaryStore::connect(options).unwrap();
        let error = store.check_conditional_writes(&key("scratch")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused);
        let shown = format!("{error} {error:?} {store:?}");
        assert!(shown.contains("does not accept the API key, its secret or the cloud name"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[tokio::test]
async fn a_failing_cloudinary_is_never_an_empty_store() {
    for (status, kind) in
        [(400, ErrorKind::Refused), (403, ErrorKind::Refused), (404, ErrorKind::Refused), (409, ErrorKind::Refused)]
    {
        each_operation(Mishap::Refused(status, "so be it"), kind).await;
    }
    for status in [420, 429, 500, 503] {
        each_operation(Mishap::Refused(status, "so be it"), ErrorKind::Unavailable).await;
    }
}

async fn each_operation(mishap: Mishap, kind: ErrorKind) {
    let (server, backend, store) = start().await;
    let x = key("x");
    server.next("", mishap.clone(), 1000);
    // Nothing is known yet.
    assert_eq!(store.head(&x).await.unwrap_err().kind, kind, "{mishap:?}");
    assert_eq!(store.get(&x, None).await.unwrap_err().kind, kind, "{mishap:?}");
    assert_eq!(store.list("", None).try_collect::<Vec<_>>().await.unwrap_err().kind, kind, "{mishap:?}");
    assert_eq!(create(&store, "x", b"x").await, Err(kind), "{mishap:?}");
    assert_eq!(store.delete(&x).await.unwrap_err().kind, kind, "{mishap:?}");
    assert_eq!(backend.status().await.unwrap_err().kind, kind, "{mishap:?}");
    server.state().mishaps.clear();
    let etag = put(&store, "x", b"x").await;
    assert!(backend.status().await.is_ok());
    server.next("", mishap.clone(), 1000);
    // Much is known.
    let update = store.put(&x, &Body::from(b"y".to_vec()), &PutMode::Update(etag)).await;
    assert_eq!(update.unwrap_err().kind, kind, "{mishap:?}");
    assert_eq!(create(&store, "y", b"y").await, Err(kind), "{mishap:?}");
    assert_eq!(store.list("", None).try_collect::<Vec<_>>().await.unwrap_err().kind, kind, "{mishap:?}");
    server.state().mishaps.clear();
    assert_eq!(store.list("", None).try_collect::<Vec<_>>().await.unwrap().len(), 1);
    assert_eq!(read(&store, "x").await, b"x");
}

#[tokio::test]
async fn a_lost_reply_to_a_create_is_settled_by_reading() {
    let (server, _, store) = start().await;
    server.next("/raw/upload", Mishap::LostReply, 1);
    create(&store, "x", b"mine").await.unwrap();
    // Another server was faster.
    let (_, other) = open(&server);
    create(&other, "y", b"theirs").await.unwrap();
    assert_eq!(create(&store, "y", b"mine").await, Err(ErrorKind::AlreadyExists));
    create(&other, "z", b"theirs").await.unwrap();
    server.next("/raw/upload", Mishap::LostReply, 1);
    assert_eq!(create(&store, "z", b"mine").await, Err(ErrorKind::Unavailable));
    for name in ["y", "z"] {
        assert_eq!(read(&store, name).await, b"theirs");
    }
}

#[tokio::test]
async fn what_became_of_a_change_without_an_answer_is_asked() {
    let (server, _, store) = start().await;
    put(&store, "x", b"before").await;
    for answers in [Mishap::LostReply, Mishap::Refused(503, "so be it")] {
        let was_carried_out = matches!(answers, Mishap::LostReply);
        server.next("/raw/upload", answers, 4);
        assert_eq!(
            store.put(&key("x"), &Body::from(b"after".to_vec()), &PutMode::Overwrite).await.unwrap_err().kind,
            ErrorKind::Unavailable
        );
        let expected = if was_carried_out { &b"after"[..] } else { b"before" };
        assert_eq!(store.head(&key("x")).await.unwrap().size, expected.len() as u64);
        assert_eq!(read(&store, "x").await, expected);
        put(&store, "x", b"before").await;
    }
    server.next("/raw/destroy", Mishap::LostReply, 4);
    assert_eq!(store.delete(&key("x")).await.unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(store.list("", None).try_collect::<Vec<_>>().await.unwrap(), []);
    create(&store, "x", b"again").await.unwrap();
}

#[tokio::test]
async fn a_second_server_is_noticed_before_an_update() {
    let (server, _, old) = start().await;
    let etag = put(&old, "image-metadata.json", b"both").await;
    let (_, new) = open(&server);
    assert_eq!(read(&new, "image-metadata.json").await, b"both");
    put(&old, "image-metadata.json", b"old's").await;
    let update = new.put(&key("image-metadata.json"), &Body::from(b"new's".to_vec()), &PutMode::Update(etag)).await;
    assert_eq!(update.unwrap_err().kind, ErrorKind::Changed);
    let (bytes, etag) = new.read(&key("image-metadata.json")).await.unwrap();
    assert_eq!(&bytes[..], b"old's");
    new.put(&key("image-metadata.json"), &Body::from(b"both again".to_vec()), &PutMode::Update(etag)).await.unwrap();
    // What another deleted is gone, not unreachable.
    put(&old, "y", b"y").await;
    let (_, new) = open(&server);
    new.head(&key("y")).await.unwrap();
    old.delete(&key("y")).await.unwrap();
    assert!(new.get(&key("y"), None).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn steady_work_costs_none_of_the_few_requests_of_an_hour() {
    let (server, backend, store) = start().await;
    backend.check_conditional_writes(&key("scratch")).await.unwrap();
    let before = server.count("/resources/");
    assert_eq!(before, 2, "one list of each kind, at the start");
    for n in 0..5 {
        create(&store, &format!("images/{n}"), PHOTO).await.unwrap();
        create(&store, &format!("image-metadata.d/{n}.json"), b"{}").await.unwrap();
        assert_eq!(read(&store, &format!("images/{n}")).await, PHOTO);
        assert_eq!(store.list("image-metadata.d/", None).try_collect::<Vec<_>>().await.unwrap().len(), 1);
        backend.status().await.unwrap();
        store.delete(&key(&format!("image-metadata.d/{n}.json"))).await.unwrap();
    }
    assert_eq!(server.count("/resources/"), before);
    assert_eq!(server.ids("raw"), [""; 0], "the probe cleans up");
}

#[tokio::test]
async fn the_probe_catches_an_environment_that_overwrites_what_it_must_not() {
    let (server, backend, _) = start().await;
    server.state().forgets = true;
    let (kind, sentence) = said(backend.check_conditional_writes(&key("scratch")).await);
    assert_eq!(kind, ErrorKind::Refused);
    assert!(sentence.contains("overwrites objects that an upload must not overwrite"), "{sentence}");
}

#[tokio::test]
async fn oversized_file_or_name_is_refused_with_reason() {
    let (server, _, store) = start().await;
    server.state().most_bytes = 100;
    let large = store.put(&key("images/large"), &Body::from(vec![0xff; 101]), &PutMode::Create).await;
    let (kind, sentence) = said(large);
    assert_eq!(kind, ErrorKind::Refused);
    assert!(sentence.contains("File size too large. Got 101. Maximum is 100."), "{sentence}");
    let long = key(&"ü".repeat(90));
    let (kind, sentence) = said(store.put(&long, &Body::from(b"x".to_vec()), &PutMode::Create).await);
    assert_eq!((kind, sentence.contains("too long for Cloudinary")), (ErrorKind::Refused, true), "{sentence}");
    assert!(store.head(&long).await.unwrap_err().is_not_found());
    store.delete(&long).await.unwrap();
    assert_eq!(server.state().objects.len(), 0);
}

#[tokio::test]
async fn a_list_of_many_pages_is_read_to_its_end() {
    let (server, _, store) = start().await;
    for n in 0..7 {
        create(&store, &format!("images/{n}"), PHOTO).await.unwrap();
        create(&store, &format!("catalog/{n}.json"), b"[]").await.unwrap();
    }
    server.state().page = 3;
    let listed = open(&server).1.list("", None).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(listed.len(), 14);
    assert!(listed.is_sorted_by(|a, b| a.key < b.key));
}
