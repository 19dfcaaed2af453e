//! Rebooting, recovering, and looking at everything.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::SignedDuration;

use super::{Tree, View, World, now, tree, view};
use crate::world::found_nothing;
use shared::layout::BackupName;
use shared::restore::Mode;
use shared::store::testing::fs::{Moment, SimulatedDisk};
use shared::verify::Slice;

/// What may be seen after a crash, and what was promised.
pub struct Expected<'a> {
    /// The world before the crash, but for its disk.
    pub world: &'a World,
    /// What a reader may see, one or the other.
    pub views: Vec<&'a View>,
    /// Backups that were acknowledged, with what they hold.
    pub backups: BTreeMap<BackupName, View>,
    /// Whether the operation had been acknowledged.
    pub acknowledged: bool,
    /// Whether bytes were rotten before, which a recovery does not look for.
    pub rotten: bool,
}

/// Different states that crashes can leave.
#[derive(Default)]
pub struct States {
    seen: HashSet<Tree>,
}

impl States {
    /// The states after a crash at this moment that were not met before.
    pub fn new_at(&mut self, moment: &Moment) -> Vec<SimulatedDisk> {
        let mut new = moment.crashes();
        new.retain(|disk| self.seen.insert(tree(&disk.moment())));
        new
    }

    /// How many were met.
    pub fn count(&self) -> usize {
        self.seen.len()
    }
}

impl Expected<'_> {
    /// Looks at one state in every way. The disk is used up.
    pub fn check(&self, disk: &SimulatedDisk, again: impl FnOnce(&World) -> Result<(), String>) -> Result<(), String> {
        let world = self.world.with_disk(disk.clone(), 2);
        self.sees(&world, "before recovery")?;
        recover(&world)?;
        again(&self.fork(&world, 3))?;
        self.settled(&world)?;
        for (name, then) in &self.backups {
            let fork = self.fork(&world, 4);
            let restored = now(fork.open().restores.restore(*name, Mode::Exact));
            restored.map_err(|e| format!("{name} cannot be restored: {e:?}"))?;
            if view(&fork.open())? != *then {
                return Err(format!("restoring {name} gives something else"));
            }
        }
        if disk.open_handles() > 0 {
            return Err(format!("{} files were left open", disk.open_handles()));
        }
        Ok(())
    }

    /// What must be so once a recovery has been seen to its end.
    pub fn settled(&self, world: &World) -> Result<(), String> {
        let seen = self.sees(world, "after recovery")?;
        unchanged(world, "right after it")?;
        world.advance(SignedDuration::from_hours(25));
        recover(world)?;
        if self.sees(world, "a day later")? != seen {
            return Err("something else is seen a day later".to_owned());
        }
        unchanged(world, "a day later")?;
        let paths: Vec<String> = world.tree().into_iter().map(|(path, _)| path).collect();
        let left = |path: &&String| {
            let file = path.strip_prefix("uploads/");
            path.ends_with(".tmp")
                || path.starts_with("incoming/")
                || file.is_some_and(|name| !name.starts_with(".keepsake") && !seen.keys().any(|id| id.as_str() == name))
        };
        if let Some(left) = paths.iter().find(left) {
            return Err(format!("{left} was left behind"));
        }
        let keepsake = self.fork(world, 5).open();
        let findings = now(keepsake.verifier.verify(Slice::WHOLE, self.rotten)).map_err(|e| format!("{e:?}"))?;
        if findings.needs_attention() {
            return Err(format!("{findings:?}"));
        }
        let listed = now(keepsake.backups.list()).map_err(|e| format!("{e:?}"))?;
        let names: BTreeSet<BackupName> = listed.iter().map(|listed| listed.name).collect();
        if let Some(lost) = self.backups.keys().find(|name| !names.contains(name)) {
            return Err(format!("{lost} is gone"));
        }
        for name in names {
            let plan = now(keepsake.restores.plan(name, Mode::Exact)).map_err(|e| format!("{name}: {e:?}"))?;
            if !plan.missing.is_empty() {
                return Err(format!("{name} lacks {:?}", plan.missing));
            }
        }
        Ok(())
    }

    fn sees(&self, world: &World, when: &str) -> Result<View, String> {
        let seen = view(&world.open()).map_err(|e| format!("{when}: {e}"))?;
        if self.views.contains(&&seen) {
            return Ok(seen);
        }
        let names = |view: &View| {
            let said = |(record, _): &(shared::catalog::Record, _)| {
                (record.original_name.clone().unwrap_or_default(), record.description.clone().unwrap_or_default())
            };
            view.values().map(said).collect::<Vec<_>>()
        };
        let expected: Vec<_> = self.views.iter().map(|view| names(view)).collect();
        Err(format!("{when}: {:?} is none of {expected:?}", names(&seen)))
    }

    /// A copy of a world, to try something out in.
    fn fork(&self, world: &World, seed: u64) -> World {
        let mut fork = world.with_disk(world.disk.moment().copy(), seed);
        fork.backups.clone_from(&self.backups);
        fork
    }
}

pub fn recover(world: &World) -> Result<(), String> {
    let report = now(world.open().recovery.recover()).map_err(|e| format!("recovery fails: {e:?}"))?;
    if report.missing.is_empty() { Ok(()) } else { Err(format!("{:?} are missing", report.missing)) }
}

/// One more recovery finds nothing to do.
fn unchanged(world: &World, when: &str) -> Result<(), String> {
    let before = world.tree();
    let report = now(world.open().recovery.recover()).map_err(|e| format!("a recovery {when} fails: {e:?}"))?;
    if !found_nothing(&report) || world.tree() != before {
        let paths = |tree: &Tree| tree.iter().map(|(path, _)| path.clone()).collect::<BTreeSet<_>>();
        let (before, after) = (paths(&before), paths(&world.tree()));
        let differences: Vec<_> = before.symmetric_difference(&after).collect();
        return Err(format!("a recovery {when} finds {report:?} and changes {differences:?}"));
    }
    Ok(())
}
