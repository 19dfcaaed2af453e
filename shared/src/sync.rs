//! Locks and counters: std's, or shuttle's where `tests/interleavings.rs` decides which thread goes on at each of them.
//!
//! Tokio's own are used as they are. They run on any executor, and a task that waits for one of them waits for shuttle's.

#[cfg(not(feature = "interleavings"))]
pub(crate) use std::sync::{
    Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicU64, Ordering},
};

#[cfg(feature = "interleavings")]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicU64, Ordering},
};

#[cfg(not(feature = "interleavings"))]
pub(crate) use tokio::task::spawn_blocking;

/// There is no thread for it that shuttle knows of, so the work is done in place.
#[cfg(feature = "interleavings")]
pub(crate) async fn spawn_blocking<T>(work: impl FnOnce() -> T) -> Result<T, tokio::task::JoinError> {
    Ok(work())
}

/// A poisoned lock is as good as another: what these guard is never left half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
