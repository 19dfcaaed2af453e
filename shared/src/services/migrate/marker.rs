//! The marker of an unfinished migration.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::base::clock::millis;
use crate::base::seal;
use crate::core::error::{Error, Result};
use crate::layout;
use store::{Body, ErrorKind, Optional, PutMode, Store, StoreError};

/// The store that is being migrated to this location; sealed JSON.
#[derive(Serialize, Deserialize)]
struct Marker {
    store: Uuid,
    #[serde(with = "millis")]
    begun: Timestamp,
}

/// The store that is being migrated to `primary`, if any. An unreadable marker is an error: it can neither be resumed
/// nor ignored.
pub(super) async fn read(primary: &Store) -> Result<Option<Uuid>> {
    let Some((bytes, _)) = primary.read(&layout::migration()).await.optional()? else { return Ok(None) };
    match seal::open::<Marker>(&bytes) {
        Some(marker) => Ok(Some(marker.store)),
        None => Err(Error::MigrationRefused(
            "The marker migration.json of an unfinished migration is damaged. Migrate to another, empty location."
                .to_owned(),
        )),
    }
}

/// Writes the marker; false if there is one already.
pub(super) async fn put(primary: &Store, store: Uuid, begun: Timestamp) -> Result<bool, StoreError> {
    let marker = seal::seal(&Marker { store, begun });
    match primary.put(&layout::migration(), &Body::from(marker), &PutMode::Create).await {
        Err(e) if e.kind == ErrorKind::AlreadyExists => Ok(false),
        done => done.map(|_| true),
    }
}

/// Removes the marker: the location holds a complete state.
pub(super) async fn remove(primary: &Store) -> Result<(), StoreError> {
    primary.delete(&layout::migration()).await
}
