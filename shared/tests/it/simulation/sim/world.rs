//! The world: processes on two places, what they are doing, and what befalls them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::model::{Checked, Model, View};
use super::request::{Answer, Request, Spec};
use super::schedule::{Mishap, SERVING, Setup, Side, Turn};
use super::simulated_stores::{Op, SimulatedStores};
use super::stats::Stats;
use shared::catalog::{Stamp, View as State};
use shared::clock::Clock;
use shared::config::Keep;
use shared::digest::Digest;
use shared::layout::{self, ImageId};
use shared::store::ErrorKind;
use shared::store::testing::Fault;
use shared::testing::catalog::{Entries, entries_in};
use shared::{Keepsake, Result, Settings};

/// The process that follows uploads where replicas are deferred.
pub(crate) const FOLLOWER: usize = SERVING;
/// The process that looks at everything when all has come to rest.
pub(crate) const CHECKER: usize = SERVING + 1;
/// So many actions run at a time at most.
const MOST_RUNNING: usize = 7;
/// Few, so that pruning has something to do.
pub(crate) const KEEP: Keep = Keep { last: 3, daily: 2, weekly: 1, monthly: 1 };
/// So long takes one step.
const STEP: SignedDuration = SignedDuration::from_millis(40);

pub(crate) struct Process {
    pub(crate) keepsake: Arc<Keepsake>,
    pub(crate) clock: Clock,
    /// How far its clock is ahead.
    pub(crate) skew: SignedDuration,
    /// Whether it has recovered, so that it serves.
    pub(crate) up: bool,
    /// Whether it has begun to read replicas and not yet written what it found everywhere: it may know changes that
    /// were taken back.
    pub(crate) loading: bool,
    /// The versions that its acknowledged edits and deletions made.
    pub(crate) changed: BTreeSet<(ImageId, u64)>,
}

pub(crate) struct Running {
    /// Its number in the model.
    pub(crate) action: usize,
    pub(crate) process: usize,
    pub(crate) request: Rc<Request>,
    future: Pin<Box<dyn Future<Output = Result<Answer>>>>,
    /// When it began, in steps.
    pub(crate) began: u64,
    /// The states that its process held while it ran, if it lists images.
    pub(crate) states: Vec<State>,
    /// How many loads had begun by then; none where one was running.
    pub(crate) loads: Option<u64>,
    /// How many of its operations went wrong.
    pub(crate) mishaps: u64,
}

pub(crate) struct Ticket {
    pub(crate) id: Uuid,
    pub(crate) secret: String,
    pub(crate) spec: Spec,
}

pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) stores: SimulatedStores,
    pub(crate) now: Timestamp,
    pub(crate) turn: u64,
    pub(crate) processes: Vec<Process>,
    pub(crate) running: Vec<Running>,
    pub(crate) model: Model,
    /// What each action was asked.
    pub(crate) requests: Vec<Rc<Request>>,
    pub(crate) tickets: Vec<Ticket>,
    /// The images that each idempotency key has made.
    pub(crate) by_key: BTreeMap<String, BTreeSet<ImageId>>,
    /// The states that acknowledged conditional changes expected.
    pub(crate) expected: BTreeSet<(ImageId, Stamp)>,
    /// Commits that the follower has not been told to have followed.
    pub(crate) events: Vec<Uuid>,
    /// Whose late operations are on their way, by backend.
    late: [VecDeque<usize>; 2],
    /// The entries of the roots as they lie in the two places.
    pub(crate) roots: [Option<Entries>; 2],
    loads: u64,
    /// Clocks made so far, each with identifiers of its own.
    clocks: u64,
    /// Something is damaged and not yet repaired.
    pub(crate) hurt: bool,
    /// Actions that found no room: a deletion then frees the bytes before its tombstone stands.
    pub(crate) found_no_room: BTreeSet<usize>,
    /// Contents of deleted images whose only copy was damaged.
    pub(crate) excused: BTreeSet<Digest>,
    /// Whether a page in the archive was damaged and may not have been put back.
    pub(crate) lost_pages: bool,
    /// Whether automatic backups have been counted without a break.
    pub(crate) counted: bool,
    pub(crate) stats: Stats,
    pub(crate) trace: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(setup: Setup, traced: bool) -> Checked<Self> {
        let now = "2026-01-01T00:00:00Z".parse().map_err(|_| "a moment")?;
        let mut world = Self {
            setup,
            stores: SimulatedStores::new(setup.apart),
            now,
            turn: 0,
            processes: Vec::new(),
            running: Vec::new(),
            model: Model::default(),
            requests: Vec::new(),
            tickets: Vec::new(),
            by_key: BTreeMap::new(),
            expected: BTreeSet::new(),
            events: Vec::new(),
            late: Default::default(),
            roots: [None, None],
            loads: 0,
            clocks: 0,
            hurt: false,
            found_no_room: BTreeSet::new(),
            excused: BTreeSet::new(),
            lost_pages: false,
            counted: true,
            stats: Stats::default(),
            trace: traced.then(Vec::new),
        };
        world.stores.set_now(now);
        for _ in 0..=CHECKER {
            let process = world.process(SignedDuration::ZERO);
            world.processes.push(process);
        }
        // The count of automatic backups begins with the first recovery.
        for process in 0..=FOLLOWER {
            world.finish_alone(process, Request::Recover)?;
        }
        Ok(world)
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    fn process(&mut self, skew: SignedDuration) -> Process {
        self.clocks += 1;
        let clock = Clock::manual_seeded(self.now + skew, self.clocks);
        let settings = Settings {
            backup_every: self.setup.backup_every,
            archive_sync: self.setup.sync,
            keep: KEEP,
            ..Settings::default()
        };
        let [primary, archive] = self.stores.stores();
        let keepsake = Arc::new(Keepsake::new(primary, archive, Vec::new(), clock.clone(), settings));
        Process { keepsake, clock, skew, up: false, loading: false, changed: BTreeSet::new() }
    }

    /// A process dies, and another one takes its place.
    pub(crate) fn crash(&mut self, process: usize) {
        self.running.retain(|running| running.process != process);
        self.processes[process] = self.process(self.processes[process].skew);
        // Functions serve at once.
        self.processes[process].up = process == FOLLOWER;
    }

    pub(crate) fn play(&mut self, turn: &Turn) -> Checked {
        self.turn += 1;
        match *turn {
            Turn::Start { process, action, pick } => {
                if self.running.len() < MOST_RUNNING {
                    self.start(process, action, pick);
                }
                Ok(())
            }
            Turn::Step { .. } if self.running.is_empty() => Ok(()),
            Turn::Step { who, pass_over, mishap } => {
                let at = (who % self.running.len() as u64) as usize;
                self.step(at, pass_over, mishap).map(drop)
            }
            Turn::Cancel { who } => {
                if !self.running.is_empty() {
                    let gone = self.running.swap_remove((who % self.running.len() as u64) as usize);
                    self.note(|| format!("{} is cancelled", gone.action));
                    self.stats.count("cancelled");
                }
                Ok(())
            }
            Turn::Crash { process } => {
                self.note(|| format!("process {process} dies"));
                self.stats.count("crash");
                self.crash(process);
                Ok(())
            }
            Turn::Break { side, kind } => {
                self.note(|| format!("broken: {side:?} {kind:?}"));
                self.stats.count("outage");
                self.stores.set_broken(Some((side, kind)));
                Ok(())
            }
            Turn::Heal => {
                self.stores.set_broken(None);
                Ok(())
            }
            Turn::Jump { process, minutes } => {
                self.stats.count("clock jump");
                let skew = SignedDuration::from_mins(minutes);
                let process = &mut self.processes[process];
                process.clock.advance(skew - process.skew);
                process.skew = skew;
                Ok(())
            }
            Turn::Pass { minutes } => self.pass(minutes),
            Turn::Deliver => self.deliver().map(drop),
            Turn::Rest { abruptly } => self.rest(abruptly),
            Turn::Damage { damage, pick } => self.damage(damage, pick),
        }
    }

    pub(crate) fn advance(&mut self, by: SignedDuration) {
        self.now += by;
        self.processes.iter().for_each(|process| process.clock.advance(by));
        self.stores.set_now(self.now);
    }

    fn pass(&mut self, minutes: i64) -> Checked {
        self.note(|| format!("{minutes} minutes pass"));
        self.stats.count("time passes");
        if minutes >= 60 * 24 {
            // No request and no packet is under way for days.
            (0..=FOLLOWER).for_each(|process| self.crash(process));
            while self.deliver()? {}
        }
        self.advance(SignedDuration::from_mins(minutes));
        Ok(())
    }

    /// Begins to do what is asked; returns where it runs.
    pub(crate) fn begin(&mut self, process: usize, request: Request) -> usize {
        let loading = self.processes.iter().any(|process| process.loading);
        if let Request::Recover = request {
            self.loads += 1;
            self.processes[process].loading = true;
        }
        if let Request::DeleteBackup(name) = &request {
            self.model.backups.entry(*name).and_modify(|backup| backup.going = true);
        }
        let action = self.model.begin();
        self.note(|| format!("process {process} begins {action}: {request:?}"));
        let future = Box::pin(request.clone().perform(Arc::clone(&self.processes[process].keepsake)));
        let request = Rc::new(request);
        self.requests.push(Rc::clone(&request));
        let loads = (!loading).then_some(self.loads);
        let (began, mishaps) = (self.stats.steps, 0);
        let states = Vec::new();
        self.running.push(Running { action, process, request, future, began, states, loads, mishaps });
        self.note_state(process);
        self.running.len() - 1
    }

    /// Whether any process has read replicas since an action began.
    pub(crate) fn nobody_loaded(&self, running: &Running) -> bool {
        running.loads == Some(self.loads) && !self.processes.iter().any(|process| process.loading)
    }

    /// Lets an action make its next operation; returns whether anything happened.
    pub(crate) fn step(&mut self, at: usize, pass_over: u8, mishap: Option<Mishap>) -> Checked<bool> {
        self.advance(STEP);
        self.stores.open(pass_over, mishap);
        let mut context = Context::from_waker(Waker::noop());
        // It is polled again while it only passes over operations.
        for _ in 0..8 {
            let polled = self.running[at].future.as_mut().poll(&mut context);
            self.note_state(self.running[at].process);
            let passed = self.stores.passed();
            let progressed = passed.is_some();
            if let Some(op) = passed {
                self.observe(at, op)?;
            }
            if let Poll::Ready(result) = polled {
                let running = self.running.swap_remove(at);
                self.end(running, result)?;
                return Ok(true);
            }
            if progressed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn observe(&mut self, at: usize, op: Op) -> Checked {
        let running = &mut self.running[at];
        self.stats.steps += 1;
        if let Some(fault) = op.fault {
            running.mishaps += 1;
            if fault == Fault::Before(ErrorKind::Full) {
                self.found_no_room.insert(running.action);
            }
            self.stats.count(match fault {
                Fault::Before(ErrorKind::Unavailable) => "fault: unavailable",
                Fault::Before(ErrorKind::Full) => "fault: full",
                Fault::Before(_) => "fault: refused",
                Fault::After(_) => "fault: reply lost",
                Fault::Late => "fault: late",
                Fault::Truncate(_) => "fault: broken off",
            });
            if fault == Fault::Late && matches!(op.name, "put" | "delete") {
                self.late[op.backend].push_back(running.action);
            }
        }
        let action = running.action;
        self.note(|| format!("  {action} {} {:?} {} {:?}", op.name, op.side, op.key, op.fault));
        self.look(action, &op)
    }

    /// The oldest late operation takes place; returns whether there was one.
    pub(crate) fn deliver(&mut self) -> Checked<bool> {
        for backend in 0..self.late.len() {
            if let Some(action) = self.late[backend].pop_front() {
                let Some(op) = self.stores.deliver(backend) else { return Err("a late operation is gone".to_owned()) };
                self.note(|| format!("  {action}, late: {} {:?} {}", op.name, op.side, op.key));
                self.stats.count("late arrival");
                self.look(action, &op)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Runs one action to its end while nothing goes wrong, or all of them.
    pub(crate) fn finish(&mut self, only: Option<usize>) -> Checked {
        for round in 0..200_000_usize {
            let mine = |running: &Running| only.is_none_or(|action| running.action == action);
            let waiting: Vec<usize> = (0..self.running.len()).filter(|at| mine(&self.running[*at])).collect();
            let Some(at) = waiting.get(round % waiting.len().max(1)) else { return Ok(()) };
            self.step(*at, 0, None)?;
        }
        let stuck = self.running.iter().map(|running| format!("{} {:?}", running.action, running.request));
        Err(format!("something never ends: {}", stuck.collect::<Vec<_>>().join(", ")))
    }

    /// Lets a process do one thing, and nobody else anything.
    pub(crate) fn finish_alone(&mut self, process: usize, request: Request) -> Checked {
        let at = self.begin(process, request);
        self.finish(Some(self.running[at].action))
    }

    /// A new process that looks at everything.
    pub(crate) fn renew_checker(&mut self) {
        self.processes[CHECKER] = self.process(SignedDuration::ZERO);
    }

    /// Notes what a process holds now for those of its actions that list images.
    fn note_state(&mut self, process: usize) {
        let state = self.processes[process].keepsake.core.catalog.view();
        let lists =
            |running: &&mut Running| running.process == process && matches!(*running.request, Request::List { .. });
        for running in self.running.iter_mut().filter(lists) {
            if running.states.last().is_none_or(|last| !last.is_same(&state)) {
                running.states.push(state.clone());
            }
        }
    }

    pub(crate) fn view(&self, process: usize) -> View {
        self.entries(&self.processes[process].keepsake.core.catalog.view())
    }

    pub(crate) fn entries(&self, view: &State) -> View {
        // Each page is in the primary, or in the archive while the primary is damaged.
        let (primary, archive) = (self.stores.reader(Side::Primary), self.stores.reader(Side::Archive));
        entries_in(view, move |key| {
            let is_intact = |bytes: &Bytes| layout::parse_page(key) == Some(Digest::of(bytes));
            primary(key).filter(is_intact).or_else(|| archive(key))
        })
        .expect("a state has all its pages")
    }
}
