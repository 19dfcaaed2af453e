//! The command `restore`.

use axum::http::Method;
use serde_json::{Value, json};

use super::fields::{number, text, texts};
use crate::api::Api;
use crate::cli::RestoreArgs;
use crate::output::{FAILED, Failure, Output, WRONG_USAGE};

/// How many images of a kind are listed; `--json` lists all.
const NAMED: usize = 10;

/// Shows what a restore would do, asks for confirmation, and restores.
pub async fn run(api: &Api, output: &Output, arguments: &RestoreArgs) -> Result<u8, Failure> {
    // An invalid backup name must stay one segment of the path.
    let name: String =
        arguments.name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let path = format!("/api/restore/{name}?mode={}", arguments.mode);
    let plan = match api.ask(Method::POST, &format!("{path}&dryRun=true")).await {
        Err(failure) => return Err(with_nearest(api, &arguments.name, failure).await),
        plan => plan?,
    };
    if arguments.dry_run {
        output.print(&plan, lines);
        return Ok(output.end(number(&plan, "missing") > 0));
    }
    output.tell(&lines(&plan));
    let does_something = ["restored", "changed", "removed"].iter().any(|field| number(&plan, field) > 0);
    if !arguments.yes && does_something {
        if !output.can_ask() {
            let detail = "A restore needs a confirmation, and there is no terminal: add --yes, or --dry-run to see only what would be done.";
            return Err(Failure::new(WRONG_USAGE, "not-confirmed", "Not confirmed", detail));
        }
        if !output.ask("Restore it?") {
            return Err(Failure::new(FAILED, "not-confirmed", "Not confirmed", "Nothing was changed."));
        }
    }
    let done = api.ask(Method::POST, &path).await?;
    api.finish_deferred_work().await;
    output.print(&done, |done| {
        let undo =
            done["safetyBackup"].as_str().map(|safety| format!("To undo it: keepsake restore {safety} --mode exact"));
        std::iter::once(text(done, "message").to_owned()).chain(undo).collect()
    });
    Ok(output.end(number(&done, "missing") > 0))
}

fn lines(plan: &Value) -> Vec<String> {
    let mut lines = vec![text(plan, "message").to_owned()];
    for (what, field) in [
        ("comes back", "restoredImages"),
        ("changes", "changedImages"),
        ("goes", "removedImages"),
        ("is missing", "missingImages"),
    ] {
        let all = texts(plan, field).count();
        lines.extend(texts(plan, field).take(NAMED).map(|id| format!("  {what:<10} {id}")));
        if all > NAMED {
            lines.push(format!("  {what:<10} and {} more", all - NAMED));
        }
    }
    lines
}

/// Adds the existing backups whose names are most similar to the missing one.
pub async fn with_nearest(api: &Api, name: &str, mut failure: Failure) -> Failure {
    if failure.problem["type"] != "no-such-backup" {
        return failure;
    }
    // The API received a name that was escaped for the path.
    let detail = format!("There is no backup {name:?}.");
    failure.problem["detail"] = json!(detail);
    failure.problem["error"] = json!(detail);
    let Ok(listed) = api.ask(Method::GET, "/api/backups").await else { return failure };
    let mut names: Vec<&str> = listed["backups"].as_array().into_iter().flatten().map(|b| text(b, "name")).collect();
    names.sort_by_key(|other| strsim::levenshtein(name, other));
    names.truncate(3);
    failure.problem["nearest"] = json!(names);
    match names.is_empty() {
        true => failure.add("There are no backups at all."),
        false => failure.add(&format!("The most similar names: {}.", names.join(", "))),
    }
    failure
}
