//! The handler of `DELETE /api/upload`: giving up all unfinished uploads.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use shared::Keepsake;
use shared::http::{App, Problem};
use shared::unfinished::Unfinished;
use utoipa::ToSchema;

/// What was cleared away.
#[derive(Serialize, ToSchema)]
pub(crate) struct Cleared {
    message: String,
    /// How many uploads were given up.
    uploads: u64,
    /// How many bytes of them were here.
    bytes: u64,
}

/// Give up all unfinished uploads: those in parts, and tickets that were not completed. Whoever still sends begins anew.
#[utoipa::path(
    delete,
    path = "/api/upload",
    operation_id = "clearUnfinished",
    tag = "upload",
    responses((status = 200, description = "They are gone", body = Cleared)),
)]
pub(crate) async fn clear(State(app): State<App>) -> Result<Json<Cleared>, Problem> {
    let clear = |keepsake: Arc<Keepsake>| async move { keepsake.unfinished.clear_untouched(Timestamp::MAX).await };
    let Unfinished { uploads, bytes } = app.change(clear).await?;
    let message = format!("Unfinished uploads given up: {uploads}, with {bytes} bytes.");
    Ok(Json(Cleared { message, uploads, bytes }))
}
