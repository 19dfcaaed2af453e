//! What is checked at each single operation: what it wrote or deleted is looked at where it lies.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use serde::Deserialize;
use uuid::Uuid;

use super::contents::bytes_of;
use super::model::{Backup, Checked, Outcome, View};
use super::request::{Request, patched};
use super::schedule::Side;
use super::simulated_stores::Op;
use super::world::{KEEP, World};
use shared::backup::Kind;
use shared::catalog::{Commit, Entry};
use shared::digest::Digest;
use shared::layout::{self, BackupName, ImageId};
use shared::restore::Mode;
use shared::store::Key;
use shared::testing::catalog::{backup_entries, checked_entries};

/// A backup as it lies in the archive.
pub(crate) struct Kept {
    pub(crate) view: View,
    pub(crate) sequence: Option<u64>,
    pub(crate) kind: Kind,
    pub(crate) missing: Vec<ImageId>,
    /// A part of it was damaged before.
    pub(crate) excused: bool,
}

/// A manifest as it is written, as far as it matters here.
#[derive(Deserialize)]
struct Written {
    kind: Kind,
    sequence: Option<u64>,
    #[serde(default)]
    missing: Vec<ImageId>,
}

impl World {
    /// Looks at what an operation of this action has done.
    pub(crate) fn look(&mut self, action: usize, op: &Op) -> Checked {
        let changes = matches!(op.name, "put" | "delete");
        let Some(key) = Key::new(&op.key).ok().filter(|_| changes) else { return Ok(()) };
        let here = self.stores.read(op.side, &op.key);
        if let Some(commit) = layout::parse_commit(&key) {
            return match here {
                Some(bytes) => self.look_at_commit(action, commit, &bytes),
                None if op.name == "delete" => self.look_at_deleted_commit(op.side, commit),
                None => Ok(()),
            };
        }
        if key == layout::root() {
            return self.look_at_root(op.side);
        }
        if layout::parse_page(&key).is_some() && op.name == "delete" && here.is_none() && !self.hurt {
            self.look_at_root(op.side).map_err(|error| format!("{key} has been deleted: {error}"))?;
        }
        if let Some(id) = layout::parse_image(&key).filter(|_| op.side == Side::Primary) {
            return if op.name == "delete" && here.is_none() {
                self.look_at_deleted_image(action, &id)
            } else {
                Ok(())
            };
        }
        if op.side == Side::Archive && op.name == "delete" && here.is_none() {
            self.look_at_deleted(action, &key)?;
        }
        match layout::parse_manifest(&key).filter(|_| op.side == Side::Archive) {
            Some(name) if here.is_some() => self.look_at_manifest(action, name),
            _ => Ok(()),
        }
    }

    fn look_at_commit(&mut self, action: usize, id: Uuid, bytes: &[u8]) -> Checked {
        if let Some(known) = self.model.changes.get(&id) {
            let same = |commit: Commit| commit.entries.into_iter().collect::<View>() == known.entries;
            let unchanged = self.hurt || Commit::decode(bytes).is_ok_and(same);
            return if unchanged { Ok(()) } else { Err(format!("commit {id} has changed")) };
        }
        let commit = Commit::decode(bytes).map_err(|e| format!("commit {id} cannot be read: {e}"))?;
        let entries: View = commit.entries.into_iter().collect();
        if entries.is_empty() || entries.values().any(|entry| entry.stamp.commit != id) {
            return Err(format!("commit {id} makes no state of its own"));
        }
        // A commit of unknown outcome is stored again by whatever its process does next, also if that began before it.
        let attempts = 0..self.model.attempts.len();
        let open = attempts.rev().filter(|other| self.model.attempts[*other].outcome == Outcome::Open);
        let maker = std::iter::once(action).chain(open).find(|maker| self.may_write(*maker, &entries).is_ok());
        let Some(maker) = maker else { return self.may_write(action, &entries) };
        self.model.attempt(maker, id, entries);
        self.events.push(id);
        Ok(())
    }

    /// Whether an action may make these states.
    fn may_write(&self, action: usize, entries: &View) -> Checked {
        let request = &*self.requests[action];
        let wrong = |what: &str| Err(format!("{} writes {what}: {entries:?}", request.name()));
        match request {
            Request::Upload(spec) | Request::Complete { spec, .. } => {
                if entries.len() != spec.contents.len() {
                    return wrong("not all of its images");
                }
                let made = |index| entries.values().any(|e| e.live().is_some_and(|record| spec.made(index, record)));
                if !(0..spec.contents.len()).all(made) { wrong("other images than it was sent") } else { Ok(()) }
            }
            Request::Edit { id, patch, condition } => {
                let Some(entry) = entries.get(id).filter(|_| entries.len() == 1) else { return wrong("another image") };
                let made = |base: &&Arc<Entry>| {
                    base.stamp.version + 1 == entry.stamp.version
                        && condition.is_none_or(|stamp| stamp == base.stamp)
                        && base.live().map(|record| patched(record, patch)).as_ref() == entry.live()
                };
                if self.model.states_of(id).iter().any(|base| made(&base)) {
                    Ok(())
                } else {
                    wrong("what it was not asked")
                }
            }
            Request::Delete { id, condition } => {
                let Some(entry) = entries.get(id).filter(|_| entries.len() == 1) else { return wrong("another image") };
                let made = |base: &&Arc<Entry>| {
                    base.stamp.version + 1 == entry.stamp.version
                        && condition.is_none_or(|stamp| stamp == base.stamp)
                        && base.live().map(|record| record.sha256)
                            == entry.tombstone().map(|tombstone| tombstone.sha256)
                };
                if self.model.states_of(id).iter().any(|base| made(&base)) {
                    Ok(())
                } else {
                    wrong("what it was not asked")
                }
            }
            Request::Restore { name, mode } => {
                let Some(backup) = self.model.backups.get(name) else { return wrong("a backup that nobody made") };
                let allowed = |(id, entry): (&ImageId, &Arc<Entry>)| match entry.live() {
                    Some(record) => backup.view.get(id).and_then(|then| then.live()) == Some(record),
                    None => *mode == Mode::Exact && !backup.view.contains_key(id),
                };
                if entries.iter().all(allowed) { Ok(()) } else { wrong("what the backup does not hold") }
            }
            _ => wrong("a change"),
        }
    }

    /// No commit that anybody counts on leaves a place before each root holds it.
    fn look_at_deleted_commit(&self, side: Side, commit: Uuid) -> Checked {
        let Some(change) = self.model.changes.get(&commit).filter(|change| change.seen && !self.hurt) else {
            return Ok(());
        };
        for other in [Side::Primary, Side::Archive] {
            let root = self.roots[other as usize].as_ref();
            for (id, entry) in &change.entries {
                let held = root.and_then(|state| state.get(id));
                if !self.model.covers(id, entry, held) {
                    return Err(format!("commit {commit} left {side:?} while the root in {other:?} lacks {id}"));
                }
            }
        }
        Ok(())
    }

    /// A root has all its pages beside it, and holds, with the commits there, whatever was acknowledged.
    fn look_at_root(&mut self, side: Side) -> Checked {
        match checked_entries(self.stores.reader(side)) {
            Ok(entries) => self.roots[side as usize] = Some(entries),
            Err(error) => {
                self.roots[side as usize] = None;
                return if self.hurt { Ok(()) } else { Err(format!("the root in {side:?}: {error}")) };
            }
        }
        // Replicas that are deferred come when they come.
        if self.hurt || (side == Side::Archive && !self.setup.sync) { Ok(()) } else { self.check_metadata(side) }
    }

    /// A place alone holds whatever was acknowledged or seen.
    pub(crate) fn check_metadata(&self, side: Side) -> Checked {
        for (id, entry) in self.model.floors.iter() {
            let held = self.roots[side as usize].as_ref().and_then(|state| state.get(id));
            let compacted = self.model.covers(id, entry, held);
            if !compacted && self.stores.read(side, layout::commit(entry.stamp.commit).as_str()).is_none() {
                return Err(format!("{side:?} alone lacks {entry:?} of {id}"));
            }
        }
        Ok(())
    }

    /// No byte goes before the image is gone for everybody and its replica was read.
    fn look_at_deleted_image(&self, action: usize, id: &ImageId) -> Checked {
        let Some(floor) = self.model.floors.get(id) else { return Ok(()) };
        let gone = self.model.states_of(id).iter().any(|state| state.tombstone().is_some());
        if floor.live().is_some() && !gone && !self.found_no_room.contains(&action) {
            return Err(format!("{} deletes the bytes of {id}, which lives", self.requests[action].name()));
        }
        let digests = self.model.states_of(id).iter().find_map(|state| state.live()?.sha256);
        match digests {
            Some(digest) if !self.has_copy(&digest) && !self.excused.contains(&digest) && !self.hurt => {
                Err(format!("the last bytes of {id} are gone"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn has_copy(&self, digest: &Digest) -> bool {
        self.stores.read(Side::Archive, layout::archived_image(digest).as_str()).as_ref() == bytes_of(digest)
    }

    pub(crate) fn has_image(&self, id: &ImageId, digest: &Digest) -> bool {
        self.stores.read(Side::Primary, layout::image(id).as_str()).as_ref() == bytes_of(digest)
    }

    /// A manifest is written last: whatever it names is there, and is what the state was at some moment.
    fn look_at_manifest(&mut self, action: usize, name: BackupName) -> Checked {
        let known = self.model.backups.get(&name);
        if known.is_some_and(|known| !known.going) {
            return Ok(());
        }
        let Some(kept) = self.kept_backup(name)? else { return Err(format!("{name} is no manifest")) };
        // A name that was claimed and whose backup was deleted may be used again; or it stands still.
        if known.is_some_and(|known| known.view == kept.view) {
            return Ok(());
        }
        if !kept.excused {
            self.model
                .check_view(&self.model.attempts[action].floors, &kept.view)
                .map_err(|e| format!("{name}: {e}"))?;
        }
        for (id, entry) in &kept.view {
            let Some(digest) = entry.live().and_then(|record| record.sha256) else { continue };
            if !self.has_copy(&digest) && !kept.missing.contains(id) && !self.excused.contains(&digest) && !self.hurt {
                return Err(format!("{name} names {id}, of which the archive has no copy"));
            }
        }
        let same = |b: &Backup| b.sequence.is_some() && b.sequence == kept.sequence && !b.going;
        let twice = self.model.backups.iter().find(|(_, backup)| same(backup));
        if let Some((other, _)) = twice.filter(|_| self.counted) {
            return Err(format!("{name} and {other} are the same automatic backup"));
        }
        let Kept { view, sequence, excused, kind, .. } = kept;
        self.model
            .backups
            .insert(name, Backup { view, acknowledged: None, kind, sequence, excused, going: false, gone: None });
        self.stats.count("backups checked");
        Ok(())
    }

    /// Only a prune removes what the archive holds, and only what nothing names; a backup goes when it is asked to, or when
    /// it was made automatically and newer ones stand.
    fn look_at_deleted(&mut self, action: usize, key: &Key) -> Checked {
        let request = std::rc::Rc::clone(&self.requests[action]);
        let prunes = matches!(*request, Request::Prune { dry_run: false } | Request::PruneBySchedule);
        let wrong = |why: &str| Err(format!("{} has deleted {key}, {why}", request.name()));
        if let Some(name) = layout::parse_manifest(key) {
            // What stands now, and what another has deleted since this prune began: clocks that differ void its lease.
            let began = self.running.iter().find(|running| running.action == action).map_or(0, |running| running.began);
            let stood = |backup: &Backup| backup.gone.is_none_or(|gone| gone >= began);
            let newer = self.model.backups.range((Bound::Excluded(name), Bound::Unbounded));
            let newer = newer.filter(|(_, backup)| backup.kind != Kind::Manual && stood(backup)).count();
            let now = self.stats.steps;
            let Some(backup) = self.model.backups.get_mut(&name) else { return Ok(()) };
            backup.going |= prunes;
            backup.gone = Some(now);
            return match backup.kind {
                _ if matches!(*request, Request::DeleteBackup(asked) if asked == name) => Ok(()),
                Kind::Auto | Kind::Safety if prunes && newer >= KEEP.last as usize => Ok(()),
                _ => wrong("a backup that was to be kept"),
            };
        }
        let standing = || self.model.backups.iter().filter(|(_, backup)| !backup.going && !backup.excused);
        if let Some(digest) = layout::parse_archived_image(key) {
            let names =
                |view: &View| view.values().any(|e| e.live().is_some_and(|record| record.sha256 == Some(digest)));
            if !prunes || names(&self.model.floors) || standing().any(|(_, backup)| names(&backup.view)) {
                return wrong("which is named");
            }
        }
        if layout::parse_page(key).is_some() {
            for (name, _) in standing() {
                self.kept_backup(*name)?;
            }
        }
        Ok(())
    }

    /// Reads a backup where it lies; an error where a part of it is wrong that was never damaged.
    pub(crate) fn kept_backup(&self, name: BackupName) -> Checked<Option<Kept>> {
        let Some(bytes) = self.stores.read(Side::Archive, layout::manifest(name).as_str()) else { return Ok(None) };
        let Ok(manifest) = serde_json::from_slice::<Written>(&bytes) else { return Ok(None) };
        let Written { kind, sequence, missing } = manifest;
        let (view, excused) = match backup_entries(&bytes, self.stores.reader(Side::Archive)) {
            Ok(None) => return Ok(None),
            Ok(Some(entries)) => (entries.into_iter().filter(|(_, entry)| entry.live().is_some()).collect(), false),
            Err(_) if self.lost_pages => (BTreeMap::new(), true),
            Err(error) => return Err(format!("{name}: {error}")),
        };
        let kept = Kept { view, sequence, kind, missing, excused };
        Ok(Some(kept))
    }
}
