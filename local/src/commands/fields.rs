//! Reads the fields of an answer.

use serde_json::Value;

pub fn number(answer: &Value, field: &str) -> u64 {
    answer[field].as_u64().unwrap_or_default()
}

/// A text of an answer; empty if it is missing.
pub fn text<'a>(answer: &'a Value, field: &str) -> &'a str {
    answer[field].as_str().unwrap_or_default()
}

pub fn texts<'a>(answer: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    answer[field].as_array().into_iter().flatten().filter_map(Value::as_str)
}
