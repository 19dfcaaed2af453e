//! [`Lease`]: a claim, visible to every process, that ends by itself when its holder dies.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::{Clock, millis};
use crate::error::{Error, Result};
use crate::keepsake::lock;
use crate::layout;
use crate::store::{Body, ETag, ErrorKind, Optional, PutMode, Store, StoreError};
use crate::sync::Mutex;

/// A lease that was not renewed for this long belongs to a holder that died.
const EXPIRY: SignedDuration = SignedDuration::from_secs(60);
/// How often a holder renews.
const RENEWAL: SignedDuration = SignedDuration::from_secs(10);

/// The lease of a running restore.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    archive: &'a Store,
    clock: &'a Clock,
    holder: Uuid,
    held: tokio::sync::Mutex<ETag>,
    renewed: Mutex<Timestamp>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct LeaseJson {
    holder: Uuid,
    #[serde(with = "millis")]
    renewed: Timestamp,
}

impl LeaseJson {
    fn body(holder: Uuid, renewed: Timestamp) -> Body {
        let json = serde_json::to_vec(&Self { holder, renewed });
        json.unwrap_or_else(|e| unreachable!("plain data serialises: {e}")).into()
    }
}

impl<'a> Lease<'a> {
    /// Takes the lease; `None` while another holds it.
    pub(crate) async fn acquire(archive: &'a Store, clock: &'a Clock) -> Result<Option<Self>, StoreError> {
        let (key, now, holder) = (layout::restore_lease(), clock.now(), clock.new_id());
        let mode = match archive.read(&key).await.optional()? {
            None => PutMode::Create,
            Some((bytes, etag)) => match serde_json::from_slice::<LeaseJson>(&bytes) {
                Ok(other) if now.duration_since(other.renewed) < EXPIRY => return Ok(None),
                _ => PutMode::Update(etag),
            },
        };
        match archive.put(&key, &LeaseJson::body(holder, now), &mode).await {
            Ok(etag) => {
                let (held, renewed) = (tokio::sync::Mutex::new(etag), Mutex::new(now));
                Ok(Some(Self { archive, clock, holder, held, renewed }))
            }
            Err(e) if matches!(e.kind, ErrorKind::Changed | ErrorKind::AlreadyExists) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Renews the lease where that is due; to be called often. [`Error::RestoreRunning`] when another has taken it over.
    pub(crate) async fn renew_if_due(&self) -> Result<()> {
        let due = self.clock.now().duration_since(*lock(&self.renewed)) >= RENEWAL;
        if due { self.renew().await } else { Ok(()) }
    }

    /// Renews the lease, which proves that it still holds.
    pub(crate) async fn renew(&self) -> Result<()> {
        let now = self.clock.now();
        let mut held = self.held.lock().await;
        let mode = PutMode::Update(held.clone());
        match self.archive.put(&layout::restore_lease(), &LeaseJson::body(self.holder, now), &mode).await {
            Err(e) if e.kind == ErrorKind::Changed => return Err(Error::RestoreRunning),
            renewed => *held = renewed?,
        }
        *lock(&self.renewed) = now;
        Ok(())
    }

    /// Gives the lease up, unless another has taken it over.
    pub(crate) async fn release(self) -> Result<(), StoreError> {
        let key = layout::restore_lease();
        let Some((bytes, _)) = self.archive.read(&key).await.optional()? else { return Ok(()) };
        match serde_json::from_slice::<LeaseJson>(&bytes) {
            Ok(lease) if lease.holder == self.holder => self.archive.delete(&key).await,
            _ => Ok(()),
        }
    }
}
