//! What handlers take out of a request; what cannot be read is refused with a [`Problem`].

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::Problem;
use crate::core::error::Error;
use crate::layout::BackupName;

/// The name of a backup, where it is the only parameter in a route's path. What is no name names no backup: 404
/// `no-such-backup`.
impl<S: Send + Sync> FromRequestParts<S> for BackupName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(name) = Path::<String>::from_request_parts(parts, state).await?;
        name.parse().map_err(|_| Error::NoSuchBackup(name).into())
    }
}
