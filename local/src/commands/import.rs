//! The command `import`.

use std::path::Path;

use serde_json::{Value, json};
use shared::layout::BackupName;
use shared::portable::{ImportPlan, Source};

use super::{note, text, texts};
use crate::api::Api;
use crate::bar;
use crate::output::{Failure, Output};

/// Takes in a zip or a folder, or says what that would do.
pub async fn run(api: &Api, output: &Output, path: &Path, dry_run: bool) -> Result<u8, Failure> {
    if !path.exists() {
        return Err(Failure::usage(format!("There is no {}.", path.display())));
    }
    let keepsake = &api.keepsake;
    let told = |progress| note(&keepsake.progress, progress);
    let work = async {
        let source = if path.is_dir() { Source::folder(path).await? } else { Source::zip_file(path).await? };
        if dry_run {
            keepsake.catalog.refresh().await.map_err(shared::Error::from)?;
            return Ok::<_, shared::Error>((keepsake.plan_import(&source, &told).await?, None));
        }
        let done = keepsake.import(&source, &told).await?;
        Ok((done.plan, done.safety_backup))
    };
    let (plan, safety_backup) = bar::watch(&keepsake.progress, work).await?;
    if !dry_run {
        api.settle().await;
    }
    output.print(&answer(path, &plan, safety_backup, dry_run), lines);
    let whole = plan.missing.is_empty() && plan.unusable.is_empty() && plan.damaged.is_empty();
    Ok(output.end(!whole || !plan.skipped.is_empty()))
}

fn answer(path: &Path, plan: &ImportPlan, safety_backup: Option<BackupName>, dry_run: bool) -> Value {
    let beginning = if dry_run { "Importing it would mean" } else { "Imported" };
    let message = format!(
        "{beginning}: {} brought in, {} adopted, {} kept, {} missing.",
        plan.restored.len(),
        plan.adopted.len(),
        plan.kept,
        plan.missing.len()
    );
    json!({
        "success": true,
        "message": message,
        "path": path,
        "dryRun": dry_run,
        "restored": plan.restored.len(),
        "adopted": plan.adopted.len(),
        "kept": plan.kept,
        "missing": plan.missing,
        "renamed": plan.renamed,
        "unusable": plan.unusable,
        "damaged": plan.damaged,
        "skipped": plan.skipped,
        "safetyBackup": safety_backup,
    })
}

fn lines(answer: &Value) -> Vec<String> {
    let mut lines = vec![text(answer, "message").to_owned()];
    for what in ["missing", "unusable", "damaged", "skipped"] {
        lines.extend(texts(answer, what).map(|name| format!("{what:<9} {name}")));
    }
    for (name, id) in answer["renamed"].as_object().into_iter().flatten() {
        lines.push(format!("renamed   {name} is {} now", id.as_str().unwrap_or_default()));
    }
    let undo = answer["safetyBackup"].as_str();
    lines.extend(undo.map(|safety| format!("To undo it: keepsake restore {safety} --mode exact")));
    lines
}
