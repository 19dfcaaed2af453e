//! The events of this function.

use aws_lambda_events::sqs::SqsEvent;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;
use shared::layout;
use shared::store::Key;
use uuid::Uuid;

/// The input of this function.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// From a schedule: `{"task": "fold"}`.
    Task {
        /// The task.
        task: Task,
    },
    /// From the queue that S3 writes to.
    Queue(SqsEvent),
}

/// The task of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Make the automatic backups that are due, and compact commits into the catalog.
    #[serde(rename = "fold")]
    Compact,
    /// The same, and recover all locations.
    Recover,
    /// Verify one slice, and repair it.
    Verify,
    /// Thin out backups, and remove unreferenced objects.
    Prune,
}

/// The relevant part of an S3 event.
#[derive(Deserialize)]
struct S3Event {
    #[serde(rename = "Records")]
    records: Vec<S3Record>,
}

#[derive(Deserialize)]
struct S3Record {
    s3: S3Entity,
}

#[derive(Deserialize)]
struct S3Entity {
    object: S3Object,
}

#[derive(Deserialize)]
struct S3Object {
    key: String,
}

/// The commits in a message from S3.
pub(crate) fn commits(message: &str) -> serde_json::Result<Vec<Uuid>> {
    let value: Value = serde_json::from_str(message)?;
    if value.get("Event").is_some_and(|event| event == "s3:TestEvent") {
        // S3 sends this test message when the queue is first configured.
        return Ok(Vec::new());
    }
    let event: S3Event = serde_json::from_value(value)?;
    Ok(event.records.iter().filter_map(|record| commit(&record.s3.object.key)).collect())
}

/// The commit under a key in an S3 event: form-encoded, and with the store's prefix in its bucket, if any.
fn commit(encoded: &str) -> Option<Uuid> {
    let spaces = encoded.replace('+', " ");
    let key = percent_decode_str(&spaces).decode_utf8().ok()?;
    layout::parse_commit(&Key::new(&key[key.rfind(layout::COMMITS)?..]).ok()?)
}
