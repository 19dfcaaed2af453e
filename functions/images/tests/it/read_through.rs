//! How often stored bytes are read to see that they are right, and how damage is noticed that changes neither the length
//! nor the time of modification.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use http_body_util::BodyExt;
use shared::http::App;
use shared::images::TRUSTED;
use shared::store::DiskStore;
use shared::testing::{app_on, png, request, store_image};
use tower::ServiceExt;

use super::{app_with_reads, ask, get};

/// An image that is not read into memory as a whole.
fn large() -> Vec<u8> {
    let mut bytes = png(1);
    bytes.resize(3 * 1024 * 1024, 7);
    bytes
}

/// Changes one byte in the middle of a file, and nothing that the store shows.
fn damage(folder: &Path, id: &str) {
    let path = folder.join("uploads").join(id);
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
}

/// The bytes of a response until it ends or breaks off, and whether it broke off.
async fn receive(app: &App, path: &str) -> (Vec<u8>, bool) {
    let response = super::router(app).oneshot(request("GET", path, &[], Body::empty())).await.unwrap();
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap()),
            Err(_) => return (bytes, true),
        }
    }
    (bytes, false)
}

#[tokio::test]
async fn silent_damage_is_noticed_within_an_hour() {
    let folder = tempfile::tempdir().unwrap();
    let app = app_on(Arc::new(DiskStore::open(folder.path()).unwrap()));
    for bytes in [png(2), large()] {
        let id = store_image(&app.keepsake, bytes.clone()).await;
        let path = format!("/uploads/{id}");
        assert!(get(&app, &path).await.body == bytes);
        damage(folder.path(), &id);
        app.keepsake.core.clock.advance(TRUSTED);
        let (received, broke_off) = receive(&app, &path).await;
        assert!(received == bytes || broke_off && received.len() < bytes.len());
        // From the archive.
        assert!(receive(&app, &path).await == (bytes.clone(), false));
        let part = ask(&app, "GET", &path, &[("range", "bytes=50-60")]).await;
        assert!(part.status == 206 && part.body == bytes[50..=60]);
    }
}

#[tokio::test]
async fn replaced_file_is_noticed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let app = app_on(Arc::new(DiskStore::open(folder.path()).unwrap()));
    for (bytes, other) in [(png(2), png(3)), (large(), vec![9; large().len()])] {
        let id = store_image(&app.keepsake, bytes.clone()).await;
        let path = format!("/uploads/{id}");
        assert!(get(&app, &path).await.body == bytes);
        fs::write(folder.path().join("uploads").join(&id), other).unwrap();
        let part = ask(&app, "GET", &path, &[("range", "bytes=50-60")]).await;
        assert!(part.status == 206 && part.body == bytes[50..=60]);
        assert!(receive(&app, &path).await == (bytes, false));
    }
}

#[tokio::test]
async fn bytes_that_another_process_deleted_do_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let open = || app_on(Arc::new(DiskStore::open(folder.path()).unwrap()));
    let (app, other) = (open(), open());
    let id = store_image(&app.keepsake, png(2)).await;
    let path = format!("/uploads/{id}");
    get(&app, &path).await;
    other.keepsake.images.delete(&id, shared::Any).await.unwrap();
    // This process may not have noticed yet.
    get(&app, &path).await;
    app.keepsake.verifier.repair_suspects().await.unwrap();
    assert!(!folder.path().join("uploads").join(&id).exists());
    app.keepsake.core.clock.advance(shared::images::DELETION_DELAY);
    assert_eq!(get(&app, &path).await.status, 404);
}

#[tokio::test]
async fn large_damaged_image_breaks_off_before_its_end_and_is_then_sent_from_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let app = app_on(Arc::new(DiskStore::open(folder.path()).unwrap()));
    let id = store_image(&app.keepsake, large()).await;
    damage(folder.path(), &id);
    let path = format!("/uploads/{id}");
    let (received, broke_off) = receive(&app, &path).await;
    assert!(broke_off && received.len() < large().len());
    for _ in 0..2 {
        assert!(receive(&app, &path).await == (large(), false));
    }
}

#[tokio::test]
async fn ranges_of_a_large_image_are_read_through_once() {
    let (app, reads) = app_with_reads();
    let path = format!("/uploads/{}", store_image(&app.keepsake, large()).await);
    let mut reads_of = Vec::new();
    for _ in 0..3 {
        reads.store(0, Ordering::Relaxed);
        let part = ask(&app, "GET", &path, &[("range", "bytes=1000000-1000001")]).await;
        assert!(part.status == 206 && part.body == large()[1_000_000..=1_000_001]);
        reads_of.push(reads.load(Ordering::Relaxed));
    }
    assert_eq!(reads_of, [2, 1, 1]);
    app.keepsake.core.clock.advance(TRUSTED);
    reads.store(0, Ordering::Relaxed);
    ask(&app, "GET", &path, &[("range", "bytes=0-1")]).await;
    assert_eq!(reads.load(Ordering::Relaxed), 2);
}
