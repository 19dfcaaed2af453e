//! Metrics for CloudWatch, written to the log: the embedded metric format.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// One line that reports how long an automatic backup has been overdue, for the alarm in the template.
pub(crate) fn line(stack: &str, overdue: SignedDuration, now: Timestamp) -> Value {
    json!({
        "_aws": {
            "Timestamp": now.as_millisecond(),
            "CloudWatchMetrics": [{
                "Namespace": "Keepsake",
                "Dimensions": [["Stack"]],
                "Metrics": [{ "Name": "BackupOverdueSeconds", "Unit": "Seconds" }],
            }],
        },
        "Stack": stack,
        "BackupOverdueSeconds": overdue.as_secs(),
    })
}
