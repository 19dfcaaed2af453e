//! The reference: what the outside world may believe of the store. It knows nothing of checkpoints, compacts or copies.
//!
//! It knows every change that was attempted: for each action, the new states that it sent towards the store (those are
//! observed where they arrive, whatever reply came back), and how the action ended. A change is *acknowledged* when its
//! action succeeded, *refused* when its action was told for certain that nothing was stored, and *open* otherwise: it may
//! be seen or not, now or later. For each image the *floor* is the newest state that was acknowledged, or that a read
//! returned.
//!
//! A read that began when the floors were `F` and ended with the view `V` is accepted if
//!
//! 1. each state in `V` was attempted before the read ended, and not refused;
//! 2. each image's state in `V` is at least as new as in `F`; it may be absent only where a deletion is as new;
//! 3. where `V` shows an image as one change left it, it shows all images of that change like that or newer.
//!
//! Then `V` raises the floors. Why this amounts to linearizability here: every change states the version that it makes of
//! each image, and of two states of one image the newer one is decided by their stamps alone, the same for everybody; so
//! the states of one image are a chain, and a register over a chain is linearizable exactly if no read goes back behind
//! what ended before it began (2) and none shows what was never written (1). Linearizability is local: it holds for the
//! whole if it holds for each image. What it does not give is that a change of several images is one step; that is (3).
//! That no change is lost between two writers is asked of edits and deletions where they are acknowledged: each must be
//! made from the state before it, and two of one process never from the same one.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use uuid::Uuid;

use shared::backup::Kind;
use shared::catalog::Entry;
use shared::layout::{BackupName, ImageId};

/// Why a run has failed.
pub(crate) type Checked<T = ()> = Result<T, String>;

/// States of images by name.
pub(crate) type View = BTreeMap<ImageId, Arc<Entry>>;

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has not ended, or died, or was told that its outcome is unknown.
    Open,
    Acknowledged,
    Refused,
}

/// One action.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The floors when it began.
    pub(crate) floors: Rc<View>,
    pub(crate) outcome: Outcome,
    /// When it ended, counted in steps; none while it is open, since it may still take place.
    pub(crate) ended: Option<u64>,
    pub(crate) commits: Vec<Uuid>,
}

/// One change as it was sent towards the store.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) action: usize,
    pub(crate) entries: View,
    /// Whether anyone was shown it.
    pub(crate) seen: bool,
}

/// A backup: what it holds, and when its maker was told that it stands.
#[derive(Debug)]
pub(crate) struct Backup {
    pub(crate) view: View,
    pub(crate) acknowledged: Option<u64>,
    pub(crate) kind: Kind,
    /// Which automatic backup it is.
    pub(crate) sequence: Option<u64>,
    /// A part of it that lies in one place only has rotted or was lost, so that nothing is promised of it.
    pub(crate) excused: bool,
    /// Someone has begun to delete it.
    pub(crate) going: bool,
    /// When it went, counted in steps.
    pub(crate) gone: Option<u64>,
}

/// See above.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) changes: BTreeMap<Uuid, Change>,
    pub(crate) floors: Rc<View>,
    /// Every state that was attempted.
    states: BTreeMap<ImageId, Vec<Arc<Entry>>>,
    pub(crate) backups: BTreeMap<BackupName, Backup>,
}

impl Model {
    /// An action begins.
    pub(crate) fn begin(&mut self) -> usize {
        let floors = Rc::clone(&self.floors);
        self.attempts.push(Attempt { floors, outcome: Outcome::Open, ended: None, commits: Vec::new() });
        self.attempts.len() - 1
    }

    /// An action has sent a change towards the store.
    pub(crate) fn attempt(&mut self, action: usize, commit: Uuid, entries: View) {
        for (id, entry) in &entries {
            self.states.entry(id.clone()).or_default().push(Arc::clone(entry));
        }
        self.attempts[action].commits.push(commit);
        self.changes.insert(commit, Change { action, entries, seen: false });
    }

    /// An action has ended.
    pub(crate) fn end(&mut self, action: usize, outcome: Outcome, now: u64) -> Checked {
        self.attempts[action].outcome = outcome;
        self.attempts[action].ended = (outcome != Outcome::Open).then_some(now);
        let seen = |commit: &&Uuid| self.changes[commit].seen;
        match self.attempts[action].commits.iter().find(seen) {
            Some(commit) if outcome == Outcome::Refused => {
                Err(format!("commit {commit} was refused after it was seen"))
            }
            _ => Ok(()),
        }
    }

    fn outcome_of(&self, commit: Uuid) -> Option<Outcome> {
        Some(self.attempts[self.changes.get(&commit)?.action].outcome)
    }

    /// Whether an image may be absent although this state of it was acknowledged or seen.
    pub(crate) fn may_be_gone(&self, id: &ImageId, state: &Entry) -> bool {
        let explains = |other: &Arc<Entry>| {
            other.tombstone().is_some()
                && other.supersedes(state)
                && self.outcome_of(other.stamp.commit) != Some(Outcome::Refused)
        };
        state.tombstone().is_some() || self.states_of(id).iter().any(explains)
    }

    /// Every state of an image that was attempted.
    pub(crate) fn states_of(&self, id: &ImageId) -> &[Arc<Entry>] {
        self.states.get(id).map_or(&[], Vec::as_slice)
    }

    /// Whether `held` is this state of an image or a newer one.
    pub(crate) fn covers(&self, id: &ImageId, state: &Entry, held: Option<&Arc<Entry>>) -> bool {
        held.map_or_else(|| self.may_be_gone(id, state), |held| !state.supersedes(held))
    }

    /// Condition 1 for one state.
    pub(crate) fn check_attempted(&self, id: &ImageId, entry: &Entry) -> Checked {
        let change = self.changes.get(&entry.stamp.commit);
        if change.and_then(|change| change.entries.get(id)).is_none_or(|attempted| **attempted != *entry) {
            return Err(format!("{id} is in a state that nobody has made: {entry:?}"));
        }
        if self.outcome_of(entry.stamp.commit) == Some(Outcome::Refused) {
            return Err(format!("{id} is in a state that was refused: {entry:?}"));
        }
        Ok(())
    }

    /// Conditions 1 to 3.
    pub(crate) fn check_view(&self, floors: &View, view: &View) -> Checked {
        for (id, floor) in floors {
            if !self.covers(id, floor, view.get(id)) {
                return Err(format!("{id} is not as new as what came before: {:?}, not {floor:?}", view.get(id)));
            }
        }
        let mut last = None;
        for (id, entry) in view {
            self.check_attempted(id, entry)?;
            if last.replace(entry.stamp.commit) == Some(entry.stamp.commit) {
                continue;
            }
            for (other, state) in &self.changes[&entry.stamp.commit].entries {
                if !self.covers(other, state, view.get(other)) {
                    return Err(format!("{id} shows commit {}, and {other} does not", entry.stamp.commit));
                }
            }
        }
        Ok(())
    }

    /// A read that began with these floors has returned everything there is.
    pub(crate) fn read(&mut self, floors: &View, view: &View) -> Checked {
        self.check_view(floors, view)?;
        view.iter().for_each(|(id, entry)| self.raise(id, entry));
        Ok(())
    }

    /// An action has returned one state of one image, so it has been seen.
    pub(crate) fn show(&mut self, floors: &View, id: &ImageId, entry: &Arc<Entry>) -> Checked {
        self.check_attempted(id, entry)?;
        if floors.get(id).is_some_and(|floor| floor.supersedes(entry)) {
            return Err(format!("{id} was shown in an older state than before: {entry:?}"));
        }
        self.raise(id, entry);
        Ok(())
    }

    /// An action has found no such image.
    pub(crate) fn show_none(&self, floors: &View, id: &ImageId) -> Checked {
        match floors.get(id) {
            Some(floor) if !self.may_be_gone(id, floor) => Err(format!("{id} was not found, and is {floor:?}")),
            _ => Ok(()),
        }
    }

    fn raise(&mut self, id: &ImageId, entry: &Arc<Entry>) {
        if let Some(change) = self.changes.get_mut(&entry.stamp.commit) {
            change.seen = true;
        }
        if self.floors.get(id).is_none_or(|floor| entry.supersedes(floor)) {
            Rc::make_mut(&mut self.floors).insert(id.clone(), Arc::clone(entry));
        }
    }

    /// The images that exist for all that is known, in the order of their names.
    pub(crate) fn live(&self) -> Vec<&ImageId> {
        self.floors.iter().filter(|(_, entry)| entry.live().is_some()).map(|(id, _)| id).collect()
    }
}
