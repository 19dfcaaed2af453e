//! The handler of `GET /api/storage`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use shared::http::{App, Problem};
use shared::storage::{Category, Month, Storage};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    used: u64,
    available: Option<u64>,
    limit: Option<u64>,
    images: u64,
    by_category: Vec<OfCategory>,
    history: Vec<OfMonth>,
}

#[derive(Serialize)]
struct OfCategory {
    category: String,
    images: u64,
    bytes: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfMonth {
    month: String,
    by_category: BTreeMap<String, u64>,
}

/// Says what takes how much room.
pub(crate) async fn storage(State(app): State<App>) -> Result<Json<Answer>, Problem> {
    let Storage { used, available, limit, images, by_category, history } = app.keepsake.storage().await?;
    let category = |Category { name, images, bytes }| OfCategory { category: name, images, bytes };
    let month = |Month { month, bytes }| OfMonth { month, by_category: bytes };
    let by_category = by_category.into_iter().map(category).collect();
    let history = history.into_iter().map(month).collect();
    Ok(Json(Answer { used, available, limit, images, by_category, history }))
}
