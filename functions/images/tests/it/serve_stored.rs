//! Serving what lies in the store: imported, damaged, elsewhere, or not an image's at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use shared::http::App;
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::store::{Body, ErrorKind, Key, PutMode, Store};
use shared::testing::{StubStore, app, app_on, import, png, store_image};

use super::{ask, get};

async fn put(store: &Store, key: &str, bytes: &[u8]) {
    store.put(&Key::new(key).unwrap(), &Body::from(bytes.to_vec()), &PutMode::Overwrite).await.unwrap();
}

#[tokio::test]
async fn an_imported_image_of_any_name_is_served_before_it_is_completed() {
    let app = app();
    import(&app.keepsake, "Ü 1#?%.png", json!({ "contentType": "image/png", "uploadDate": "2024-01-01" })).await;
    put(&app.keepsake.core.primary, "uploads/Ü 1#?%.png", &png(1)).await;
    let url = get(&app, "/api/images").await.json()["images"][0]["url"].as_str().unwrap().to_owned();
    let answer = get(&app, &url).await;
    assert!(answer.status == 200 && answer.body == png(1));
    assert_eq!((answer.header("repr-digest"), answer.header("last-modified")), ("", ""));
    let etag = answer.header("etag").to_owned();
    assert_eq!(ask(&app, "GET", &url, &[("if-none-match", &etag)]).await.status, 304);
    put(&app.keepsake.core.primary, "uploads/Ü 1#?%.png", &png(2)).await;
    assert_eq!(ask(&app, "GET", &url, &[("if-none-match", &etag)]).await.status, 200);
}

#[tokio::test]
async fn what_is_not_known_to_be_an_image_is_only_ever_downloaded() {
    let app = app();
    for (name, content_type) in [("a", json!("text/html")), ("b", json!("image/svg+xml")), ("c", json!(null))] {
        import(&app.keepsake, name, json!({ "contentType": content_type })).await;
        put(&app.keepsake.core.primary, &format!("uploads/{name}"), b"<script>alert(1)</script>").await;
        let answer = get(&app, &format!("/uploads/{name}")).await;
        assert_eq!(answer.header("content-type"), "application/octet-stream");
        assert_eq!(answer.header("content-disposition"), "attachment");
        assert_eq!(answer.header("content-security-policy"), "default-src 'none'; sandbox");
    }
}

#[tokio::test]
async fn a_file_that_no_live_record_names_is_not_served() {
    let app = app();
    put(&app.keepsake.core.primary, "uploads/stray.png", &png(1)).await;
    let deleted = store_image(&app.keepsake, png(2)).await;
    app.keepsake.images.delete(&deleted, shared::Any).await.unwrap();
    put(&app.keepsake.core.primary, &format!("uploads/{deleted}"), &png(2)).await;
    import(&app.keepsake, "linked.png", json!({ "url": "https://example.com/x.png" })).await;
    for name in ["stray.png", &deleted, "linked.png"] {
        assert_eq!(get(&app, &format!("/uploads/{name}")).await.problem(), (404, "no-such-image".to_owned()), "{name}");
    }
}

#[tokio::test]
async fn a_missing_or_truncated_image_is_served_from_the_archive() {
    let app = app();
    let id = store_image(&app.keepsake, png(1)).await;
    let path = format!("/uploads/{id}");
    put(&app.keepsake.core.primary, &format!("uploads/{id}"), &png(1)[..20]).await;
    for headers in [&[][..], &[("range", "bytes=5-30")]] {
        let answer = ask(&app, "GET", &path, headers).await;
        let expected = if headers.is_empty() { png(1) } else { png(1)[5..=30].to_vec() };
        assert!(answer.body == expected);
    }
    app.keepsake.core.primary.delete(&Key::new(format!("uploads/{id}")).unwrap()).await.unwrap();
    assert!(get(&app, &path).await.body == png(1));
}

#[tokio::test]
async fn what_has_rotted_is_never_served() {
    let app = app();
    let id = store_image(&app.keepsake, png(1)).await;
    let (path, digest) = (format!("/uploads/{id}"), shared::digest::Digest::of(&png(1)));
    let mut rotten = png(1);
    rotten[30] ^= 1;
    put(&app.keepsake.core.primary, &format!("uploads/{id}"), &rotten).await;
    for headers in [&[][..], &[("range", "bytes=5-50")]] {
        let answer = ask(&app, "GET", &path, headers).await;
        let expected = if headers.is_empty() { png(1) } else { png(1)[5..=50].to_vec() };
        assert!(answer.body == expected, "the replica");
    }
    put(&app.keepsake.core.primary, &format!("backups/images/{digest}"), &rotten).await;
    assert_eq!(get(&app, &path).await.problem(), (503, "image-data-lost".to_owned()));
}

#[tokio::test]
async fn an_image_whose_bytes_are_nowhere_whole_is_never_served() {
    let app = app();
    let id = store_image(&app.keepsake, png(1)).await;
    let path = format!("/uploads/{id}");
    let digest = shared::digest::Digest::of(&png(1));
    put(&app.keepsake.core.primary, &format!("uploads/{id}"), &png(1)[..20]).await;
    put(&app.keepsake.core.primary, &format!("backups/images/{digest}"), b"").await;
    assert_eq!(get(&app, &path).await.problem(), (503, "image-data-lost".to_owned()));
    assert_eq!(ask(&app, "GET", &path, &[("range", "bytes=0-1")]).await.problem().0, 503);
    assert_eq!(ask(&app, "HEAD", &path, &[]).await.status, 503);
}

#[tokio::test]
async fn an_image_in_a_store_with_signed_urls_is_fetched_from_there() {
    let app = app_on(Arc::new(StubStore::signing("https://bucket.example/")));
    let id = store_image(&app.keepsake, png(1)).await;
    let path = format!("/uploads/{id}");
    let answer = get(&app, &path).await;
    assert_eq!(answer.status, 307);
    assert_eq!(answer.header("location"), format!("https://bucket.example/uploads/{id}"));
    assert_eq!(answer.header("cache-control"), "private, max-age=300");
    let saved = get(&app, &format!("{path}?download=1")).await;
    let disposition = "attachment; filename=\"photo.png\"; filename*=UTF-8''photo.png";
    assert_eq!(saved.header("location"), format!("https://bucket.example/uploads/{id}?{disposition}"));
    // A signed URL is good for one method only.
    let head = ask(&app, "HEAD", &path, &[]).await;
    assert_eq!((head.status.as_u16(), head.header("content-type")), (200, "image/png"));
    put(&app.keepsake.core.primary, &format!("uploads/{id}"), b"").await;
    let from_archive = get(&app, &path).await;
    let digest = shared::digest::Digest::of(&png(1));
    assert_eq!(from_archive.header("location"), format!("https://bucket.example/backups/images/{digest}"));
}

#[tokio::test]
async fn an_image_that_breaks_off_while_it_is_read_ends_with_an_error() {
    // The second read is sent as it comes, since the first one found the bytes right.
    let reads = AtomicU32::new(0);
    let truncated = move |operation: &Operation| {
        let read = operation.name == "get" && operation.key.starts_with("uploads/");
        (read && reads.fetch_add(1, Ordering::Relaxed) == 1).then_some(Fault::Truncate(10))
    };
    let app = app_on(Arc::new(FaultStore::with_plan(Arc::new(MemoryStore::new()), truncated)));
    let id = store_image(&app.keepsake, png(1)).await;
    assert!(get(&app, &format!("/uploads/{id}")).await.body == png(1));
    let request = shared::testing::request("GET", &format!("/uploads/{id}"), &[], axum::body::Body::empty());
    let response = tower_response(&app, request).await;
    assert_eq!(response.status(), 200);
    assert!(axum::body::to_bytes(response.into_body(), 10_000).await.is_err());
}

#[tokio::test]
async fn image_is_read_from_archive_if_store_fails_during_check() {
    let fails = |operation: &Operation| {
        (operation.name == "get" && operation.key.starts_with("uploads/"))
            .then_some(Fault::Before(ErrorKind::Unavailable))
    };
    let app = app_on(Arc::new(FaultStore::with_plan(Arc::new(MemoryStore::new()), fails)));
    let id = store_image(&app.keepsake, png(1)).await;
    assert!(get(&app, &format!("/uploads/{id}")).await.body == png(1));
}

async fn tower_response(app: &App, request: axum::http::Request<axum::body::Body>) -> axum::response::Response {
    use tower::ServiceExt;
    super::router(app).oneshot(request).await.unwrap()
}

#[tokio::test]
async fn an_archive_out_of_reach_does_not_pass_for_missing_bytes() {
    let fails = |operation: &Operation| {
        let archived = operation.name != "put" && operation.key.starts_with("backups/images/");
        archived.then_some(Fault::Before(ErrorKind::Unavailable))
    };
    let app = app_on(Arc::new(FaultStore::with_plan(Arc::new(MemoryStore::new()), fails)));
    let id = store_image(&app.keepsake, png(1)).await;
    app.keepsake.core.primary.delete(&Key::new(format!("uploads/{id}")).unwrap()).await.unwrap();
    assert_eq!(get(&app, &format!("/uploads/{id}")).await.problem(), (503, "store-unavailable".to_owned()));
}
