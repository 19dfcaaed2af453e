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
    /// Make the automatic backups that are due, and compact commits into the checkpoints.
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

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0193b5a0-0000-7000-8000-000000000001";

    fn message(key: &str) -> String {
        format!(r#"{{"Records":[{{"eventName":"ObjectCreated:Put","s3":{{"object":{{"key":"{key}","size":300}}}}}}]}}"#)
    }

    #[test]
    fn a_commit_is_found_by_its_key() {
        let id: Uuid = COMMIT.parse().unwrap();
        for key in [format!("image-metadata.d/{COMMIT}.json"), format!("my%2Bgallery/image-metadata.d/{COMMIT}.json")] {
            assert_eq!(commits(&message(&key)).unwrap(), [id], "{key}");
        }
        for key in ["image-metadata.json", "image-metadata.d/x.json", "uploads/a.jpg", "%FF"] {
            assert!(commits(&message(key)).unwrap().is_empty(), "{key}");
        }
    }

    #[test]
    fn a_test_message_has_no_commits_and_nonsense_is_an_error() {
        assert!(commits(r#"{"Service":"Amazon S3","Event":"s3:TestEvent"}"#).unwrap().is_empty());
        assert!(commits("nonsense").is_err());
    }

    #[test]
    fn schedules_and_queues_are_distinguished() {
        let read = |text| serde_json::from_str::<Event>(text);
        assert!(matches!(read(r#"{"task":"fold"}"#), Ok(Event::Task { task: Task::Compact })));
        assert!(matches!(read(r#"{"Records":[]}"#), Ok(Event::Queue(_))));
        assert!(read(r#"{"task":"dance"}"#).is_err());
    }
}
