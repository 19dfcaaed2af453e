//! Changes whose outcome the client was not told: what a reader sees afterwards is what stays.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, Waker};

use jiff::SignedDuration;

use super::{World, seen, upload};
use shared::catalog::CommitError;
use shared::images::Patch;
use shared::store::testing::{Fault, FaultStore, Operation};
use shared::store::{ErrorKind, Key};
use shared::{Error, Keepsake};

const COMMIT: &str = "image-metadata.d/";
const MIRRORED: &str = "backups/image-metadata.d/";

/// Which operations fail, and how.
type Plan = fn(&Operation) -> Option<Fault>;

/// Ways in which the outcome of a commit stays unknown.
const PLANS: [(&str, Plan); 5] = [
    ("the primary cannot be written", |operation| {
        let hit = operation.name == "put" && operation.key.starts_with(COMMIT);
        hit.then_some(Fault::Before(ErrorKind::Unavailable))
    }),
    ("the reply of the primary is lost", |operation| {
        let hit = operation.name == "put" && operation.key.starts_with(COMMIT);
        hit.then_some(Fault::After(ErrorKind::Unavailable))
    }),
    ("the primary is full and nothing can be deleted", |operation| match operation.name {
        "put" if operation.key.starts_with(COMMIT) => Some(Fault::Before(ErrorKind::Full)),
        "delete" => Some(Fault::Before(ErrorKind::Unavailable)),
        _ => None,
    }),
    ("the archive cannot be reached", |operation| {
        let hit = operation.key.starts_with(MIRRORED);
        hit.then_some(Fault::Before(ErrorKind::Unavailable))
    }),
    ("the replies of the archive are lost", |operation| match operation.name {
        "put" if operation.key.starts_with(MIRRORED) => Some(Fault::After(ErrorKind::Unavailable)),
        "delete" => Some(Fault::Before(ErrorKind::Unavailable)),
        _ => None,
    }),
];

/// A process whose operations fail like this for as long as the switch is on.
fn open(world: &World, plan: Plan) -> (Keepsake, Arc<AtomicBool>) {
    let failing = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&failing);
    (world.open_failing(move |operation| if switch.load(SeqCst) { plan(operation) } else { None }), failing)
}

fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::Commit(CommitError::Unknown(_)))
}

#[tokio::test]
async fn an_upload_of_unknown_outcome_stays_what_a_reader_saw() {
    for (name, plan) in PLANS {
        for looks_while_failing in [false, true] {
            let world = World::new();
            world.open().recovery.recover().await.unwrap();
            let (keepsake, failing) = open(&world, plan);
            failing.store(true, SeqCst);
            let error = upload(&keepsake, 1).await.unwrap_err();
            assert!(is_unknown(&error), "{name}: {error:?}");
            failing.store(looks_while_failing, SeqCst);
            let first = seen(&keepsake).await;
            failing.store(false, SeqCst);
            assert_eq!(seen(&keepsake).await, first, "{name}: once the fault is gone");
            keepsake.replication.compact().await.unwrap();
            let restarted = world.open();
            restarted.recovery.recover().await.unwrap();
            assert_eq!(seen(&restarted).await, first, "{name}: after the next start");
        }
    }
}

#[tokio::test]
async fn an_edit_of_unknown_outcome_stays_what_a_reader_saw() {
    for (name, plan) in PLANS {
        for looks_while_failing in [false, true] {
            let world = World::new();
            world.open().recovery.recover().await.unwrap();
            let (keepsake, failing) = open(&world, plan);
            let id = upload(&keepsake, 1).await.unwrap().images[0].0.clone();
            failing.store(true, SeqCst);
            let patch = Patch { description: Some(Some("changed".to_owned())), ..Patch::default() };
            let error = keepsake.images.edit(id.as_str(), &patch, shared::Any).await.unwrap_err();
            assert!(is_unknown(&error), "{name}: {error:?}");
            failing.store(looks_while_failing, SeqCst);
            let first = seen(&keepsake).await;
            failing.store(false, SeqCst);
            keepsake.replication.compact().await.unwrap();
            let restarted = world.open();
            restarted.recovery.recover().await.unwrap();
            assert_eq!(seen(&restarted).await, first, "{name}");
        }
    }
}

#[tokio::test]
async fn an_upload_of_unknown_outcome_is_stored_once_the_store_answers() {
    for (name, plan) in PLANS {
        let world = World::new();
        world.open().recovery.recover().await.unwrap();
        let (keepsake, failing) = open(&world, plan);
        failing.store(true, SeqCst);
        upload(&keepsake, 1).await.unwrap_err();
        failing.store(false, SeqCst);
        assert_eq!(seen(&keepsake).await.len(), 1, "{name}");
        assert_eq!(seen(&world.open()).await.len(), 1, "{name}: another process sees it as well");
        assert_eq!(world.keys(MIRRORED).await.len(), 1, "{name}: it has its replica");
    }
}

/// Requests that a service carries out later than it answers: the commit to the archive, and what takes it back.
#[tokio::test]
async fn a_stored_again_commit_survives_requests_that_arrive_late() {
    let of_the_primary: Plan = |operation| match operation.name {
        "put" if operation.key.starts_with(COMMIT) => Some(Fault::Before(ErrorKind::Full)),
        "delete" if operation.key.starts_with(MIRRORED) => Some(Fault::Late),
        _ => None,
    };
    let of_the_archive: Plan = |operation| {
        let hit = matches!(operation.name, "put" | "delete") && operation.key.starts_with(MIRRORED);
        hit.then_some(Fault::Late)
    };
    for (name, plan) in [("the primary is full", of_the_primary), ("the archive is late", of_the_archive)] {
        let world = World::new();
        world.open().recovery.recover().await.unwrap();
        let failing = Arc::new(AtomicBool::new(true));
        let switch = Arc::clone(&failing);
        let plan = move |operation: &Operation| if switch.load(SeqCst) { plan(operation) } else { None };
        let late = Arc::new(FaultStore::with_plan(Arc::clone(&world.memory) as _, plan));
        let keepsake = world.open_on(late.clone());
        let error = upload(&keepsake, 1).await.unwrap_err();
        assert!(is_unknown(&error), "{name}: {error:?}");
        failing.store(false, SeqCst);
        let first = seen(&keepsake).await;
        assert_eq!(first.len(), 1, "{name}");
        while late.deliver().await.is_some() {}
        assert_eq!(seen(&keepsake).await, first, "{name}");
        // The primary is lost before a checkpoint holds the image.
        for key in world.keys(COMMIT).await {
            world.raw().delete(&Key::new(&key).unwrap()).await.unwrap();
        }
        let restarted = world.open();
        restarted.recovery.recover().await.unwrap();
        assert_eq!(seen(&restarted).await, first, "{name}: from its replica");
    }
}

/// A delete that another server never saw must not win, once it is stored at last, over what was edited there since.
#[tokio::test]
async fn an_old_delete_of_unknown_outcome_spares_a_later_edit() {
    let world = World::new();
    world.open().recovery.recover().await.unwrap();
    let (keepsake, failing) = open(&world, PLANS[0].1);
    let id = upload(&keepsake, 1).await.unwrap().images[0].0.clone();
    failing.store(true, SeqCst);
    let error = keepsake.images.delete(id.as_str(), shared::Any).await.unwrap_err();
    assert!(is_unknown(&error), "{error:?}");
    world.clock.advance(SignedDuration::from_hours(1));
    let patch = Patch { description: Some(Some("changed".to_owned())), ..Patch::default() };
    world.open().images.edit(id.as_str(), &patch, shared::Any).await.unwrap();
    failing.store(false, SeqCst);
    assert_eq!(seen(&keepsake).await[&id].0.as_deref(), Some("changed"));
}

/// Drives a future by hand for at most so many steps, of which each store operation takes one; then drops it.
fn run_for<F: Future>(steps: usize, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    (0..steps).find_map(|_| match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}

fn run<F: Future>(future: F) -> F::Output {
    run_for(1_000_000, future).unwrap()
}

#[test]
fn an_upload_that_was_cut_off_stays_what_a_reader_saw() {
    for steps in 1.. {
        let world = World::new();
        run(world.open().recovery.recover()).unwrap();
        let keepsake = world.open_failing(|_| None);
        let ended = run_for(steps, upload(&keepsake, 1)).is_some();
        let first = run(seen(&keepsake));
        let restarted = world.open();
        run(restarted.recovery.recover()).unwrap();
        assert_eq!(run(seen(&restarted)), first, "cut off after {steps} steps");
        if ended {
            assert!(steps > 5, "it was cut off on the way");
            break;
        }
    }
}
