//! Nth-call faults: every operation, with the Nth of its calls failing, once or from there on, N rising until the
//! operation comes to its end without the fault. Whatever fails, nothing acknowledged is lost, nothing refused is seen,
//! nothing stays open or lies about, and the same process serves again as soon as the fault is gone.
//!
//! [`operations`] is the table of operations and [`faults`] that of faults; each pair of them is a row of cases.

mod bases;
mod disk_full;
mod faults;
mod operations;
mod read_only;
mod test_store;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use axum::response::IntoResponse;
use bases::{Base, ContextOnPanic, View, counted};
use jiff::SignedDuration;
use operations::{Effect, OPERATIONS, On, Operation};
use test_store::{Fault, Injector, TestStore, When};

use shared::clock::Clock;
use shared::http::Problem;
use shared::store::testing::MemoryStore;
use shared::store::testing::fs::SimulatedDisk;
use shared::{Error, Keepsake};

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
        "insufficient-storage" => 507,
        "store-corrupt" | "damaged-backup" => 500,
        _ => 503,
    }
}

/// What an operation leads to where nothing fails.
struct Expected {
    before: View,
    after: View,
    /// The files of images and commits after it.
    files: Vec<String>,
}

/// The files of images and commits, wherever they lie; those of new images have names that come from the clock.
fn files(store: &TestStore) -> Vec<String> {
    let prefixes = ["uploads/", "image-metadata", "incoming/", "backups/images/", "backups/image-metadata"];
    prefixes.iter().flat_map(|prefix| store.keys(prefix)).collect()
}

impl Expected {
    fn new(base: &Base, operation: &Operation) -> Self {
        let (store, clock) = (base.store.copy(), base.clock());
        let keepsake = store.open(&clock, &base.settings, None).unwrap();
        run((operation.run)(&keepsake, &base.known)).unwrap();
        Self { before: base.view(&base.store, &clock), after: base.view(&store, &clock), files: files(&store) }
    }
}

/// One case: the operation on a copy of the base, with the fault. Returns whether the fault was reached.
fn check(base: &Base, operation: &Operation, expected: &Expected, fault: Fault, when: When) -> bool {
    let mut context = ContextOnPanic(format!("{:?} {}, {} {when:?}", base.on, operation.name, fault.name));
    let (store, clock) = (base.store.copy(), base.clock());
    store.set_now(clock.now());
    let untouched = store.versions();
    let injector = Injector::new(fault, when);
    let keepsake = store.open(&clock, &base.settings, Some(&injector)).unwrap();
    injector.arm(true);
    let outcome = run((operation.run)(&keepsake, &base.known));
    injector.arm(false);
    let struck = injector.struck();
    context.0 += &format!(", at {:?}, which gave {outcome:?}", struck.first());
    if struck.is_empty() {
        assert!(outcome.is_ok());
        return false;
    }

    assert_eq!(store.open_handles(), 0, "something stays open");
    let removing_failed = struck.iter().any(|call| call.starts_with("unlink_at .tmp-"));
    assert!(removing_failed || base.has_only_its_unfinished(&store), "{:?} stay", store.unfinished());
    if operation.effect == Effect::Reads {
        let mut versions = store.versions();
        if fault.spoils_a_copy() {
            // A page that seems damaged is put back as it was.
            for (key, version) in &mut versions {
                if key.contains(shared::layout::CATALOG) && store.read(key) == base.store.read(key) {
                    *version = untouched.get(key).cloned().unwrap_or_default();
                }
            }
        }
        assert_eq!(versions, untouched, "reading wrote");
    }

    let between = base.view(&store, &clock);
    // With the other copy of something wrong as well, what was there was not all that could be found.
    let two_wrong = base.on == On::Damaged && fault.spoils_a_copy();
    match outcome {
        Ok(()) if two_wrong => {
            try_again(base, operation, &keepsake, &clock, true, "");
            assert_eq!(base.seen(&keepsake), expected.after, "after another time");
        }
        Ok(()) => assert!(between == expected.after, "acknowledged, but there is {between:?}"),
        Err(error) => {
            let (status, problem) = answered(error);
            assert!(fault.problems.contains(&problem.as_str()), "answered {status} {problem}");
            assert_eq!(status, status_of(&problem), "{problem}");
            let may_stand = match operation.effect {
                Effect::Repairs => true,
                Effect::Changes if problem == "image-data-lost" => true,
                _ => problem == "outcome-unknown",
            };
            let stands = between == expected.after;
            let partly = problem == "image-data-lost" || two_wrong;
            let well = between == expected.before || may_stand && (stands || partly);
            assert!(well, "answered {problem}, and there is {between:?}");
            let mut after = expected.after.clone();
            if operation.effect == Effect::Adds && may_stand {
                // The process decides before it reads again, and the fault is gone by then.
                after.extend(expected.after.iter().filter(|image| !expected.before.contains(image)).cloned());
                after.sort();
            }
            try_again(base, operation, &keepsake, &clock, may_stand, &problem);
            assert_eq!(base.seen(&keepsake), after, "after another try");
            if ["recover", "start"].contains(&operation.name) {
                assert_eq!(files(&store), expected.files, "other files than after a recovery that never failed");
            }
        }
    }
    survive(base, &store, &base.seen(&keepsake));
    check_recovery(base, &store, &keepsake, removing_failed);
    true
}

/// What a client sees now is there after a loss of power too.
fn survive(base: &Base, store: &TestStore, seen: &View) {
    let lost = store.after_power_loss();
    let survivor = lost.open(&base.clock(), &base.settings, None).unwrap();
    run(survivor.recovery.recover()).unwrap();
    let survived = base.seen(&survivor);
    assert!(covers(&survived, seen), "of {seen:?} a loss of power left {survived:?}");
}

/// Does it again in the same process, now that the fault is gone.
fn try_again(base: &Base, operation: &Operation, keepsake: &Keepsake, clock: &Clock, may_stand: bool, problem: &str) {
    for _ in 0..2 {
        match run((operation.run)(keepsake, &base.known)) {
            Ok(()) => return,
            // The lease of the one that failed ends by itself.
            Err(Error::RestoreRunning) => clock.advance(SignedDuration::from_secs(61)),
            Err(Error::NoSuchImage(_)) if may_stand => return,
            Err(Error::ArrivedBefore) if problem == "store-unavailable" => return,
            Err(error) => panic!("with the fault gone: {error:?}"),
        }
    }
    panic!("the lease does not end");
}

/// The same process goes on, others see what it sees, and a day later everything is in order and nothing else is there.
fn check_recovery(base: &Base, store: &TestStore, keepsake: &Keepsake, removing_failed: bool) {
    run(crate::world::upload(keepsake, 90)).unwrap();
    let seen = base.seen(keepsake);
    assert!(seen.contains(&("new".to_owned(), Some("number 90".to_owned()), true)));
    let health = run(keepsake.health.report());
    assert!(health.writable, "{:?}", health.checks);
    let listed = run(keepsake.backups.list()).unwrap();
    assert!(listed.iter().any(|backup| backup.name == base.known.backup), "a backup is not listed any more");
    assert!(removing_failed || base.has_only_its_unfinished(store), "{:?} stay", store.unfinished());

    let clock = base.clock();
    assert_eq!(base.view(store, &clock), seen, "another process sees something else");
    clock.advance(SignedDuration::from_hours(25));
    store.set_now(clock.now());
    let later = store.open(&clock, &base.settings, None).unwrap();
    run(later.recovery.recover()).unwrap();
    run(later.maintenance.follow_up()).unwrap();
    let seen_later = base.seen(&later);
    let as_ever = if base.on == On::Damaged { covers(&seen_later, &seen) } else { seen_later == seen };
    assert!(as_ever, "a recovery made {seen_later:?} of {seen:?}");
    let (mut files, mut live) = base.files(store, &later);
    files.sort();
    live.sort();
    assert_eq!(files, live, "files without a record, or records without a file");
    assert_eq!(store.keys("incoming/"), [""; 0]);
    assert_eq!(store.unfinished(), [""; 0]);
    base.check_backups(&later);
    drop(later);
    assert_eq!(store.open_handles(), 0);
}

/// Whether a view shows all that another does.
fn covers(view: &View, other: &View) -> bool {
    let (view, other) = (counted(view), counted(other));
    other.iter().all(|(image, count)| view.get(image).is_some_and(|has| has >= count))
}

/// Which call fails at the Nth try of a row, from the first N on.
type Row = fn(u64) -> When;

const ONCE: Row = When::Once;
const FROM: Row = When::From;

/// All cases of these operations and faults on such places; returns how many there were. With a `stride`, each row leaves
/// out some, each another part of them. Rows that fail do not keep others from being looked at.
fn check_all(
    new: fn() -> TestStore,
    wanted: impl Fn(&Operation) -> bool,
    faults: &[Fault],
    rows: &[Row],
    stride: u64,
) -> u64 {
    let bases = [On::Intact, On::Damaged, On::Deferred].map(|on| Base::new(new(), on));
    let (mut cases, mut failed) = (0, 0);
    for operation in OPERATIONS.iter().filter(|operation| wanted(operation)) {
        let base = bases.iter().find(|base| base.on == operation.on).unwrap();
        let expected = Expected::new(base, operation);
        for fault in faults {
            for when in rows {
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

fn in_memory() -> TestStore {
    TestStore::Memory(Arc::new(MemoryStore::new()), None)
}

fn archive_apart() -> TestStore {
    TestStore::Memory(Arc::new(MemoryStore::new()), Some(Arc::new(MemoryStore::new())))
}

fn on_disk() -> TestStore {
    TestStore::Disk(SimulatedDisk::new())
}

fn all(_: &Operation) -> bool {
    true
}

#[test]
fn nothing_is_lost_whichever_store_operation_fails() {
    let cases = check_all(in_memory, all, faults::STORE, &[ONCE, FROM], 3);
    assert!(cases > 1_600, "{cases} cases");
}

#[test]
fn nothing_is_lost_whichever_operation_of_two_stores_fails() {
    let cases = check_all(archive_apart, all, faults::STORE, &[ONCE, FROM], 4);
    assert!(cases > 1_200, "{cases} cases");
}

/// One of `stride` calls of the file system; the ignored tests take every call.
fn check_calls(wanted: impl Fn(&Operation) -> bool, stride: u64) -> u64 {
    check_all(on_disk, wanted, faults::DISK, &[ONCE, FROM], stride)
}

fn changes(operation: &Operation) -> bool {
    matches!(operation.effect, Effect::Changes | Effect::Keeps)
}

#[test]
fn read_survives_any_failed_file_system_call_without_writes() {
    let cases = check_calls(|operation| operation.effect == Effect::Reads, 11);
    assert!(cases > 150, "{cases} cases");
}

#[test]
fn upload_is_atomic_whichever_file_system_call_fails() {
    let cases = check_calls(|operation| operation.effect == Effect::Adds, 3);
    assert!(cases > 250, "{cases} cases");
}

#[test]
fn whatever_call_of_the_file_system_fails_a_change_is_whole_or_absent() {
    let cases = check_calls(changes, 31);
    assert!(cases > 350, "{cases} cases");
}

#[test]
fn repair_resumes_after_any_failed_file_system_call() {
    let cases = check_calls(|operation| operation.effect == Effect::Repairs, 31);
    assert!(cases > 200, "{cases} cases");
}

#[test]
#[ignore = "takes minutes; `just failing-calls` runs it, and so does .ci/nightly"]
fn each_single_operation_of_a_store_may_fail() {
    let cases = check_all(in_memory, all, faults::STORE, &[ONCE, FROM], 1);
    println!("{cases} cases");
    assert!(cases > 5_000, "{cases} cases");
}

#[test]
#[ignore = "takes minutes; `just failing-calls` runs it, and so does .ci/nightly"]
fn each_single_call_of_the_file_system_may_fail_in_a_change() {
    let cases = check_all(on_disk, changes, faults::DISK, &[ONCE, FROM], 1);
    println!("{cases} cases");
    assert!(cases > 5_000, "{cases} cases");
}

#[test]
#[ignore = "takes minutes; `just failing-calls` runs it, and so does .ci/nightly"]
fn each_single_call_of_the_file_system_may_fail_in_any_other_operation() {
    let cases = check_all(on_disk, |operation| !changes(operation), faults::DISK, &[ONCE, FROM], 1);
    println!("{cases} cases");
    assert!(cases > 5_000, "{cases} cases");
}

#[test]
fn calls_that_are_interrupted_or_write_too_little_harm_nothing() {
    let interrupted = check_all(on_disk, all, &faults::HARMLESS[..1], &[ONCE], 3);
    let short = check_all(on_disk, all, &faults::HARMLESS[1..], &[ONCE, FROM], 3);
    assert!(interrupted > 250 && short > 60, "{interrupted} and {short} cases");
}

/// Two calls of an upload or of a deletion fail.
#[test]
fn two_faults_in_one_operation_do_no_more_harm_than_one() {
    let wanted = |operation: &Operation| ["upload one", "upload under a key", "delete"].contains(&operation.name);
    let mut cases = 0;
    for gap in 1.. {
        let pairs: &[Row] = match gap {
            1 => &[|n| When::Both(n, n + 1)],
            2 => &[|n| When::Both(n, n + 2)],
            3 => &[|n| When::Both(n, n + 4)],
            4 => &[|n| When::Both(n, n + 7)],
            _ => break,
        };
        cases += check_all(in_memory, wanted, faults::STORE, pairs, 1);
    }
    assert!(cases > 1_000, "{cases} cases");
}

#[test]
fn a_store_that_cannot_be_opened_can_be_opened_when_the_fault_is_gone() {
    let store = on_disk();
    let base = Base::new(store, On::Intact);
    let mut cases = 0;
    for fault in faults::DISK {
        for n in 0.. {
            let injector = Injector::new(*fault, When::From(n));
            injector.arm(true);
            let opened = base.store.open(&base.clock(), &base.settings, Some(&injector));
            if injector.struck().is_empty() {
                break;
            }
            assert_eq!(opened.unwrap_err().kind, store::ErrorKind::Unavailable);
            cases += 1;
        }
    }
    assert_eq!(base.store.open_handles(), 0);
    assert!(base.store.open(&base.clock(), &base.settings, None).is_ok());
    assert!(cases >= 3, "{cases} cases");
}
