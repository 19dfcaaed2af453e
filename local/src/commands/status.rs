//! The command `status`.

use axum::http::Method;
use indicatif::DecimalBytes;
use serde_json::Value;

use super::fields::{number, text};
use crate::api::Api;
use crate::output::{FAILED, Failure, Output};

pub async fn run(api: &Api, output: &Output) -> Result<u8, Failure> {
    api.keepsake.persistence.read_starts().await;
    // An error status is an answer as well.
    let (_, health) = api.answer(Method::GET, "/api/health").await?;
    output.print(&health, lines);
    Ok(match text(&health, "status") {
        "error" => FAILED,
        status => output.end(status != "ok"),
    })
}

fn lines(health: &Value) -> Vec<String> {
    let (storage, backups, persistence) = (&health["storage"], &health["backups"], &health["persistence"]);
    let bytes = |of: &Value, field| DecimalBytes(number(of, field));
    let file_system = persistence["fileSystem"].as_str().map_or_else(String::new, |name| format!(" ({name})"));
    let room = storage["freeBytes"]
        .as_u64()
        .map_or_else(String::new, |free| format!(", {} of {} free", DecimalBytes(free), bytes(storage, "totalBytes")));
    let newest = backups["newest"].as_str().map_or_else(String::new, |name| format!(", the newest {name}"));
    let mut lines = vec![
        format!("status       {}", text(health, "status")),
        format!(
            "images       {}, {}; {} deleted",
            number(storage, "images"),
            bytes(storage, "bytes"),
            number(storage, "deleted")
        ),
        format!("backups      {}{newest}", number(backups, "count")),
        format!("             {} images are in no backup yet", number(backups, "notBackedUp")),
        format!("storage      {}{file_system}{room}", text(storage, "kind")),
        format!("persistence  {}: {}", text(persistence, "verdict"), text(persistence, "evidence")),
    ];
    lines.extend(persistence["warning"].as_str().map(|warning| format!("             {warning}")));
    for (name, check) in health["checks"].as_object().into_iter().flatten() {
        lines.push(format!("{name:<12} {:<5} {}", text(check, "status"), text(check, "message")));
    }
    lines
}
