//! Lengths and parts of downloaded backups.

use std::io::Cursor;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use futures::StreamExt;
use shared::backup::Kind;
use shared::digest::Digest;
use shared::http::{App, finish};
use shared::layout::BackupName;
use shared::store::Key;
use shared::store::testing::MemoryStore;
use shared::testing::{Answer, app, app_on, png, request, send, store_image};
use tower::ServiceExt;

fn server(app: &App) -> Router {
    finish(backup::server_routes().into_router(app.clone()), app)
}

async fn ask(app: &App, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(&server(app), request(method, path, headers, Body::empty())).await
}

fn large(n: u32) -> Vec<u8> {
    [png(n), vec![7; 5 << 20]].concat()
}

/// A store with a backup of five images, one of which is read in pieces, and the path of its download.
async fn with_a_backup() -> (App, Vec<String>, String) {
    let app = app();
    let mut ids = vec![store_image(&app.keepsake, large(0)).await];
    for n in 1..5 {
        ids.push(store_image(&app.keepsake, png(n)).await);
    }
    let name = app.keepsake.backups.create(Kind::Manual).await.unwrap().name;
    (app, ids, path_of(name))
}

fn path_of(name: BackupName) -> String {
    format!("/api/backups/{name}/download")
}

fn entries(zip: &[u8]) -> Vec<String> {
    let zip = zip::ZipArchive::new(Cursor::new(zip)).unwrap();
    zip.file_names().map(|name| name.unwrap().into_owned()).collect()
}

#[tokio::test]
async fn a_download_has_the_length_of_its_zip_before_the_first_byte() {
    let (app, ids, path) = with_a_backup().await;
    let whole = ask(&app, "GET", &path, &[]).await;
    assert_eq!(whole.header("content-length"), whole.body.len().to_string());
    assert_eq!(entries(&whole.body).len(), 7);
    let head = ask(&app, "HEAD", &path, &[]).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    for name in ["content-length", "etag", "accept-ranges", "content-disposition"] {
        assert_eq!(head.header(name), whole.header(name), "{name}");
    }

    // The bytes of one image are nowhere: the zip names it, and its length is known too.
    for key in [format!("uploads/{}", ids[1]), format!("backups/images/{}", Digest::of(&png(1)))] {
        app.keepsake.core.primary.delete(&Key::new(key).unwrap()).await.unwrap();
    }
    let without = ask(&app, "GET", &path, &[]).await;
    assert_eq!(without.header("content-length"), without.body.len().to_string());
    assert!(entries(&without.body).contains(&"missing.txt".to_owned()));
    assert_ne!(without.header("etag"), whole.header("etag"));
}

#[tokio::test]
async fn a_download_goes_on_where_it_broke_off() {
    let (app, _, path) = with_a_backup().await;
    let whole = ask(&app, "GET", &path, &[]).await;
    let (length, etag) = (whole.body.len(), whole.header("etag").to_owned());
    assert_eq!(whole.header("accept-ranges"), "bytes");
    for start in [1, 40, 3 << 20, length - 300, length - 1] {
        let range = format!("bytes={start}-");
        let rest = ask(&app, "GET", &path, &[("range", &range), ("if-range", &etag)]).await;
        assert_eq!(rest.status, 206, "{range}");
        assert!(rest.body == whole.body[start..], "{range}");
        assert_eq!(rest.header("content-length"), (length - start).to_string());
        assert_eq!(rest.header("content-range"), format!("bytes {start}-{}/{length}", length - 1));
    }
    let part = ask(&app, "GET", &path, &[("range", "bytes=10-5000009")]).await;
    assert!(part.status == 206 && part.body == whole.body[10..5_000_010]);
    let tail = ask(&app, "GET", &path, &[("range", "bytes=-22")]).await;
    assert!(tail.body == whole.body[length - 22..]);
    let stale = ask(&app, "GET", &path, &[("range", "bytes=10-"), ("if-range", "\"other\"")]).await;
    assert_eq!((stale.status.as_u16(), stale.body.len()), (200, length));
    let beyond = ask(&app, "GET", &path, &[("range", &format!("bytes={length}-"))]).await;
    assert_eq!((beyond.status.as_u16(), beyond.header("content-range")), (416, &*format!("bytes */{length}")));
    let known = ask(&app, "GET", &path, &[("if-none-match", &etag)]).await;
    assert_eq!((known.status.as_u16(), known.body.len()), (304, 0));
}

#[tokio::test]
async fn bit_rot_in_both_copies_aborts_download_and_next_names_image() {
    let memory = Arc::new(MemoryStore::new());
    let app = app_on(memory.clone());
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(store_image(&app.keepsake, png(n)).await);
    }
    let path = path_of(app.keepsake.backups.create(Kind::Manual).await.unwrap().name);
    let mut rotten = png(2);
    rotten[20] ^= 1;
    for key in [format!("uploads/{}", ids[2]), format!("backups/images/{}", Digest::of(&png(2)))] {
        let mode = shared::store::PutMode::Overwrite;
        app.keepsake.core.primary.put(&Key::new(key).unwrap(), &rotten.clone().into(), &mode).await.unwrap();
    }
    // Both copies have the right length, so that only reading them shows it.
    let response = server(&app).oneshot(request("GET", &path, &[], Body::empty())).await.unwrap();
    assert!(response.headers().contains_key("content-length"));
    let failed = response.into_body().into_data_stream().any(async |chunk| chunk.is_err()).await;
    assert!(failed, "the answer ended as if it were whole");
    let next = ask(&app, "GET", &path, &[]).await;
    assert_eq!(next.header("content-length"), next.body.len().to_string());
    let names = entries(&next.body);
    assert!(names.contains(&"missing.txt".to_owned()) && !names.contains(&format!("uploads/{}", ids[2])), "{names:?}");
}
