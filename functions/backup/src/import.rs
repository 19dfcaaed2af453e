//! The handler of `POST /api/backups`: imports a zip.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use futures::StreamExt;
use headers::{ContentLength, HeaderMapExt};
use serde::Serialize;
use shared::http::{App, Binary, Problem, Query};
use shared::layout::{BackupName, ImageId};
use shared::portable::{ImportPlan, Source};
use shared::store::{Body, StoreError};
use shared::{Error, Result};
use utoipa::ToSchema;

use crate::DryRun;

/// The interval at which free space is checked while a zip arrives, in bytes.
const CHECK_EVERY: u64 = 64 * 1024 * 1024;
/// The most names of one kind that an answer lists.
const MOST_NAMES: usize = 1_000;

/// The result of an import, in numbers, with the names that may need attention. The command line prints it as well.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Imported {
    success: bool,
    dry_run: bool,
    /// All of this in a few sentences.
    message: String,
    /// Images that were imported or restored.
    restored: usize,
    /// Images that stayed as they were.
    kept: u64,
    /// Files without a record that became images.
    adopted: usize,
    /// Images whose bytes are unavailable.
    missing: usize,
    /// Records under names that no image can have.
    unusable: usize,
    /// Files that do not match their record.
    damaged: usize,
    /// Files that were not imported.
    skipped: usize,
    /// The backup that was made before; restoring it undoes this import.
    #[schema(required)]
    safety_backup: Option<BackupName>,
    missing_images: Vec<ImageId>,
    unusable_names: Vec<String>,
    damaged_files: Vec<String>,
    skipped_files: Vec<String>,
    /// Names that no image can have, and their replacements.
    renamed_images: BTreeMap<String, ImageId>,
    /// Files that are imported under another name than in the zip: if several have one name, if backslashes separate
    /// folders, or if a name is in Shift-JIS.
    renamed_files: Vec<RenamedFile>,
    /// Adopted files dated in the future; their upload date is that of the import.
    redated_files: Vec<String>,
    /// How many adopted files have no date of their own; their upload date is that of the import.
    undated: usize,
}

/// A file that is imported under another name than in the zip.
#[derive(Serialize, ToSchema)]
struct RenamedFile {
    /// Its name in the zip.
    from: String,
    /// The name under which it is imported.
    to: String,
}

/// Import what exists in a zip and not here, or report what that would do.
///
/// The zip may be a downloaded backup or a zip of images from elsewhere.
#[utoipa::path(
    post,
    path = "/api/backups",
    operation_id = "importBackup",
    tag = "backups",
    params(DryRun),
    request_body(content((inline(Binary) = "application/zip"), (inline(Binary) = "application/octet-stream"))),
    responses(
        (status = 200, description = "It was imported, or with `dryRun` what an import would do", body = Imported),
        (status = 400, description = "`invalid-request`: no zip, or an invalid query"),
        (status = 409, description = "`restore-running`; with `dryRun`, if another import or plan is running"),
        (status = 415, description = "`not-a-zip`: a form"),
        (status = 422, description = "`unusable-archive`"),
        (status = 501, description = "On AWS, `needs-command-line`: it is too large for a function"),
        (status = 507, description = "`insufficient-storage`"),
    ),
)]
pub(crate) async fn import(
    State(app): State<App>,
    Query(DryRun { dry_run }): Query<DryRun>,
    request: Request,
) -> Result<Json<Imported>, Problem> {
    let form = request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"multipart/"));
    if form {
        let detail = "Send the zip itself as the body, with the Content-Type application/zip, and not in a form.";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-a-zip", detail));
    }
    let source = Source::zip(receive(&app, request).await?).await?;
    if dry_run {
        let plan = app.keepsake.imports.plan(&source).await?;
        return Ok(Json(Imported::new(plan, None, true, MOST_NAMES)));
    }
    // All bytes have arrived; from now on the client may disconnect.
    let imported = app.change(|keepsake| async move { keepsake.imports.import(&source).await }).await?;
    Ok(Json(Imported::new(imported.plan, imported.safety_backup, false, MOST_NAMES)))
}

/// Reads the whole body into an unnamed file. Its only limit is the free space.
async fn receive(app: &App, request: Request) -> Result<Body> {
    let body = request.body();
    let announced = request.headers().typed_get::<ContentLength>().map(|length| length.0).or(body.size_hint().exact());
    app.keepsake.room.check(announced.unwrap_or_default()).await?;
    let mut chunks = request.into_body().into_data_stream();
    let (mut spool, mut checked_at) = (app.keepsake.core.primary.spool(), 0);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Error::Invalid("The body ended before it was complete.".to_owned()))?;
        spool.write(&chunk).await.map_err(spool_failed)?;
        if spool.size() - checked_at > CHECK_EVERY {
            checked_at = spool.size();
            app.keepsake.room.check(0).await?;
        }
    }
    if spool.size() == 0 {
        return Err(Error::Invalid("The body is empty. Send the zip as the body.".to_owned()));
    }
    spool.finish().await.map_err(spool_failed)
}

fn spool_failed(error: std::io::Error) -> Error {
    StoreError::io("spool", "", error).into()
}

impl Imported {
    /// The answer to an import; at most `names` names of a kind.
    pub fn new(plan: ImportPlan, safety_backup: Option<BackupName>, dry_run: bool, names: usize) -> Self {
        let unusable = plan.unusable.len() + plan.renamed.len();
        let beginning = if dry_run { "Importing this would mean" } else { "Imported" };
        let (restored, adopted) = (plan.restored.len(), plan.adopted.len());
        let mut message =
            format!("{beginning}: {restored} restored, {adopted} adopted, {} kept as they are.", plan.kept);
        for (count, what) in [
            (plan.missing.len(), "Images whose bytes are missing"),
            (plan.renamed.len(), "Images with a new name"),
            (plan.renamed_files.len(), "Files imported under another name"),
            (plan.redated.len(), "Images dated in the future, now with the date of the import"),
            (plan.undated.len(), "Images without a date of their own"),
            (plan.unusable.len(), "Names without a record, set aside with the metadata"),
            (plan.damaged.len(), "Files that do not match their record, set aside"),
            (plan.skipped.len(), "Files that were not imported"),
        ] {
            if count > 0 {
                message += &format!(" {what}: {count}.");
            }
        }
        fn some<T>(all: impl IntoIterator<Item = T>, names: usize) -> Vec<T> {
            all.into_iter().take(names).collect()
        }
        let mut redated: Vec<String> = plan.redated.into_values().collect();
        redated.sort();
        let renamed_files = plan.renamed_files.into_iter().map(|(from, to)| RenamedFile { from, to });
        Self {
            success: true,
            dry_run,
            message,
            restored,
            kept: plan.kept,
            adopted,
            missing: plan.missing.len(),
            unusable,
            damaged: plan.damaged.len(),
            skipped: plan.skipped.len(),
            safety_backup,
            missing_images: some(plan.missing, names),
            unusable_names: some(plan.unusable, names),
            damaged_files: some(plan.damaged, names),
            skipped_files: some(plan.skipped, names),
            renamed_images: plan.renamed.into_iter().take(names).collect(),
            renamed_files: some(renamed_files, names),
            redated_files: some(redated, names),
            undated: plan.undated.len(),
        }
    }
}
