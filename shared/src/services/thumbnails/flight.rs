//! [`Flights`]: work that one task does for all who wait for its result.
//!
//! Unlike [`SingleFlight`](crate::base::single_flight::SingleFlight), the work does not belong to the caller that began
//! it: it runs in a task of its own, so that it goes on when that caller stops waiting. While the work can still be
//! given up, it ends when nobody waits for it any more.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::watch;

use store::sync::{Mutex, lock};

/// The results that callers wait for.
type Running<K, V> = Arc<Mutex<HashMap<K, Arc<watch::Sender<Option<V>>>>>>;

/// Work in progress, at most one for each key.
#[derive(Debug)]
pub(super) struct Flights<K, V>(Running<K, V>);

/// The task ended without a result: it panicked, or the runtime is shutting down.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost;

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Clone + Eq + Hash + Send + 'static, V: Clone + Send + Sync + 'static> Flights<K, V> {
    /// The result of the work for this key. If it is in progress, waits for it; otherwise starts it. The work passes
    /// its result to [`Flight::land`], and may go on after that. The result is remembered only until the work ends.
    pub(super) async fn join<W>(&self, key: K, work: impl FnOnce(Arc<Flight<K, V>>) -> W) -> Result<V, Lost>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let (mut result, started) = self.enter(key);
        // Outside of the lock: a flight that is dropped takes it.
        if let Some(flight) = started {
            tokio::spawn(work(Arc::new(flight)));
        }
        let value = result.wait_for(Option::is_some).await.map_err(|_| Lost)?;
        value.clone().ok_or(Lost)
    }

    /// Waits for the work for this key; also returns a new flight if there is none.
    fn enter(&self, key: K) -> (watch::Receiver<Option<V>>, Option<Flight<K, V>>) {
        let mut running = lock(&self.0);
        if let Some(sender) = running.get(&key) {
            return (sender.subscribe(), None);
        }
        let (sender, result) = watch::channel(None);
        let sender = Arc::new(sender);
        running.insert(key.clone(), Arc::clone(&sender));
        (result, Some(Flight { key, sender, running: Arc::clone(&self.0) }))
    }

    /// Whether work for this key is in progress.
    #[cfg(test)]
    pub(super) fn has(&self, key: &K) -> bool {
        lock(&self.0).contains_key(key)
    }
}

/// Work in progress, as its task has it.
#[derive(Debug)]
pub(super) struct Flight<K: Eq + Hash, V> {
    key: K,
    sender: Arc<watch::Sender<Option<V>>>,
    running: Running<K, V>,
}

impl<K: Eq + Hash, V> Flight<K, V> {
    /// Passes the result to all who wait, and to all who come until the work ends.
    pub(super) fn land(&self, value: V) {
        self.sender.send_replace(Some(value));
    }

    /// Does a part of the work that can be given up; `None` as soon as nobody waits for the result. The next caller
    /// then starts anew.
    pub(super) async fn unless_abandoned<T>(&self, part: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = part => Some(done),
            () = self.abandoned() => None,
        }
    }

    async fn abandoned(&self) {
        loop {
            self.sender.closed().await;
            let mut running = lock(&self.running);
            // Callers begin to wait under this lock, so that nobody can between the look and the removal.
            if self.sender.receiver_count() == 0 {
                self.remove(&mut running);
                return;
            }
        }
    }

    /// Removes the entry of this flight, and not that of the next one.
    fn remove(&self, running: &mut HashMap<K, Arc<watch::Sender<Option<V>>>>) {
        if running.get(&self.key).is_some_and(|sender| Arc::ptr_eq(sender, &self.sender)) {
            running.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash, V> Drop for Flight<K, V> {
    fn drop(&mut self) {
        let running = Arc::clone(&self.running);
        self.remove(&mut lock(&running));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::{join_all, poll_immediate};
    use tokio::sync::Semaphore;

    use super::*;

    /// Work that counts its starts, and passes a gate before and after the point where it can be given up.
    struct Gated {
        flights: Flights<u8, usize>,
        starts: Arc<AtomicUsize>,
        first: Arc<Semaphore>,
        second: Arc<Semaphore>,
    }

    impl Gated {
        fn new(first: usize, second: usize) -> Self {
            let gate = |permits| Arc::new(Semaphore::new(permits));
            Self { flights: Flights::default(), starts: Arc::default(), first: gate(first), second: gate(second) }
        }

        async fn join(&self) -> Result<usize, Lost> {
            let (starts, first, second) = (self.starts.clone(), self.first.clone(), self.second.clone());
            let work = |flight: Arc<Flight<u8, usize>>| async move {
                let start = starts.fetch_add(1, Ordering::SeqCst) + 1;
                let Some(Ok(passed)) = flight.unless_abandoned(first.acquire()).await else { return };
                passed.forget();
                if let Ok(passed) = second.acquire().await {
                    passed.forget();
                    flight.land(start);
                }
            };
            self.flights.join(7, work).await
        }

        /// Lets the task run until it has done this many starts and taken what the gates allow.
        async fn settle(&self, starts: usize) {
            while self.starts.load(Ordering::SeqCst) < starts || self.first.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn all_who_wait_get_one_result_and_the_next_starts_anew() {
        let gated = Gated::new(1, 0);
        let open = async { gated.second.add_permits(1) };
        let (results, ()) = tokio::join!(join_all((0..4).map(|_| gated.join())), open);
        assert_eq!(results, [Ok(1), Ok(1), Ok(1), Ok(1)]);
        while gated.flights.has(&7) {
            tokio::task::yield_now().await;
        }
        gated.first.add_permits(1);
        gated.second.add_permits(1);
        assert_eq!(gated.join().await, Ok(2), "the result is not remembered");
    }

    #[tokio::test]
    async fn work_past_its_last_exit_goes_on_when_its_first_caller_is_gone() {
        let gated = Gated::new(1, 0);
        let mut first = Box::pin(gated.join());
        assert!(poll_immediate(first.as_mut()).await.is_none());
        gated.settle(1).await;
        drop(first);
        let mut second = pin!(gated.join());
        assert!(poll_immediate(second.as_mut()).await.is_none());
        gated.second.add_permits(1);
        assert_eq!(second.await, Ok(1), "the same run");
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_given_up_before_its_last_exit() {
        let gated = Gated::new(0, 1);
        let mut first = Box::pin(gated.join());
        assert!(poll_immediate(first.as_mut()).await.is_none());
        gated.settle(1).await;
        drop(first);
        while gated.flights.has(&7) {
            tokio::task::yield_now().await;
        }
        gated.first.add_permits(1);
        assert_eq!(gated.join().await, Ok(2), "a run of its own");
    }

    #[tokio::test]
    async fn work_goes_on_for_a_caller_who_came_before_the_first_left() {
        let gated = Gated::new(0, 1);
        let mut first = Box::pin(gated.join());
        assert!(poll_immediate(first.as_mut()).await.is_none());
        gated.settle(1).await;
        let mut second = pin!(gated.join());
        assert!(poll_immediate(second.as_mut()).await.is_none());
        drop(first);
        gated.first.add_permits(1);
        assert_eq!(second.await, Ok(1));
    }

    #[tokio::test]
    async fn a_task_that_panics_is_lost_and_holds_up_nobody() {
        let flights = Flights::<u8, ()>::default();
        assert_eq!(flights.join(1, |_| async { panic!("on purpose") }).await, Err(Lost));
        assert_eq!(flights.join(1, |flight| async move { flight.land(()) }).await, Ok(()));
    }
}
