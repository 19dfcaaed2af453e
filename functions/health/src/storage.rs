//! The handler of `GET /api/storage`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use shared::http::{App, Problem};
use shared::storage::{Category, Month, Storage};
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StorageReport {
    /// Length in bytes of all images.
    used: u64,
    /// Bytes free on the disk; null if there is no disk.
    #[schema(required)]
    available: Option<u64>,
    /// Total size of the disk in bytes; null if there is no disk.
    #[schema(required)]
    limit: Option<u64>,
    /// How many images there are.
    images: u64,
    /// What each category uses, the largest first. The name is empty for images without a category, and `…` for all
    /// categories beyond the 50 largest together.
    by_category: Vec<StorageOfCategory>,
    /// What each category used at the end of each month with uploads, oldest first, by the present images.
    history: Vec<StorageOfMonth>,
}

#[derive(Serialize, ToSchema)]
struct StorageOfCategory {
    category: String,
    images: u64,
    bytes: u64,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StorageOfMonth {
    /// The month in UTC, such as `2026-11`.
    month: String,
    /// Bytes by category.
    by_category: BTreeMap<String, u64>,
}

/// Report the storage used by category, now and over time.
#[utoipa::path(get, path = "/api/storage", operation_id = "getStorage", tag = "health", responses(
    (status = 200, description = "The storage used", body = StorageReport),
))]
pub(crate) async fn storage(State(app): State<App>) -> Result<Json<StorageReport>, Problem> {
    let Storage { used, available, limit, images, by_category, history } = app.keepsake.storage.report().await?;
    let category = |Category { name, images, bytes }| StorageOfCategory { category: name, images, bytes };
    let month = |Month { month, bytes }| StorageOfMonth { month, by_category: bytes };
    let by_category = by_category.into_iter().map(category).collect();
    let history = history.into_iter().map(month).collect();
    Ok(Json(StorageReport { used, available, limit, images, by_category, history }))
}
