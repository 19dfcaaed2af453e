//! Tickets, where the bytes come through this server.

use axum::http::StatusCode;
use jiff::SignedDuration;
use serde_json::{Value, json};
use shared::digest::Digest;
use shared::http::{Access, App};
use shared::store::testing::MemoryStore;
use shared::testing::{Answer, get, keepsake_on, png, request, samples, send};
use shared::{Settings, config::Secret};
use std::sync::Arc;

use super::{keys, router};

const TICKETS: &str = "/api/upload/tickets";

fn announcement(bytes: &[u8], content_type: &str) -> Value {
    json!({ "filename": "C:\\photos\\a.png", "contentType": content_type, "size": bytes.len(),
            "sha256": Digest::of(bytes).to_string(), "category": "trip", "description": "at sea" })
}

async fn post(app: &App, path: &str, body: &Value) -> Answer {
    send(&router(app), request("POST", path, &[("content-type", "application/json")], body.to_string())).await
}

/// Asks for a ticket, which must be given.
async fn ticket(app: &App, announced: &Value) -> Value {
    let answer = post(app, TICKETS, announced).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let ticket = answer.json();
    assert_eq!(answer.header("location"), ticket["completeUrl"]);
    ticket
}

/// Sends bytes as a ticket says.
async fn put(app: &App, ticket: &Value, bytes: &[u8]) -> Answer {
    let headers: Vec<(&str, &str)> = ticket["headers"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
        .collect();
    let (method, url) = (ticket["method"].as_str().unwrap(), ticket["uploadUrl"].as_str().unwrap());
    send(&router(app), request(method, url, &headers, bytes.to_vec())).await
}

async fn complete(app: &App, ticket: &Value) -> Answer {
    post(app, ticket["completeUrl"].as_str().unwrap(), &Value::Null).await
}

#[tokio::test]
async fn every_format_comes_through_a_ticket_bit_for_bit() {
    for (format, bytes) in samples() {
        let app = shared::testing::app();
        // What the client states makes no difference to what the image is.
        let ticket = ticket(&app, &announcement(&bytes, "text/html")).await;
        assert_eq!(put(&app, &ticket, &bytes).await.status, StatusCode::OK);
        assert_eq!(
            get(&images::router(app.clone()), "/api/images").await.json()["images"],
            json!([]),
            "not yet visible"
        );
        let done = complete(&app, &ticket).await;
        let item = done.json();
        assert_eq!((done.status, &item["contentType"]), (StatusCode::CREATED, &json!(format.content_type())));
        assert_eq!((&item["category"], &item["description"]), (&json!("trip"), &json!("at sea")));
        assert_eq!((&item["originalName"], &item["copies"]), (&json!("a.png"), &json!(2)));
        assert_eq!((&item["size"], &item["order"]), (&json!(bytes.len()), &json!(999)));
        assert_eq!(done.header("location"), item["url"]);
        let served = get(&images::router(app.clone()), item["url"].as_str().unwrap()).await;
        assert!(served.body == bytes && served.header("content-type") == format.content_type(), "{format}");
        let left = keys(&app).await;
        assert!(!left.iter().any(|key| key.starts_with("incoming/")), "{left:?}");
        assert!(left.contains(&format!("backups/images/{}", Digest::of(&bytes))));

        let again = complete(&app, &ticket).await;
        assert_eq!((again.status, again.json()), (done.status, item));
        assert_eq!(get(&images::router(app), "/api/images").await.json()["images"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn tickets_count_as_uploads_and_take_their_place_in_a_group() {
    let app = shared::testing::app();
    let mut last = Value::Null;
    for n in 0..10 {
        let bytes = png(n);
        let mut announced = announcement(&bytes, "image/png");
        announced["groupId"] = json!("g");
        announced["order"] = if n == 0 { json!(5) } else { Value::Null };
        let ticket = ticket(&app, &announced).await;
        put(&app, &ticket, &bytes).await;
        last = complete(&app, &ticket).await.json();
        assert_eq!(last["order"], 5 + n);
    }
    assert!(last["backup"].as_str().unwrap().starts_with("backup-"), "{last}");
}

#[tokio::test]
async fn only_the_bytes_that_were_announced_come_in_and_only_once() {
    let app = shared::testing::app();
    let bytes = png(1);
    let ticket = ticket(&app, &announcement(&bytes, "image/png")).await;
    let nothing_arrived = (409, "upload-missing".to_owned());
    assert_eq!(complete(&app, &ticket).await.problem(), nothing_arrived);
    let longer = [&bytes[..], b"!"].concat();
    assert_eq!(put(&app, &ticket, &longer).await.problem(), (413, "too-large".to_owned()));
    assert_eq!(put(&app, &ticket, &bytes[1..]).await.problem(), (422, "digest-mismatch".to_owned()));
    let mut other = bytes.clone();
    other[40] ^= 1;
    assert_eq!(put(&app, &ticket, &other).await.problem(), (422, "digest-mismatch".to_owned()));
    let mut untyped = ticket.clone();
    untyped["headers"] = json!({ "content-type": "image/gif" });
    assert_eq!(put(&app, &untyped, &bytes).await.problem(), (400, "invalid-request".to_owned()));
    assert_eq!(complete(&app, &ticket).await.problem(), nothing_arrived);

    assert_eq!(put(&app, &ticket, &bytes).await.status, StatusCode::OK);
    assert_eq!(put(&app, &ticket, &bytes).await.problem(), (412, "upload-already-received".to_owned()));
    assert_eq!(complete(&app, &ticket).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn what_is_no_image_never_becomes_one() {
    let mut cut = png(1);
    cut.truncate(20);
    for (bytes, problem) in [(b"<html></html>".to_vec(), (415, "not-an-image")), (cut, (422, "undecodable"))] {
        let app = shared::testing::app();
        let ticket = ticket(&app, &announcement(&bytes, "image/png")).await;
        put(&app, &ticket, &bytes).await;
        assert_eq!(complete(&app, &ticket).await.problem(), (problem.0, problem.1.to_owned()));
        assert_eq!(complete(&app, &ticket).await.problem(), (404, "no-such-ticket".to_owned()));
        assert!(keys(&app).await.is_empty(), "nothing is left behind");
    }
}

#[tokio::test]
async fn empty_fields_of_a_ticket_count_as_missing_but_for_the_category() {
    let app = shared::testing::app();
    let bytes = png(1);
    let mut announced = announcement(&bytes, "");
    for name in ["category", "description", "groupId"] {
        announced[name] = json!("");
    }
    let ticket = ticket(&app, &announced).await;
    put(&app, &ticket, &bytes).await;
    let item = complete(&app, &ticket).await.json();
    assert_eq!((&item["category"], &item["description"], &item["groupId"]), (&json!(""), &json!(""), &Value::Null));
}

#[tokio::test]
async fn a_ticket_must_describe_an_image_that_may_come() {
    let app = shared::testing::app();
    let good = announcement(&png(1), "image/png");
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        changed
    };
    for (announced, problem) in [
        (Value::Null, (400, "invalid-request")),
        (with("size", Value::Null), (400, "invalid-request")),
        (with("size", json!(-1)), (400, "invalid-request")),
        (with("size", json!(0)), (400, "empty-file")),
        (with("size", json!(100 * 1024 * 1024 + 1)), (413, "too-large")),
        (with("sha256", json!("abc")), (400, "invalid-request")),
        (with("contentType", json!("image/png\r\nx: y")), (400, "invalid-request")),
        (with("description", json!("x".repeat(10_001))), (400, "invalid-request")),
        (with("filename", json!("x".repeat(1_001))), (400, "invalid-request")),
        (with("filename", json!("x".repeat(300_000))), (413, "too-large")),
    ] {
        let refused = post(&app, TICKETS, &announced).await.problem();
        assert_eq!(refused, (problem.0, problem.1.to_owned()), "{announced}");
    }
    assert!(keys(&app).await.is_empty());
}

#[tokio::test]
async fn a_ticket_that_does_not_exist_or_has_expired_takes_nothing() {
    let app = shared::testing::app();
    let bytes = png(1);
    let good = ticket(&app, &announcement(&bytes, "image/png")).await;
    let no_such_ticket = (404, "no-such-ticket".to_owned());
    let url = good["uploadUrl"].as_str().unwrap();
    for wrong in [
        url.replace("secret=", "secret=0"),
        url.split('?').next().unwrap().to_owned(),
        url.replace("/upload/", "/upload/0"),
        "/api/upload/..%2f..%2fuploads?secret=x".to_owned(),
    ] {
        let mut forged = good.clone();
        forged["uploadUrl"] = json!(wrong);
        assert_eq!(put(&app, &forged, &bytes).await.problem(), no_such_ticket, "{wrong}");
    }
    for wrong in ["x", "0193b5a0-0000-7000-8000-000000000001", "..%2fx"] {
        let path = format!("/api/upload/{wrong}/complete");
        assert_eq!(post(&app, &path, &Value::Null).await.problem(), no_such_ticket, "{wrong}");
    }
    app.keepsake.core.clock.advance(SignedDuration::from_secs(3601));
    assert_eq!(put(&app, &good, &bytes).await.problem(), no_such_ticket, "expired");
}

#[tokio::test]
async fn an_image_that_was_deleted_does_not_come_back_through_its_ticket() {
    let app = shared::testing::app();
    let bytes = png(1);
    let ticket = ticket(&app, &announcement(&bytes, "image/png")).await;
    put(&app, &ticket, &bytes).await;
    let id = complete(&app, &ticket).await.json()["id"].as_str().unwrap().to_owned();
    app.keepsake.images.delete(&id, shared::Any).await.unwrap();
    assert_eq!(complete(&app, &ticket).await.problem(), (404, "no-such-ticket".to_owned()));
}

#[tokio::test]
async fn ticket_needs_token_for_creation_and_completion_but_not_for_bytes() {
    let keepsake = keepsake_on(Arc::new(MemoryStore::new()), Settings::default());
    let app = App::new(keepsake, Access::new(Some(Secret::new("right")), Vec::new(), false));
    let bytes = png(1);
    let announced = announcement(&bytes, "image/png");
    let unauthorized = (401, "unauthorized".to_owned());
    assert_eq!(post(&app, TICKETS, &announced).await.problem(), unauthorized);
    let token = ("authorization", "Bearer right");
    let asked = request("POST", TICKETS, &[token], announced.to_string());
    let ticket = send(&router(&app), asked).await.json();
    assert_eq!(put(&app, &ticket, &bytes).await.status, StatusCode::OK);
    assert_eq!(complete(&app, &ticket).await.problem(), unauthorized);
    let completing = request("POST", ticket["completeUrl"].as_str().unwrap(), &[token], Vec::new());
    assert_eq!(send(&router(&app), completing).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn on_lambda_what_is_too_large_for_a_request_is_sent_to_the_tickets() {
    let app = App { on_lambda: true, ..shared::testing::app() };
    let refused = super::send_raw(&app, "/api/upload", &[], vec![0; 4_500_001]).await;
    assert_eq!(refused.problem(), (413, "too-large".to_owned()));
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("POST /api/upload/tickets") && detail.contains("104857600"), "{detail}");
    let mut announced = announcement(&png(1), "image/png");
    announced["size"] = json!(60_000_000);
    ticket(&app, &announced).await;
    announced["size"] = json!(104_857_601);
    assert_eq!(post(&app, TICKETS, &announced).await.problem(), (413, "too-large".to_owned()));
}

#[tokio::test]
async fn problem_of_oversized_lambda_body_has_limit_and_tickets_url() {
    let app = App { on_lambda: true, public_url: "https://photos.example".into(), ..shared::testing::app() };
    let refused = super::send_raw(&app, "/api/upload", &[], vec![0; 4_500_001]).await.json();
    assert_eq!(refused["limitBytes"], 4_500_000);
    assert_eq!(refused["ticketsUrl"], "https://photos.example/api/upload/tickets");
    // What no ticket takes either has no way, and another limit.
    let mut announced = announcement(&png(1), "image/png");
    announced["size"] = json!(104_857_601);
    let refused = post(&app, TICKETS, &announced).await.json();
    assert_eq!((&refused["limitBytes"], refused.get("ticketsUrl")), (&json!(104_857_600), None));
}
