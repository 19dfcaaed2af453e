//! Limits the machine resources that making thumbnails may take.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::memory;

/// The unit of the memory permits, in bytes.
const UNIT: u64 = 1024;

/// The limits for making thumbnails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes, for all thumbnails in progress together. A thumbnail that would need more alone is not made.
    pub memory_bytes: u64,
    /// How many are made concurrently.
    pub at_once: usize,
    /// How long a request waits for its permit.
    pub max_wait: Duration,
    /// The size of the thumbnail cache in the primary, in bytes; zero disables it.
    pub cache_bytes: u64,
}

impl Limits {
    /// The least memory of [`of_this_machine`](Self::of_this_machine): enough for a JPEG of 12 megapixels, scaled to 640
    /// pixels.
    pub const LEAST_MEMORY_BYTES: u64 = memory::LEAST;

    /// The limits for what this process may use: memory as the machine and the cgroups allow, and one thumbnail for each
    /// processor of the cgroups' quota. Blocks briefly.
    pub fn of_this_machine() -> Self {
        Self { memory_bytes: memory::budget(memory::available()), ..Self::default() }
    }
}

impl Default for Limits {
    /// Enough memory for the largest accepted JPEG, one thumbnail per processor, and no longer than a person waits.
    fn default() -> Self {
        // Heeds the affinity and, on Linux, the quotas (`cpu.max`, `cpu.cfs_quota_us`) of all cgroups of the process.
        let at_once = std::thread::available_parallelism().map_or(1, usize::from);
        Self { memory_bytes: memory::LARGE_JPEG, at_once, max_wait: Duration::from_secs(20), cache_bytes: 1 << 30 }
    }
}

/// Admits work as long as it stays within the limits.
#[derive(Debug)]
pub(super) struct MemoryPermits {
    memory: Arc<Semaphore>,
    workers: Arc<Semaphore>,
    max_wait: Duration,
}

/// The permit for the requested resources, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit(#[expect(dead_code, reason = "held, not read")] [OwnedSemaphorePermit; 2]);

impl MemoryPermits {
    pub(super) fn new(limits: &Limits) -> Self {
        let units = usize::try_from(limits.memory_bytes / UNIT).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            memory: Arc::new(Semaphore::new(units)),
            workers: Arc::new(Semaphore::new(limits.at_once.max(1))),
            max_wait: limits.max_wait,
        }
    }

    /// Waits, in request order, until this many bytes and a processor are free; `None` if that takes too long. A
    /// dropped future leaves the queue.
    pub(super) async fn enter(&self, bytes: u64) -> Option<Permit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        let both = async {
            // Always in this order, which prevents deadlocks.
            let memory = Arc::clone(&self.memory).acquire_many_owned(units).await.ok()?;
            let worker = Arc::clone(&self.workers).acquire_owned().await.ok()?;
            Some(Permit([memory, worker]))
        };
        timeout(self.max_wait, both).await.ok()?
    }
}
