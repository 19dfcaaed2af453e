//! The command `prune`.

use axum::http::Method;
use serde_json::Value;

use super::fields::{number, texts};
use crate::api::Api;
use crate::output::{Failure, Output};

pub async fn run(api: &Api, output: &Output, dry_run: bool) -> Result<u8, Failure> {
    let pruned = api.ask(Method::POST, &format!("/api/prune?dryRun={dry_run}")).await?;
    output.print(&pruned, lines);
    Ok(output.end(pruned["heldBack"].is_string()))
}

fn lines(pruned: &Value) -> Vec<String> {
    let verb = if pruned["dryRun"] == true { "would go" } else { "removed" };
    let mut lines: Vec<String> = texts(pruned, "removed").map(|name| format!("{verb:<9} {name}")).collect();
    lines.push(format!("kept      {} backups", texts(pruned, "kept").count()));
    let (objects, bytes) = (number(pruned, "objects"), number(pruned, "bytes"));
    lines.push(format!("{verb:<9} {objects} parts of the catalog and replicas, {bytes} bytes"));
    lines.extend(pruned["heldBack"].as_str().map(|reason| format!("nothing more is removed: {reason}")));
    lines
}
