//! [`SingleFlight`]: work that many callers need at once and one of them does for all.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use store::sync::{AtomicU64, Mutex, Ordering, lock};

/// How long a caller waits for the run before its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Work that is done once for all concurrent callers.
///
/// A caller gets the success only of a run that began after the call, so that the run includes everything that existed
/// before the call. It gets the failure of any run that ended after the call: if a store does not answer, the waiting
/// callers fail together and not one after the other.
#[derive(Debug)]
pub(crate) struct SingleFlight<E> {
    running: tokio::sync::Mutex<()>,
    /// Runs are numbered from 1: the last one that began, that succeeded and that ended.
    begun: AtomicU64,
    succeeded: AtomicU64,
    ended: AtomicU64,
    /// The last run that failed, and why.
    failure: Mutex<Option<(u64, Arc<E>)>>,
    max_wait: Duration,
}

/// Why a caller did not get what it needed.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    /// The run failed.
    Failed(Arc<E>),
    /// The run before it did not end in time.
    TimedOut,
}

impl<E> Default for SingleFlight<E> {
    fn default() -> Self {
        let (begun, succeeded, ended) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let (running, failure) = (tokio::sync::Mutex::default(), Mutex::new(None));
        Self { running, begun, succeeded, ended, failure, max_wait: PATIENCE }
    }
}

impl<E> SingleFlight<E> {
    /// Does the work, or waits for another caller that does it.
    pub(crate) async fn run(&self, work: impl Future<Output = Result<(), E>>) -> Result<(), Failure<E>> {
        let (begun, ended) = (self.begun.load(Ordering::SeqCst), self.ended.load(Ordering::SeqCst));
        let _guard = within(self.max_wait, self.running.lock()).await.ok_or(Failure::TimedOut)?;
        if self.succeeded.load(Ordering::SeqCst) > begun {
            return Ok(());
        }
        if let Some((run, reason)) = &*lock(&self.failure)
            && *run > ended
        {
            return Err(Failure::Failed(Arc::clone(reason)));
        }
        let run = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let outcome = match work.await {
            Ok(()) => {
                self.succeeded.store(run, Ordering::SeqCst);
                Ok(())
            }
            Err(reason) => {
                let reason = Arc::new(reason);
                *lock(&self.failure) = Some((run, Arc::clone(&reason)));
                Err(Failure::Failed(reason))
            }
        };
        self.ended.store(run, Ordering::SeqCst);
        outcome
    }
}

/// Waits for at most `limit`; without a limit if there is no runtime, as in a test that polls by hand.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    match Handle::try_current() {
        Ok(_) => tokio::time::timeout(limit, work).await.ok(),
        Err(_) => Some(work.await),
    }
}

#[cfg(all(test, not(feature = "interleavings")))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Semaphore;

    use super::*;

    /// Fails once `gate` opens, and counts the runs.
    async fn fail(flight: &SingleFlight<&'static str>, gate: &Semaphore, runs: &AtomicUsize) -> &'static str {
        let work = async {
            runs.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.expect("the gate is never closed").forget();
            Err("away")
        };
        match flight.run(work).await {
            Ok(()) => "done",
            Err(Failure::Failed(reason)) => *reason,
            Err(Failure::TimedOut) => "timed out",
        }
    }

    #[tokio::test]
    async fn callers_who_wait_share_a_failure_and_later_ones_try_again() {
        let (flight, gate, runs) = (SingleFlight::default(), Semaphore::new(0), AtomicUsize::new(0));
        let open = async { gate.add_permits(1) };
        let callers = futures::future::join_all((0..4).map(|_| fail(&flight, &gate, &runs)));
        let (outcomes, ()) = tokio::join!(callers, open);
        assert_eq!((outcomes, runs.load(Ordering::SeqCst)), (vec!["away"; 4], 1));
        gate.add_permits(1);
        assert_eq!((fail(&flight, &gate, &runs).await, runs.load(Ordering::SeqCst)), ("away", 2));
    }

    #[tokio::test]
    async fn a_caller_does_not_wait_without_end_for_another() {
        let (gate, runs) = (Semaphore::new(0), AtomicUsize::new(0));
        let flight = SingleFlight { max_wait: Duration::ZERO, ..SingleFlight::default() };
        tokio::select! {
            biased;
            _ = fail(&flight, &gate, &runs) => panic!("the store does not answer"),
            outcome = fail(&flight, &gate, &runs) => assert_eq!(outcome, "timed out"),
        }
    }

    #[tokio::test]
    async fn a_caller_does_not_share_the_success_of_a_run_begun_before_it() {
        let flight: SingleFlight<&str> = SingleFlight::default();
        let (gate, runs) = (Semaphore::new(0), AtomicUsize::new(0));
        let succeed = || {
            flight.run(async {
                runs.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                Ok(())
            })
        };
        let open = async { gate.add_permits(3) };
        let (first, second, third, ()) = tokio::join!(succeed(), succeed(), succeed(), open);
        assert!(first.is_ok() && second.is_ok() && third.is_ok());
        assert_eq!(runs.load(Ordering::SeqCst), 2, "the third shares the run of the second");
    }
}
