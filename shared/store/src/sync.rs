//! Locks and counters: those of std, or those of shuttle where `tests/interleavings.rs` schedules the threads.
//!
//! Tokio's own are used unchanged: they run on any executor, and a task that waits for one of them waits for shuttle's.

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

/// Runs blocking work off the async threads; runs it inline if there is no runtime, as in a test that polls by hand.
pub async fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await,
        Err(_) => Ok(work()),
    }
}

/// Ignores poisoning: guarded values are never left half updated.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
