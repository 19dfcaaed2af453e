//! The command `backups`.

use axum::http::Method;
use indicatif::DecimalBytes;
use serde_json::Value;

use super::fields::{number, text};
use crate::api::Api;
use crate::output::{DONE, Failure, Output};

pub async fn run(api: &Api, output: &Output) -> Result<u8, Failure> {
    output.print(&api.ask(Method::GET, "/api/backups").await?, lines);
    Ok(DONE)
}

fn lines(answer: &Value) -> Vec<String> {
    let list = |field: &str| answer[field].as_array().cloned().unwrap_or_default();
    let (backups, unreadable) = (list("backups"), list("unreadable"));
    let unreadable = unreadable.iter().filter_map(Value::as_str);
    let unreadable = unreadable.map(|name| format!("{name:<32}  cannot be read; the server may lack the right to"));
    if backups.is_empty() {
        return std::iter::once("There are no backups.".to_owned()).chain(unreadable).collect();
    }
    let header = format!("{:<32}  {:<6}  {:>8}  {:>10}  VERIFIED", "NAME", "KIND", "IMAGES", "SIZE");
    let line = |backup: &Value| {
        let size = DecimalBytes(number(backup, "bytes")).to_string();
        let (name, kind, verified) = (text(backup, "name"), text(backup, "kind"), text(backup, "verifiedAt"));
        format!("{name:<32}  {kind:<6}  {:>8}  {size:>10}  {verified}", number(backup, "fileCount"))
    };
    std::iter::once(header).chain(backups.iter().map(line)).chain(unreadable).collect()
}
