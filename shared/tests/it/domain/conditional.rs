//! Conditional changes of two processes on one store.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::FutureExt;
use jiff::SignedDuration;

use super::{World, upload_all};
use shared::Error;
use shared::catalog::{CommitError, Entry, Stamp};
use shared::clock::format_millis;
use shared::images::Patch;

fn described(text: &str) -> Patch {
    Patch { description: Some(Some(text.to_owned())), ..Patch::default() }
}

fn expects(stamp: Stamp) -> impl Fn(Option<&Entry>) -> bool {
    move |present| present.is_some_and(|entry| entry.stamp == stamp)
}

const LEASE: &str = "editing.json";
/// How often the condition was checked before the call that holds the lease.
const WITH_LEASE: u32 = 1;

#[tokio::test(start_paused = true)]
async fn an_edit_waits_for_that_of_another_process_and_then_expects_in_vain() {
    let world = World::new();
    let (here, there) = (world.open(), world.open());
    let id = upload_all(&here, 1..2).await.remove(0);
    let stamp = here.images.get(id.as_str()).await.unwrap().1.stamp;
    let patch = described("there");
    let mut second = Box::pin(there.images.edit(id.as_str(), &patch, expects(stamp)));
    let (calls, began) = (AtomicU32::new(0), Mutex::new(&mut second));
    let first = |present: Option<&Entry>| {
        // The first has its lease, has read the state and not stored its change when the second begins.
        if calls.fetch_add(1, Ordering::Relaxed) == WITH_LEASE {
            let outcome = began.lock().unwrap().as_mut().now_or_never();
            assert!(outcome.is_none(), "{outcome:?}");
        }
        present.is_some_and(|entry| entry.stamp == stamp)
    };
    let (_, first) = here.images.edit(id.as_str(), &described("here"), first).await.unwrap();
    assert!(matches!(second.await, Err(Error::Changed)));
    assert_eq!(there.images.get(id.as_str()).await.unwrap().1, first);
    assert!(world.keys(LEASE).await.is_empty(), "the lease is released");
}

#[tokio::test]
async fn an_edit_whose_lease_was_taken_over_is_not_acknowledged() {
    let world = World::new();
    let keepsake = world.open();
    let id = upload_all(&keepsake, 1..2).await.remove(0);
    let stamp = keepsake.images.get(id.as_str()).await.unwrap().1.stamp;
    let calls = AtomicU32::new(0);
    let slow = |present: Option<&Entry>| {
        // This process is stopped here for so long that another one takes its lease over.
        if calls.fetch_add(1, Ordering::Relaxed) == WITH_LEASE {
            world.put(LEASE, lease(&world).as_bytes()).now_or_never().unwrap();
        }
        present.is_some_and(|entry| entry.stamp == stamp)
    };
    let error = keepsake.images.edit(id.as_str(), &described("edited"), slow).await.unwrap_err();
    assert!(matches!(error, Error::Commit(CommitError::Unknown(_))), "{error}");
    assert_eq!(world.keys(LEASE).await.len(), 1, "the other process keeps its lease");
}

#[tokio::test]
async fn the_lease_of_an_edit_that_died_is_taken_over_after_a_minute() {
    let world = World::new();
    let keepsake = world.open();
    let id = upload_all(&keepsake, 1..2).await.remove(0);
    world.put(LEASE, lease(&world).as_bytes()).await;
    let plain = keepsake.images.edit(id.as_str(), &described("plain"), shared::Any).await.unwrap().1;
    world.pass(SignedDuration::from_secs(61));
    keepsake.images.edit(id.as_str(), &described("conditional"), expects(plain.stamp)).await.unwrap();
    assert!(world.keys(LEASE).await.is_empty());
}

/// The lease of another process, taken now.
fn lease(world: &World) -> String {
    let now = format_millis(world.clock.now());
    format!(r#"{{"holder":"00000000-0000-0000-0000-000000000001","renewed":"{now}"}}"#)
}
