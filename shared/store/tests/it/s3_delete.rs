//! Deleting one version in a bucket: what is sent, and what the answers mean.

use store::{ErrorKind, ObjectMeta, ObjectStore, S3Store};

use crate::backend::{client, key};
use crate::wire::{Reply, Request, Server};

async fn serving(script: impl Fn(usize, &[Request]) -> Reply + Send + Sync + 'static) -> (Server, S3Store) {
    let server = Server::start(script).await;
    let store = client(&server.endpoint, "bucket");
    (server, store)
}

/// The version that the server's HEAD tells of.
async fn version(store: &S3Store) -> ObjectMeta {
    store.head(&key("x")).await.unwrap()
}

async fn delete(store: &S3Store, version: &ObjectMeta) -> Result<(), ErrorKind> {
    store.delete_version(version).await.map_err(|e| e.kind)
}

fn is_delete(requests: &[Request]) -> bool {
    requests.last().is_some_and(|request| request.method == "DELETE")
}

#[tokio::test]
async fn version_is_checked_then_deleted_conditionally() {
    let (server, store) =
        serving(|_, sent| if is_delete(sent) { Reply::status(204) } else { Reply::object("e", b"x") }).await;
    let version = version(&store).await;
    assert_eq!(delete(&store, &version).await, Ok(()));
    assert_eq!(server.methods(), "HEAD HEAD DELETE");
    assert_eq!(server.requests()[2].header("if-match"), "\"e\"");
}

#[tokio::test]
async fn the_same_bytes_put_at_another_time_are_another_version() {
    let (server, store) = serving(|_, _| Reply::object("e", b"x")).await;
    let mut version = version(&store).await;
    version.modified -= jiff::SignedDuration::from_secs(1);
    assert_eq!(delete(&store, &version).await, Err(ErrorKind::Changed));
    assert_eq!(server.methods(), "HEAD HEAD", "nothing was deleted");
}

#[tokio::test]
async fn what_changed_or_went_between_the_look_and_the_delete_is_changed() {
    for reply in [Reply::error(412, "PreconditionFailed"), Reply::error(404, "NoSuchKey")] {
        let (_, store) =
            serving(move |_, sent| if is_delete(sent) { reply.clone() } else { Reply::object("e", b"x") }).await;
        let version = version(&store).await;
        assert_eq!(delete(&store, &version).await, Err(ErrorKind::Changed));
    }
}

#[tokio::test]
async fn a_failed_condition_after_a_lost_reply_may_be_ones_own_doing() {
    let deletes = |sent: &[Request]| sent.iter().filter(|request| request.method == "DELETE").count();
    let (server, store) = serving(move |_, sent| match (is_delete(sent), deletes(sent)) {
        (false, _) => Reply::object("e", b"x"),
        (true, 1) => Reply::Lost,
        (true, _) => Reply::error(412, "PreconditionFailed"),
    })
    .await;
    let version = version(&store).await;
    assert_eq!(delete(&store, &version).await, Err(ErrorKind::Unavailable));
    assert_eq!(server.methods(), "HEAD HEAD DELETE DELETE");
}
