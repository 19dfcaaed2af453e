//! [`Progress`]: how far the long operation is that a process runs, for whoever watches it.

use store::sync::{AtomicU64, Mutex, Ordering, lock};

/// How far an operation is. It counts for a person who waits, and nothing depends on it: where two operations run in one
/// process, they count into each other.
#[derive(Debug, Default)]
pub struct Progress {
    step: Mutex<&'static str>,
    done: AtomicU64,
    total: AtomicU64,
}

/// What [`Progress`] was at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// What is being done, in a word or two; empty before anything has begun.
    pub step: &'static str,
    /// How much of it is done.
    pub done: u64,
    /// How much there is to do; 0 where nobody knows.
    pub total: u64,
}

impl Progress {
    /// Begins with a step of so many parts; 0 where it is not known how many.
    pub fn begin(&self, step: &'static str, total: u64) {
        self.note(step, 0, total);
    }

    /// Takes over how far something is that counts for itself.
    pub fn note(&self, step: &'static str, done: u64, total: u64) {
        *lock(&self.step) = step;
        self.done.store(done, Ordering::SeqCst);
        self.total.store(total, Ordering::SeqCst);
    }

    /// Takes note of a part that is done.
    pub fn advance(&self) {
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    /// How far it is.
    pub fn seen(&self) -> Seen {
        let (done, total) = (self.done.load(Ordering::SeqCst), self.total.load(Ordering::SeqCst));
        Seen { step: *lock(&self.step), done, total }
    }
}
