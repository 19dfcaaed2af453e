//! Bounds of unfinished uploads, and how they make way.

use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use futures::stream;
use jiff::SignedDuration;
use shared::Settings;
use shared::http::limits::Client;
use shared::http::{Access, App};
use shared::store::StoreStatus;
use shared::store::testing::FaultStore;
use shared::testing::{Answer, StubStore, app_on, keepsake_on, png, request, send};

use super::resumed::{VERSION, append, begin, part, router, standing, waiting};

/// A server on a disk with so much room above its reserve.
fn app_with_room(room: u64) -> App {
    let settings = Settings { reserve_bytes: 1_000, ..Settings::default() };
    let status = StoreStatus { free_bytes: Some(1_000 + room), kind: "disk", ..StoreStatus::default() };
    let keepsake = keepsake_on(Arc::new(StubStore::with_status(status)), settings);
    // For a store in memory it is 1970.
    keepsake.core.clock.advance(jiff::Timestamp::UNIX_EPOCH.duration_since(keepsake.core.clock.now()));
    App::new(keepsake, Access::default())
}

/// Begins an upload of so many bytes as the client at an address.
async fn begin_from(app: &App, address: &str, length: u64) -> Answer {
    let length = length.to_string();
    let headers = [VERSION, ("upload-complete", "?0"), ("upload-length", &length)];
    let mut request = request("POST", "/api/upload", &headers, Body::empty());
    request.extensions_mut().insert(Client(address.parse().unwrap()));
    send(&router(app), request).await
}

#[tokio::test]
async fn unfinished_uploads_take_half_the_room_and_a_quarter_for_one_client() {
    let app = app_with_room(100_000);
    let too_much = (429, "too-many-unfinished".to_owned());
    assert_eq!(begin_from(&app, "192.0.2.1", 45_000).await.status, StatusCode::CREATED, "one alone is taken");
    assert_eq!(begin_from(&app, "192.0.2.1", 1).await.problem(), too_much);
    app.keepsake.unfinished.clear_untouched(jiff::Timestamp::MAX).await.unwrap();

    let first = begin_from(&app, "192.0.2.1", 15_000).await;
    assert_eq!(begin_from(&app, "192.0.2.1", 10_000).await.status, StatusCode::CREATED);
    assert_eq!(begin_from(&app, "192.0.2.1", 1).await.problem(), too_much, "it has its quarter");
    assert_eq!(begin_from(&app, "192.0.2.2", 25_000).await.status, StatusCode::CREATED);
    let refused = begin_from(&app, "192.0.2.3", 1).await;
    assert_eq!((refused.problem(), refused.header("retry-after")), (too_much.clone(), "5"), "half is taken");
    let announced = serde_json::json!({ "size": 1, "sha256": shared::digest::Digest::of(b"").to_string() }).to_string();
    let ticket = send(&router(&app), request("POST", "/api/upload/tickets", &[], announced)).await;
    assert_eq!(ticket.problem(), too_much, "a ticket is no way around it");

    send(&router(&app), request("DELETE", first.header("location"), &[], Body::empty())).await;
    assert_eq!(begin_from(&app, "192.0.2.3", 15_000).await.status, StatusCode::CREATED);
    let unfinished = app.keepsake.unfinished.sums().await.unwrap().unwrap();
    assert_eq!((unfinished.uploads, unfinished.bytes), (3, 0));
}

#[tokio::test]
async fn one_client_has_a_hundred_unfinished_uploads_at_most() {
    let app = app_with_room(1 << 40);
    for _ in 0..100 {
        assert_eq!(begin_from(&app, "192.0.2.1", 1).await.status, StatusCode::CREATED);
    }
    assert_eq!(begin_from(&app, "192.0.2.1", 1).await.problem().0, 429);
    assert_eq!(begin_from(&app, "192.0.2.2", 1).await.status, StatusCode::CREATED);
    let cleared = send(&router(&app), request("DELETE", "/api/upload", &[], Body::empty())).await;
    assert_eq!((cleared.status, &cleared.json()["uploads"]), (StatusCode::OK, &101.into()));
    assert!(waiting(&app).await.is_empty());
}

#[tokio::test]
async fn idle_unfinished_uploads_make_way_and_ended_ones_do_not_count() {
    let app = app_with_room(100_000);
    let bytes = png(1);
    let path = begin(&app, "/api/upload", &[("content-type", "image/png")], b"").await.header("location").to_owned();
    assert_eq!(append(&app, &path, 0, "?1", &bytes).await.status, StatusCode::CREATED);
    assert_eq!(app.keepsake.unfinished.sums().await.unwrap().unwrap().uploads, 0);

    let idle = begin_from(&app, "192.0.2.1", 25_000).await.header("location").to_owned();
    append(&app, &idle, 0, "?0", &bytes[..10]).await;
    assert_eq!(app.keepsake.unfinished.sums().await.unwrap().unwrap().bytes, 10);
    assert_eq!(begin_from(&app, "192.0.2.1", 25_000).await.problem().0, 429);
    app.keepsake.core.clock.advance(SignedDuration::from_hours(24 * 365 * 100));
    assert_eq!(begin_from(&app, "192.0.2.1", 25_000).await.status, StatusCode::CREATED);
    assert_eq!(append(&app, &idle, 10, "?0", b"x").await.status, StatusCode::NOT_FOUND);
    assert_eq!(standing(&app, &path).await, (bytes.len(), true), "its answer can still be asked for");
}

/// A body that arrives as it is sent, and who sends it.
fn slow_body() -> (tokio::sync::mpsc::Sender<Bytes>, Body) {
    let (sender, arriving) = tokio::sync::mpsc::channel(1);
    let next = |mut arriving: tokio::sync::mpsc::Receiver<Bytes>| async {
        arriving.recv().await.map(|piece| (Ok::<_, std::io::Error>(piece), arriving))
    };
    (sender, Body::from_stream(stream::unfold(arriving, next)))
}

#[tokio::test]
async fn an_upload_that_is_arriving_is_not_idle_however_slow() {
    let app = app_with_room(100_000);
    let bytes = Bytes::from(png(1));
    let announced =
        serde_json::json!({ "size": bytes.len(), "sha256": shared::digest::Digest::of(&bytes).to_string() });
    let ticket = send(&router(&app), request("POST", "/api/upload/tickets", &[], announced.to_string())).await.json();
    let path = begin_from(&app, "192.0.2.1", 25_000).await.header("location").to_owned();
    let [(to_part, of_part), (to_ticket, of_ticket)] = [slow_body(), slow_body()];
    let headers = [("content-type", "application/octet-stream")];
    let by_ticket = request("PUT", ticket["uploadUrl"].as_str().unwrap(), &headers, of_ticket);
    let requests = [part(&path, 0, "?0", of_part), by_ticket].map(|request| {
        let router = router(&app);
        tokio::spawn(async move { send(&router, request).await })
    });
    for sender in [&to_part, &to_ticket] {
        // The second fits in once the first was read.
        sender.send(bytes.slice(..10)).await.unwrap();
        sender.send(bytes.slice(10..20)).await.unwrap();
    }
    app.keepsake.core.clock.advance(SignedDuration::from_hours(24 * 365 * 100));
    assert_eq!(begin_from(&app, "192.0.2.1", 25_000).await.problem().0, 429);
    to_ticket.send(bytes.slice(20..)).await.unwrap();
    drop((to_part, to_ticket));
    let [part, by_ticket] = requests;
    assert_eq!(part.await.unwrap().status, StatusCode::NO_CONTENT);
    assert_eq!(by_ticket.await.unwrap().status, StatusCode::OK);
    let complete = request("POST", ticket["completeUrl"].as_str().unwrap(), &[], Body::empty());
    assert_eq!(send(&router(&app), complete).await.status, StatusCode::CREATED);
    assert_eq!(begin_from(&app, "192.0.2.1", 25_000).await.status, StatusCode::CREATED, "now it is idle");
    assert_eq!(append(&app, &path, 20, "?0", b"x").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_describes_an_upload_is_not_read_again_for_each_that_begins() {
    let status = StoreStatus { free_bytes: Some(1 << 40), kind: "disk", ..StoreStatus::default() };
    let store = Arc::new(FaultStore::new(Arc::new(StubStore::with_status(status))));
    let app = app_on(store.clone());
    for client in 0..30 {
        let path = begin_from(&app, &format!("192.0.2.{client}"), 1_000).await.header("location").to_owned();
        if client % 2 == 0 {
            assert_eq!(append(&app, &path, 0, "?0", &[7; 600]).await.problem().0, 415, "it ends");
        }
    }
    let read = store.counts()["get"];
    assert!(read <= 150, "{read} objects were read for 30 uploads");
    assert_eq!(app.keepsake.unfinished.sums().await.unwrap().unwrap().uploads, 15);
    app.keepsake.unfinished.clear_untouched(jiff::Timestamp::MAX).await.unwrap();
    assert_eq!(app.keepsake.unfinished.sums().await.unwrap().unwrap().uploads, 0);
}
