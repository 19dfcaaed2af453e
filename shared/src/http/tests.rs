//! The layers around every route.

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{Method, Request};
use serde_json::Value;
use tower::ServiceExt;
use tracing::instrument::WithSubscriber;

use super::*;
use crate::core::error::Error;
use crate::testing::{Written, app};
use store::{ErrorKind, StoreError};

async fn panics(State(_): State<App>) -> &'static str {
    panic!("a secret of the server")
}

async fn fails() -> Result<(), Problem> {
    let disk = std::io::Error::other("disk /dev/sda1 is on fire");
    Err(Error::from(StoreError::caused("put", "uploads/secret.png", ErrorKind::Unavailable, disk)).into())
}

async fn panics_in_a_change(State(app): State<App>) -> Result<(), Problem> {
    app.change(|_| async { panic!("in the middle") }).await
}

fn routes() -> Routes {
    let more = Routes::new().post("/api/restore/{name}", fails).post("/api/backup", fails);
    Routes::new().get("/panics", panics).patch("/fails", fails).delete("/change", panics_in_a_change).merge(more)
}

async fn ask(method: &str, path: &str) -> (u16, Value, String) {
    let app = app();
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let response = finish(routes().into_router(app.clone()), &app).oneshot(request).await.unwrap();
    let (status, id) = (response.status().as_u16(), response.headers()["x-request-id"].to_str().unwrap().to_owned());
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(response.headers()["referrer-policy"], "no-referrer");
    (status, serde_json::from_slice(&to_bytes(response.into_body(), 10_000).await.unwrap()).unwrap(), id)
}

#[test]
fn routes_know_what_they_answer_to() {
    let expected = [
        (Method::GET, "/panics"),
        (Method::PATCH, "/fails"),
        (Method::DELETE, "/change"),
        (Method::POST, "/api/restore/{name}"),
        (Method::POST, "/api/backup"),
    ];
    assert_eq!(routes().list(), expected);
}

#[tokio::test]
async fn a_panic_is_a_problem_that_gives_nothing_away() {
    for (method, path) in [("GET", "/panics"), ("DELETE", "/change")] {
        let (status, problem, _) = ask(method, path).await;
        assert_eq!((status, &problem["type"]), (500, &"internal".into()));
        assert!(!problem.to_string().contains("secret") && !problem.to_string().contains("middle"), "{problem}");
    }
}

#[tokio::test]
async fn older_clients_of_backups_and_restores_read_success_and_no_others() {
    for (method, path) in
        [("POST", "/api/restore/x"), ("POST", "/api/backup"), ("PUT", "/api/backup"), ("GET", "/api/backups/x")]
    {
        assert_eq!(ask(method, path).await.1["success"], false, "{method} {path}");
    }
    assert_eq!(ask("PATCH", "/fails").await.1.get("success"), None);
}

#[tokio::test]
async fn failure_is_logged_once_with_causes_and_request_id() {
    let log = Written::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let (status, problem, id) = ask("PATCH", "/fails").with_subscriber(subscriber).await;
    assert_eq!((status, &problem["type"]), (503, &"store-unavailable".into()));
    assert!(!problem.to_string().contains("secret") && !problem.to_string().contains("/dev"), "{problem}");

    let text = log.text();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [failure, answered] = &lines[..] else { panic!("two lines: {text}") };
    let causes =
        "a store failed: put \"uploads/secret.png\": the store did not answer as it should: disk /dev/sda1 is on fire";
    assert_eq!((&failure["level"], &failure["fields"]["error"]), (&"ERROR".into(), &causes.into()));
    assert_eq!((&answered["level"], &answered["fields"]["status"]), (&"INFO".into(), &503.into()));
    assert!(answered["fields"]["latency_ms"].is_u64());
    for line in &lines {
        let span = &line["span"];
        assert_eq!(
            (&span["request_id"], &span["method"], &span["path"]),
            (&id.as_str().into(), &"PATCH".into(), &"/fails".into())
        );
    }
}
