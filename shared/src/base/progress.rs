//! [`Progress`]: the progress of a process's long operation, for display.

use store::sync::{AtomicU64, Mutex, Ordering, lock};

/// The progress of an operation. It is only for display: two operations in one process share it.
#[derive(Debug, Default)]
pub struct Progress {
    step: Mutex<&'static str>,
    done: AtomicU64,
    total: AtomicU64,
}

/// A snapshot of [`Progress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The current step, in a word or two; empty before the first.
    pub step: &'static str,
    /// How much of the step is done.
    pub done: u64,
    /// The size of the step; 0 if unknown.
    pub total: u64,
}

impl Progress {
    /// Begins a step with `total` parts; 0 if unknown.
    pub fn begin(&self, step: &'static str, total: u64) {
        self.note(step, 0, total);
    }

    /// Sets the progress of a step that counts its own parts.
    pub fn note(&self, step: &'static str, done: u64, total: u64) {
        *lock(&self.step) = step;
        self.done.store(done, Ordering::SeqCst);
        self.total.store(total, Ordering::SeqCst);
    }

    /// Counts a finished part.
    pub fn advance(&self) {
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    /// The current progress.
    pub fn seen(&self) -> Seen {
        let (done, total) = (self.done.load(Ordering::SeqCst), self.total.load(Ordering::SeqCst));
        Seen { step: *lock(&self.step), done, total }
    }
}
