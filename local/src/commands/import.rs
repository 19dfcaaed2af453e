//! The command `import`.

use std::path::Path;

use backup::Imported;
use serde_json::Value;
use shared::portable::Source;

use super::fields::{text, texts};
use crate::api::Api;
use crate::output::{Failure, Output};
use crate::progress_bar;

pub async fn run(api: &Api, output: &Output, path: &Path, dry_run: bool) -> Result<u8, Failure> {
    if !path.exists() {
        return Err(Failure::usage(format!("There is no {}.", path.display())));
    }
    let keepsake = &api.keepsake;
    let work = async {
        let source = if path.is_dir() { Source::folder(path).await? } else { Source::zip_file(path).await? };
        if dry_run {
            keepsake.core.catalog.refresh().await.map_err(shared::Error::from)?;
            return Ok::<_, shared::Error>((keepsake.imports.plan(&source).await?, None));
        }
        let done = keepsake.imports.import(&source).await?;
        Ok((done.plan, done.safety_backup))
    };
    let (plan, safety_backup) = progress_bar::watch(&keepsake.core.progress, work).await?;
    if !dry_run {
        api.finish_deferred_work().await;
    }
    let whole = plan.missing.is_empty() && plan.unusable.is_empty() && plan.damaged.is_empty();
    let attention = !whole || !plan.skipped.is_empty();
    let answer = Imported::new(plan, safety_backup, dry_run, usize::MAX);
    let answer = serde_json::to_value(answer).map_err(|error| Failure::failed(error.to_string()))?;
    output.print(&answer, lines);
    Ok(output.end(attention))
}

fn lines(answer: &Value) -> Vec<String> {
    let mut lines = vec![text(answer, "message").to_owned()];
    for (what, field) in [
        ("missing", "missingImages"),
        ("unusable", "unusableNames"),
        ("damaged", "damagedFiles"),
        ("skipped", "skippedFiles"),
    ] {
        lines.extend(texts(answer, field).map(|name| format!("{what:<9} {name}")));
    }
    for (name, id) in answer["renamedImages"].as_object().into_iter().flatten() {
        lines.push(format!("renamed   {name} is {} now", id.as_str().unwrap_or_default()));
    }
    for file in answer["renamedFiles"].as_array().into_iter().flatten() {
        lines.push(format!("renamed   {} is taken as {}", text(file, "from"), text(file, "to")));
    }
    lines.extend(texts(answer, "redatedFiles").map(|name| format!("redated   {name}")));
    let undo = answer["safetyBackup"].as_str();
    lines.extend(undo.map(|safety| format!("To undo it: keepsake restore {safety} --mode exact")));
    lines
}
