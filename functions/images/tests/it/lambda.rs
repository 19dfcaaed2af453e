//! The function's binary under the Lambda Runtime API.

use shared::testing::lambda::{EventBody, balancer_event, event, invoke, rest_event};
use shared::testing::{app_on, get, png, samples, store_image};

const BINARY: &str = env!("CARGO_BIN_EXE_images");

fn on_disk(folder: &std::path::Path) -> shared::http::App {
    app_on(std::sync::Arc::new(shared::store::DiskStore::open(folder).unwrap()))
}

#[tokio::test]
async fn every_served_type_passes_through_api_gateway_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let app = on_disk(folder.path());
    let mut events = Vec::new();
    for (_, bytes) in samples() {
        let path = format!("/uploads/{}", store_image(&app.keepsake, bytes).await);
        events.push(event("GET", &path, &[], EventBody::None));
        events.push(event("GET", &path, &[("range", "bytes=7-40")], EventBody::None));
        events.push(event("HEAD", &path, &[], EventBody::None));
    }
    let answers = invoke(BINARY, folder.path(), &[], events).await;
    for ((format, bytes), triple) in samples().into_iter().zip(answers.chunks(3)) {
        let [whole, part, head] = triple else { panic!("three answers each") };
        assert_eq!((whole.status.as_u16(), whole.header("content-type")), (200, format.content_type()));
        assert!(whole.body == bytes, "{format}");
        assert_eq!(part.status, 206);
        assert!(part.body == bytes[7..=40], "{format}");
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), bytes.len().to_string());
        assert_eq!(whole.header("repr-digest"), head.header("repr-digest"));
    }
}

#[tokio::test]
async fn rest_apis_balancers_and_named_stages_are_answered_too() {
    let folder = tempfile::tempdir().unwrap();
    let app = on_disk(folder.path());
    let id = store_image(&app.keepsake, png(1)).await;
    let path = format!("/uploads/{id}");
    let mut events = Vec::new();
    for of_gateway in [rest_event, balancer_event] {
        events.push(of_gateway("GET", &path, &[("range", "bytes=7-40")]));
        events.push(of_gateway("GET", "/api/images?q=none&limit=1", &[]));
    }
    // An HTTP API puts the name of a stage before the path.
    for target in [format!("/prod{path}"), "/prod/api/images?q=none&limit=1".to_owned()] {
        let mut staged = event("GET", &target, &[("range", "bytes=7-40")], EventBody::None);
        staged["requestContext"]["stage"] = "prod".into();
        events.push(staged);
    }
    let answers = invoke(BINARY, folder.path(), &[], events).await;
    for (served, listed) in answers.chunks(2).map(|pair| (&pair[0], &pair[1])) {
        assert_eq!((served.status.as_u16(), served.header("content-type")), (206, "image/png"));
        assert!(served.body == png(1)[7..=40]);
        assert_eq!(listed.json()["images"], serde_json::json!([]), "the query came along");
    }
}

#[tokio::test]
async fn bytes_of_no_known_type_pass_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let app = on_disk(folder.path());
    shared::testing::import(
        &app.keepsake,
        "old page.html",
        serde_json::json!({ "contentType": "text/html; charset=utf-16" }),
    )
    .await;
    let bytes: Vec<u8> = (0..=255).rev().collect();
    std::fs::create_dir_all(folder.path().join("uploads")).unwrap();
    std::fs::write(folder.path().join("uploads/old page.html"), &bytes).unwrap();
    let events = vec![event("GET", "/uploads/old%20page.html", &[], EventBody::None)];
    let answer = invoke(BINARY, folder.path(), &[], events).await.remove(0);
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/octet-stream"));
    assert!(answer.body == bytes);
}

#[tokio::test]
async fn json_passes_as_text_and_conditions_hold() {
    let folder = tempfile::tempdir().unwrap();
    let app = on_disk(folder.path());
    let id = store_image(&app.keepsake, png(1)).await;
    let path = format!("/api/images/{id}");
    let json = [("content-type", "application/json")];
    let list = get(&images::router(app.clone()), "/api/images").await;
    let events = vec![
        event("GET", "/api/images", &[], EventBody::None),
        event("GET", "/api/images", &[("if-none-match", list.header("etag"))], EventBody::None),
        event("PATCH", &path, &json, EventBody::Text(r#"{"description":"Grüße, \"☃\""}"#)),
        event("PATCH", &path, &json, EventBody::Binary(r#"{"category":"Ü"}"#.as_bytes())),
        event("GET", "/api/images?category=%C3%9C", &[], EventBody::None),
        event("DELETE", &path, &[], EventBody::None),
        event("GET", &format!("/uploads/{id}"), &[], EventBody::None),
    ];
    let answers = invoke(BINARY, folder.path(), &[], events).await;
    assert_eq!(answers[0].body, list.body);
    assert_eq!((answers[1].status.as_u16(), answers[1].body.len()), (304, 0));
    assert_eq!(answers[2].json()["description"], "Grüße, \"☃\"");
    assert_eq!(answers[3].json()["category"], "Ü");
    assert_eq!(answers[4].json()["images"][0], answers[3].json());
    assert_eq!(answers[5].json()["id"], id);
    assert_eq!(answers[6].problem(), (404, "no-such-image".to_owned()));
}
