//! The functions, and the request that each of them gets most.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use shared::testing::lambda::{EventBody, event};
use shared::testing::png;

use crate::Result;
use crate::bucket::{Bucket, Store};
use crate::runtime::{self, Outcome};

/// A function and the request that it is measured by.
pub struct Function {
    /// The name of its binary.
    pub name: &'static str,
    /// Makes a request of a number.
    request: fn(u32, &Store) -> Value,
    /// The status of the answer; `None` where it is no answer to an HTTP request.
    status: Option<u16>,
}

/// What the others are measured by.
pub const HELLO: Function = Function { name: "hello", request: |_, _| get("/"), status: Some(200) };

/// Every function in `functions/`.
pub const FUNCTIONS: &[Function] = &[
    Function { name: "images", request: |_, _| get("/api/images"), status: Some(200) },
    Function { name: "upload", request: |number, _| upload(number), status: Some(201) },
    Function { name: "backup", request: |_, _| get("/api/backups"), status: Some(200) },
    // Of its only route the part that people try first.
    Function { name: "restore", request: |_, store| dry_run(&store.backup), status: Some(200) },
    Function { name: "health", request: |_, _| get("/api/health"), status: Some(200) },
    Function { name: "maintenance", request: |number, store| follow(number, &store.commit), status: None },
];

fn get(target: &str) -> Value {
    request("GET", target, EventBody::None)
}

/// An image that is not in the store yet.
fn upload(number: u32) -> Value {
    request("POST", "/api/upload", EventBody::Binary(&png(1_000_000 + number)))
}

fn dry_run(backup: &str) -> Value {
    request("POST", &format!("/api/restore/{backup}?dryRun=true"), EventBody::None)
}

/// What S3 says of a new commit, as the queue passes it on.
fn follow(number: u32, commit: &str) -> Value {
    let event = json!({ "Records": [{ "eventName": "ObjectCreated:Put", "s3": { "object": { "key": commit } } }] });
    json!({ "Records": [{ "messageId": number.to_string(), "eventSource": "aws:sqs", "body": event.to_string() }] })
}

fn request(method: &str, target: &str, body: EventBody<'_>) -> Value {
    let authorization = format!("Bearer {}", runtime::TOKEN);
    event(method, target, &[("Authorization", &authorization), ("Content-Type", "image/png")], body)
}

/// Fails where a function is deployed and not measured.
pub fn check_list() -> Result<()> {
    let mut missing = BTreeSet::new();
    for folder in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../functions"))? {
        missing.insert(folder?.file_name().to_string_lossy().into_owned());
    }
    missing.retain(|name| FUNCTIONS.iter().all(|function| function.name != name));
    if missing.is_empty() { Ok(()) } else { Err(format!("no request is known for {missing:?}").into()) }
}

impl Function {
    /// Starts the function on a copy of the store and sends it so many requests.
    pub async fn start(&self, binary: &Path, bucket: &Bucket, requests: usize) -> Result<Outcome> {
        let copy = bucket.copy()?;
        let events = (0..requests as u32).map(|number| (self.request)(number, &bucket.store)).collect();
        let outcome = runtime::run(binary, &bucket.settings(&copy), events, self.status).await;
        bucket.remove(&copy)?;
        outcome.map_err(|error| format!("{}: {error}", self.name).into())
    }
}
