//! Locks and counters: std's, or shuttle's where `tests/interleavings.rs` decides which thread goes on at each of them.
//!
//! Tokio's own are used as they are. They run on any executor, and a task that waits for one of them waits for shuttle's.

use tokio::runtime::Handle;
use tokio::task::JoinError;

#[cfg(not(feature = "interleavings"))]
pub use std::sync::{
    Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

#[cfg(feature = "interleavings")]
pub use shuttle::sync::{
    Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Runs blocking work off the async threads; in place where no runtime drives the caller, as where a test polls by hand.
pub async fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await,
        Err(_) => Ok(work()),
    }
}

/// A poisoned lock is as good as another: what these guard is never left half changed.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
