//! The quarantine: a folder of the archive for damaged or unexplained objects, so that the operator can inspect them.

use store::{Body, ErrorKind, Key, Optional, PutMode, Store, StoreError};

use crate::layout;

/// Copies an object of `location` into the quarantine of `archive`.
pub(crate) async fn quarantine(archive: &Store, location: &Store, key: &Key) -> Result<bool, StoreError> {
    let Some(body) = location.fetch(key).await.intact()? else { return Ok(false) };
    put_into_quarantine(archive, &body, key.name()).await.map(|()| true)
}

/// Puts bytes into the quarantine of `archive`, which may already contain them.
pub(crate) async fn put_into_quarantine(archive: &Store, body: &Body, name: &str) -> Result<(), StoreError> {
    match archive.put(&layout::quarantined(&body.digest(), name), body, &PutMode::Create).await {
        Err(e) if e.kind != ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}
