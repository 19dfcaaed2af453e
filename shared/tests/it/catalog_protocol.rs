//! The catalog's protocol under every interleaving that chance finds: several processes write, edit, delete, compact, read
//! and restart on one primary and one archive; each may die between any two store operations, and operations may fail
//! or lose their reply. The schedule is a list of numbers, so a failure shrinks and repeats exactly.
//!
//! After every single step the primary alone and the archive alone must hold everything acknowledged. At the end a
//! fresh process must see, of each image, a state that was attempted and is no older than the last one acknowledged.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

use shared::catalog::{Catalog, Change, Commit, CommitError, Content, Entry, Record, Stamp, Tombstone};
use shared::clock::Clock;
use shared::layout::{self, ImageId};
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::store::{ErrorKind, Key, ObjectStore, Store};
use shared::testing::catalog::{checked_entries, entries_of};

/// What one process is told to do.
#[derive(Debug, Clone, Copy)]
enum Action {
    Upload(u8),
    Edit(u8),
    Delete(u8),
    Compaction,
    Read,
    /// Loads every piece of every place, as at a start, with a new cache.
    Restart,
}

/// One turn of the schedule.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Start(usize, Action),
    /// Lets one of the running actions make its next store operation.
    Step(prop::sample::Index),
    /// Kills one of them.
    Crash(prop::sample::Index),
    /// Time passes, so that tombstones grow old.
    Wait,
}

const PROCESSES: usize = 3;

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0..6u8).prop_map(Action::Upload),
        2 => (0..6u8).prop_map(Action::Edit),
        2 => (0..6u8).prop_map(Action::Delete),
        6 => Just(Action::Compaction),
        2 => Just(Action::Read),
        1 => Just(Action::Restart),
    ]
}

fn turn(crashes: u32) -> impl Strategy<Value = Turn> {
    prop_oneof![
        6 => (0..PROCESSES, action()).prop_map(|(process, action)| Turn::Start(process, action)),
        60 => any::<prop::sample::Index>().prop_map(Turn::Step),
        crashes => any::<prop::sample::Index>().prop_map(Turn::Crash),
        1 => Just(Turn::Wait),
    ]
}

/// What the outside world knows.
#[derive(Default)]
struct World {
    /// The newest acknowledged state of each image.
    acknowledged: BTreeMap<ImageId, Arc<Entry>>,
    /// Every state that was ever attempted, with a nil commit, since an attempt does not learn its commit's id.
    attempted: Vec<(ImageId, Entry)>,
    /// Those of them that were certainly refused.
    refused: Vec<(ImageId, Entry)>,
    loads_running: usize,
}

type Shared<T> = Arc<Mutex<T>>;
type Running = Pin<Box<dyn Future<Output = Result<(), TestCaseError>>>>;

fn store(backend: &Arc<dyn ObjectStore>) -> Store {
    Store::new(Arc::clone(backend), Path::new("bodies here are small and never leave memory"))
}

fn open(primary: &Arc<dyn ObjectStore>, archive: &Arc<dyn ObjectStore>, clock: &Clock) -> Arc<Catalog> {
    Arc::new(Catalog::new(store(primary), vec![store(archive)], true, clock.clone()))
}

async fn change(
    catalog: Arc<Catalog>,
    world: Shared<World>,
    action: Action,
    clock: Clock,
) -> Result<(), TestCaseError> {
    let (Action::Upload(image) | Action::Edit(image) | Action::Delete(image)) = action else { return Ok(()) };
    if catalog.refresh().await.is_err() {
        return Ok(());
    }
    let id = ImageId::new(&format!("{image}.jpg")).unwrap();
    let view = catalog.view();
    let Ok(present) = view.get(id.as_str()).await else { return Ok(()) };
    let Ok(next) = view.next_version(id.as_str()).await else { return Ok(()) };
    let version = match (action, &present) {
        (Action::Upload(_), None) => next,
        (Action::Edit(_) | Action::Delete(_), Some(entry)) if entry.live().is_some() => entry.stamp.version + 1,
        _ => return Ok(()),
    };
    let content = match action {
        Action::Delete(_) => Content::Deleted(Tombstone { deleted_at: clock.now(), sha256: None }),
        _ => Content::Live(Record { description: Some(format!("state {version}")), ..Record::default() }),
    };
    let attempt = Entry { stamp: Stamp { version, commit: Uuid::nil() }, content: content.clone() };
    let loads_before = {
        let mut world = world.lock().unwrap();
        world.attempted.push((id.clone(), attempt.clone()));
        world.loads_running
    };
    let outcome = catalog.commit(vec![(id.clone(), Change { version, content: content.clone() })]).await;
    let mut world = world.lock().unwrap();
    match outcome {
        Ok(commit) => {
            let entry = Change { version, content }.stamped(commit);
            if world.acknowledged.get(&id).is_none_or(|known| entry.supersedes(known)) {
                world.acknowledged.insert(id, entry);
            }
        }
        // A load that ran meanwhile may have seen it in the archive.
        Err(CommitError::NotStored(_)) if loads_before == 0 && world.loads_running == 0 => {
            world.refused.push((id, attempt));
        }
        Err(_) => {}
    }
    Ok(())
}

impl World {
    /// Whether `held` is the acknowledged state of an image or a newer one. After a deletion that was at least attempted
    /// it may be none at all, since old tombstones are dropped.
    fn allows(&self, id: &ImageId, acknowledged: &Entry, held: Option<&Arc<Entry>>) -> bool {
        let may_be_deleted =
            || self.attempted.iter().any(|(name, attempt)| name == id && attempt.tombstone().is_some());
        held.map_or_else(may_be_deleted, |held| !acknowledged.supersedes(held))
    }
}

async fn read(catalog: Arc<Catalog>, world: Shared<World>) -> Result<(), TestCaseError> {
    let before = world.lock().unwrap().acknowledged.clone();
    if catalog.refresh().await.is_ok() {
        let view = catalog.view();
        for (id, entry) in before {
            // A page that cannot be read is an error for the caller, and no answer.
            let Ok(seen) = view.get(id.as_str()).await else { continue };
            let world = world.lock().unwrap();
            prop_assert!(world.allows(&id, &entry, seen.as_ref()), "a reader missed {id}");
        }
    }
    Ok(())
}

async fn restart(catalog: Arc<Catalog>, world: Shared<World>) -> Result<(), TestCaseError> {
    struct Loading(Shared<World>);
    impl Drop for Loading {
        fn drop(&mut self) {
            self.0.lock().unwrap().loads_running -= 1;
        }
    }
    world.lock().unwrap().loads_running += 1;
    let _loading = Loading(world);
    if catalog.load().await.is_ok() {
        let _ = catalog.compact().await;
    }
    Ok(())
}

/// Polls a future to its end; the stores never really wait.
fn finish<T>(future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
    }
}

/// The join of what lies in one store: its root, with pages from this store alone, and its commits.
fn surviving(memory: &Arc<MemoryStore>) -> BTreeMap<ImageId, Arc<Entry>> {
    let store = store(&(Arc::clone(memory) as _));
    let mut joined = BTreeMap::new();
    finish(async {
        if store.head(&layout::root()).await.is_ok() {
            let alone = store.clone();
            let read = move |key: &Key| finish(alone.read(key)).ok().map(|(bytes, _)| bytes);
            joined = checked_entries(read).expect("a root has all its pages");
        }
        let objects: Vec<_> = store.list(layout::COMMITS, None).try_collect().await.unwrap();
        for meta in objects {
            let (bytes, _) = store.read(&meta.key).await.unwrap();
            for (id, entry) in Commit::decode(&bytes).unwrap().entries {
                if joined.get(&id).is_none_or(|known| entry.supersedes(known)) {
                    joined.insert(id, entry);
                }
            }
        }
    });
    joined
}

fn holds(name: &str, memory: &Arc<MemoryStore>, world: &World) -> Result<(), TestCaseError> {
    let held = surviving(memory);
    for (id, entry) in &world.acknowledged {
        prop_assert!(world.allows(id, entry, held.get(id)), "the {name} alone misses the acknowledged state of {id}");
    }
    Ok(())
}

fn run(turns: Vec<Turn>, faults: Vec<u8>) -> Result<(), TestCaseError> {
    let memory = [Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new())];
    // What happened, for whoever has to understand a failure.
    let trace = Shared::<Vec<String>>::default();
    let outcome = play(&memory, turns, faults, &trace);
    outcome.map_err(|error| TestCaseError::fail(format!("{error}\n{}", trace.lock().unwrap().join("\n"))))
}

fn play(
    memory: &[Arc<MemoryStore>; 2],
    turns: Vec<Turn>,
    faults: Vec<u8>,
    trace: &Shared<Vec<String>>,
) -> Result<(), TestCaseError> {
    let note = |line: String| trace.lock().unwrap().push(line);
    let plan = move |operation: &Operation| match faults.get(operation.sequence as usize % faults.len().max(1)) {
        Some(0) => Some(Fault::Before(ErrorKind::Unavailable)),
        Some(1) => Some(Fault::After(ErrorKind::Unavailable)),
        Some(2) => Some(Fault::Before(ErrorKind::Full)),
        _ => None,
    };
    let faulty = |index: usize| -> Arc<dyn ObjectStore> {
        let (plan, trace) = (plan.clone(), Arc::clone(trace));
        let traced = move |operation: &Operation| {
            let fault = plan(operation);
            trace.lock().unwrap().push(format!("  {index} {} {} {fault:?}", operation.name, operation.key));
            fault
        };
        Arc::new(FaultStore::with_plan(Arc::clone(&memory[index]) as _, traced))
    };
    let (primary, archive) = (faulty(0), faulty(1));
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let clocks: Vec<Clock> = (0..PROCESSES as u64).map(|seed| Clock::manual_seeded(start, seed)).collect();
    let mut generations = PROCESSES as u64;
    let mut catalogs: Vec<_> = clocks.iter().map(|clock| open(&primary, &archive, clock)).collect();
    let world = Shared::<World>::default();
    let mut running: Vec<(usize, Running)> = Vec::new();
    let mut started = 0;
    let mut context = Context::from_waker(Waker::noop());

    for turn in turns {
        match turn {
            Turn::Start(process, action) => {
                note(format!("process {process} starts {action:?} as {started}"));
                let (catalog, world) = (Arc::clone(&catalogs[process]), Arc::clone(&world));
                started += 1;
                let future: Running = match action {
                    Action::Compaction => Box::pin(async move {
                        let _ = catalog.compact().await;
                        Ok(())
                    }),
                    Action::Read => Box::pin(read(catalog, world)),
                    Action::Restart => {
                        generations += 1;
                        catalogs[process] = open(&primary, &archive, &clocks[process]);
                        Box::pin(restart(Arc::clone(&catalogs[process]), world))
                    }
                    action => Box::pin(change(catalog, world, action, clocks[process].clone())),
                };
                running.push((started - 1, future));
            }
            Turn::Step(_) | Turn::Crash(_) if running.is_empty() => {}
            Turn::Step(index) => {
                let at = index.index(running.len());
                clocks.iter().for_each(|clock| clock.advance(SignedDuration::from_millis(1)));
                note(format!("{} steps", running[at].0));
                if let Poll::Ready(done) = running[at].1.as_mut().poll(&mut context) {
                    note(format!("{} ends", running[at].0));
                    done?;
                    drop(running.swap_remove(at));
                }
                let world = world.lock().unwrap();
                holds("primary", &memory[0], &world)?;
                holds("archive", &memory[1], &world)?;
            }
            Turn::Crash(index) => {
                let (who, future) = running.swap_remove(index.index(running.len()));
                note(format!("{who} dies"));
                drop(future);
            }
            Turn::Wait => clocks.iter().for_each(|clock| clock.advance(SignedDuration::from_hours(24 * 11))),
        }
    }
    drop(running);

    // A fresh process without faults sees a state that some order of the attempts explains.
    let [primary, archive] = memory.clone().map(|memory| memory as Arc<dyn ObjectStore>);
    let last = open(&primary, &archive, &Clock::manual_seeded(clocks[0].now(), generations));
    finish(async {
        last.load().await.unwrap();
        last.compact().await.unwrap();
    });
    let world = world.lock().unwrap();
    let (in_primary, in_archive) = (surviving(&memory[0]), surviving(&memory[1]));
    prop_assert_eq!(&in_primary, &in_archive, "after recovery both stores hold the same");
    holds("primary", &memory[0], &world)?;
    let known = finish(entries_of(&last.view())).map_err(TestCaseError::fail)?;
    for (id, entry) in known {
        let same = |(name, attempt): &&(ImageId, Entry)| {
            *name == id && attempt.stamp.version == entry.stamp.version && attempt.content == entry.content
        };
        let (attempted, refused) =
            (world.attempted.iter().filter(same).count(), world.refused.iter().filter(same).count());
        prop_assert!(attempted > refused, "{id} is in a state that nobody stored: {entry:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_lost_whichever_process_crashes(turns in prop::collection::vec(turn(1), 1..600)) {
        run(turns, Vec::new())?;
    }

    #[test]
    fn nothing_acknowledged_is_lost_when_operations_fail_or_lose_their_reply(
        turns in prop::collection::vec(turn(1), 1..600), faults in prop::collection::vec(0..60u8, 1..200),
    ) {
        run(turns, faults)?;
    }
}

/// Without crashes and faults, the end is exactly what a plain map gives that takes the acknowledged states in turn.
#[test]
fn a_quiet_run_ends_in_what_a_plain_map_gives() {
    let memory = [Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new())];
    let [primary, archive] = memory.clone().map(|memory| memory as Arc<dyn ObjectStore>);
    let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    let (one, two) = (open(&primary, &archive, &clock), open(&primary, &archive, &clock));
    let world = Shared::<World>::default();
    for n in 0..200u8 {
        let catalog = Arc::clone(if n % 2 == 0 { &one } else { &two });
        let action = match n % 7 {
            0..=2 => Action::Upload(n % 40),
            3 | 4 => Action::Edit(n % 40),
            5 => Action::Delete(n % 40),
            _ => Action::Compaction,
        };
        if let Action::Compaction = action {
            finish(catalog.compact()).unwrap();
        } else {
            finish(change(catalog, Arc::clone(&world), action, clock.clone())).unwrap();
        }
    }
    finish(one.compact()).unwrap();
    let world = world.lock().unwrap();
    assert!(world.acknowledged.len() > 20);
    assert_eq!(surviving(&memory[0]), world.acknowledged);
    assert_eq!(surviving(&memory[1]), world.acknowledged);
}
