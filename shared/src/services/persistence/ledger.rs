//! The ledger of starts: the list of instances that have started with a location, stored in that location.
//!
//! Each location has its own ledger, which is never copied from another's: an instance in the ledger proves that the
//! location itself has outlived it. The ledger also serves as the location's mark, and records which locations were
//! volumes, and where.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Instance, Persistence, Volume};
use crate::base::clock::millis;
use crate::base::seal;
use crate::core::error::Result;
use crate::layout;
use store::{Body, Contention, ErrorKind, Optional, PutMode, Store};

/// Instances that are recorded besides the first.
const NEWEST: usize = 20;

/// The ledger of one location; sealed JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ledger {
    /// The locations that were file systems of their own at the last start.
    pub(super) volumes: Vec<Volume>,
    /// The number of instances dropped between the first and the second of `starts`.
    forgotten: u64,
    /// The first instance and the newest ones, in chronological order.
    starts: Vec<Start>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Start {
    #[serde(flatten)]
    instance: Instance,
    #[serde(with = "millis")]
    first: Timestamp,
    #[serde(with = "millis")]
    last: Timestamp,
    /// How often its process has started.
    count: u64,
}

/// Proof that a location has outlived an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlived {
    /// The oldest known instance.
    pub instance: Instance,
    /// When it first started here.
    pub since: Timestamp,
    /// How many later instances have replaced one another.
    pub changes: u64,
}

impl Ledger {
    /// Records a start of `instance`.
    fn note(&mut self, instance: &Instance, now: Timestamp) {
        match self.starts.iter_mut().find(|start| start.instance == *instance) {
            Some(start) => (start.last, start.count) = (now, start.count.saturating_add(1)),
            None => self.starts.push(Start { instance: instance.clone(), first: now, last: now, count: 1 }),
        }
        if self.starts.len() > NEWEST + 1 {
            self.starts.remove(1);
            self.forgotten = self.forgotten.saturating_add(1);
        }
    }

    /// What the location has outlived, as of a recorded start of `instance`.
    pub(super) fn outlived(&self, instance: &Instance) -> Option<Outlived> {
        let at = self.starts.iter().position(|start| start.instance != *instance)?;
        let forgotten = if at == 0 { self.forgotten } else { 0 };
        let start = &self.starts[at];
        let changes = (self.starts.len() - at - 1) as u64 + forgotten;
        // If it ran between two starts of this instance, this instance has replaced it.
        Some(Outlived { instance: start.instance.clone(), since: start.first, changes: changes.max(1) })
    }
}

/// The ledger of a location; `None` if it is missing or damaged.
pub(super) async fn read(store: &Store) -> Result<Option<Ledger>> {
    let read = store.read(&layout::starts()).await.intact()?;
    Ok(read.and_then(|(bytes, _)| seal::open(&bytes)))
}

impl Persistence {
    /// Records this start in a location, and returns what the location has outlived. A damaged ledger is set aside and
    /// started again; one that cannot be written is still read.
    pub(super) async fn note_start_in(&self, store: &Store, volumes: &[Volume]) -> Result<Option<Outlived>> {
        let (key, instance) = (layout::starts(), self.deployment().and_then(|known| known.instance.as_ref()));
        let mut contention = Contention::new(&key);
        loop {
            let (ledger, mode) = match store.read(&key).await {
                Err(error) if error.kind == ErrorKind::Corrupt => (None, PutMode::Update(store.head(&key).await?.etag)),
                read => match read.optional()? {
                    None => (Some(Ledger::default()), PutMode::Create),
                    Some((bytes, etag)) => (seal::open(&bytes), PutMode::Update(etag)),
                },
            };
            let damaged = ledger.is_none();
            let mut ledger = ledger.unwrap_or_default();
            ledger.volumes = volumes.to_vec();
            instance.iter().for_each(|instance| ledger.note(instance, self.core.clock.now()));
            let outlived = instance.and_then(|instance| ledger.outlived(instance));
            if self.fenced().is_some() {
                return Ok(outlived);
            }
            if damaged {
                tracing::error!(%key, "a ledger of starts is damaged; a new one is begun");
                if let Err(error) = self.core.archive.quarantine(store, &key).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the damaged ledger could not be quarantined"
                    );
                }
            }
            match store.put(&key, &Body::from(seal::seal(&ledger)), &mode).await {
                Ok(_) => return Ok(outlived),
                Err(error) => {
                    let error = if error.is_lost_race() { contention.lost().await.err() } else { Some(error) };
                    if let Some(error) = error {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(
                            error,
                            "this start could not be recorded, so the next one may not take it into account"
                        );
                        return Ok(outlived);
                    }
                }
            }
        }
    }
}
