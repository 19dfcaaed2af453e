//! The marker of a migration that has not ended.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::base::clock::millis;
use crate::base::seal;
use crate::core::error::{Error, Result};
use crate::layout;
use store::{Body, ErrorKind, Optional, PutMode, Store, StoreError};

/// Which store is being migrated to the place where this lies; sealed JSON.
#[derive(Serialize, Deserialize)]
struct Marker {
    store: Uuid,
    #[serde(with = "millis")]
    begun: Timestamp,
}

/// The store that is being migrated to `primary`, if one is. A marker that cannot be read is none to go on from, and none
/// to pass over.
pub(super) async fn read(primary: &Store) -> Result<Option<Uuid>> {
    let Some((bytes, _)) = primary.read(&layout::migration()).await.optional()? else { return Ok(None) };
    match seal::open::<Marker>(&bytes) {
        Some(marker) => Ok(Some(marker.store)),
        None => Err(Error::MigrationRefused(
            "The marker migration.json of an unfinished migration is damaged. Migrate into another, empty place."
                .to_owned(),
        )),
    }
}

/// Marks a place; false where it is marked already.
pub(super) async fn put(primary: &Store, store: Uuid, begun: Timestamp) -> Result<bool, StoreError> {
    let marker = seal::seal(&Marker { store, begun });
    match primary.put(&layout::migration(), &Body::from(marker), &PutMode::Create).await {
        Err(e) if e.kind == ErrorKind::AlreadyExists => Ok(false),
        done => done.map(|_| true),
    }
}

/// Takes the marker away: the place holds the whole of a state.
pub(super) async fn remove(primary: &Store) -> Result<(), StoreError> {
    primary.delete(&layout::migration()).await
}
