//! `POST /api/upload-link`, and answers that are nothing but a URL.

use serde_json::{Value, json};
use shared::http::App;
use shared::testing::{Answer, app, get, png, request, send};

use super::{Form, form_request, router, send_raw};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn link(app: &App, body: impl ToString) -> Answer {
    send(&router(app), request("POST", "/api/upload-link", &[JSON], body.to_string())).await
}

#[tokio::test]
async fn a_link_is_an_item_without_bytes_that_leads_elsewhere() {
    let app = app();
    let url = "https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=5";
    let answer = link(&app, json!({ "url": url, "description": "a film", "groupId": "g" })).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (201, url));
    let item = answer.json();
    let id = item["id"].as_str().unwrap();
    assert!(id.ends_with(".link"));
    let expected = json!({
        "id": id, "url": url, "filename": id, "category": "fun", "description": "a film",
        "uploadDate": "2026-11-20T08:00:00.000Z", "type": "link", "groupId": "g", "order": 999, "originalName": null,
        "contentType": null, "size": null, "width": null, "height": null, "orientation": null,
        "sha256": null,
        "provider": "youtube", "embedUrl": "https://www.youtube-nocookie.com/embed/dQw4w9WgXcQ", "copies": 2,
    });
    assert_eq!(item, expected);
    let images = images::router(app.clone());
    let listed = get(&images, "/api/images?type=link&flat=true&q=youtube").await.json();
    assert_eq!(listed["images"][0]["embedUrl"], expected["embedUrl"]);
    assert_eq!(get(&images, &format!("/uploads/{id}")).await.problem(), (404, "no-such-image".to_owned()));
    let patch = request("PATCH", &format!("/api/images/{id}"), &[JSON], json!({ "category": "films" }).to_string());
    let patched = send(&images, patch).await.json();
    assert_eq!((&patched["category"], &patched["url"]), (&json!("films"), &json!(url)));
    let deleted = send(&images, request("DELETE", &format!("/api/images/{id}"), &[], "")).await;
    assert_eq!(deleted.status, 200);
}

#[tokio::test]
async fn a_header_has_no_letters_that_headers_cannot_have() {
    let answer = link(&app(), json!({ "url": "https://de.wikipedia.org/wiki/Kätzchen" })).await;
    assert_eq!(answer.json()["url"], "https://de.wikipedia.org/wiki/Kätzchen");
    assert_eq!(answer.header("location"), "https://de.wikipedia.org/wiki/K%C3%A4tzchen");
}

#[tokio::test]
async fn what_no_player_can_show_is_a_link_all_the_same() {
    let app = app();
    let item = link(&app, json!({ "url": "https://example.com/a", "category": "", "order": 5 })).await.json();
    assert_eq!((&item["provider"], &item["embedUrl"]), (&Value::Null, &Value::Null));
    assert_eq!((&item["category"], &item["order"]), (&json!(""), &json!(5)));
}

#[tokio::test]
async fn what_is_no_link_of_the_web_is_refused_and_leaves_nothing() {
    let app = app();
    for body in [
        json!({}),
        json!([]),
        json!({ "url": 5 }),
        json!({ "url": "javascript:alert(1)" }),
        json!({ "url": "https://user:pass@example.com" }),
        json!({ "url": "https://example.com/\"><script>" }),
        json!({ "url": "https://example.com", "order": "x" }),
        json!({ "url": "https://example.com", "description": "x".repeat(10_001) }),
    ] {
        assert_eq!(link(&app, &body).await.problem(), (400, "invalid-request".to_owned()), "{body}");
    }
    assert_eq!(link(&app, "x".repeat(300_000)).await.problem(), (413, "too-large".to_owned()));
    assert!(super::keys(&app).await.is_empty());
}

#[tokio::test]
async fn who_wants_plain_text_gets_the_whole_url_and_nothing_else() {
    let app = app();
    for (headers, start) in [
        (&[("host", "a.example")][..], "http://a.example/uploads/"),
        (&[("host", "a.example:8080"), ("x-forwarded-proto", "https")], "https://a.example:8080/uploads/"),
        (&[("host", "a.example"), ("x-forwarded-proto", "https, http")], "https://a.example/uploads/"),
        (&[("host", "a.example"), ("x-forwarded-proto", "javascript")], "http://a.example/uploads/"),
        (&[("host", "a b\"")], "/uploads/"),
        (&[], "/uploads/"),
    ] {
        let accepting = [&[("accept", "text/plain; charset=utf-8")], headers].concat();
        let answer = send_raw(&app, "/api/upload", &accepting, png(1)).await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (201, "text/plain; charset=utf-8"));
        assert!(text.starts_with(start) && text.ends_with(".png"), "{text}");
        let path = format!("/uploads/{}", text.rsplit('/').next().unwrap());
        assert_eq!(get(&images::router(app.clone()), &path).await.body, png(1));
    }
    let form = Form::new().file("image", "a.png", &png(1)).file("image", "b.png", &png(2)).bytes();
    let answer = send(&router(&app), form_request(form, &[("accept", "text/plain"), ("host", "h")])).await;
    assert_eq!(String::from_utf8_lossy(&answer.body).lines().filter(|line| line.starts_with("http://h/")).count(), 2);
    for accept in ["*/*", "application/json, text/plain, */*", "text/html"] {
        assert!(
            send_raw(&app, "/api/upload", &[("accept", accept)], png(1)).await.json()["id"].is_string(),
            "{accept}"
        );
    }
    let refused = send_raw(&app, "/api/upload", &[("accept", "text/plain")], "no image").await;
    assert_eq!(refused.problem(), (415, "not-an-image".to_owned()));
}
