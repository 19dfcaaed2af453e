//! Which operations a meter records, once each.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use store::digest::Digest;
use store::testing::{Fault, FaultStore, MemoryStore};
use store::{Body, ErrorKind, Meter, ObjectStore, PutMode, ServedAs, Store, Terms};

use crate::backend::{client, key, put, read};
use crate::s3_server;

#[derive(Debug, Default)]
struct Notes(Mutex<Vec<(&'static str, Option<ErrorKind>)>>);

impl Meter for Notes {
    fn note(&self, operation: &'static str, failure: Option<ErrorKind>, _took: Duration) {
        self.0.lock().unwrap().push((operation, failure));
    }
}

impl Notes {
    fn take(&self) -> Vec<(&'static str, Option<ErrorKind>)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn metered(inner: impl ObjectStore + 'static) -> (Store, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let store = Store::new(Arc::new(inner), &std::env::temp_dir());
    (store.metered(Arc::clone(&notes) as _), notes)
}

#[tokio::test]
async fn each_operation_is_noted_once_with_how_it_ended() {
    let (store, notes) = metered(MemoryStore::new());
    put(&store, "a", b"bytes").await;
    assert_eq!(notes.take(), [("put", None)]);
    assert_eq!(read(&store, "a").await, b"bytes");
    assert_eq!(notes.take(), [("get", None), ("read", None)]);
    assert!(store.get(&key("b"), None).await.is_err());
    assert_eq!(notes.take(), [("get", Some(ErrorKind::NotFound))]);
    assert!(store.put(&key("a"), &Body::from(Vec::new()), &PutMode::Create).await.is_err());
    assert_eq!(notes.take(), [("put", Some(ErrorKind::AlreadyExists))]);
    assert_eq!(store.list("", None).count().await, 1);
    assert_eq!(notes.take(), [("list", None)]);
    store.delete(&key("a")).await.unwrap();
    assert_eq!(notes.take(), [("delete", None)]);
}

#[tokio::test]
async fn truncated_body_counts_as_failed_read_and_dropped_body_as_read() {
    let plan = |operation: &store::testing::Operation| (operation.name == "get").then_some(Fault::Truncate(2));
    let (store, notes) = metered(FaultStore::with_plan(Arc::new(MemoryStore::new()), plan));
    put(&store, "a", b"bytes").await;
    notes.take();
    assert!(store.read(&key("a")).await.is_err());
    assert_eq!(notes.take(), [("get", None), ("read", Some(ErrorKind::Unavailable))]);
    drop(store.get(&key("a"), None).await.unwrap());
    assert_eq!(notes.take(), [("get", None), ("read", None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_that_only_a_bucket_has_are_noted_too() {
    let (_folder, endpoint) = s3_server::start().await;
    let (store, notes) = metered(client(&endpoint, s3_server::BUCKET));
    let (from, to, digest) = (key("from"), key("to"), Digest::of(b"bytes"));
    put(&store, "from", b"bytes").await;
    assert_eq!(store.digest(&from).await.unwrap().1, digest);
    store.copy_to(&from, &store, &to, digest, None).await.unwrap();
    let hour = Duration::from_secs(3600);
    let served = ServedAs { content_type: "image/png", disposition: None };
    assert!(store.signed_url(&from, served, hour).await.unwrap().is_some());
    let terms = Terms { size: 5, digest, content_type: "image/png".to_owned() };
    assert!(store.signed_put(&key("new"), &terms, hour).await.unwrap().is_some());
    let operations: Vec<_> = notes.take().into_iter().map(|(operation, _)| operation).collect();
    assert_eq!(operations, ["put", "head", "copy", "sign", "sign"]);
}
