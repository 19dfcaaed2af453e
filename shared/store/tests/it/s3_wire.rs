//! What an S3 service answers on bad days, and what the store makes of it.

use std::time::Duration;

use futures::stream::TryStreamExt;
use store::digest::Digest;
use store::{Address, Body, ETag, ErrorKind, ObjectStore, PutMode, Result, S3Store, ServedAs, Spool, Terms};

use crate::backend::client;
use crate::backend::key;
use crate::wire::{Reply, Request, Server};

/// A store on a server that gives these replies in turn, and the last one for ever.
async fn scripted(replies: impl IntoIterator<Item = Reply>) -> (Server, S3Store) {
    let replies: Vec<_> = replies.into_iter().collect();
    on(Server::start(move |n, _| replies[n.min(replies.len() - 1)].clone()).await)
}

fn on(server: Server) -> (Server, S3Store) {
    let store = client(&server.endpoint, "bucket");
    (server, store)
}

async fn put(store: &S3Store, mode: PutMode) -> Result<ETag, ErrorKind> {
    store.put(&key("x"), &Body::from(b"bytes".to_vec()), &mode).await.map_err(|e| e.kind)
}

fn update() -> PutMode {
    PutMode::Update(ETag("\"old\"".to_owned()))
}

fn new() -> Result<ETag, ErrorKind> {
    Ok(ETag("\"new\"".to_owned()))
}

/// A HEAD's answer about the object that the first request put.
fn own(requests: &[Request]) -> Reply {
    Reply::object("new", b"bytes").header("x-amz-meta-put-id", requests[0].header("x-amz-meta-put-id"))
}

fn another() -> Reply {
    Reply::object("theirs", b"other").header("x-amz-meta-put-id", "4d0b6ee1-8b5b-4b8e-9d5f-000000000000")
}

#[tokio::test]
async fn a_put_is_one_request_that_names_its_bytes_and_its_condition() {
    for (mode, if_none_match, if_match) in
        [(PutMode::Overwrite, "", ""), (PutMode::Create, "*", ""), (update(), "", "\"old\"")]
    {
        let (server, store) = scripted([Reply::object("new", b"")]).await;
        assert_eq!(put(&store, mode).await, new());
        let requests = server.requests();
        assert_eq!(requests.len(), 1);
        assert_eq!((requests[0].method.as_str(), &requests[0].body[..]), ("PUT", &b"bytes"[..]));
        assert_eq!(requests[0].header("content-length"), "5");
        assert_eq!(requests[0].header("x-amz-checksum-sha256"), Digest::of(b"bytes").to_base64());
        assert_eq!(requests[0].header("x-amz-meta-put-id").len(), 36);
        assert_eq!(requests[0].header("if-none-match"), if_none_match);
        assert_eq!(requests[0].header("if-match"), if_match);
    }
}

#[tokio::test]
async fn a_conflict_is_tried_again() {
    for code in ["ConditionalRequestConflict", "OperationAborted"] {
        let conflict = Reply::error(409, code);
        let (server, store) = scripted([conflict.clone(), conflict, Reply::object("new", b"")]).await;
        assert_eq!(put(&store, PutMode::Create).await, new());
        assert_eq!(server.methods(), "PUT PUT PUT");
        assert!(server.requests().iter().all(|request| request.body == b"bytes"));
    }
}

#[tokio::test]
async fn a_failed_condition_after_a_lost_reply_may_be_ones_own_doing() {
    for (mode, first) in [(PutMode::Create, Reply::error(500, "InternalError")), (update(), Reply::Lost)] {
        let script = move |n, requests: &[Request]| match n {
            0 => first.clone(),
            1 => Reply::error(412, "PreconditionFailed"),
            _ => own(requests),
        };
        let (server, store) = on(Server::start(script).await);
        assert_eq!(put(&store, mode).await, new());
        assert_eq!(server.methods(), "PUT PUT HEAD");
    }
}

#[tokio::test]
async fn a_failed_condition_is_anothers_doing_otherwise() {
    let create = (PutMode::Create, ErrorKind::AlreadyExists);
    let changed = (update(), ErrorKind::Changed);
    for ((mode, kind), head) in [
        (&create, another()),
        (&create, Reply::object("by hand", b"")),
        (&changed, another()),
        (&changed, Reply::object("by hand", b"")),
        (&changed, Reply::status(404)),
    ] {
        let bucket_is_there = Reply::status(200);
        let replies = [Reply::error(412, "PreconditionFailed"), head, bucket_is_there];
        let (_server, store) = scripted(replies).await;
        assert_eq!(put(&store, mode.clone()).await, Err(*kind));
    }
}

#[tokio::test]
async fn after_a_lost_reply_anothers_object_proves_nothing() {
    // This put may have taken place, and been replaced since.
    let replies = [Reply::Lost, Reply::error(412, "PreconditionFailed"), another()];
    for mode in [PutMode::Create, update()] {
        let (_server, store) = scripted(replies.clone()).await;
        assert_eq!(put(&store, mode).await, Err(ErrorKind::Unavailable));
    }
}

#[tokio::test]
async fn an_update_of_what_is_gone_finds_it_changed() {
    let (server, store) = scripted([Reply::error(404, "NoSuchKey")]).await;
    assert_eq!(put(&store, update()).await, Err(ErrorKind::Changed));
    assert_eq!(server.methods(), "PUT");
}

#[tokio::test]
async fn a_lost_reply_is_settled_by_looking() {
    for mode in [PutMode::Overwrite, PutMode::Create, update()] {
        let script = |_, requests: &[Request]| match requests.last().unwrap().method.as_str() {
            "PUT" => Reply::Lost,
            _ => own(requests),
        };
        let (server, store) = on(Server::start(script).await);
        assert_eq!(put(&store, mode).await, new());
        assert_eq!(server.methods(), "PUT PUT PUT HEAD");
    }
}

#[tokio::test]
async fn a_lost_reply_without_its_object_is_unavailable() {
    for head in [another(), Reply::status(404), Reply::status(403), Reply::Lost] {
        let script = move |_, requests: &[Request]| match requests.last().unwrap() {
            request if request.method == "PUT" => Reply::Lost,
            request if request.target.starts_with("/bucket/x") => head.clone(),
            _bucket => Reply::status(200),
        };
        let (_server, store) = on(Server::start(script).await);
        assert_eq!(put(&store, PutMode::Create).await, Err(ErrorKind::Unavailable));
    }
}

#[tokio::test]
async fn a_busy_service_is_asked_again() {
    let busy = || Reply::error(503, "SlowDown");
    let (server, store) = scripted([busy(), busy(), Reply::object("new", b"")]).await;
    assert_eq!(put(&store, PutMode::Create).await, new());
    assert_eq!(server.methods(), "PUT PUT PUT");
    let (server, store) = scripted([busy(), Reply::object("new", b"bytes")]).await;
    assert_eq!(store.head(&key("x")).await.unwrap().size, 5);
    assert_eq!(server.methods(), "HEAD HEAD");
}

fn address(store: &S3Store) -> Address {
    store.address(&key("a/ü +%&?.png")).unwrap()
}

/// A HEAD's answer about an object with these bytes.
fn described(bytes: &[u8]) -> Reply {
    Reply::object("old", bytes).header("x-amz-checksum-sha256", Digest::of(bytes).to_base64())
}

/// Each operation once; the kinds of their errors.
async fn every_operation(store: &S3Store) -> Vec<(&'static str, Option<ErrorKind>)> {
    fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
        result.err().map(|e| e.kind)
    }
    let x = key("x");
    vec![
        ("put", put(store, PutMode::Overwrite).await.err()),
        ("create", put(store, PutMode::Create).await.err()),
        ("update", put(store, update()).await.err()),
        ("get", kind(store.get(&x, None).await)),
        ("get a range", kind(store.get(&x, Some(0..1)).await)),
        ("get nothing", kind(store.get(&x, Some(0..0)).await)),
        ("head", kind(store.head(&x).await)),
        ("list", kind(store.list("", None).try_collect::<Vec<_>>().await)),
        ("delete", kind(store.delete(&x).await)),
        ("copy", kind(store.copy_from(&address(store), &key("y"), Digest::of(b"bytes"), None).await)),
        ("digest", kind(store.stored_digest(&x).await)),
        ("status", kind(store.status().await)),
    ]
}

#[tokio::test]
async fn a_failing_store_is_never_an_empty_one() {
    for (reply, kind) in [
        (Reply::error(503, "SlowDown"), ErrorKind::Unavailable),
        (Reply::error(500, "InternalError"), ErrorKind::Unavailable),
        (Reply::Lost, ErrorKind::Unavailable),
        (Reply::error(404, "NoSuchBucket"), ErrorKind::Refused),
        (Reply::status(404), ErrorKind::Refused),
        (Reply::error(403, "AccessDenied"), ErrorKind::Refused),
        (Reply::error(403, "InvalidAccessKeyId"), ErrorKind::Refused),
        (Reply::error(301, "PermanentRedirect"), ErrorKind::Refused),
        (Reply::error(501, "NotImplemented"), ErrorKind::Refused),
    ] {
        let (_server, store) = scripted([reply.clone()]).await;
        for (operation, found) in every_operation(&store).await {
            assert_eq!(found, Some(kind), "{operation} answered with {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_put_is_told_apart_where_it_failed_for_good() {
    for (reply, kind) in [
        (Reply::error(507, "XMinioStorageFull"), ErrorKind::Full),
        (Reply::error(403, "QuotaExceeded"), ErrorKind::Full),
        (Reply::error(400, "BadDigest"), ErrorKind::Corrupt),
        (Reply::error(400, "XAmzContentChecksumMismatch"), ErrorKind::Corrupt),
        (Reply::error(400, "EntityTooLarge"), ErrorKind::Refused),
    ] {
        let (server, store) = scripted([reply]).await;
        assert_eq!(put(&store, PutMode::Create).await, Err(kind));
        assert!(!server.methods().contains("HEAD"), "there is nothing to settle");
    }
}

#[tokio::test]
async fn whether_the_object_or_the_bucket_is_missing_is_asked_once() {
    let script = |_, requests: &[Request]| match requests.last().unwrap().target.as_str() {
        "/bucket" | "/bucket/" => Reply::status(200),
        _ => Reply::status(404),
    };
    let (server, store) = on(Server::start(script).await);
    for _ in 0..3 {
        assert!(store.head(&key("x")).await.unwrap_err().is_not_found());
    }
    assert_eq!(server.methods(), "HEAD HEAD HEAD HEAD");
    let (server, store) = scripted([Reply::error(404, "NoSuchKey")]).await;
    assert!(store.get(&key("x"), None).await.unwrap_err().is_not_found());
    assert!(store.head(&key("x")).await.unwrap_err().is_not_found());
    assert_eq!(server.methods(), "GET HEAD");
}

#[tokio::test]
async fn a_torn_body_ends_with_an_error() {
    let bytes = vec![7; 100_000];
    for missing in [1, 50_000, 100_000] {
        let (_server, store) = scripted([Reply::Torn(Box::new(Reply::object("e", &bytes)), missing)]).await;
        let object = store.get(&key("x"), None).await.unwrap();
        assert_eq!(object.bytes().await.unwrap_err().kind, ErrorKind::Unavailable, "{missing} bytes missing");
    }
}

#[tokio::test]
async fn a_body_that_fails_its_checksum_is_corrupt() {
    let whole = Reply::object("e", b"bytes");
    let right = whole.clone().header("x-amz-checksum-sha256", Digest::of(b"bytes").to_base64());
    let (_server, store) = scripted([right]).await;
    assert_eq!(&store.get(&key("x"), None).await.unwrap().bytes().await.unwrap()[..], b"bytes");
    let wrong = whole.header("x-amz-checksum-sha256", Digest::of(b"others").to_base64());
    let (_server, store) = scripted([wrong]).await;
    let object = store.get(&key("x"), None).await.unwrap();
    assert_eq!(object.bytes().await.unwrap_err().kind, ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_range_is_asked_for_and_checked() {
    let part = |range: &str| Reply::object("e", b"tes").header("content-range", range);
    let (server, store) = scripted([part("bytes 2-4/5")]).await;
    let object = store.get(&key("x"), Some(2..9)).await.unwrap();
    assert_eq!((object.meta.size, &object.bytes().await.unwrap()[..]), (5, &b"tes"[..]));
    assert_eq!(server.requests()[0].header("range"), "bytes=2-8");

    for odd in [part("bytes 1-3/5"), part("bytes */5"), Reply::object("e", b"bytes")] {
        let (_server, store) = scripted([odd]).await;
        assert_eq!(store.get(&key("x"), Some(2..9)).await.unwrap_err().kind, ErrorKind::Corrupt);
    }
}

#[tokio::test]
async fn a_spooled_body_is_sent_again_from_its_start() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut spool = Spool::new(folder.path());
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    spool.write(&bytes).await.unwrap();
    let body = spool.finish().await.unwrap();
    assert!(body.in_memory().is_none());
    let (server, store) = scripted([Reply::Lost, Reply::error(500, "InternalError"), Reply::object("new", b"")]).await;
    store.put(&key("x"), &body, &PutMode::Create).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    for request in requests {
        assert!(request.body == bytes, "{} bytes", request.body.len());
        assert_eq!(request.header("x-amz-checksum-sha256"), Digest::of(&bytes).to_base64());
        assert_eq!(request.header("content-length"), "1000000");
    }
}

#[tokio::test]
async fn a_listing_asks_for_page_after_page() {
    let page = |name: &str, rest: &str| {
        let xml = format!(
            "<?xml version=\"1.0\"?><ListBucketResult>{rest}<Contents><Key>{name}</Key><ETag>&quot;e&quot;</ETag>\
             <LastModified>2015-10-21T07:28:00.000Z</LastModified><Size>5</Size></Contents></ListBucketResult>"
        );
        Reply::Answer { status: 200, headers: Vec::new(), body: xml.into_bytes() }
    };
    let more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t+1/=</NextContinuationToken>";
    let encoded = "<IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>";
    // The second page's object is a folder that some console made, and no key. The last page's has a name that XML
    // could not hold.
    let pages = [page("a b+%20", more), page("folder/", more), page("z+%2B%EF%BF%BF", encoded)];
    let (server, store) = scripted(pages).await;
    let listed: Vec<_> = store.list("", Some("a")).try_collect().await.unwrap();
    assert_eq!(listed.iter().map(|meta| meta.key.as_str()).collect::<Vec<_>>(), ["a b+%20", "z +\u{ffff}"]);
    assert_eq!(listed[0].etag, ETag("\"e\"".to_owned()));
    let targets: Vec<_> = server.requests().into_iter().map(|request| request.target).collect();
    assert!(targets[0].contains("start-after=a") && !targets[0].contains("continuation-token"), "{targets:?}");
    assert!(targets[1].contains("continuation-token=t%2B1%2F%3D"), "{targets:?}");

    let (_server, store) = scripted([page("a", "<IsTruncated>true</IsTruncated>")]).await;
    assert!(store.list("", None).try_collect::<Vec<_>>().await.is_err(), "half a listing passed for a whole one");
}

/// A copy's answer; S3 writes into it what it hashed.
fn copied(bytes: &[u8]) -> Reply {
    let digest = Digest::of(bytes).to_base64();
    let body = format!(
        "<?xml version=\"1.0\"?><CopyObjectResult><ETag>&quot;new&quot;</ETag><ChecksumSHA256>{digest}</ChecksumSHA256>\
         </CopyObjectResult>"
    );
    Reply::Answer { status: 200, headers: Vec::new(), body: body.into_bytes() }
}

#[tokio::test]
async fn a_copy_is_of_the_version_whose_digest_was_looked_at() {
    let digest = Digest::of(b"bytes");
    for (content_type, directive) in [(None, ""), (Some("image/png"), "REPLACE")] {
        let (server, store) = scripted([described(b"bytes"), copied(b"bytes")]).await;
        let etag = store.copy_from(&address(&store), &key("to"), digest, content_type).await.unwrap();
        assert_eq!((etag, server.methods().as_str()), (Some(new().unwrap()), "HEAD PUT"));
        let request = &server.requests()[1];
        assert_eq!(request.header("x-amz-copy-source"), "bucket/a/%C3%BC%20%2B%25%26%3F.png");
        assert_eq!(request.header("x-amz-copy-source-if-match"), "\"old\"");
        assert_eq!(request.header("x-amz-checksum-algorithm"), "SHA256");
        assert_eq!(request.header("x-amz-metadata-directive"), directive);
        assert_eq!(request.header("content-type"), content_type.unwrap_or_default());
    }
}

#[tokio::test]
async fn a_copy_that_cannot_be_vouched_for_is_not_made_or_not_believed() {
    let digest = Digest::of(b"bytes");
    let copy = async |replies: Vec<Reply>| {
        let (server, store) = scripted(replies).await;
        let copied = store.copy_from(&address(&store), &key("to"), digest, None).await.map_err(|e| e.kind);
        (copied.map(|etag| etag.is_some()), server.methods())
    };
    let in_parts = described(b"bytes").header("x-amz-checksum-type", "COMPOSITE");
    let of_digests =
        Reply::object("old", b"bytes").header("x-amz-checksum-sha256", format!("{}-2", digest.to_base64()));
    let head_only = "HEAD".to_owned();
    assert_eq!(copy(vec![Reply::object("old", b"bytes")]).await, (Ok(false), head_only.clone()), "no digest is kept");
    assert_eq!(copy(vec![of_digests]).await, (Ok(false), head_only.clone()), "a digest of digests");
    assert_eq!(copy(vec![in_parts]).await, (Ok(false), head_only.clone()), "a digest of digests, as S3 says");
    assert_eq!(copy(vec![described(b"rotten")]).await, (Err(ErrorKind::Corrupt), head_only.clone()));
    assert_eq!(copy(vec![Reply::status(404), Reply::status(200)]).await.0, Err(ErrorKind::NotFound));
    assert_eq!(copy(vec![Reply::status(404)]).await.0, Err(ErrorKind::Refused), "nor is the bucket there");
    for (reply, kind) in [
        (Reply::error(412, "PreconditionFailed"), ErrorKind::Corrupt),
        (copied(b"rotten"), ErrorKind::Corrupt),
        (Reply::error(404, "NoSuchKey"), ErrorKind::NotFound),
        // S3 may send its 200 first and find out later.
        (Reply::error(200, "InternalError"), ErrorKind::Unavailable),
    ] {
        assert_eq!(copy(vec![described(b"bytes"), reply]).await.0, Err(kind));
    }
}

#[tokio::test]
async fn nothing_is_copied_from_another_service() {
    let (server, store) = scripted([Reply::status(500)]).await;
    let elsewhere = Address { service: "another".to_owned(), ..address(&store) };
    assert_eq!(store.copy_from(&elsewhere, &key("to"), Digest::of(b""), None).await.unwrap(), None);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_signed_put_pins_length_digest_type_and_that_nothing_is_there() {
    let (_server, store) = scripted([Reply::status(500)]).await;
    let terms = Terms { size: 5, digest: Digest::of(b"bytes"), content_type: "image/png".to_owned() };
    let signed = store.signed_put(&key("incoming/x"), &terms, Duration::from_secs(60)).await.unwrap().unwrap();
    let header = |name: &str| signed.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    assert_eq!(header("content-length").unwrap(), "5");
    assert_eq!(header("content-type").unwrap(), "image/png");
    assert_eq!(header("if-none-match").unwrap(), "*");
    assert_eq!(header("x-amz-checksum-sha256").unwrap(), Digest::of(b"bytes").to_base64());
    let url = signed.url;
    for name in ["content-length", "content-type", "host", "if-none-match", "x-amz-checksum-sha256"] {
        let signed = url.split('&').find(|part| part.contains("X-Amz-SignedHeaders=")).unwrap();
        assert!(signed.contains(name), "{name}: {url}");
    }
}

#[tokio::test]
async fn the_probe_passes_a_service_that_keeps_its_word() {
    let backend = crate::s3_server::start().await;
    let store = client(&backend.1, crate::s3_server::BUCKET);
    store.check_conditional_writes(&key("uploads")).await.unwrap();
    assert_eq!(store.list("", None).try_collect::<Vec<_>>().await.unwrap(), [], "it cleans up");
}

#[tokio::test]
async fn a_signed_url_can_be_read_by_anyone() {
    let (_folder, endpoint) = crate::s3_server::start().await;
    let store = client(&endpoint, crate::s3_server::BUCKET);
    let name = key("a/ü +%&?.png");
    store.put(&name, &Body::from(b"bytes".to_vec()), &PutMode::Create).await.unwrap();
    let png = ServedAs { content_type: "image/png", disposition: None };
    let url = store.signed_url(&name, png, Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(&reqwest::get(url).await.unwrap().bytes().await.unwrap()[..], b"bytes");
    let disposition = "attachment; filename=\"ein Bild.png\"";
    let saved = ServedAs { disposition: Some(disposition), ..png };
    let url = store.signed_url(&name, saved, Duration::from_secs(60)).await.unwrap().unwrap();
    assert!(url.contains("response-content-disposition=attachment%3B%20filename%3D%22ein%20Bild.png%22"), "{url}");
    let month = Duration::from_secs(31 * 24 * 3600);
    assert_eq!(store.signed_url(&name, png, month).await.unwrap_err().kind, ErrorKind::Refused);
}
