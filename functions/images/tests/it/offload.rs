//! Which images are left to a proxy, and what it gets for them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use shared::config::Config;
use shared::http::App;
use shared::images::{TRUSTED, UNCHANGED};
use shared::store::DiskStore;
use shared::testing::{Answer, app_on, jpeg_with_a_place, png, store_image};

use super::{ask, get};

const HEADER: &str = "x-accel-redirect";

/// A store in this folder, behind a proxy that sends its files.
fn app_in(folder: &Path) -> App {
    let settings = |name: &str| match name {
        "OFFLOAD" => Some("x-accel-redirect:/internal-uploads/".to_owned()),
        "DATA_DIR" => Some("/srv".to_owned()),
        _ => None,
    };
    let offload = Config::from_lookup(&settings).unwrap().offload.map(Arc::new);
    App { offload, ..app_on(Arc::new(DiskStore::open(folder).unwrap())) }
}

/// Larger than what is read into memory as a whole.
fn large() -> Vec<u8> {
    let mut bytes = png(1);
    bytes.resize(3 * 1024 * 1024, 7);
    bytes
}

/// Whether the proxy sends it; if not, these bytes are in the response.
#[track_caller]
fn is_left_to_the_proxy(answer: &Answer, bytes: &[u8]) -> bool {
    let is_left = !answer.header(HEADER).is_empty();
    assert!(is_left && answer.body.is_empty() || !is_left && answer.body == bytes, "{:?}", answer.headers);
    is_left
}

#[tokio::test]
async fn proxy_gets_the_headers_of_a_verified_image_and_sends_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let app = app_in(folder.path());
    for bytes in [png(2), large()] {
        let id = store_image(&app.keepsake, bytes.clone()).await;
        let path = format!("/uploads/{id}?download=1");
        let first = get(&app, &path).await;
        assert!(!is_left_to_the_proxy(&first, &bytes), "nobody has read it yet");
        let second = get(&app, &path).await;
        assert!(is_left_to_the_proxy(&second, &bytes));
        let mut expected = first.headers;
        expected.insert(HEADER, format!("/internal-uploads/{id}").parse().unwrap());
        expected.insert("content-length", "0".parse().unwrap());
        expected.remove("accept-ranges");
        expected.insert("x-request-id", second.headers["x-request-id"].clone());
        assert_eq!((second.status.as_u16(), &second.headers), (200, &expected));
        // The proxy evaluates the range.
        let mut part = ask(&app, "GET", &path, &[("range", "bytes=1-2")]).await;
        part.headers.insert("x-request-id", second.headers["x-request-id"].clone());
        assert_eq!(part, second);
    }
}

#[tokio::test]
async fn server_decides_what_a_proxy_would_decide_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let app = app_in(folder.path());
    let bytes = png(2);
    let path = format!("/uploads/{}", store_image(&app.keepsake, bytes.clone()).await);
    let (etag, uploaded) = {
        let first = get(&app, &path).await;
        (first.header("etag").to_owned(), first.header("last-modified").to_owned())
    };
    let before = "Fri, 20 Nov 2020 08:00:00 GMT";
    for (name, value) in
        [("if-match", etag.as_str()), ("if-unmodified-since", &uploaded), ("if-modified-since", before)]
    {
        let answer = ask(&app, "GET", &path, &[(name, value)]).await;
        assert!(answer.status == 200 && !is_left_to_the_proxy(&answer, &bytes), "{name}");
    }
    for (name, value, status) in [
        ("if-none-match", etag.as_str(), 304),
        ("if-modified-since", &uploaded, 304),
        ("if-match", "\"other\"", 412),
        ("range", "bytes=1000000-", 416),
    ] {
        let answer = ask(&app, "GET", &path, &[(name, value)]).await;
        assert_eq!((answer.status.as_u16(), answer.header(HEADER)), (status, ""), "{name}");
    }
    let head = ask(&app, "HEAD", &path, &[]).await;
    assert_eq!((head.header("content-length"), head.header(HEADER)), (bytes.len().to_string().as_str(), ""));
    for (name, value) in [("if-none-match", "\"other\""), ("if-range", "\"other\"")] {
        let answer = ask(&app, "GET", &path, &[(name, value), ("range", "bytes=0-1")]).await;
        assert!(is_left_to_the_proxy(&answer, &bytes), "{name}");
    }
}

#[tokio::test]
async fn proxy_sends_no_file_that_is_missing_damaged_or_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let app = app_in(folder.path());
    for bytes in [png(2), large()] {
        let id = store_image(&app.keepsake, bytes.clone()).await;
        let (path, file) = (format!("/uploads/{id}"), folder.path().join("uploads").join(&id));
        get(&app, &path).await;
        assert!(is_left_to_the_proxy(&get(&app, &path).await, &bytes));
        // It is looked at once a second, and still the same.
        app.keepsake.core.clock.advance(UNCHANGED);
        assert!(is_left_to_the_proxy(&get(&app, &path).await, &bytes));
        app.keepsake.core.clock.advance(TRUSTED);
        assert!(!is_left_to_the_proxy(&get(&app, &path).await, &bytes), "it was read long ago");

        fs::write(&file, vec![9; bytes.len()]).unwrap();
        app.keepsake.core.clock.advance(UNCHANGED);
        // A whole large image would be compared while it is sent, and break off.
        let part = ask(&app, "GET", &path, &[("range", "bytes=1-2")]).await;
        assert!(!is_left_to_the_proxy(&part, &bytes[1..3]));
        for _ in 0..2 {
            assert!(!is_left_to_the_proxy(&get(&app, &path).await, &bytes), "the archive's copy is right");
        }
        fs::remove_file(&file).unwrap();
        assert!(!is_left_to_the_proxy(&get(&app, &path).await, &bytes));
        app.keepsake.verifier.repair_suspects().await.unwrap();
        get(&app, &path).await;
        assert!(is_left_to_the_proxy(&get(&app, &path).await, &bytes));
        app.keepsake.images.delete(&id, shared::Any).await.unwrap();
        assert_eq!(get(&app, &path).await.problem().0, 404);
    }
}

#[tokio::test]
async fn no_client_makes_the_server_leave_out_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let app = App { offload: None, ..app_in(folder.path()) };
    let bytes = png(2);
    let path = format!("/uploads/{}", store_image(&app.keepsake, bytes.clone()).await);
    let asked = [
        (HEADER, "/internal-uploads/x"),
        ("x-accel-mapping", "/srv/=/internal/"),
        ("x-sendfile-type", "X-Accel-Redirect"),
        ("x-sendfile", "/etc/passwd"),
    ];
    for _ in 0..2 {
        let answer = ask(&app, "GET", &path, &asked).await;
        assert!(!is_left_to_the_proxy(&answer, &bytes) && answer.header("x-sendfile").is_empty());
    }
}

#[tokio::test]
async fn position_of_an_image_does_not_reach_the_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let app = App { strip_gps: true, ..app_in(folder.path()) };
    let (located, other) = (jpeg_with_a_place(), png(2));
    let path = format!("/uploads/{}", store_image(&app.keepsake, located.clone()).await);
    for _ in 0..2 {
        let answer = get(&app, &path).await;
        assert!(answer.body.len() == located.len() && answer.body != located && answer.header(HEADER).is_empty());
    }
    // The search for a position has read this one through.
    let path = format!("/uploads/{}", store_image(&app.keepsake, other.clone()).await);
    assert!(is_left_to_the_proxy(&get(&app, &path).await, &other));
}
