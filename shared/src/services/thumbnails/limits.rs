//! What making thumbnails may take of a machine.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::memory;

/// What memory is counted in, in bytes.
const UNIT: u64 = 1024;

/// What making thumbnails may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes, for all that are made at a time. What would need more by itself is not made.
    pub memory_bytes: u64,
    /// How many are made at a time.
    pub at_once: usize,
    /// How long a request waits for its turn.
    pub patience: Duration,
    /// How many bytes of them are kept in the primary for whoever asks next; zero keeps none.
    pub cache_bytes: u64,
}

impl Limits {
    /// The default limits, with less memory where this process may use little of it in all. Blocks for a moment.
    pub fn of_this_machine() -> Self {
        let limits = Self::default();
        Self { memory_bytes: memory::budget(limits.memory_bytes, memory::available()), ..limits }
    }
}

impl Default for Limits {
    /// Enough for the largest JPEG that is taken, one for each processor, and no longer than a person waits.
    fn default() -> Self {
        let at_once = std::thread::available_parallelism().map_or(1, usize::from);
        Self { memory_bytes: 384 << 20, at_once, patience: Duration::from_secs(20), cache_bytes: 1 << 30 }
    }
}

/// Lets so many in at a time that they do not take more than the limits.
#[derive(Debug)]
pub(super) struct MemoryPermits {
    memory: Arc<Semaphore>,
    workers: Arc<Semaphore>,
    patience: Duration,
}

/// The right to take what was asked for, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn(#[expect(dead_code, reason = "held, not read")] [OwnedSemaphorePermit; 2]);

impl MemoryPermits {
    pub(super) fn new(limits: &Limits) -> Self {
        let units = usize::try_from(limits.memory_bytes / UNIT).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            memory: Arc::new(Semaphore::new(units)),
            workers: Arc::new(Semaphore::new(limits.at_once.max(1))),
            patience: limits.patience,
        }
    }

    /// Waits, in the order of asking, until so many bytes and a processor are free; `None` where that takes too long. Who
    /// stops waiting leaves the queue.
    pub(super) async fn enter(&self, bytes: u64) -> Option<Turn> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        let both = async {
            // Always in this order, so that nobody waits for somebody who waits for him.
            let memory = Arc::clone(&self.memory).acquire_many_owned(units).await.ok()?;
            let worker = Arc::clone(&self.workers).acquire_owned().await.ok()?;
            Some(Turn([memory, worker]))
        };
        timeout(self.patience, both).await.ok()?
    }
}
