//! The function's binary under the Lambda Runtime API.

use serde_json::json;
use shared::digest::Digest;
use shared::testing::lambda::{EventBody, event, invoke};
use shared::testing::{png, samples};

use super::{Form, form_type};

const BINARY: &str = env!("CARGO_BIN_EXE_upload");

#[tokio::test]
async fn images_arrive_bit_for_bit_through_api_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let content_type = form_type();
    let mut events = Vec::new();
    for (format, bytes) in samples() {
        let raw = EventBody::Binary(&bytes);
        events.push(event("POST", "/api/upload?category=a%26b", &[("content-type", format.content_type())], raw));
        let form = Form::new().file("image", "Ü.x", &bytes).text("description", "Ümläut").bytes();
        events.push(event("POST", "/api/upload", &[("content-type", &content_type)], EventBody::Binary(&form)));
    }
    let answers = invoke(BINARY, folder.path(), &[], events).await;
    for ((format, bytes), pair) in samples().into_iter().zip(answers.chunks(2)) {
        for answer in pair {
            let item = answer.json();
            assert_eq!((answer.status.as_u16(), &item["contentType"]), (201, &json!(format.content_type())));
            assert_eq!(item["sha256"], Digest::of(&bytes).to_string());
            let stored = std::fs::read(folder.path().join("uploads").join(item["id"].as_str().unwrap())).unwrap();
            assert!(stored == bytes, "{format}");
            assert_eq!(answer.header("location"), item["url"]);
        }
        assert_eq!((&pair[0].json()["category"], &pair[1].json()["description"]), (&json!("a&b"), &json!("Ümläut")));
        assert_eq!(pair[1].json()["originalName"], "Ü.x");
    }
}

#[tokio::test]
async fn refusals_are_problems_on_lambda_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let image = png(1);
    let token = ("authorization", "Bearer right");
    let too_large = vec![0; 4_500_001];
    let events = vec![
        event("POST", "/api/upload", &[], EventBody::Binary(&image)),
        event("POST", "/api/upload", &[token], EventBody::None),
        event("POST", "/api/upload", &[token, ("content-type", "text/plain")], EventBody::Text("Grüße")),
        event("POST", "/api/upload", &[token], EventBody::Binary(&too_large)),
        event("GET", "/api/upload", &[], EventBody::None),
        event("POST", "/api/upload", &[token], EventBody::Binary(&image)),
    ];
    let answers = invoke(BINARY, folder.path(), &[("API_TOKEN", "right")], events).await;
    let problems: Vec<_> = answers[..5].iter().map(|answer| answer.problem()).collect();
    let expected = [
        (401, "unauthorized"),
        (400, "no-file"),
        (415, "not-an-image"),
        (413, "too-large"),
        (405, "method-not-allowed"),
    ];
    assert_eq!(problems, expected.map(|(status, slug)| (status, slug.to_owned())));
    assert!(answers[3].json()["detail"].as_str().unwrap().contains("/api/upload/tickets"));
    assert_eq!(answers[5].status, 201);
}
