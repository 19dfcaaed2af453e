//! [`Lease`]: a claim, visible to every process, that expires when its holder dies.
//!
//! It expires if it was not renewed for a minute. On a local disk it also identifies the process that holds it, and
//! another process on the same machine takes it over at once if that process has ended.

use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::base::clock::{Clock, millis};
use crate::base::process::Process;
use crate::core::error::{Error, Result};
use store::sync::{Mutex, lock};
use store::{Body, ETag, ErrorKind, Key, Optional, PutMode, Store, StoreError};

/// If a lease was not renewed for this long, its holder died.
const EXPIRY: SignedDuration = SignedDuration::from_secs(60);
/// How far ahead a holder's clock may be. A renewal time further in the future comes from a wrong clock.
const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(1);
/// How often a holder renews.
const RENEWAL: SignedDuration = SignedDuration::from_secs(20);
/// How soon a failed renewal is retried.
const RETRY: SignedDuration = SignedDuration::from_secs(5);
/// Up to this long after the last renewal one may fail: the lease still holds, and there is time for another.
const RENEW_GRACE: SignedDuration = SignedDuration::from_secs(40);

/// A lease in progress: of a restore or an operation that must not run beside one, or of a conditional edit.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    store: &'a Store,
    key: Key,
    clock: &'a Clock,
    holder: Holder,
    /// `None` while there is no space for it; only for an operation that deletes.
    held: tokio::sync::Mutex<Option<ETag>>,
    renewed: Mutex<Timestamp>,
    due: Mutex<Timestamp>,
    /// Whether the last renewal got no reply, so that it may have succeeded.
    unsure: AtomicBool,
    only_deletes: bool,
}

/// The holder of a lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Holder {
    #[serde(rename = "holder")]
    id: Uuid,
    /// The process, on a local disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<Process>,
}

impl Holder {
    /// This process, as the holder of a lease in this store.
    async fn here(store: &Store, id: Uuid) -> Self {
        Self { id, process: this_process(store).await }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct LeaseJson {
    #[serde(flatten)]
    holder: Holder,
    #[serde(with = "millis")]
    renewed: Timestamp,
}

impl LeaseJson {
    fn body(holder: &Holder, renewed: Timestamp) -> Body {
        let json = serde_json::to_vec(&Self { holder: holder.clone(), renewed });
        json.unwrap_or_else(|e| unreachable!("plain data serialises: {e}")).into()
    }

    fn holds(&self, now: Timestamp) -> bool {
        let age = now.duration_since(self.renewed);
        -MAX_CLOCK_SKEW < age && age < EXPIRY && !self.holder.process.as_ref().is_some_and(Process::has_ended)
    }
}

/// File systems that are local to one machine. A missing name costs a wait of a minute after a crash.
const LOCAL: [&str; 9] = ["ext4", "xfs", "btrfs", "bcachefs", "f2fs", "zfs", "overlay", "tmpfs", "ramfs"];

/// This process's identity for a lease in this store; `None` if other machines may share the store.
async fn this_process(store: &Store) -> Option<Process> {
    if !store.is_disk() {
        return None;
    }
    // A service or a network file system may be shared by machines that are copies of each other, with the same ids.
    let file_system = store.status().await.ok()?.file_system?;
    is_local(&file_system).then(Process::this).flatten()
}

fn is_local(file_system: &str) -> bool {
    LOCAL.contains(&file_system)
}

impl<'a> Lease<'a> {
    /// Takes the lease; `None` while another holder has it. A lease of the same holder, from an attempt whose outcome was
    /// unknown, is no obstacle.
    pub(crate) async fn acquire(
        store: &'a Store,
        key: Key,
        clock: &'a Clock,
        holder: Uuid,
    ) -> Result<Option<Self>, StoreError> {
        let lease = Self::new(store, key, clock, Holder::here(store, holder).await, false);
        Ok(lease.take().await?.map(|etag| lease.with(etag)))
    }

    /// Takes the lease for an operation that only deletes, which has to work on a full disk: if there is no space for a
    /// lease, it is enough that none is held. A restore cannot begin there either.
    pub(crate) async fn acquire_to_delete(
        store: &'a Store,
        key: Key,
        clock: &'a Clock,
    ) -> Result<Option<Self>, StoreError> {
        let lease = Self::new(store, key, clock, Holder::here(store, clock.new_id()).await, true);
        match lease.take().await {
            Err(e) if e.kind == ErrorKind::Full => Ok(Some(lease)),
            taken => Ok(taken?.map(|etag| lease.with(etag))),
        }
    }

    fn new(store: &'a Store, key: Key, clock: &'a Clock, holder: Holder, only_deletes: bool) -> Self {
        let (held, renewed) = (tokio::sync::Mutex::default(), Mutex::new(clock.now()));
        let (due, unsure) = (Mutex::new(clock.now() + RENEWAL), AtomicBool::new(false));
        Self { store, key, clock, holder, held, renewed, due, unsure, only_deletes }
    }

    fn with(mut self, held: ETag) -> Self {
        *self.held.get_mut() = Some(held);
        self
    }

    async fn take(&self) -> Result<Option<ETag>, StoreError> {
        let now = self.clock.now();
        let mode = match self.store.read(&self.key).await.optional()? {
            None => PutMode::Create,
            Some((bytes, etag)) => match serde_json::from_slice::<LeaseJson>(&bytes) {
                Ok(other) if other.holder.id != self.holder.id && other.holds(now) => return Ok(None),
                _ => PutMode::Update(etag),
            },
        };
        match self.store.put(&self.key, &LeaseJson::body(&self.holder, now), &mode).await {
            Ok(etag) => Ok(Some(etag)),
            Err(e) if e.is_lost_race() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Renews the lease if that is due; call it often. [`Error::RestoreRunning`] if another process has taken it over.
    /// A short outage of the store ends nothing while the lease holds.
    pub(crate) async fn renew_if_due(&self) -> Result<()> {
        // Without a lease, for lack of space, renew each time: another process may have found space for one since.
        let held = self.held.lock().await.is_some();
        let now = self.clock.now();
        if held && now < *lock(&self.due) {
            return Ok(());
        }
        match self.renew().await {
            Err(Error::Store(e))
                if e.kind == ErrorKind::Unavailable && now.duration_since(*lock(&self.renewed)) < RENEW_GRACE =>
            {
                tracing::warn!(
                    error = &e as &dyn std::error::Error,
                    "a lease could not be renewed; the renewal is retried"
                );
                *lock(&self.due) = now + RETRY;
                Ok(())
            }
            renewed => renewed,
        }
    }

    /// Renews the lease, which proves that it still holds.
    pub(crate) async fn renew(&self) -> Result<()> {
        let now = self.clock.now();
        let mut held = self.held.lock().await;
        let renewed = match held.clone() {
            Some(mut etag) => {
                if self.unsure.load(Ordering::Relaxed) {
                    etag = self.own().await?.ok_or(Error::RestoreRunning)?;
                }
                let body = LeaseJson::body(&self.holder, now);
                self.store.put(&self.key, &body, &PutMode::Update(etag)).await.map(Some)
            }
            None => self.take().await,
        };
        self.unsure.store(matches!(&renewed, Err(e) if e.kind == ErrorKind::Unavailable), Ordering::Relaxed);
        *held = match renewed {
            Ok(Some(etag)) => Some(etag),
            Ok(None) => return Err(Error::RestoreRunning),
            Err(e) if e.kind == ErrorKind::Changed => return Err(Error::RestoreRunning),
            // The next attempt reads who holds it; until then it is as if there had never been space for it.
            Err(e) if e.kind == ErrorKind::Full && self.only_deletes => None,
            Err(e) => return Err(e.into()),
        };
        *lock(&self.renewed) = now;
        *lock(&self.due) = now + RENEWAL;
        Ok(())
    }

    /// Whether the lease still holds, and for long enough to finish the current step. Writes nothing, so that it works
    /// on a full disk too.
    pub(crate) async fn still_holds(&self) -> Result<bool, StoreError> {
        Ok(self.is_in_time() && self.own().await?.is_some())
    }

    /// Whether the last renewal is so recent that no other process can have taken the lease over.
    pub(crate) fn is_in_time(&self) -> bool {
        self.clock.now().duration_since(*lock(&self.renewed)) < RENEW_GRACE
    }

    /// The current version of the lease object, if this process holds it.
    async fn own(&self) -> Result<Option<ETag>, StoreError> {
        let Some((bytes, etag)) = self.store.read(&self.key).await.optional()? else {
            return Ok(None);
        };
        let lease = serde_json::from_slice::<LeaseJson>(&bytes);
        Ok(lease.is_ok_and(|lease| lease.holder.id == self.holder.id).then_some(etag))
    }

    /// Releases the lease; if that fails, it expires. Returns whether this process certainly held it until now: if so,
    /// nobody else has had it since it was taken.
    pub(crate) async fn end(self) -> bool {
        match self.own().await {
            Ok(None) => false,
            Ok(Some(_)) => {
                if let Err(error) = self.store.delete(&self.key).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a lease stays until it expires");
                }
                true
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a lease stays until it expires");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lease_on_a_local_file_system_names_its_process() {
        assert!(["ext4", "xfs", "overlay", "tmpfs"].into_iter().all(is_local));
        assert!(!["nfs", "cifs", "ceph", "9p", "fuse", "something"].into_iter().any(is_local));
    }
}
