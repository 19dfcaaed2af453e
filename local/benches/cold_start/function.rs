//! The functions, and the request that each of them gets most.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use shared::testing::lambda::{EventBody, event};
use shared::testing::png;

use crate::Result;
use crate::bucket::Bucket;
use crate::runtime::{self, Outcome};

/// A function and the request that it is measured by.
pub struct Function {
    /// The name of its binary.
    pub name: &'static str,
    /// Makes a request, given its number and the name of a backup that the store holds.
    request: fn(u32, &str) -> Value,
    /// The status of the answer.
    status: u16,
}

/// What the others are measured by.
pub const HELLO: Function = Function { name: "hello", request: |_, _| get("/"), status: 200 };

/// Every function in `functions/`.
pub const FUNCTIONS: &[Function] = &[
    Function { name: "images", request: |_, _| get("/api/images"), status: 200 },
    Function { name: "upload", request: |number, _| upload(number), status: 201 },
    Function { name: "backup", request: |_, _| get("/api/backups"), status: 200 },
    // Of its only route the part that people try first.
    Function {
        name: "restore",
        request: |_, backup| request("POST", &format!("/api/restore/{backup}?dryRun=true"), EventBody::None),
        status: 200,
    },
    Function { name: "health", request: |_, _| get("/api/health"), status: 200 },
];

fn get(target: &str) -> Value {
    request("GET", target, EventBody::None)
}

/// An image that is not in the store yet.
fn upload(number: u32) -> Value {
    request("POST", "/api/upload", EventBody::Binary(&png(1_000_000 + number)))
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
        let store = bucket.copy()?;
        let events = (0..requests as u32).map(|number| (self.request)(number, &bucket.backup)).collect();
        let outcome = runtime::run(binary, &bucket.settings(&store), events, self.status).await;
        bucket.remove(&store)?;
        outcome.map_err(|error| format!("{}: {error}", self.name).into())
    }
}
