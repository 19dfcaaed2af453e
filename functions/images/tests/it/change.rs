//! Editing and deleting.

use axum::body::Body;
use futures::stream;
use serde_json::{Value, json};
use shared::config::Secret;
use shared::http::{Access, App};
use shared::images::Fields;
use shared::store::testing::MemoryStore;
use shared::testing::{Answer, app, keepsake_on, png, request, send, store_image, store_image_as};

use super::{ask, get, router};

const MERGE_PATCH: (&str, &str) = ("content-type", "application/merge-patch+json");

async fn patch(app: &App, id: &str, headers: &[(&str, &str)], body: impl ToString) -> Answer {
    let path = format!("/api/images/{id}");
    send(&router(app), request("PATCH", &path, headers, body.to_string())).await
}

async fn stored(app: &App) -> String {
    let fields = Fields {
        category: Some("pets".to_owned()),
        description: Some("A cat".to_owned()),
        group_id: Some("g".to_owned()),
        order: Some(3),
        ..Fields::default()
    };
    store_image_as(&app.keepsake, png(1), fields).await
}

#[tokio::test]
async fn an_edit_changes_what_it_names_and_answers_with_the_whole_item() {
    let app = app();
    let id = stored(&app).await;
    let before = get(&app, &format!("/api/images/{id}")).await;
    let answer = patch(&app, &id, &[MERGE_PATCH], json!({ "description": "Zwei Kätzchen", "order": 4 })).await;
    assert_eq!(answer.status, 200);
    let mut expected = before.json();
    expected["description"] = json!("Zwei Kätzchen");
    expected["order"] = json!(4);
    assert_eq!(answer.json(), expected);
    let after = get(&app, &format!("/api/images/{id}")).await;
    assert_eq!((after.json(), after.header("etag")), (expected, answer.header("etag")));
    assert!(answer.header("etag").starts_with("\"v2-"));
}

#[tokio::test]
async fn null_clears_a_field() {
    let app = app();
    let id = stored(&app).await;
    let all = json!({ "category": null, "description": null, "groupId": null, "order": null });
    let item = patch(&app, &id, &[("content-type", "application/json; charset=utf-8")], all).await.json();
    for field in ["category", "description", "groupId", "order"] {
        assert_eq!(item[field], Value::Null);
    }
    assert_eq!(item["sha256"], get(&app, &format!("/api/images/{id}")).await.json()["sha256"]);
}

#[tokio::test]
async fn an_empty_category_is_stored_and_shown() {
    let app = app();
    for id in [stored(&app).await, stored(&app).await] {
        let item = patch(&app, &id, &[MERGE_PATCH], json!({ "category": "" })).await.json();
        assert_eq!((&item["category"], &item["description"]), (&json!(""), &json!("A cat")));
        assert_eq!(get(&app, &format!("/api/images/{id}")).await.json()["category"], "");
    }
    let listed = get(&app, "/api/images?flat=true&withoutCategory=true").await.json();
    assert_eq!(listed["total"], 2);
}

#[tokio::test]
async fn an_edit_of_a_version_that_is_gone_changes_nothing() {
    let app = app();
    let id = stored(&app).await;
    let path = format!("/api/images/{id}");
    let first = get(&app, &path).await.header("etag").to_owned();
    let edit = async |tag: &str, text: &str| {
        patch(&app, &id, &[MERGE_PATCH, ("if-match", tag)], json!({ "description": text })).await
    };
    assert_eq!(edit(&first, "one").await.status, 200);
    assert_eq!(edit(&first, "two").await.problem(), (412, "precondition-failed".to_owned()));
    assert_eq!(edit(&format!("W/{first}"), "two").await.problem().0, 412);
    assert_eq!(edit("no tag", "two").await.problem().0, 412);
    assert_eq!(get(&app, &path).await.json()["description"], "one");
    let second = get(&app, &path).await.header("etag").to_owned();
    assert_eq!(edit(&format!("{first}, {second}"), "two").await.status, 200);
    assert_eq!(edit("*", "three").await.json()["description"], "three");
}

#[tokio::test]
async fn an_edit_that_makes_no_sense_changes_nothing() {
    let app = app();
    let id = stored(&app).await;
    let before = get(&app, &format!("/api/images/{id}")).await;
    for body in [
        "",
        "null",
        "[]",
        "\"x\"",
        "{",
        "{\"description\":5}",
        "{\"category\":[]}",
        "{\"groupId\":{}}",
        "{\"order\":\"1\"}",
        "{\"order\":1.5}",
        "{\"order\":1e300}",
        "{\"url\":\"x\"}",
        "{\"sha256\":null}",
        "{\"unknown\":1}",
    ] {
        let answer = patch(&app, &id, &[MERGE_PATCH], body).await;
        assert_eq!(answer.problem(), (400, "invalid-request".to_owned()), "{body}");
    }
    let long = json!({ "description": "x".repeat(10_001) });
    assert_eq!(patch(&app, &id, &[MERGE_PATCH], long).await.problem(), (400, "invalid-request".to_owned()));
    let huge = json!({ "description": "x".repeat(300_000) });
    assert_eq!(patch(&app, &id, &[MERGE_PATCH], huge).await.problem(), (413, "too-large".to_owned()));
    let broken = Body::from_stream(stream::iter([Ok("{\"order\":"), Err(std::io::Error::other("it ended"))]));
    let answer = send(&router(&app), request("PATCH", &format!("/api/images/{id}"), &[MERGE_PATCH], broken)).await;
    assert_eq!(answer.problem(), (400, "invalid-request".to_owned()));
    for headers in [&[][..], &[("content-type", "text/plain")], &[("content-type", "application/json-patch+json")]] {
        let answer = patch(&app, &id, headers, json!({ "order": 1 })).await;
        assert_eq!(answer.problem(), (415, "unsupported-media-type".to_owned()));
        assert_eq!(answer.header("accept-patch"), "application/merge-patch+json, application/json");
    }
    let after = get(&app, &format!("/api/images/{id}")).await;
    assert_eq!((after.json(), after.header("etag")), (before.json(), before.header("etag")));
}

#[tokio::test]
async fn an_image_that_is_not_there_can_be_neither_edited_nor_deleted() {
    let app = app();
    assert_eq!(patch(&app, "x.png", &[MERGE_PATCH], "{}").await.problem(), (404, "no-such-image".to_owned()));
    assert_eq!(ask(&app, "DELETE", "/api/images/x.png", &[]).await.problem(), (404, "no-such-image".to_owned()));
    assert_eq!(ask(&app, "PUT", "/api/images/x.png", &[]).await.problem(), (405, "method-not-allowed".to_owned()));
}

#[tokio::test]
async fn a_deleted_image_is_gone_from_every_route() {
    let app = app();
    let (id, other) = (stored(&app).await, store_image(&app.keepsake, png(2)).await);
    let path = format!("/api/images/{id}");
    let answer = ask(&app, "DELETE", &path, &[]).await;
    assert_eq!((answer.status.as_u16(), answer.json()["id"].as_str()), (200, Some(id.as_str())));
    assert!(answer.json()["message"].is_string());
    for path in [path.clone(), format!("/uploads/{id}")] {
        assert_eq!(get(&app, &path).await.problem(), (404, "no-such-image".to_owned()));
    }
    assert_eq!(ask(&app, "DELETE", &path, &[]).await.problem().0, 404);
    let list = get(&app, "/api/images").await.json();
    assert_eq!((list["images"].as_array().unwrap().len(), &list["images"][0]["id"]), (1, &json!(other)));
}

#[tokio::test]
async fn a_delete_honours_if_match() {
    let app = app();
    let id = stored(&app).await;
    let path = format!("/api/images/{id}");
    assert_eq!(
        ask(&app, "DELETE", &path, &[("if-match", "\"v9-x\"")]).await.problem(),
        (412, "precondition-failed".to_owned())
    );
    let etag = get(&app, &path).await.header("etag").to_owned();
    assert_eq!(ask(&app, "DELETE", &path, &[("if-match", &etag)]).await.status, 200);
}

#[tokio::test]
async fn changes_need_the_token() {
    let access = Access::new(Some(Secret::new("right")), Vec::new(), false);
    let app = App::new(keepsake_on(std::sync::Arc::new(MemoryStore::new()), Default::default()), access);
    let id = stored(&app).await;
    assert_eq!(patch(&app, &id, &[MERGE_PATCH], "{}").await.problem(), (401, "unauthorized".to_owned()));
    assert_eq!(ask(&app, "DELETE", &format!("/api/images/{id}"), &[]).await.problem().0, 401);
    let token = ("authorization", "Bearer right");
    assert_eq!(patch(&app, &id, &[MERGE_PATCH, token], "{}").await.status, 200);
    assert_eq!(ask(&app, "DELETE", &format!("/api/images/{id}"), &[token]).await.status, 200);
}
