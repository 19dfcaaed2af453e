//! The handler of `GET /api/groups/{id}/download`: a group as a zip.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Method;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use shared::file_name;
use shared::http::{App, Binary, Path, Problem, ZipBody};

use crate::download;

/// Download the images of a group as a zip, under their original names and in their order.
///
/// Its length is known before its first byte. An error during the transfer aborts the response, and the bytes received
/// until then are no valid zip.
#[utoipa::path(
    get,
    path = "/api/groups/{id}/download",
    operation_id = "downloadGroup",
    tag = "groups",
    params(("id" = String, Path, description = "The group's id")),
    responses(
        (status = 200, description = "All its images", body = inline(Binary), content_type = "application/zip", headers(
            ("Content-Length" = u64, description = "The length of the zip"),
        )),
        (status = 404, description = "`no-such-group`"),
    ),
)]
pub(crate) async fn download(
    State(app): State<App>,
    Path(id): Path<String>,
    method: Method,
) -> Result<Response, Problem> {
    let group = app.keepsake.groups.get(&id).await?;
    let name = file_name::of(group.title().unwrap_or(&group.id)).unwrap_or_else(|| "group".to_owned()) + ".zip";
    let plan = app.keepsake.exports.plan_group_zip(&group).await?;
    let length = plan.length;
    let answer = |body: Body| {
        let kind = (CONTENT_TYPE, "application/zip".to_owned());
        let disposition = (CONTENT_DISPOSITION, download::disposition(&name));
        ([kind, disposition, (CONTENT_LENGTH, length.to_string())], body).into_response()
    };
    if method == Method::HEAD {
        return Ok(answer(Body::empty()));
    }
    let keepsake = Arc::clone(&app.keepsake);
    let write = |out| async move { keepsake.exports.zip_group(&group, &plan, app.strip_gps, out).await };
    Ok(answer(ZipBody::new(length, true, write).into_body("a download of a group").await?))
}
