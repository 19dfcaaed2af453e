//! Nth-call faults: every operation, with the Nth of its calls failing, once or from there on, N rising until the
//! operation comes to its end without the fault. Whatever fails, nothing acknowledged is lost, nothing refused is seen,
//! nothing stays open or lies about, and the same process serves again as soon as the fault is gone.
//!
//! [`operations`] is the table of operations and [`faults`] that of faults; each pair of them is a row of cases.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod bases;
mod faults;
mod operations;
mod places;
#[path = "../domain/world.rs"]
#[allow(dead_code, reason = "what only the other tests that share this need")]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use axum::response::IntoResponse;
use jiff::SignedDuration;
use shared::http::Problem;
use shared::store::MemoryStore;
use shared::store::fs::SimulatedDisk;
use shared::{Error, Keepsake};

use bases::{Base, Told, View, counted};
use operations::{Effect, OPERATIONS, On, Operation};
use places::{Fault, Injector, Place, When};

/// Drives a future by hand, so that the same calls come in the same order each time. What hangs is a failure.
fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    for _ in 0..1_000_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
    panic!("it hangs");
}

/// The status and type that a client is answered.
fn answered(error: Error) -> (u16, String) {
    let (head, body) = Problem::from(error).into_response().into_parts();
    let body = run(axum::body::to_bytes(body, usize::MAX)).unwrap();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    (head.status.as_u16(), problem["type"].as_str().unwrap().to_owned())
}

fn status_of(problem: &str) -> u16 {
    match problem {
        "no-room" => 507,
        "store-corrupt" | "damaged-backup" => 500,
        _ => 503,
    }
}

/// What an operation leads to where nothing fails.
struct Expected {
    before: View,
    after: View,
}

impl Expected {
    fn new(base: &Base, operation: &Operation) -> Self {
        let (place, clock) = (base.place.copy(), base.clock());
        let keepsake = place.open(&clock, &base.settings, None).unwrap();
        run((operation.run)(&keepsake, &base.known)).unwrap();
        Self { before: base.view(&base.place, &clock), after: base.view(&place, &clock) }
    }
}

/// One case: the operation on a copy of the base, with the fault. Returns whether the fault was reached.
fn check(base: &Base, operation: &Operation, expected: &Expected, fault: Fault, when: When) -> bool {
    let mut told = Told(format!("{:?} {}, {} {when:?}", base.on, operation.name, fault.name));
    let (place, clock) = (base.place.copy(), base.clock());
    place.set_now(clock.now());
    let untouched = place.versions();
    let injector = Injector::new(fault, when);
    let keepsake = place.open(&clock, &base.settings, Some(&injector)).unwrap();
    injector.arm(true);
    let outcome = run((operation.run)(&keepsake, &base.known));
    injector.arm(false);
    let struck = injector.struck();
    told.0 += &format!(", at {:?}, which gave {outcome:?}", struck.first());
    if struck.is_empty() {
        assert!(outcome.is_ok());
        return false;
    }

    assert_eq!(place.open_handles(), 0, "something stays open");
    let removing_failed = struck.iter().any(|call| call.starts_with("unlink_at .tmp-"));
    assert!(removing_failed || place.unfinished() == base.place.unfinished(), "{:?} stay", place.unfinished());
    if operation.effect == Effect::Reads {
        assert_eq!(place.versions(), untouched, "reading wrote");
    }

    let between = base.view(&place, &clock);
    let unknown = match outcome {
        Ok(()) => {
            assert!(between == expected.after, "acknowledged, but there is {between:?}");
            false
        }
        Err(error) => {
            let (status, problem) = answered(error);
            assert!(fault.problems.contains(&problem.as_str()), "answered {status} {problem}");
            assert_eq!(status, status_of(&problem), "{problem}");
            let unknown = problem == "outcome-unknown" || operation.effect == Effect::Repairs;
            let stands = unknown && between == expected.after;
            assert!(between == expected.before || stands, "answered {problem}, and there is {between:?}");
            let wanted = try_again(base, operation, &keepsake, &clock, &between == &expected.after, &problem);
            let expected = if wanted { &expected.after } else { &between };
            let seen = base.seen(&keepsake);
            if operation.effect == Effect::Adds && stands {
                assert_eq!(seen.len(), 2 * expected.len() - base.view(&base.place, &clock).len());
            } else {
                assert_eq!(&seen, expected, "after another try");
            }
            unknown
        }
    };
    let _ = unknown;
    settle(base, &place, &keepsake, removing_failed);
    true
}

/// Does it again in the same process, now that the fault is gone; returns whether that did what it is for.
fn try_again(base: &Base, operation: &Operation, keepsake: &Keepsake, clock: &shared::clock::Clock, stands: bool, problem: &str) -> bool {
    for _ in 0..2 {
        match run((operation.run)(keepsake, &base.known)) {
            Ok(()) => return true,
            // The lease of the one that failed ends by itself.
            Err(Error::RestoreRunning) => clock.advance(SignedDuration::from_secs(61)),
            Err(Error::NoSuchImage(_)) if stands => return true,
            Err(Error::ArrivedBefore) if problem == "store-unavailable" => return true,
            Err(error) => panic!("with the fault gone: {error:?}"),
        }
    }
    panic!("the lease does not end");
}

/// The same process goes on, others see what it sees, and a day later everything is in order.
fn settle(base: &Base, place: &Place, keepsake: &Keepsake, removing_failed: bool) {
    run(world::upload(keepsake, 90)).unwrap();
    let seen = base.seen(keepsake);
    assert!(seen.contains(&("new".to_owned(), Some("number 90".to_owned()), true)));
    let health = run(keepsake.health());
    assert!(health.writable, "{:?}", health.checks);
    assert!(removing_failed || place.unfinished() == base.place.unfinished(), "{:?} stay", place.unfinished());

    let clock = base.clock();
    assert_eq!(base.view(place, &clock), seen, "another process sees something else");
    if base.on != On::Deferred {
        let lost = place.after_power_loss();
        let survivor = lost.open(&clock, &base.settings, None).unwrap();
        run(survivor.recover()).unwrap();
        let survived = base.seen(&survivor);
        assert!(covers(&survived, &seen), "of {seen:?} a loss of power left {survived:?}");
    }

    clock.advance(SignedDuration::from_hours(25));
    place.set_now(clock.now());
    let later = place.open(&clock, &base.settings, None).unwrap();
    run(later.recover()).unwrap();
    let seen_later = base.seen(&later);
    if base.on == On::Damaged { assert!(covers(&seen_later, &seen)); } else { assert_eq!(seen_later, seen, "a recovery changed what is seen"); }
    let (mut files, mut live) = base.files(place, &later);
    files.sort();
    live.sort();
    assert_eq!(files, live, "files without a record, or records without a file");
    assert_eq!(place.keys("incoming/"), [""; 0]);
    assert_eq!(place.unfinished(), [""; 0]);
    base.check_backups(&later);
    drop(later);
    assert_eq!(place.open_handles(), 0);
}

/// Whether a view shows all that another does.
fn covers(view: &View, other: &View) -> bool {
    let (view, other) = (counted(view), counted(other));
    other.iter().all(|(image, count)| view.get(image).is_some_and(|has| has >= count))
}

/// All cases of these faults on such places; returns how many there were. Rows that fail do not keep others from being
/// looked at.
fn check_all(new: fn() -> Place, faults: &[Fault], stride: u64) -> u64 {
    let bases: Vec<Base> = [On::Sound, On::Damaged, On::Deferred].map(|on| Base::new(new(), on)).into();
    let (mut cases, mut failed) = (0, 0);
    for operation in OPERATIONS {
        let base = bases.iter().find(|base| base.on == operation.on).unwrap();
        let expected = Expected::new(base, operation);
        for fault in faults {
            for when in [When::Once as fn(u64) -> When, When::From] {
                let row = || {
                    let mut n = cases % stride;
                    while check(base, operation, &expected, *fault, when(n)) {
                        n += stride;
                        cases += 1;
                    }
                };
                failed += u64::from(catch_unwind(AssertUnwindSafe(row)).is_err());
            }
        }
    }
    assert_eq!(failed, 0, "rows with a failure, after {cases} cases");
    cases
}

fn in_memory() -> Place {
    Place::Memory(Arc::new(MemoryStore::new()), None)
}

fn archive_apart() -> Place {
    Place::Memory(Arc::new(MemoryStore::new()), Some(Arc::new(MemoryStore::new())))
}

fn on_disk() -> Place {
    Place::Disk(SimulatedDisk::new())
}

#[test]
fn whatever_operation_of_a_store_fails_nothing_is_lost_and_the_process_goes_on() {
    let cases = check_all(in_memory, faults::STORE, 1);
    assert!(cases > 1_000, "{cases} cases");
}

#[test]
fn whatever_operation_of_two_stores_fails_nothing_is_lost_and_the_process_goes_on() {
    let cases = check_all(archive_apart, faults::STORE, 3);
    assert!(cases > 1_000, "{cases} cases");
}

#[test]
fn whatever_call_of_the_file_system_fails_nothing_is_lost_and_the_process_goes_on() {
    let cases = check_all(on_disk, faults::DISK, 5);
    assert!(cases > 1_000, "{cases} cases");
}
