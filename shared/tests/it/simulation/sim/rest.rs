//! What is checked when all has come to rest, and what is damaged then.
//!
//! Keepsake promises that the loss or rot of any one place loses nothing acknowledged. So damage is done only at rest: no
//! action runs, nothing is on its way, a recovery has ended well, and each image has been found in both places. The next
//! damage is not done before everything was recovered and read through. What lies in one place only by design (the chunks
//! and manifests of backups, replicas of deleted images, the count of automatic backups) can be lost with it; of that
//! it is checked that nothing wrong is ever read out of it, and that verification names it.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::model::{Checked, Outcome};
use super::request::Request;
use super::schedule::{Damage, Rng, SERVING, Side};
use super::world::{CHECKER, FOLLOWER, World};
use shared::backup::Kind;
use shared::layout::{self, BackupName};
use shared::store::Key;
use shared::testing::catalog::checked_entries;
use shared::verify::Slice;

impl World {
    /// Lets everything end, or die; then a fresh process recovers, and everything is checked.
    pub(crate) fn rest(&mut self, abruptly: bool) -> Checked {
        self.note(|| format!("all comes to rest, abruptly: {abruptly}"));
        self.stats.count("rest");
        self.stores.set_broken(None);
        if abruptly {
            (0..=FOLLOWER).for_each(|process| self.crash(process));
        } else {
            self.finish(None)?;
        }
        while self.deliver()? {}
        self.renew_checker();
        let first = self.model.attempts.len();
        self.finish_alone(CHECKER, Request::Recover)?;
        if self.hurt {
            // Where replicas are deferred, those of the last hour may still be on their way.
            self.advance(SignedDuration::from_mins(61));
            self.finish_alone(CHECKER, Request::Verify(Slice::WHOLE))?;
        }
        // A backup that became due when its upload was cut off is made by the next upload, or by the schedule.
        self.finish_alone(CHECKER, Request::Tidy)?;
        for action in first..self.model.attempts.len() {
            if self.model.attempts[action].outcome != Outcome::Acknowledged {
                return Err(format!("at rest, {} fails", self.requests[action].name()));
            }
        }
        if self.hurt {
            self.excuse_what_stays_damaged();
            self.hurt = false;
            for side in [Side::Primary, Side::Archive] {
                self.roots[side as usize] = checked_entries(self.stores.reader(side)).ok();
            }
        }
        self.check_all()
    }

    fn check_all(&mut self) -> Checked {
        self.finish_alone(CHECKER, Request::List { limit: usize::MAX })?;
        let view = self.view(CHECKER);
        for (id, entry) in view.iter() {
            let Some(digest) = entry.live().and_then(|record| record.sha256) else { continue };
            let excused = self.excused.contains(&digest) && !self.model.floors.contains_key(id);
            for (whole, store) in [(self.has_image(id, &digest), "primary"), (self.has_copy(&digest), "archive")] {
                if !whole && !excused {
                    return Err(format!("at rest, the {store} lacks the bytes of {id}"));
                }
            }
            self.stats.count("images checked");
        }
        for side in [Side::Primary, Side::Archive] {
            self.check_metadata(side)?;
            let state = self.roots[side as usize].as_ref();
            let held = |id: &layout::ImageId| state.and_then(|state| state.get(id));
            if let Some((id, _)) = view.iter().find(|(id, entry)| held(id) != Some(entry)) {
                return Err(format!("at rest, the root in {side:?} lacks the state of {id}"));
            }
        }
        if let [commit, ..] = &self.stores.keys(Side::Primary, layout::COMMITS)[..] {
            return Err(format!("at rest, {commit} is not compacted"));
        }
        self.check_backups()
    }

    fn check_backups(&mut self) -> Checked {
        let names = self.stores.keys(Side::Archive, layout::BACKUPS).into_iter();
        let names: BTreeSet<BackupName> =
            names.filter_map(|key| layout::parse_manifest(&Key::new(key).ok()?)).collect();
        let mut numbers = Vec::new();
        for name in &names {
            let kept = self.kept_backup(*name)?;
            let Some(backup) = self.model.backups.get(name) else { return Err(format!("nobody made {name}")) };
            numbers.extend(backup.sequence);
            match kept {
                _ if backup.excused => {}
                Some(kept) if kept.view == backup.view && (kept.kind == Kind::Auto) == backup.sequence.is_some() => {}
                _ => return Err(format!("{name} is not what it was")),
            }
            self.stats.count("backups read");
        }
        let lost = |(name, backup): &(&BackupName, &super::model::Backup)| {
            backup.acknowledged.is_some() && !backup.excused && !backup.going && !names.contains(name)
        };
        if let Some((name, _)) = self.model.backups.iter().find(lost) {
            return Err(format!("{name} is gone"));
        }
        numbers.extend(self.model.backups.iter().filter(|(_, b)| b.going).filter_map(|(_, b)| b.sequence));
        numbers.sort_unstable();
        numbers.dedup();
        let uploads = self.processes[CHECKER].keepsake.core.catalog.view().totals().uploads();
        let due: Vec<u64> = (1..=uploads / self.setup.backup_every).collect();
        if self.counted && numbers != due {
            return Err(format!("of automatic backups there are {numbers:?}, not {due:?}"));
        }
        Ok(())
    }

    /// Brings all to rest, makes sure that each place holds everything, and damages one of them.
    pub(crate) fn damage(&mut self, damage: Damage, pick: u64) -> Checked {
        self.rest(false)?;
        let rng = &mut Rng::new(pick);
        let process = rng.below(SERVING as u64) as usize;
        if !self.processes[process].up {
            self.finish_alone(process, Request::Recover)?;
        }
        // Some changes lie in commits that are not compacted.
        for _ in 0..rng.below(3) {
            let spec = self.spec(rng);
            self.finish_alone(process, Request::Upload(spec))?;
        }
        if !self.setup.sync {
            self.finish_alone(FOLLOWER, Request::Follow(self.events.iter().copied().collect()))?;
        }
        self.note(|| format!("{damage:?}"));
        self.hurt = true;
        match damage {
            Damage::FlipByte(side) => self.rot(side, rng, |bytes, at| bytes[at] ^= 0x10),
            Damage::CutShort(side) => self.rot(side, rng, Vec::truncate),
            Damage::Empty(side) => self.rot(side, rng, |bytes, _| bytes.clear()),
            Damage::LoseUploads => {
                self.lose(Side::Primary, layout::UPLOADS);
                self.stats.count("loss: uploads");
            }
            Damage::LoseMetadata => {
                // Whoever serves finds the loss at its next start.
                (0..=FOLLOWER).for_each(|process| self.crash(process));
                self.processes[FOLLOWER].up = false;
                self.lose(Side::Primary, "image-metadata");
                self.lose(Side::Primary, "catalog");
                self.stats.count("loss: metadata");
                self.renew_checker();
                self.finish_alone(CHECKER, Request::Recover)?;
            }
            Damage::LoseArchive => {
                self.lose(Side::Archive, "");
                self.stats.count("loss: archive");
                self.counted = false;
                self.model.backups.values_mut().for_each(|backup| backup.excused = true);
                let known: Vec<_> = (0..40).map(|n| super::contents::image(n).digest).collect();
                self.excused.extend(known);
            }
        }
        Ok(())
    }

    fn lose(&mut self, side: Side, prefix: &str) {
        for key in self.stores.keys(side, prefix) {
            self.stores.remove(side, &key);
        }
    }

    fn rot(&mut self, side: Side, rng: &mut Rng, change: impl Fn(&mut Vec<u8>, usize)) {
        let mut keys = self.stores.keys(side, "");
        keys.retain(|key| !key.starts_with("quarantine/"));
        let Some(key) = keys.get(rng.below(keys.len().max(1) as u64) as usize) else { return };
        let Some(mut bytes) = self.stores.read(side, key).map(|bytes| bytes.to_vec()).filter(|b| !b.is_empty()) else {
            return;
        };
        let at = rng.below(bytes.len() as u64) as usize;
        change(&mut bytes, at);
        self.note(|| format!("{key} rots at {at}"));
        self.stores.write(side, key, bytes);
        self.stats.count("rot");
        if let Some(parsed) = Key::new(key).ok().filter(|_| side == Side::Archive) {
            if let Some(name) = layout::parse_manifest(&parsed) {
                self.model.backups.entry(name).and_modify(|backup| backup.excused = true);
            }
            if layout::parse_page(&parsed).is_some() {
                self.lost_pages = true;
                // Whether it can be written again shows later.
                self.excuse_what_stays_damaged();
            }
            if let Some(digest) = layout::parse_archived_image(&parsed) {
                self.excused.insert(digest);
            }
            self.counted &= parsed != layout::sequence();
        }
    }

    /// What lay in one place only, and could not be made anew.
    fn excuse_what_stays_damaged(&mut self) {
        let names: Vec<BackupName> = self.model.backups.keys().copied().collect();
        for name in names {
            let hit = !matches!(self.kept_backup(name), Ok(Some(kept)) if !kept.excused);
            if let Some(backup) = self.model.backups.get_mut(&name).filter(|_| hit) {
                backup.excused = true;
            }
        }
        let lost: Vec<_> = self.excused.iter().filter(|digest| !self.has_copy(digest)).copied().collect();
        self.excused = lost.into_iter().collect();
    }
}
