//! The function's binary under the Lambda Runtime API.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use shared::clock::Clock;
use shared::store::{DiskStore, Store};
use shared::testing::lambda::call;
use shared::testing::{png, store_image};
use shared::{Keepsake, Settings, layout};

const BINARY: &str = env!("CARGO_BIN_EXE_maintenance");
const DEFERRED: (&str, &str) = ("ARCHIVE", "async");

/// A process whose uploads leave the rest to others.
fn uploading(folder: &Path) -> Keepsake {
    let primary = Store::new(Arc::new(DiskStore::open(folder).unwrap()), folder);
    let archive = primary.below(&layout::default_archive());
    let settings = Settings { archive_sync: false, ..Settings::default() };
    Keepsake::new(primary, archive, Vec::new(), Clock::system(), settings)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect()
}

/// A message of the queue about these objects.
fn message(name: &str, keys: &[String]) -> Value {
    let record = |key| json!({ "eventName": "ObjectCreated:Put", "s3": { "bucket": { "name": "b" }, "object": { "key": key } } });
    let body = json!({ "Records": keys.iter().map(record).collect::<Vec<_>>() });
    json!({ "messageId": name, "eventSource": "aws:sqs", "body": body.to_string(), "attributes": {} })
}

fn failures(answer: &Value) -> Vec<&str> {
    let failures = answer["batchItemFailures"].as_array().unwrap_or_else(|| panic!("{answer}"));
    failures.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn batch_is_replicated_and_only_unreadable_messages_are_retried() {
    let folder = tempfile::tempdir().unwrap();
    let keepsake = uploading(folder.path());
    for n in 0..10 {
        store_image(&keepsake, png(n)).await;
    }
    let commits = names(&folder.path().join("image-metadata.d"));
    let mut keys: Vec<String> = commits.iter().map(|name| format!("image-metadata.d/{name}")).collect();
    // A key is encoded, and begins with the prefix of the store.
    keys[0] = format!("my%2Bgallery/{}", keys[0]);
    assert_eq!((keys.len(), names(&folder.path().join("backups")).len()), (10, 0));
    let others = ["image-metadata.json", "image-metadata.d/x.json", "uploads/a.jpg", "%FF"].map(str::to_owned);
    let mut nonsense = message("nonsense", &[]);
    nonsense["body"] = json!("{");
    let test = json!({ "messageId": "test", "body": "{\"Service\":\"Amazon S3\",\"Event\":\"s3:TestEvent\"}" });
    let batch = json!({ "Records": [message("one", &keys[..6]), nonsense, message("two", &keys[3..]), message("others", &others), test] });
    let answers = call(BINARY, folder.path(), &[DEFERRED], vec![batch.clone(), batch, json!({ "task": "fold" })]).await;
    assert_eq!((failures(&answers[0]), failures(&answers[1])), (vec!["nonsense"], vec!["nonsense"]));
    assert_eq!(answers[2], json!({ "task": "fold" }));
    let archive = folder.path().join("backups");
    assert_eq!(names(&archive.join("images")).len(), 10);
    assert_eq!(names(&archive).iter().filter(|name| name.starts_with("backup-")).count(), 1);
    assert!(names(&folder.path().join("image-metadata.d")).is_empty(), "compacted");
}

#[tokio::test]
async fn the_schedule_recovers_without_any_event_and_nonsense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    store_image(&uploading(folder.path()), png(1)).await;
    let events = vec![json!({ "task": "recover" }), json!({ "task": "dance" }), json!({ "task": "recover" })];
    let settings = [DEFERRED, ("METRICS_STACK", "a-stack")];
    let answers = call(BINARY, folder.path(), &settings, events).await;
    assert_eq!(
        (&answers[0]["images"], &answers[0]["archived"], &answers[0]["missing"]),
        (&json!(1), &json!(1), &json!(0))
    );
    assert!(answers[1]["errorMessage"].is_string(), "{}", answers[1]);
    assert_eq!(answers[2]["archived"], 0);
    assert_eq!(names(&folder.path().join("backups/images")).len(), 1);
}

#[tokio::test]
async fn the_schedule_prunes() {
    let folder = tempfile::tempdir().unwrap();
    store_image(&uploading(folder.path()), png(1)).await;
    let events = vec![json!({ "task": "prune" }), json!({ "task": "recover" }), json!({ "task": "prune" })];
    let answers = call(BINARY, folder.path(), &[DEFERRED], events).await;
    assert!(answers[0]["heldBack"].is_string(), "{}", answers[0]);
    let expected = json!({ "task": "prune", "backups": 0, "objects": 0, "bytes": 0, "heldBack": null });
    assert_eq!(answers[2], expected);
}
