//! Stores that are full, read-only, slow or out of reach.

use std::sync::Arc;

use serde_json::Value;
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::store::{ErrorKind, StoreStatus};
use shared::testing::{Answer, StubStore, app_on, png, request, send};

use super::{Form, keys, router, send_raw};

/// What an upload is answered when every operation of this name fails like this.
async fn upload_with(name: &'static str, fault: Fault) -> Answer {
    let fails = move |operation: &Operation| (operation.name == name).then_some(fault);
    let app = app_on(Arc::new(FaultStore::with_plan(Arc::new(MemoryStore::new()), fails)));
    let answer = Form::new().file("image", "a.png", &png(1)).send(&app).await;
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(!text.contains("uploads") && !text.contains("image-metadata"), "{text}");
    answer
}

#[tokio::test]
async fn a_store_with_too_little_room_is_refused_before_the_body_is_read() {
    let status = StoreStatus { free_bytes: Some(64 * 1024 * 1024 + 999), kind: "disk", ..StoreStatus::default() };
    let app = app_on(Arc::new(StubStore::with_status(status)));
    let unread = axum::body::Body::from_stream(futures::stream::poll_fn(
        |_| -> std::task::Poll<Option<Result<Vec<u8>, std::io::Error>>> { panic!("the body is not to be read") },
    ));
    let upload = request("POST", "/api/upload", &[("content-length", "1000")], unread);
    assert_eq!(send(&router(&app), upload).await.problem(), (507, "insufficient-storage".to_owned()));
    assert_eq!(send_raw(&app, "/api/upload", &[], png(1)).await.status, 201);
}

#[tokio::test]
async fn a_store_that_runs_full_while_it_is_written() {
    assert_eq!(
        upload_with("put", Fault::Before(ErrorKind::Full)).await.problem(),
        (507, "insufficient-storage".to_owned())
    );
}

#[tokio::test]
async fn a_store_that_takes_no_writes() {
    assert_eq!(upload_with("put", Fault::Before(ErrorKind::ReadOnly)).await.problem(), (503, "read-only".to_owned()));
    assert_eq!(
        upload_with("put", Fault::Before(ErrorKind::Refused)).await.problem(),
        (503, "store-refused".to_owned())
    );
}

#[tokio::test]
async fn a_store_that_does_not_answer() {
    for name in ["put", "status"] {
        let answer = upload_with(name, Fault::Before(ErrorKind::Unavailable)).await;
        assert_eq!(answer.problem(), (503, "store-unavailable".to_owned()));
        assert_eq!(answer.header("retry-after"), "5");
    }
}

#[tokio::test]
async fn a_commit_of_which_nobody_knows_whether_it_was_stored() {
    let lost = |operation: &Operation| match operation.name {
        "put" if operation.key.starts_with("image-metadata.d/") => Some(Fault::After(ErrorKind::Unavailable)),
        "delete" => Some(Fault::Before(ErrorKind::Unavailable)),
        _ => None,
    };
    let app = app_on(Arc::new(FaultStore::with_plan(Arc::new(MemoryStore::new()), lost)));
    let answer = Form::new().file("image", "a.png", &png(1)).send(&app).await;
    assert_eq!(answer.problem(), (503, "outcome-unknown".to_owned()));
}

#[tokio::test]
async fn the_same_idempotency_key_twice_at_once() {
    let app = app_on(Arc::new(FaultStore::new(Arc::new(MemoryStore::new()))));
    let router = router(&app);
    let upload = || send(&router, Form::new().file("image", "a.png", &png(1)).request(&[("idempotency-key", "k")]));
    let (first, second) = futures::join!(upload(), upload());
    let (stored, refused) = if first.status == 201 { (first, second) } else { (second, first) };
    assert_eq!(stored.status, 201);
    assert_eq!(refused.problem(), (409, "idempotency-in-progress".to_owned()));
    assert_eq!(keys(&app).await.iter().filter(|key| key.starts_with("uploads/")).count(), 1);
}

#[tokio::test]
async fn disconnect_after_the_last_byte_does_not_split_the_upload() {
    let app = app_on(Arc::new(FaultStore::new(Arc::new(MemoryStore::new()))));
    let mut upload = Box::pin(Form::new().file("image", "a.png", &png(1)).send(&app));
    let uploads = async |app| keys(app).await.iter().filter(|key| key.starts_with("uploads/")).count();
    // Polls the request until its image is there, and then no more.
    while futures::poll!(&mut upload).is_pending() && uploads(&app).await == 0 {
        tokio::task::yield_now().await;
    }
    drop(upload);
    while app.keepsake.images.list(&Default::default(), None, 10).await.unwrap().images.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn store_problem_has_retry_after_seconds_if_a_retry_may_help() {
    for (kind, seconds) in [(ErrorKind::Unavailable, Some(5)), (ErrorKind::ReadOnly, None), (ErrorKind::Full, None)] {
        let problem = upload_with("put", Fault::Before(kind)).await.json();
        assert_eq!(problem.get("retryAfterSeconds").and_then(Value::as_u64), seconds, "{problem}");
    }
}
