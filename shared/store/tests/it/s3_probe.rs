//! What a start finds out about an S3 service, and how the store goes by it.

use std::error::Error as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use store::digest::Digest;
use store::{Body, ETag, ErrorKind, ObjectStore, PutMode, S3Store, ServedAs, StoreError, Terms};

use crate::backend::{client, key};
use crate::s3_service::{CEPH, Heeds, S3, Service};
use crate::wire::{Reply, Server};

async fn on(service: Service) -> (Server, S3Store) {
    let server = service.start().await;
    let store = client(&server.endpoint, "bucket");
    (server, store)
}

async fn probed(service: Service) -> (Server, S3Store) {
    let (server, store) = on(service).await;
    store.check_conditional_writes(&key("scratch")).await.unwrap();
    (server, store)
}

/// What a refused start says, below "the store refuses the operation".
fn sentence(error: &StoreError) -> String {
    assert_eq!(error.kind, ErrorKind::Refused, "{error:?}");
    error.source().unwrap().to_string()
}

async fn refusal(service: Service) -> String {
    let (server, store) = on(service).await;
    let error = store.check_conditional_writes(&key("scratch")).await.unwrap_err();
    assert!(server.methods().ends_with("DELETE"), "it cleans up: {}", server.methods());
    sentence(&error)
}

async fn put(store: &S3Store, bytes: &[u8], mode: PutMode) -> Result<ETag, ErrorKind> {
    store.put(&key("x"), &Body::from(bytes.to_vec()), &mode).await.map_err(|e| e.kind)
}

/// Two puts of one object that follow each other, and one that comes too late.
async fn update_twice(store: &S3Store) {
    let first = put(store, b"first", PutMode::Create).await.unwrap();
    let second = put(store, b"second", PutMode::Update(first.clone())).await.unwrap();
    assert_eq!(put(store, b"third", PutMode::Update(first)).await, Err(ErrorKind::Changed));
    assert_eq!(store.head(&key("x")).await.unwrap().etag, second);
}

#[tokio::test]
async fn updates_use_the_form_of_entity_tag_that_was_taken() {
    for (service, condition) in
        [(S3, "\"8b04d5e3775d298e78455efc5ca404d5\""), (CEPH, "8b04d5e3775d298e78455efc5ca404d5")]
    {
        let (server, store) = probed(service).await;
        update_twice(&store).await;
        let updates = server.requests().into_iter().filter(|r| r.method == "PUT" && r.body == b"second");
        let conditions: Vec<_> = updates.map(|request| request.header("if-match").to_owned()).collect();
        assert_eq!(conditions, [condition]);
    }
}

#[tokio::test]
async fn a_service_that_refuses_every_if_match_stops_the_start() {
    let sentence = refusal(Service { if_match: Heeds::AlwaysRefuses, ..S3 }).await;
    assert!(sentence.contains("answers 412 to If-Match although the entity tag is right"), "{sentence}");
}

#[tokio::test]
async fn a_service_that_refuses_every_if_none_match_stops_the_start() {
    let sentence = refusal(Service { if_none_match: Heeds::AlwaysRefuses, ..S3 }).await;
    assert!(sentence.contains("answers 412 to If-None-Match although there is no object"), "{sentence}");
}

#[tokio::test]
async fn a_service_without_conditions_is_named_with_the_condition() {
    for (service, feature) in [
        (Service { if_none_match: Heeds::NotImplemented, ..S3 }, "If-None-Match"),
        (Service { if_match: Heeds::NotImplemented, ..S3 }, "If-Match"),
    ] {
        let sentence = refusal(service).await;
        let beginning =
            format!("the client of bucket refuses a put under {feature}: the service answers 501 NotImplemented");
        assert!(sentence.starts_with(&beginning), "{sentence}");
        assert!(sentence.ends_with("use a service with conditional writes (If-None-Match, If-Match)"), "{sentence}");
    }
}

#[tokio::test]
async fn a_right_condition_that_is_refused_later_ends_the_put() {
    for (mode, found) in
        [(PutMode::Update(ETag("\"e\"".to_owned())), Reply::object("e", b"old")), (PutMode::Create, Reply::status(404))]
    {
        let server = Server::start(move |_, sent| match sent.last().unwrap() {
            request if request.method == "PUT" => Reply::error(412, "PreconditionFailed"),
            request if request.target.starts_with("/bucket/x") => found.clone(),
            _bucket => Reply::status(200),
        })
        .await;
        let store = client(&server.endpoint, "bucket");
        let error = store.put(&key("x"), &Body::from(b"new".to_vec()), &mode).await.unwrap_err();
        assert!(sentence(&error).contains("though the condition holds"), "{}", sentence(&error));
        assert_eq!(server.methods().matches("PUT").count(), 3, "{}", server.methods());
    }
}

#[tokio::test]
async fn puts_carry_the_checksum_that_the_service_compares() {
    let (server, store) = probed(CEPH).await;
    put(&store, b"bytes", PutMode::Create).await.unwrap();
    let sent = server.requests().pop().unwrap();
    assert_eq!(sent.header("content-md5"), STANDARD.encode(Md5::digest(b"bytes")));
    assert!(
        sent.headers.keys().all(|name| !name.starts_with("x-amz-checksum") && name != "x-amz-sdk-checksum-algorithm")
    );
    assert!(store.status().await.unwrap().integrity.unwrap().contains("Content-MD5"));
    assert_eq!(store.stored_digest(&key("x")).await.unwrap(), None, "it keeps none that could be trusted");

    let (server, store) = probed(S3).await;
    put(&store, b"bytes", PutMode::Create).await.unwrap();
    assert_eq!(server.requests().pop().unwrap().header("content-md5"), "");
    assert!(store.status().await.unwrap().integrity.unwrap().contains("SHA-256 of each put"));
}

#[tokio::test]
async fn a_service_that_refuses_the_header_of_a_sha256_gets_an_md5() {
    let (server, store) = probed(Service { sha256: Heeds::NotImplemented, ..S3 }).await;
    update_twice(&store).await;
    assert_ne!(server.requests().into_iter().rfind(|r| r.method == "PUT").unwrap().header("content-md5"), "");
}

#[tokio::test]
async fn puts_are_read_back_where_the_service_compares_nothing() {
    let careless = Service { sha256: Heeds::Ignores, md5: Heeds::Ignores, ..S3 };
    let (server, store) = probed(Service { damages: 1, ..careless }).await;
    update_twice(&store).await;
    assert!(store.status().await.unwrap().integrity.unwrap().contains("read back"));
    let puts = server.requests().into_iter().filter(|r| r.method == "PUT" && r.body == b"first").count();
    assert_eq!(puts, 2, "the first arrived damaged and was put again");

    let (_server, store) = probed(Service { damages: usize::MAX, ..careless }).await;
    assert_eq!(put(&store, b"bytes", PutMode::Create).await, Err(ErrorKind::Unavailable));
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_named_and_not_made() {
    let (server, store) = on(Service { has_bucket: false, ..S3 }).await;
    let error = store.check_conditional_writes(&key("scratch")).await.unwrap_err();
    let said = sentence(&error);
    assert!(said.contains("create the bucket \"bucket\", or correct its name"), "{said}");
    assert!(!server.methods().contains("PUT"), "{}", server.methods());
}

#[tokio::test]
async fn a_wrong_key_is_told_with_the_service_and_the_remedy() {
    for code in ["InvalidAccessKeyId", "SignatureDoesNotMatch"] {
        let server = Server::start(move |_, _| Reply::error(403, code)).await;
        let store = client(&server.endpoint, "bucket");
        let error = store.check_conditional_writes(&key("scratch")).await.unwrap_err();
        let said = sentence(&error);
        assert!(said.starts_with("the client of bucket refuses to list the bucket"), "{said}");
        assert!(said.contains(code) && said.ends_with("correct the access key and its secret"), "{said}");
    }
}

#[tokio::test]
async fn deletes_are_tried_with_a_right_and_a_wrong_condition() {
    let deletes = async |heeds| {
        let (_server, store) = on(Service { if_match_of_deletes: heeds, ..S3 }).await;
        store.check_conditional_deletes(&key("scratch")).await
    };
    assert!(deletes(Heeds::Fully).await.unwrap());
    for heeds in [Heeds::Ignores, Heeds::AlwaysRefuses, Heeds::NotImplemented] {
        assert!(!deletes(heeds).await.unwrap(), "{heeds:?}");
    }
    for (status, kind) in [(503, ErrorKind::Unavailable), (403, ErrorKind::Refused)] {
        let server = Server::start(move |_, sent| match sent.last().unwrap() {
            request if request.method == "DELETE" && !request.header("if-match").is_empty() => {
                Reply::error(status, "AsItSays")
            }
            request if request.method == "DELETE" => Reply::status(204),
            _ => Reply::object("e", b"1"),
        })
        .await;
        let tried = client(&server.endpoint, "bucket").check_conditional_deletes(&key("scratch")).await;
        assert_eq!(tried.unwrap_err().kind, kind, "that says nothing of conditions");
    }
}

#[tokio::test]
async fn a_service_that_ignores_conditions_stops_the_start() {
    for (service, said) in [
        (Service { if_none_match: Heeds::Ignores, ..S3 }, "ignores If-None-Match"),
        (Service { if_match: Heeds::Ignores, ..S3 }, "ignores If-Match"),
    ] {
        let sentence = refusal(service).await;
        assert!(sentence.starts_with("the client of bucket") && sentence.contains(said), "{sentence}");
    }
}

#[tokio::test]
async fn urls_are_signed_by_the_clock_of_the_service() {
    for (there, signed_at) in [
        ("Thu, 01 Jan 2015 00:00:00 GMT", "X-Amz-Date=20150101T0000"),
        ("Sat, 01 Jan 2050 12:30:00 GMT", "X-Amz-Date=20500101T1230"),
    ] {
        let server = Server::start(move |_, _| Reply::object("e", b"x").header("date", there)).await;
        let store = client(&server.endpoint, "bucket");
        assert_eq!(
            store.status().await.unwrap().clock_ahead_seconds.map(|ahead| ahead > 0),
            Some(there.contains("2050"))
        );
        let valid_for = Duration::from_secs(60);
        let url = store.signed_url(&key("x"), ServedAs::default(), valid_for).await.unwrap().unwrap();
        assert!(url.contains(signed_at), "{url}");
        let terms = Terms { size: 1, digest: Digest::of(b"x"), content_type: "image/png".to_owned() };
        let put = store.signed_put(&key("x"), &terms, valid_for).await.unwrap().unwrap();
        assert!(put.url.contains(signed_at), "{}", put.url);
    }
    let (_server, store) = on(S3).await;
    store.head(&key("x")).await.unwrap_err();
    assert_eq!(store.status().await.unwrap().clock_ahead_seconds, None, "no answer says a time");
}

#[tokio::test]
async fn a_service_that_is_busy_at_the_start_is_unavailable() {
    let server = Server::start(|_, _| Reply::error(503, "SlowDown")).await;
    let error = client(&server.endpoint, "bucket").check_conditional_writes(&key("scratch")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
}
