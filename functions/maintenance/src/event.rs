//! What events say.

use aws_lambda_events::sqs::SqsEvent;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;
use shared::layout;
use shared::store::Key;
use uuid::Uuid;

/// What this function is called with.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// By a schedule: `{"task": "fold"}`.
    Task {
        /// What to do.
        task: Task,
    },
    /// By the queue that S3 writes to.
    Queue(SqsEvent),
}

/// What a schedule asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Make the automatic backups that are due, and compact commits into the checkpoints.
    #[serde(rename = "fold")]
    Compact,
    /// All of that, and make every place whole.
    Recover,
    /// Read a slice of everything through, and repair it.
    Verify,
    /// Thin out backups, and remove what nothing names any more.
    Prune,
}

/// What S3 tells of objects, as far as it matters here.
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

/// The commits that a message of S3 tells of.
pub(crate) fn commits(message: &str) -> serde_json::Result<Vec<Uuid>> {
    let value: Value = serde_json::from_str(message)?;
    if value.get("Event").is_some_and(|event| event == "s3:TestEvent") {
        // What S3 sends when it is first told of the queue.
        return Ok(Vec::new());
    }
    let event: S3Event = serde_json::from_value(value)?;
    Ok(event.records.iter().filter_map(|record| commit(&record.s3.object.key)).collect())
}

/// The commit under a key as S3 writes it, encoded as forms are and with whatever prefix the store has in its bucket.
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
    fn a_commit_is_told_by_its_key() {
        let id: Uuid = COMMIT.parse().unwrap();
        for key in [format!("image-metadata.d/{COMMIT}.json"), format!("my%2Bgallery/image-metadata.d/{COMMIT}.json")] {
            assert_eq!(commits(&message(&key)).unwrap(), [id], "{key}");
        }
        for key in ["image-metadata.json", "image-metadata.d/x.json", "uploads/a.jpg", "%FF"] {
            assert!(commits(&message(key)).unwrap().is_empty(), "{key}");
        }
    }

    #[test]
    fn a_test_message_says_nothing_and_nonsense_is_an_error() {
        assert!(commits(r#"{"Service":"Amazon S3","Event":"s3:TestEvent"}"#).unwrap().is_empty());
        assert!(commits("nonsense").is_err());
    }

    #[test]
    fn a_schedule_and_a_queue_are_told_apart() {
        let read = |text| serde_json::from_str::<Event>(text);
        assert!(matches!(read(r#"{"task":"fold"}"#), Ok(Event::Task { task: Task::Compact })));
        assert!(matches!(read(r#"{"Records":[]}"#), Ok(Event::Queue(_))));
        assert!(read(r#"{"task":"dance"}"#).is_err());
    }
}
