//! The command `export`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shared::portable::{Exported, What};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;

use super::{note, restore, text, texts};
use crate::api::Api;
use crate::bar;
use crate::output::{Failure, Output};

/// Writes a backup, or the store as it is now, into a zip or a folder.
pub async fn run(api: &Api, output: &Output, backup: Option<&str>, path: &Path) -> Result<u8, Failure> {
    let what = match backup {
        None => What::Now,
        Some(name) => match name.parse() {
            Ok(name) => What::Backup(name),
            Err(_) => return Err(no_such_backup(api, name).await),
        },
    };
    let work = async {
        match is_zip(path) {
            true => zip(api, what, path).await,
            false => {
                let told = |progress| note(&api.keepsake.progress, progress);
                Ok(api.keepsake.export_folder(what, path, &told).await?)
            }
        }
    };
    let exported = match bar::watch(&api.keepsake.progress, work).await {
        Err(failure) if failure.problem["type"] == "no-such-backup" => {
            return Err(no_such_backup(api, backup.unwrap_or_default()).await);
        }
        exported => exported?,
    };
    output.print(&answer(&exported, path), lines);
    Ok(output.end(!exported.missing.is_empty()))
}

fn is_zip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zip"))
}

/// Writes a zip under another name first, so that what has the name is whole.
async fn zip(api: &Api, what: What, path: &Path) -> Result<Exported, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("{} cannot be written ({error}).", path.display()));
    if fs::try_exists(path).await.map_err(failed)? {
        return Err(Failure::failed(format!("{} is there already, and is not replaced.", path.display())));
    }
    let unfinished = PathBuf::from(format!("{}.part", path.display()));
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&unfinished).await.map_err(failed)?;
    let written = write(api, what, file).await;
    // A link fails where somebody has taken the name meanwhile; a rename would replace what lies there.
    let named = match &written {
        Ok(_) => fs::hard_link(&unfinished, path).await.map_err(failed),
        Err(_) => Ok(()),
    };
    fs::remove_file(&unfinished).await.map_err(failed)?;
    named.and(written)
}

async fn write(api: &Api, what: What, mut file: File) -> Result<Exported, Failure> {
    let told = |progress| note(&api.keepsake.progress, progress);
    let exported = api.keepsake.export_zip(what, &mut file, &told).await?;
    let flushed = async {
        file.flush().await?;
        file.sync_all().await
    };
    flushed.await.map_err(|error| Failure::failed(format!("The zip cannot be written to its end ({error}).")))?;
    Ok(exported)
}

async fn no_such_backup(api: &Api, name: &str) -> Failure {
    restore::with_nearest(api, name, shared::Error::NoSuchBackup(name.to_owned()).into()).await
}

fn answer(exported: &Exported, path: &Path) -> Value {
    let Exported { records, images, bytes, missing } = exported;
    let mut message = format!("{} holds {images} images ({bytes} bytes) and {records} records.", path.display());
    if !missing.is_empty() {
        message += &format!(" Images whose bytes are nowhere to be found: {}.", missing.len());
    }
    json!({
        "success": true,
        "message": message,
        "path": path,
        "records": records,
        "fileCount": images,
        "bytes": bytes,
        "missing": missing,
    })
}

fn lines(answer: &Value) -> Vec<String> {
    let missing = texts(answer, "missing").map(|id| format!("missing   {id}"));
    std::iter::once(text(answer, "message").to_owned()).chain(missing).collect()
}
