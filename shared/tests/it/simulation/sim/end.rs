//! What is checked when an action ends: its answer against the model.

use std::collections::BTreeSet;

use super::contents::bytes_of;
use super::model::{Checked, Outcome, View};
use super::request::{Answer, Request, Spec};
use super::world::{CHECKER, FOLLOWER, Running, Ticket, World};
use shared::catalog::CommitError;
use shared::digest::Digest;
use shared::layout::ImageId;
use shared::restore::{Mode, Restored};
use shared::upload::Uploaded;
use shared::{Error, Result};

impl World {
    /// An action has ended.
    pub(crate) fn end(&mut self, running: Running, result: Result<Answer>) -> Checked {
        let action = running.action;
        self.note(|| format!("{action} ends: {result:?}"));
        let outcome = match &result {
            Ok(_) => Outcome::Acknowledged,
            Err(error) => self.outcome(&running, error),
        };
        self.stats.ended(running.request.name(), outcome);
        let who = || format!("action {action}, {:?}", running.request);
        self.model.end(action, outcome, self.stats.steps).map_err(|e| format!("{}: {e}", who()))?;
        if let Request::Recover = *running.request {
            self.end_recovery(running.process, result.is_ok());
        }
        let checked = match result {
            Ok(answer) => self.accept(&running, answer),
            Err(error) => self.accept_error(&running, &error),
        };
        checked.map_err(|e| format!("{}: {e}", who()))
    }

    /// Whether it is certain that nothing was stored.
    fn outcome(&self, running: &Running, error: &Error) -> Outcome {
        match error {
            // The commit may be on its way.
            Error::Commit(CommitError::Unknown(_)) => Outcome::Open,
            _ if self.model.attempts[running.action].commits.is_empty() => Outcome::Refused,
            // Who loads meanwhile may find it in the archive.
            Error::Commit(CommitError::NotStored(_)) if self.nobody_loaded(running) => Outcome::Refused,
            _ => Outcome::Open,
        }
    }

    fn end_recovery(&mut self, process: usize, recovered: bool) {
        if recovered {
            self.processes[process].loading = false;
            self.processes[process].up = true;
        } else if process != FOLLOWER && process != CHECKER {
            // A server that cannot recover does not start.
            self.crash(process);
        }
    }

    fn accept_error(&mut self, running: &Running, error: &Error) -> Checked {
        let floors = &self.model.attempts[running.action].floors;
        match (&*running.request, error) {
            (Request::Get { id } | Request::Edit { id, .. } | Request::Delete { id, .. }, Error::NoSuchImage(_)) => {
                self.model.show_none(floors, id)
            }
            (Request::Get { id }, Error::MissingBytes) if running.mishaps == 0 && !self.hurt => match floors.get(id) {
                Some(floor) if !self.model.may_be_gone(id, floor) => Err(format!("the bytes of {id} are missing")),
                _ => Ok(()),
            },
            (Request::Restore { name, .. } | Request::Plan { name, .. }, Error::DamagedBackup(_)) => {
                match self.model.backups.get(name) {
                    Some(backup) if !backup.excused && !backup.going => Err(format!("{name} is damaged")),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn accept(&mut self, running: &Running, answer: Answer) -> Checked {
        let floors = std::rc::Rc::clone(&self.model.attempts[running.action].floors);
        match (&*running.request, answer) {
            (Request::Upload(spec) | Request::Complete { spec, .. }, Answer::Uploaded(uploaded)) => {
                self.accept_upload(running, spec, uploaded)
            }
            (Request::Issue(spec), Answer::Issued { ticket, secret }) => {
                self.tickets.push(Ticket { id: ticket, secret, spec: spec.clone() });
                Ok(())
            }
            (Request::Edit { .. }, Answer::Image(id, entry)) => {
                if !self.model.attempts[running.action].commits.contains(&entry.stamp.commit) {
                    return Err(format!("the answer is not what was stored: {entry:?}"));
                }
                self.accept_change(running, &id, entry.stamp.version)?;
                self.model.show(&floors, &id, &entry)
            }
            (Request::Delete { id, .. }, Answer::Done) => {
                let made = self.model.attempts[running.action].commits.last();
                let entry = made.and_then(|commit| self.model.changes[commit].entries.get(id)).cloned();
                let entry = entry.ok_or("it was deleted without a commit")?;
                self.accept_change(running, id, entry.stamp.version)?;
                self.model.show(&floors, id, &entry)
            }
            (Request::List { limit }, Answer::Page(page)) => {
                // It is the page of one moment.
                let explains = |view: &View| {
                    let live = view.values().filter(|entry| entry.live().is_some()).count();
                    let newest =
                        |entry: &shared::catalog::Entry| entry.live().and_then(|record| record.upload_date.clone());
                    let all_there = page.images.len() == live.min(*limit) && page.next.is_some() == (live > *limit);
                    let same = page.images.iter().all(|(id, entry)| view.get(id) == Some(entry));
                    let is_ordered =
                        page.images.is_sorted_by(|(a, left), (b, right)| (newest(left), a) > (newest(right), b));
                    all_there && same && is_ordered
                };
                let mut states = running.states.iter().rev().map(|state| self.entries(state));
                let view = states.find(explains).ok_or("the page is not what there was at any moment")?;
                self.model.read(&floors, &view)
            }
            (Request::Get { id }, Answer::Bytes(entry, bytes)) => {
                let digest = entry.live().and_then(|record| record.sha256);
                if digest.as_ref().and_then(bytes_of) != Some(&bytes) {
                    return Err(format!("other bytes were served for {id}"));
                }
                self.model.show(&floors, id, &entry)
            }
            (Request::Backup, Answer::Made(manifest)) => self.acknowledge_backup(manifest.name),
            (Request::Backups, Answer::Listed(listed)) => {
                // One whose manifest could not be read is named all the same.
                let named = listed.listed.iter().map(|backup| backup.name).chain(listed.unreadable.iter().copied());
                let names: BTreeSet<_> = named.collect();
                let gone = self.model.backups.iter().find(|(name, backup)| {
                    let promised = backup.acknowledged.is_some_and(|at| at < running.began);
                    promised && !backup.going && !backup.excused && !names.contains(name)
                });
                let new = names.iter().find(|name| !self.model.backups.contains_key(name));
                match (gone, new) {
                    (None, None) => Ok(()),
                    (gone, new) => Err(format!("backups: {:?} is not listed, {new:?} is", gone.map(|(name, _)| name))),
                }
            }
            (Request::Plan { .. }, Answer::Plan(plan)) => self.accept_missing(&plan.missing),
            (Request::Prune { dry_run: false } | Request::PruneBySchedule, Answer::Pruned(pruned)) => {
                self.stats.add("backups pruned", pruned.removed.len() as u64);
                self.stats.add("copies pruned", pruned.images.len() as u64);
                self.stats.add("pages pruned", pruned.pages.len() as u64);
                Ok(())
            }
            (Request::Restore { name, mode }, Answer::Restored(restored)) => {
                self.accept_restore(running, *name, *mode, &restored)
            }
            (_, Answer::Found(findings)) => self.accept_missing(&findings.lost),
            (_, Answer::Missing(missing)) => self.accept_missing(&missing),
            (_, Answer::Followed(commits)) => {
                // Events come more than once.
                let again = running.action.is_multiple_of(4);
                self.events.retain(|commit| again || !commits.contains(commit));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn accept_upload(&mut self, running: &Running, spec: &Spec, uploaded: Uploaded) -> Checked {
        let floors = std::rc::Rc::clone(&self.model.attempts[running.action].floors);
        let mine = &self.model.attempts[running.action].commits;
        let fresh = uploaded.images.iter().all(|(_, entry)| mine.contains(&entry.stamp.commit));
        let again = spec.key.is_some() || matches!(*running.request, Request::Complete { .. });
        if uploaded.copies != if self.setup.sync { 2 } else { 1 } {
            return Err(format!("there are not {} copies", uploaded.copies));
        }
        if fresh && uploaded.images.len() != spec.contents.len() || !fresh && !again {
            return Err(format!("not what was sent was stored: {uploaded:?}"));
        }
        for (id, entry) in &uploaded.images {
            let Some(record) = entry.live() else { return Err(format!("{id} is returned as deleted")) };
            let index = (0..spec.contents.len()).find(|index| record.original_name == Some(spec.name(*index)));
            let made = |index| if fresh { spec.made(index, record) } else { spec.made_bytes(index, record) };
            if !index.is_some_and(made) {
                return Err(format!("{id} is not what was sent: {record:?}"));
            }
            self.model.show(&floors, id, entry)?;
            let digest = record.sha256.ok_or("no digest")?;
            // A deletion that finds no room frees the bytes before its tombstone stands.
            let frees = |running: &Running| {
                matches!(&*running.request, Request::Delete { id: deleted, .. } if deleted == id)
                    && self.found_no_room.contains(&running.action)
            };
            let is_going = self.running.iter().any(frees);
            let settled = !self.hurt && !is_going && !self.model.may_be_gone(id, entry);
            if settled && !self.has_image(id, &digest) {
                return Err(format!("{id} is acknowledged without bytes"));
            }
            if settled && self.setup.sync && !self.has_copy(&digest) {
                return Err(format!("{id} is acknowledged without a right replica"));
            }
            if self.has_copy(&digest) {
                self.excused.remove(&digest);
            }
        }
        if let Some(key) = &spec.key {
            let ids: BTreeSet<ImageId> = uploaded.images.iter().map(|(id, _)| id.clone()).collect();
            let known = self.by_key.entry(key.clone()).or_default();
            known.extend(ids);
            if known.len() > spec.contents.len() {
                return Err(format!("the key {key} has made {known:?}"));
            }
        }
        self.stats.add("images acknowledged", uploaded.images.len() as u64);
        uploaded.backup.map_or(Ok(()), |name| self.acknowledge_backup(name))
    }

    /// No two changes of one process are made from the same state, and no two conditional ones of any process.
    fn accept_change(&mut self, running: &Running, id: &ImageId, version: u64) -> Checked {
        let process = running.process;
        if let Request::Edit { condition: Some(stamp), .. } | Request::Delete { condition: Some(stamp), .. } =
            *running.request
            && !self.expected.insert((id.clone(), stamp))
        {
            return Err(format!("two acknowledged conditional changes of {id} expected version {}", stamp.version));
        }
        if self.processes[process].changed.insert((id.clone(), version)) {
            return Ok(());
        }
        Err(format!("two acknowledged changes of process {process} made version {version} of {id}"))
    }

    fn acknowledge_backup(&mut self, name: shared::layout::BackupName) -> Checked {
        let now = self.stats.steps;
        let backup = self.model.backups.get_mut(&name).ok_or_else(|| format!("{name} was never written"))?;
        backup.acknowledged.get_or_insert(now);
        Ok(())
    }

    /// Only what was damaged where it had one copy is missing.
    fn accept_missing<'a>(&self, missing: impl IntoIterator<Item = &'a ImageId>) -> Checked {
        for id in missing {
            let digest: Option<Digest> = self.model.states_of(id).iter().find_map(|state| state.live()?.sha256);
            let known = digest.is_some_and(|digest| self.excused.contains(&digest));
            // Of what was never acknowledged, bytes may be missing.
            let promised = self.model.floors.get(id).is_some_and(|floor| !self.model.may_be_gone(id, floor));
            if !known && promised && !self.hurt {
                return Err(format!("{id} is said to be missing"));
            }
        }
        Ok(())
    }

    /// After a restore, each image is as it was in the backup, or was changed by someone since the restore began.
    fn accept_restore(
        &mut self,
        running: &Running,
        name: shared::layout::BackupName,
        mode: Mode,
        restored: &Restored,
    ) -> Checked {
        self.accept_missing(&restored.plan.missing)?;
        if let Some(safety) = restored.safety_backup {
            self.acknowledge_backup(safety)?;
        }
        let view = self.view(running.process);
        let backup = &self.model.backups[&name];
        let overlaps = |entry: &shared::catalog::Entry| {
            let change = self.model.changes.get(&entry.stamp.commit);
            let attempt = change.map(|change| &self.model.attempts[change.action]);
            attempt.is_none_or(|attempt| attempt.ended.is_none_or(|ended| ended >= running.began))
        };
        if backup.excused || backup.going {
            return Ok(());
        }
        for (id, then) in backup.view.iter().filter(|(id, _)| !restored.plan.missing.contains(*id)) {
            let now = view.get(id);
            if now.and_then(|now| now.live()) != then.live() && now.is_some_and(|now| !overlaps(now)) || now.is_none() {
                return Err(format!("{id} was not restored: {now:?}, not {then:?}"));
            }
        }
        let too_many = view.iter().find(|(id, now)| {
            mode == Mode::Exact && now.live().is_some() && !backup.view.contains_key(*id) && !overlaps(now)
        });
        if let Some((id, _)) = too_many {
            return Err(format!("{id} is still there after an exact restore"));
        }
        let made = self.model.attempts[running.action].commits.clone();
        let floors = std::rc::Rc::clone(&self.model.attempts[running.action].floors);
        for commit in made {
            for (id, entry) in self.model.changes[&commit].entries.clone() {
                self.model.show(&floors, &id, &entry)?;
            }
        }
        Ok(())
    }
}
