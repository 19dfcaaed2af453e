//! Each operation by itself, cut off at each of its system calls, and the recoveries that follow, cut off likewise.

use jiff::SignedDuration;

use super::check::{Expected, States, recover};
use super::operations::{ALL, Notes, Operation, runtime, same_images, used};
use super::{Copies, View, World, now, png, view};
use shared::store::testing::fs::{Moment, SimulatedDisk};
use shared::store::{Body, Key, PutMode};

/// An operation that was seen to its end, with the disk after each of its calls.
pub struct Recorded {
    pub operation: Operation,
    pub world: World,
    pub notes: Notes,
    pub before: View,
    pub after: View,
    pub moments: Vec<Moment>,
}

impl Recorded {
    pub fn new(world: World, operation: Operation) -> Self {
        let notes = Notes::default();
        operation.prepare(&world, &notes);
        let before = view(&world.open()).unwrap();
        let keepsake = world.open();
        world.disk.record();
        if operation == Operation::CompleteTicket {
            runtime().block_on(operation.run(&keepsake, &notes)).unwrap();
        } else {
            now(operation.run(&keepsake, &notes)).unwrap();
        }
        let moments = world.disk.recorded();
        drop(keepsake);
        let after = view(&world.open()).unwrap();
        Self { operation, world, notes, before, after, moments }
    }

    /// What may be found after a crash before the operation was acknowledged, or after it.
    pub fn expected(&self, acknowledged: bool) -> Expected<'_> {
        let (mut views, mut backups) = (vec![&self.after], self.world.backups.clone());
        if acknowledged {
            backups.extend(self.notes.backups.lock().unwrap().iter().map(|name| (*name, self.after.clone())));
        } else {
            views.push(&self.before);
        }
        Expected { world: &self.world, views, backups, acknowledged, rotten: self.operation == Operation::Verify }
    }

    /// Calls `f` with each state that a crash can leave, and what may be found there; returns how many there were.
    pub fn each(&self, mut f: impl FnMut(&Moment, SimulatedDisk, &Expected<'_>)) -> usize {
        let mut states = States::default();
        let in_flight = self.expected(false);
        for moment in &self.moments {
            states.new_at(moment).into_iter().for_each(|disk| f(moment, disk, &in_flight));
        }
        // From the last call on, the client may have been acknowledged.
        let mut last = States::default();
        let (done, acknowledged) = (self.world.disk.moment(), self.expected(true));
        last.new_at(&done).into_iter().for_each(|disk| f(&done, disk, &acknowledged));
        states.count() + last.count()
    }

    /// Does the operation once more after a crash: it stands then, and only once.
    fn again(&self, world: &World, acknowledged: bool) -> Result<(), String> {
        if !self.operation.can_be_repeated() {
            return Ok(());
        }
        // By then the lease of a restore that died has ended.
        world.advance(SignedDuration::from_mins(2));
        let keepsake = world.open();
        self.operation.again(&keepsake, &self.notes, acknowledged).map_err(|e| format!("once more: {e}"))?;
        let seen = view(&world.open())?;
        let completed = matches!(self.operation, Operation::IssueTicket | Operation::PutTicket);
        if same_images(&seen, &self.after) || completed && seen.len() == self.after.len() + 1 {
            return Ok(());
        }
        Err(format!("once more: {} images instead of {}", seen.len(), self.after.len()))
    }

    fn survives_every_crash(&self) {
        let count = self.each(|moment, disk, expected| {
            let outcome = expected.check(&disk, |world| self.again(world, expected.acknowledged));
            outcome.unwrap_or_else(|e| panic!("{:?}, after {moment:?}: {e}", self.operation));
        });
        println!("{:?}: {} calls, {count} states", self.operation, self.moments.len());
    }

    /// Crashes, begins to recover, crashes again anywhere, and recovers.
    fn survives_a_crash_of_the_recovery(&self) {
        let (mut states, mut second) = (0, [States::default(), States::default()]);
        states += self.each(|first, disk, expected| {
            let world = self.world.with_disk(disk, 2);
            world.disk.record();
            recover(&world).unwrap_or_else(|e| panic!("{:?}, after {first:?}: {e}", self.operation));
            for moment in world.disk.recorded() {
                for disk in second[usize::from(expected.acknowledged)].new_at(&moment) {
                    let again = self.world.with_disk(disk, 6);
                    let outcome = recover(&again).and_then(|()| expected.settled(&again));
                    outcome.unwrap_or_else(|e| {
                        panic!("{:?}, after {first:?} and in the recovery {moment:?}: {e}", self.operation)
                    });
                }
            }
        });
        let second = second[0].count() + second[1].count();
        println!("{:?}: {states} states, and {second} of their recoveries", self.operation);
    }
}

macro_rules! survives_every_crash {
    ($($name:ident: $operation:ident),* $(,)?) => { $(
        #[test]
        fn $name() {
            Recorded::new(used(Copies::AtOnce), Operation::$operation).survives_every_crash();
        }
    )* };
}

survives_every_crash! {
    an_upload_survives_every_crash: UploadOne,
    upload_of_several_with_automatic_backup_survives_every_crash: UploadSeveral,
    an_upload_with_an_idempotency_key_survives_every_crash: UploadKeyed,
    a_ticket_survives_every_crash: IssueTicket,
    the_bytes_of_a_ticket_survive_every_crash: PutTicket,
    the_completion_of_a_ticket_survives_every_crash: CompleteTicket,
    an_edit_survives_every_crash: Edit,
    a_delete_survives_every_crash: Delete,
    a_backup_survives_every_crash: Backup,
    a_restore_by_merge_survives_every_crash: RestoreMerge,
    an_exact_restore_survives_every_crash: RestoreExact,
    a_fold_survives_every_crash: Compaction,
    a_recovery_survives_every_crash: Recover,
    a_recovery_that_drops_tombstones_survives_every_crash: RecoverLate,
    the_work_of_a_schedule_survives_every_crash: Tidy,
    a_verification_survives_every_crash: Verify,
    a_sweep_survives_every_crash: Sweep,
}

#[test]
fn every_operation_survives_every_crash_with_async_replication() {
    for operation in ALL {
        Recorded::new(used(Copies::Later), operation).survives_every_crash();
    }
}

#[test]
fn every_operation_survives_every_crash_with_metadata_mirror() {
    for operation in ALL {
        Recorded::new(used(Copies::AtOnceAndBesideTheImages), operation).survives_every_crash();
    }
}

#[test]
fn the_import_of_a_folder_of_the_older_format_survives_every_crash() {
    let world = World::new(Copies::AtOnce);
    let older = r#"{"a.png": {"category": "pets", "description": "one", "uploadDate": "2024-01-01T12:00:00.000Z", "type": "image",
        "mood": "good"}}"#;
    let keepsake = world.open();
    for (name, bytes) in
        [("image-metadata.json", older.as_bytes()), ("uploads/a.png", &png(1)), ("uploads/b.png", &png(2))]
    {
        let body = Body::from(bytes.to_vec());
        now(keepsake.core.primary.put(&Key::new(name).unwrap(), &body, &PutMode::Create)).unwrap();
    }
    world.advance(SignedDuration::from_hours(2));
    let before = view(&world.open()).unwrap();
    world.disk.record();
    recover(&world).unwrap();
    let (after, mut states, mut count) = (view(&world.open()).unwrap(), States::default(), 0);
    assert_eq!((before.len(), after.len()), (1, 2));
    for moment in world.disk.recorded() {
        for disk in states.new_at(&moment) {
            let again = world.with_disk(disk, 2);
            let seen = view(&again.open()).unwrap();
            for (id, (then, same)) in &before {
                let (record, bytes) = &seen[id];
                assert_eq!((&record.description, &record.extra, bytes), (&then.description, &then.extra, same));
            }
            recover(&again).unwrap();
            let (views, backups) = (vec![&after], world.backups.clone());
            let expected = Expected { world: &world, views, backups, acknowledged: true, rotten: false };
            expected.settled(&again).unwrap_or_else(|e| panic!("after {moment:?}: {e}"));
            count += 1;
        }
    }
    println!("{count} states");
}

#[test]
fn the_first_operations_of_a_new_store_survive_every_crash() {
    for operation in [Operation::UploadOne, Operation::UploadSeveral, Operation::UploadKeyed, Operation::IssueTicket] {
        let world = World::new(Copies::AtOnce);
        recover(&world).unwrap();
        Recorded::new(world, operation).survives_every_crash();
    }
}

#[test]
fn the_first_start_of_a_new_store_survives_every_crash() {
    let world = World::new(Copies::AtOnce);
    world.disk.record();
    recover(&world).unwrap();
    let (mut states, empty) = (States::default(), View::new());
    for moment in world.disk.recorded() {
        let (views, backups) = (vec![&empty], world.backups.clone());
        let expected = Expected { world: &world, views, backups, acknowledged: false, rotten: false };
        for disk in states.new_at(&moment) {
            expected.check(&disk, |_| Ok(())).unwrap_or_else(|e| panic!("after {moment:?}: {e}"));
        }
    }
}

#[test]
fn a_crash_in_the_midst_of_a_recovery_is_recovered_from() {
    for operation in [Operation::UploadOne, Operation::Delete] {
        Recorded::new(used(Copies::AtOnce), operation).survives_a_crash_of_the_recovery();
    }
}

#[test]
#[ignore = "takes long; `just crash-states` runs it"]
fn crash_during_recovery_is_recovered() {
    for operation in ALL {
        Recorded::new(used(Copies::AtOnce), operation).survives_a_crash_of_the_recovery();
    }
}
