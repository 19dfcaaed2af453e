//! The handler of `DELETE /api/upload`: cancels all unfinished uploads.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use shared::Keepsake;
use shared::http::{App, Problem};
use shared::unfinished::Unfinished;
use utoipa::ToSchema;

/// The cancelled uploads.
#[derive(Serialize, ToSchema)]
pub(crate) struct Cleared {
    message: String,
    /// How many uploads were cancelled.
    uploads: u64,
    /// How many of their bytes were stored.
    bytes: u64,
}

/// Cancel all unfinished uploads: those in parts, and tickets that were not completed. A client that is still sending
/// must begin again.
#[utoipa::path(
    delete,
    path = "/api/upload",
    operation_id = "clearUnfinished",
    tag = "upload",
    responses((status = 200, description = "They were cancelled", body = Cleared)),
)]
pub(crate) async fn clear(State(app): State<App>) -> Result<Json<Cleared>, Problem> {
    let clear = |keepsake: Arc<Keepsake>| async move { keepsake.unfinished.clear_untouched(Timestamp::MAX).await };
    let Unfinished { uploads, bytes } = app.change(clear).await?;
    let message = format!("Unfinished uploads deleted: {uploads}, with {bytes} bytes.");
    Ok(Json(Cleared { message, uploads, bytes }))
}
