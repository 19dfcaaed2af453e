//! The command `verify`.

use axum::http::Method;
use serde_json::Value;
use shared::verify::Slice;

use super::fields::{number, text, texts};
use crate::api::Api;
use crate::output::{Failure, Output};

pub async fn run(api: &Api, output: &Output, slice: Option<Slice>, repair: bool) -> Result<u8, Failure> {
    let slice = slice.unwrap_or(Slice::WHOLE);
    let found = api.ask(Method::POST, &format!("/api/verify?slice={slice}&repair={repair}")).await?;
    output.print(&found, lines);
    Ok(output.end(found["ok"] != true))
}

fn lines(found: &Value) -> Vec<String> {
    let count = |field| number(found, field);
    let mut lines = vec![
        format!("slice     {}", text(found, "slice")),
        format!("images    {} read in the store and in the archive, {} bytes each", count("images"), count("bytes")),
        format!("deleted   {} images read, of which the archive keeps a copy", count("deleted")),
        format!("backups   {} manifests and parts read, {} written again", count("pieces"), count("rewritten")),
    ];
    for what in ["repaired", "copied", "damaged", "lost"] {
        lines.extend(texts(found, what).map(|id| format!("{what:<9} {id}")));
    }
    lines.extend(texts(found, "lostCopies").map(|digest| format!("lost      backups/images/{digest}")));
    lines.extend(texts(found, "damagedBackups").map(|name| format!("damaged   {name}")));
    lines
}
