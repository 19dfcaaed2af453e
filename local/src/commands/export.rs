//! The command `export`.

use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use shared::portable::{Exported, What};
use tempfile::NamedTempFile;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

use super::fields::{text, texts};
use super::restore;
use crate::api::Api;
use crate::output::{Failure, Output};
use crate::progress_bar;

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
            false => Ok(api.keepsake.exports.export_folder(what, path).await?),
        }
    };
    let exported = match progress_bar::watch(&api.keepsake.core.progress, work).await {
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

/// Writes a zip under a temporary name beside it first, so that the file under its name is always complete, even with
/// concurrent writers.
async fn zip(api: &Api, what: What, path: &Path) -> Result<Exported, Failure> {
    if fs::try_exists(path).await.map_err(|error| unwritten(path, error))? {
        return Err(is_there(path));
    }
    let (file, unfinished) = beside(path).map_err(|error| unwritten(path, error))?.into_parts();
    let exported = write(api, what, path, File::from_std(file)).await?;
    // Replaces nothing if a file with this name has been created meanwhile.
    unfinished.persist_noclobber(path).map_err(|failed| match failed.error.kind() {
        ErrorKind::AlreadyExists => is_there(path),
        _ => unwritten(path, failed.error),
    })?;
    Ok(exported)
}

/// A new file that is deleted unless it gets its final name. Its permissions are those of other new files there.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut prefix = path.file_name().unwrap_or_default().to_owned();
    prefix.push(".");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".part").permissions(Permissions::from_mode(0o666)).tempfile_in(folder)
}

fn is_there(path: &Path) -> Failure {
    Failure::failed(format!("{} is there already, and is not replaced.", path.display()))
}

fn unwritten(path: &Path, why: impl ToString) -> Failure {
    shared::Error::Unwritable(path.display().to_string(), why.to_string()).into()
}

async fn write(api: &Api, what: What, path: &Path, mut file: File) -> Result<Exported, Failure> {
    let exported = api.keepsake.exports.export_zip(what, &mut file).await.map_err(|error| match error {
        shared::Error::Unwritable(_, why) => unwritten(path, why),
        other => other.into(),
    })?;
    let flushed = async {
        file.flush().await?;
        file.sync_all().await
    };
    flushed.await.map_err(|error| unwritten(path, error))?;
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
