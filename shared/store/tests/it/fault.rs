//! The store that fails on demand: what tests that step through every interleaving rely on.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::future::FutureExt;
use futures::stream::{StreamExt, TryStreamExt};
use store::digest::Digest;
use store::testing::{Fault, FaultStore, MemoryStore, Operation};
use store::{Address, Body, ErrorKind, ObjectStore, Optional, PutMode, Result};

use crate::backend::key;

#[derive(Default)]
struct Wakes(AtomicU64);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Polls by hand until the future is ready; returns how often it was pending, having woken its task each time.
fn step<T>(future: impl Future<Output = T>) -> (u64, T) {
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut future = pin!(future);
    let mut pending = 0;
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return (pending, output),
            Poll::Pending => pending += 1,
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), pending, "it waits for something that will not come");
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    step(future).1
}

fn body(bytes: &[u8]) -> Body {
    bytes.to_vec().into()
}

#[test]
fn every_operation_yields_once_and_needs_no_runtime() {
    let store = FaultStore::new(Arc::new(MemoryStore::new()));
    let x = key("x");
    assert_eq!(step(store.put(&x, &body(b"1"), &PutMode::Create)).0, 1);
    assert_eq!(step(store.get(&x, None)).0, 1);
    assert_eq!(step(store.head(&x)).0, 1);
    assert_eq!(step(store.list("", None).try_collect::<Vec<_>>()).0, 1);
    let elsewhere = Address { service: "another".to_owned(), bucket: "b".to_owned(), key: x.clone() };
    assert_eq!(step(store.copy_from(&elsewhere, &key("y"), Digest::of(b"1"), None)).0, 1);
    assert_eq!(step(store.status()).0, 1);
    assert_eq!(step(store.delete(&x)).0, 1);
    let counts: Vec<_> = store.counts().into_iter().collect();
    assert_eq!(counts, [("copy", 1), ("delete", 1), ("get", 1), ("head", 1), ("list", 1), ("put", 1), ("status", 1)]);
}

#[test]
fn what_is_dropped_at_its_yield_never_happened() {
    let memory = Arc::new(MemoryStore::new());
    let store = FaultStore::new(memory.clone());
    let (x, one) = (key("x"), body(b"1"));
    {
        let mut put = store.put(&x, &one, &PutMode::Create);
        assert!(put.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert!(run(memory.head(&x)).optional().unwrap().is_none());
    assert!(store.counts().is_empty());
}

#[test]
fn a_listing_is_taken_as_a_whole_after_its_yield() {
    let memory = Arc::new(MemoryStore::new());
    let store = FaultStore::new(memory.clone());
    run(memory.put(&key("a"), &body(b"1"), &PutMode::Create)).unwrap();
    let mut listing = store.list("", None);
    assert!(listing.next().poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
    run(memory.put(&key("b"), &body(b"2"), &PutMode::Create)).unwrap();
    assert_eq!(step(listing.next()).1.unwrap().unwrap().key, key("a"));
    run(memory.put(&key("c"), &body(b"3"), &PutMode::Create)).unwrap();
    assert_eq!(step(listing.next()).1.unwrap().unwrap().key, key("b"));
    assert!(run(listing.next()).is_none(), "c came after the listing was taken");
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|e| e.kind)
}

#[test]
fn a_fault_comes_before_or_after_the_operation() {
    let memory = Arc::new(MemoryStore::new());
    let plan = |operation: &Operation| match (operation.sequence, operation.name) {
        (0, "put") => Some(Fault::Before(ErrorKind::Full)),
        (1, "put") => Some(Fault::After(ErrorKind::Unavailable)),
        (2, "list") => Some(Fault::Before(ErrorKind::Unavailable)),
        (3, "list") => Some(Fault::After(ErrorKind::Unavailable)),
        (4, "delete") if operation.key == "y" => Some(Fault::After(ErrorKind::Unavailable)),
        _ => None,
    };
    let store = FaultStore::with_plan(memory.clone(), plan);
    assert_eq!(kind(run(store.put(&key("x"), &body(b"1"), &PutMode::Create))), Some(ErrorKind::Full));
    assert_eq!(kind(run(store.put(&key("y"), &body(b"2"), &PutMode::Create))), Some(ErrorKind::Unavailable));
    let there = |name: &str| run(memory.head(&key(name))).optional().unwrap().is_some();
    assert!(!there("x") && there("y"));
    for _ in 0..2 {
        let listed: Vec<_> = run(store.list("", None).collect());
        assert_eq!(listed.len(), 1);
        assert_eq!(kind(listed.into_iter().next().unwrap()), Some(ErrorKind::Unavailable));
    }
    assert_eq!(kind(run(store.delete(&key("y")))), Some(ErrorKind::Unavailable));
    assert!(!there("y"));
}

#[test]
fn a_late_change_takes_place_when_it_is_delivered_and_not_before() {
    let memory = Arc::new(MemoryStore::new());
    run(memory.put(&key("old"), &body(b"1"), &PutMode::Create)).unwrap();
    let store = FaultStore::with_plan(Arc::clone(&memory) as _, |_| Some(Fault::Late));
    let kind = |result: Result<()>| result.unwrap_err().kind;
    assert_eq!(kind(run(store.put(&key("new"), &body(b"2"), &PutMode::Create)).map(drop)), ErrorKind::Unavailable);
    assert_eq!(kind(run(store.delete(&key("old")))), ErrorKind::Unavailable);
    assert_eq!(kind(run(store.head(&key("old"))).map(drop)), ErrorKind::Unavailable);
    let there = |name: &str| run(memory.head(&key(name))).optional().unwrap().is_some();
    assert!(!there("new") && there("old"));
    assert_eq!(run(store.deliver()), Some(("put", key("new"))));
    assert!(there("new") && there("old"));
    assert_eq!(run(store.deliver()), Some(("delete", key("old"))));
    assert!(!there("old"));
    assert_eq!(run(store.deliver()), None);
}

#[test]
fn a_gate_lets_operations_pass_one_by_one() {
    let (asked, memory) = (Arc::new(AtomicU64::new(0)), Arc::new(MemoryStore::new()));
    let gate = {
        let asked = Arc::clone(&asked);
        move || asked.fetch_add(1, Ordering::Relaxed) % 3 == 2
    };
    let store = FaultStore::with_gate(memory, |_| None, gate);
    assert_eq!(step(store.put(&key("x"), &body(b"1"), &PutMode::Create)).0, 3);
    assert_eq!((step(store.head(&key("x"))).0, asked.load(Ordering::Relaxed)), (3, 6));
}

#[test]
fn a_torn_body_ends_with_an_error() {
    for length in [0, 1, 4, 5, 9] {
        let store = FaultStore::with_plan(Arc::new(MemoryStore::new()), move |_| Some(Fault::Truncate(length)));
        run(store.put(&key("x"), &body(b"12345"), &PutMode::Create)).unwrap();
        let chunks: Vec<_> = run(run(store.get(&key("x"), None)).unwrap().body.collect());
        let (torn, whole) = chunks.split_last().unwrap();
        let bytes: Vec<_> = whole.iter().flat_map(|chunk| chunk.as_ref().unwrap().to_vec()).collect();
        assert_eq!(bytes, b"12345"[..(length as usize).min(5)]);
        assert_eq!(torn.as_ref().unwrap_err().kind, ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn the_same_bytes_put_again_are_another_version() {
    crate::contract::s14_the_same_bytes_put_again_are_another_version(&crate::backend::memory().await).await;
    crate::contract::s14_the_same_bytes_put_again_are_another_version(&crate::backend::faulty_memory().await).await;
}
