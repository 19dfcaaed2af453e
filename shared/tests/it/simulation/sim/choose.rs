//! Choosing what exactly is asked of a process.

use std::collections::BTreeSet;

use super::request::{Request, Spec};
use super::schedule::{Action, Rng};
use super::world::{FOLLOWER, World};
use shared::images::{Fields, Patch};
use shared::layout::{BackupName, ImageId};
use shared::restore::Mode;
use shared::verify::Slice;

impl World {
    /// Begins an action, if there is something to do it with, on a process that does such things.
    pub(crate) fn start(&mut self, process: usize, action: Action, pick: u64) {
        let follows =
            matches!(action, Action::Follow | Action::FollowUp | Action::Tidy | Action::Recover | Action::ClearTickets);
        let process = match (follows, self.setup.sync) {
            // Where replicas stand at once, nobody follows.
            (true, true) if matches!(action, Action::Follow | Action::Recover) => return,
            (true, false) => FOLLOWER,
            _ => process % FOLLOWER,
        };
        if process != FOLLOWER && !self.processes[process].up {
            // It serves once it has recovered.
            if !self.running.iter().any(|running| running.process == process) {
                self.begin(process, Request::Recover);
            }
            return;
        }
        if let Some(request) = self.choose(action, &mut Rng::new(pick)) {
            self.begin(process, request);
        }
    }

    fn choose(&self, action: Action, rng: &mut Rng) -> Option<Request> {
        Some(match action {
            Action::Upload => Request::Upload(self.spec(rng)),
            Action::UploadWithKey => {
                // A few keys are in use at a time, so that most uploads with one are not the first.
                let number = self.requests.len() as u64 / 60 * 3 + rng.below(4);
                let key = format!("k{number}");
                let other = if rng.below(8) == 0 { 1 } else { 0 };
                let mut fixed = Rng::new(number);
                let contents = (0..=number % 2).map(|_| fixed.below(40) as usize + other).collect();
                let fields = Fields { description: Some(key.clone()), ..fields(&mut fixed) };
                Request::Upload(Spec { marker: key.clone(), contents, fields, key: Some(key) })
            }
            Action::Issue => {
                let mut spec = self.spec(rng);
                spec.contents.truncate(1);
                Request::Issue(spec)
            }
            Action::Send => {
                let ticket = self.recent(&self.tickets, rng)?;
                let content = ticket.spec.contents[0] + usize::from(rng.below(10) == 0);
                Request::Send { ticket: ticket.id, secret: ticket.secret.clone(), content }
            }
            Action::Complete => {
                let ticket = self.recent(&self.tickets, rng)?;
                Request::Complete { ticket: ticket.id, spec: ticket.spec.clone() }
            }
            Action::Edit => {
                let id = self.image(rng)?;
                let marker = format!("e{}", self.requests.len());
                let mut patch = Patch { description: Some(Some(marker)), ..Patch::default() };
                if rng.below(2) == 0 {
                    patch.category = Some((rng.below(2) == 0).then(|| format!("c{}", rng.below(5))));
                }
                if rng.below(3) == 0 {
                    patch.order = Some(Some(rng.below(9) as i64));
                }
                if rng.below(3) == 0 {
                    patch.group_id = Some((rng.below(3) > 0).then(|| format!("g{}", rng.below(3))));
                }
                Request::Edit { condition: self.condition(&id, rng), id, patch }
            }
            Action::Delete => {
                let id = self.image(rng)?;
                Request::Delete { condition: self.condition(&id, rng), id }
            }
            Action::List => Request::List { limit: 1 + rng.below(100) as usize },
            Action::Get => Request::Get { id: self.image(rng)? },
            Action::Health => Request::Health,
            Action::Backup => Request::Backup,
            Action::Backups => Request::Backups,
            Action::Plan => Request::Plan { name: self.backup(rng)?, mode: mode(rng) },
            Action::Restore => Request::Restore { name: self.backup(rng)?, mode: mode(rng) },
            Action::Background => Request::Background,
            Action::Verify => Request::Verify(Slice::new(1 + rng.below(3) as u32, 3)?),
            Action::VerifyNext => Request::VerifyNext,
            Action::ClearTickets => Request::ClearTickets,
            Action::Follow => {
                let some = self.events.iter().filter(|_| rng.below(3) > 0).take(5);
                let commits: BTreeSet<_> = some.copied().collect();
                (!commits.is_empty()).then_some(Request::Follow(commits))?
            }
            Action::FollowUp => Request::FollowUp,
            Action::Tidy => Request::Tidy,
            Action::Recover => Request::Recover,
            Action::Prune => match rng.below(6) {
                0 => Request::Prune { dry_run: true },
                1 => Request::Prune { dry_run: false },
                _ => Request::PruneBySchedule,
            },
            Action::DeleteBackup => Request::DeleteBackup(self.backup(rng)?),
        })
    }

    pub(crate) fn spec(&self, rng: &mut Rng) -> Spec {
        let marker = format!("u{}", self.requests.len());
        let count = if rng.below(5) == 0 { 2 + rng.below(3) } else { 1 };
        let contents = (0..count).map(|_| rng.below(40) as usize).collect();
        let fields = Fields { description: Some(marker.clone()), ..fields(rng) };
        Spec { marker, contents, fields, key: None }
    }

    /// One of the last few.
    fn recent<'a, T>(&self, all: &'a [T], rng: &mut Rng) -> Option<&'a T> {
        let among = all.len().min(3);
        all.get(all.len() - among + rng.below(among.max(1) as u64) as usize)
    }

    /// An image that anyone knows of; mostly one that lives.
    fn image(&self, rng: &mut Rng) -> Option<ImageId> {
        let live = self.model.live();
        if live.is_empty() || rng.below(10) == 0 {
            let among = self.model.floors.len() as u64;
            return self.model.floors.keys().nth(rng.below(among.max(1)) as usize).cloned();
        }
        Some(live[rng.below(live.len() as u64) as usize].clone())
    }

    /// The state of an image that the client last heard of, where it says which one it means.
    fn condition(&self, id: &ImageId, rng: &mut Rng) -> Option<shared::catalog::Stamp> {
        if rng.below(2) == 0 { Some(self.model.floors.get(id)?.stamp) } else { None }
    }

    fn backup(&self, rng: &mut Rng) -> Option<BackupName> {
        let sound = self.model.backups.iter().filter(|(_, backup)| !backup.excused || rng.below(10) == 0);
        let names: Vec<BackupName> = sound.map(|(name, _)| *name).collect();
        names.get(rng.below(names.len().max(1) as u64) as usize).copied()
    }
}

fn mode(rng: &mut Rng) -> Mode {
    if rng.below(2) == 0 { Mode::Merge } else { Mode::Exact }
}

fn fields(rng: &mut Rng) -> Fields {
    let mut some = |text: &str, n: u64| (rng.below(2) == 0).then(|| format!("{text}{}", rng.below(n)));
    let (category, group_id) = (some("c", 5), some("g", 3));
    Fields {
        category,
        group_id,
        order: (rng.below(3) == 0).then(|| rng.below(9) as i64),
        description: None,
        ..Fields::default()
    }
}
