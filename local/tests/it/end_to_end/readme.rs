//! The examples in `docs/api.md` against the responses of a real server.

use reqwest::StatusCode;
use serde_json::{Value, json};
use shared::digest::Digest;

use crate::photos::photo;
use crate::server::{self, Server};

/// A value in which everything that is another each time has become `#`: numbers, and words with a digit in them.
fn masked(value: &Value) -> Value {
    match value {
        Value::Number(_) => json!("#"),
        Value::String(text) => Value::String(masked_text(text)),
        Value::Array(values) => values.iter().map(masked).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (masked_text(name), masked(value))).collect(),
        other => other.clone(),
    }
}

fn masked_text(text: &str) -> String {
    let part = |word: &str| {
        let digits = word.contains(|c: char| c.is_ascii_digit());
        // A part of an identifier may happen to have letters alone.
        let hexadecimal = matches!(word.len(), 4 | 8 | 12) && word.chars().all(|c| c.is_ascii_hexdigit());
        if digits || hexadecimal { "#".to_owned() } else { word.to_owned() }
    };
    let mask = |word: &str| match word.char_indices().next_back() {
        Some((at, last)) if !last.is_ascii_alphanumeric() => part(&word[..at]) + &word[at..],
        _ => part(word),
    };
    text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()).map(mask).collect()
}

/// The JSON that the page shows, in order.
fn shown() -> Vec<Value> {
    let page = include_str!("../../../../docs/api.md");
    let blocks = page.split("```json\n").skip(1).map(|block| block.split_once("```").unwrap().0);
    blocks.flat_map(str::lines).map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn api_page_shows_the_responses_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    // As on a platform with a volume, so that the verdict is the same wherever this runs.
    let volume = [("RAILWAY_PROJECT_ID", "p"), ("RAILWAY_VOLUME_MOUNT_PATH", folder.path().to_str().unwrap())];
    let server = Server::start_with(folder.path(), &volume);
    let (_, bytes) = photo(3);
    let path = "/api/upload?category=holiday&description=The+board";
    let upload = reqwest::Client::new().post(server.url(path)).header("x-filename", "photo.jpg").body(bytes.clone());
    let mut answers = vec![server::json(upload.send().await.unwrap(), StatusCode::CREATED).await];
    let id = answers[0]["id"].as_str().unwrap().to_owned();
    answers.push(server.get_json("/api/images").await);
    answers.push(server::json(server.post("/api/backup").await, StatusCode::CREATED).await);
    let name = answers[2]["backupName"].as_str().unwrap().to_owned();
    answers.push(server.get_json("/api/backups").await);
    answers.push(
        server::json(server.send(reqwest::Method::DELETE, &format!("/api/images/{id}")).await, StatusCode::OK).await,
    );
    for query in ["?dryRun=true", ""] {
        let restored = server.post(&format!("/api/restore/{name}{query}")).await;
        answers.push(server::json(restored, StatusCode::OK).await);
    }
    answers.push(server.get_json("/api/health").await);
    answers.push(server::json(server.get("/api/images/nothing.jpg").await, StatusCode::NOT_FOUND).await);
    let ticket = json!({ "filename": "photo.jpg", "contentType": "image/jpeg", "size": bytes.len(), "sha256": Digest::of(&bytes) });
    let asked = server.post_json("/api/upload/tickets", &ticket).await;
    answers.push(server::json(asked, StatusCode::CREATED).await);

    let shown = shown();
    assert_eq!(shown.len(), answers.len());
    for (shown, mut answer) in shown.into_iter().zip(answers) {
        // The page was written on another machine.
        if let Some(persistence) = answer.get_mut("persistence") {
            for name in ["fileSystem", "mount"] {
                persistence[name] = shown["persistence"][name].clone();
            }
        }
        assert_eq!(masked(&answer), masked(&shown), "docs/api.md shows {shown}");
    }
}
