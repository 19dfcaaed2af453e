//! Changing one object by compare-and-set: with a limit, growing pauses, and a line in the log.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::body::Body;
use crate::error::{ErrorKind, Optional, Result, StoreError};
use crate::handle::Store;
use crate::key::Key;
use crate::object::PutMode;

/// How many times a change is tried while other writers, or a service that rejects valid conditions, keep it from
/// succeeding.
const TRIES: u32 = 48;
/// This many lost races are usual with concurrent writers; one more is logged.
const USUAL: u32 = 8;
/// The pause after the second lost race; it doubles up to the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
const LAST_PAUSE: Duration = Duration::from_millis(1000);

/// The object before a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It does not exist.
    Absent,
    /// Its bytes.
    Bytes(Bytes),
    /// It exists, but its bytes are damaged.
    Unreadable,
}

/// The change to an object, and the result to return.
#[derive(Debug)]
pub enum Change<T> {
    /// Leaves it unchanged.
    Keep(T),
    /// Replaces it.
    Put(Body, T),
}

impl Store {
    /// Changes an object by compare-and-set, so that no concurrent change is lost: calls `change` with the current
    /// object, and again each time another writer was faster. [`ErrorKind::Unavailable`] if it never succeeds.
    pub async fn update<T, E: From<StoreError>>(
        &self,
        key: &Key,
        mut change: impl FnMut(Found) -> Result<Change<T>, E>,
    ) -> Result<T, E> {
        let mut contention = Contention::new(key);
        loop {
            let (found, mode) = match self.read(key).await {
                Err(e) if e.kind == ErrorKind::Corrupt => match self.head(key).await.optional()? {
                    None => (Found::Absent, PutMode::Create),
                    Some(meta) => (Found::Unreadable, PutMode::Update(meta.etag)),
                },
                read => match read.optional()? {
                    None => (Found::Absent, PutMode::Create),
                    Some((bytes, etag)) => (Found::Bytes(bytes), PutMode::Update(etag)),
                },
            };
            let (body, outcome) = match change(found)? {
                Change::Keep(outcome) => return Ok(outcome),
                Change::Put(body, outcome) => (body, outcome),
            };
            match self.put(key, &body, &mode).await {
                Ok(_) => return Ok(outcome),
                Err(e) if e.is_lost_race() => contention.lost().await?,
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// Counts the races that one change has lost against other writers. Each compare-and-set loop has one.
#[derive(Debug)]
pub struct Contention {
    key: String,
    lost: u32,
}

impl Contention {
    /// No race lost yet.
    pub fn new(key: impl fmt::Display) -> Self {
        Self { key: key.to_string(), lost: 0 }
    }

    /// Counts a lost race, and waits before the next attempt: not after the first, and then up to twice as long each
    /// time. [`ErrorKind::Unavailable`] after the last attempt.
    pub async fn lost(&mut self) -> Result<()> {
        self.lost += 1;
        if self.lost >= TRIES {
            let reason = format!("other writers were quicker {TRIES} times in turn, or the store refuses each change");
            return Err(StoreError::caused("put", &self.key, ErrorKind::Unavailable, reason));
        }
        if self.lost == USUAL {
            tracing::warn!(key = %self.key, lost = self.lost, "a change of an object keeps losing against other writers");
        }
        if self.lost > 1 {
            let longest = FIRST_PAUSE.saturating_mul(1 << (self.lost - 2).min(16)).min(LAST_PAUSE);
            pause(longest.mul_f64(chance())).await;
        }
        Ok(())
    }
}

/// Waits; without a runtime, as in a test that polls by hand, yields once instead.
#[expect(
    clippy::disallowed_methods,
    reason = "writers that met once would meet again, and a service that refuses is spared"
)]
async fn pause(time: Duration) {
    match Handle::try_current() {
        Ok(_) => tokio::time::sleep(time).await,
        Err(_) => tokio::task::yield_now().await,
    }
}

/// A random number from 0 to 1, so that writers that collided do not collide again. No stored data depends on it.
#[expect(clippy::disallowed_methods, reason = "two processes with the same clock must not wait equally long")]
fn chance() -> f64 {
    f64::from(Uuid::new_v4().as_u128() as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::object::ObjectStore;
    use crate::testing::{Fault, FaultStore, MemoryStore, Operation};

    fn key() -> Key {
        Key::new("x").unwrap()
    }

    fn append(byte: u8) -> impl FnMut(Found) -> Result<Change<usize>> {
        move |found| {
            let mut bytes = match found {
                Found::Bytes(bytes) => bytes.to_vec(),
                Found::Absent | Found::Unreadable => Vec::new(),
            };
            bytes.push(byte);
            Ok(Change::Put(Body::from(bytes.clone()), bytes.len()))
        }
    }

    #[tokio::test]
    async fn changes_at_once_all_take_place() {
        let store = Store::new(Arc::new(MemoryStore::new()), &std::env::temp_dir());
        let changes = (0..20).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.update(&key(), append(n)).await })
        });
        let changes: Vec<_> = changes.collect();
        for change in changes {
            change.await.unwrap().unwrap();
        }
        let mut bytes = store.read(&key()).await.unwrap().0.to_vec();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..20).collect::<Vec<u8>>());
    }

    #[test]
    fn a_change_that_is_refused_each_time_ends() {
        // Without a runtime there are no waits.
        futures::executor::block_on(refuse_each_time());
    }

    async fn refuse_each_time() {
        let memory = Arc::new(MemoryStore::new());
        memory.put(&key(), &Body::from(b"1".to_vec()), &PutMode::Create).await.unwrap();
        let refused = |operation: &Operation| (operation.name == "put").then_some(Fault::Before(ErrorKind::Changed));
        let faulty = FaultStore::with_plan(memory, refused);
        let store = Store::new(Arc::new(faulty.clone()), &std::env::temp_dir());
        let error = store.update(&key(), append(2)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert_eq!(faulty.counts()["put"], u64::from(TRIES));
        assert_eq!(store.read(&key()).await.unwrap().0, Bytes::from_static(b"1"));
    }

    #[tokio::test]
    async fn what_stays_as_it_is_is_not_put() {
        let store = Store::new(Arc::new(MemoryStore::new()), &std::env::temp_dir());
        let kept = store.update(&key(), |found| Ok::<_, StoreError>(Change::Keep(found))).await.unwrap();
        assert_eq!(kept, Found::Absent);
        assert!(store.head(&key()).await.is_err());
    }
}
