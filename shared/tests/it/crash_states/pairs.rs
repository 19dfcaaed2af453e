//! Two operations: one after the other by one process, and interleaved by two.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use Operation::*;

use super::check::{Expected, States};
use super::operations::{ALL, Notes, Operation, used};
use super::single::Recorded;
use super::{Copies, View, World, view};
use shared::clock::Clock;
use shared::store::testing::FaultStore;
use shared::store::testing::fs::Moment;

/// Whether the second operation finds what it is about after the first.
fn follows(first: Operation, second: Operation) -> bool {
    first != Delete || !matches!(second, Edit | Delete | RestoreMerge | RestoreExact)
}

fn one_after_the_other(first: Operation, seconds: &[Operation]) {
    for second in seconds.iter().copied().filter(|second| follows(first, *second)) {
        let done = Recorded::new(used(Copies::AtOnce), first);
        let world = World { backups: done.expected(true).backups, ..done.world.clone() };
        let recorded = Recorded::new(world, second);
        let count = recorded.each(|moment, disk, expected| {
            let outcome = expected.check(&disk, |_| Ok(()));
            outcome.unwrap_or_else(|e| panic!("{second:?} after {first:?}, after {moment:?}: {e}"));
        });
        println!("{first:?}, then {second:?}: {count} states");
    }
}

/// Two processes on one disk.
struct Two {
    world: World,
    operations: [Operation; 2],
    notes: [Notes; 2],
}

/// A moment, and whether each of the two had been acknowledged by then that it was done.
type Acknowledged = (Moment, [bool; 2]);

impl Two {
    fn new(operations: [Operation; 2]) -> Self {
        let (world, notes) = (used(Copies::AtOnce), [Notes::default(), Notes::default()]);
        for (operation, notes) in operations.iter().zip(&notes) {
            operation.prepare(&world, notes);
        }
        Self { world, operations, notes }
    }

    /// The first makes `ahead` store operations, then the second does all of its own, then the first the rest; either one
    /// may be left out. Returns the moments, and whether the first had more than `ahead` to do.
    fn run(&self, ahead: usize, take_part: [bool; 2]) -> (Vec<Acknowledged>, bool) {
        let keepsakes = [11, 12].map(|seed| {
            let clock = Clock::manual_seeded(self.world.clock.now(), seed);
            self.world.open_over(Arc::new(FaultStore::new(self.world.backend())), clock)
        });
        let mut first = pin!(self.operations[0].run(&keepsakes[0], &self.notes[0]));
        let mut second = pin!(self.operations[1].run(&keepsakes[1], &self.notes[1]));
        let (mut acknowledged, mut moments, mut context) = ([false; 2], Vec::new(), Context::from_waker(Waker::noop()));
        let mut ended = take_part.map(|takes_part| !takes_part);
        self.world.disk.record();
        let mut polls = 0;
        while ended != [true; 2] {
            let turn = usize::from(ended[0] || polls >= ahead && !ended[1]);
            polls += usize::from(turn == 0);
            let polled = if turn == 0 { first.as_mut().poll(&mut context) } else { second.as_mut().poll(&mut context) };
            moments.extend(self.world.disk.recorded().into_iter().map(|moment| (moment, acknowledged)));
            if let Poll::Ready(outcome) = polled {
                ended[turn] = true;
                // Who was refused was promised nothing.
                acknowledged[turn] = outcome.is_ok();
            }
        }
        moments.push((self.world.disk.moment(), acknowledged));
        (moments, polls > ahead)
    }

    fn view(&self) -> View {
        view(&self.world.open()).unwrap()
    }
}

fn interleaved(operations: [Operation; 2]) {
    let before = Two::new(operations).view();
    let alone = [[true, false], [false, true]].map(|take_part| {
        let two = Two::new(operations);
        two.run(0, take_part);
        two.view()
    });
    let (mut states, mut count, mut schedules): (BTreeMap<[bool; 2], States>, _, _) = (BTreeMap::new(), 0, 0);
    for ahead in 1.. {
        let two = Two::new(operations);
        let (moments, more) = two.run(ahead, [true, true]);
        let both = two.view();
        for (moment, acknowledged) in moments {
            let mut views = vec![&both];
            views.extend((!acknowledged[1]).then_some(&alone[0]));
            views.extend((!acknowledged[0]).then_some(&alone[1]));
            views.extend((acknowledged == [false; 2]).then_some(&before));
            let backups = two.world.backups.clone();
            let rotten = operations.contains(&Verify);
            let expected = Expected { world: &two.world, views, backups, acknowledged: false, rotten };
            for disk in states.entry(acknowledged).or_default().new_at(&moment) {
                count += 1;
                let outcome = expected.check(&disk, |_| Ok(()));
                outcome.unwrap_or_else(|e| panic!("{operations:?}, the second after {ahead}, after {moment:?}: {e}"));
            }
        }
        schedules += 1;
        if !more {
            break;
        }
    }
    println!("{operations:?}: {schedules} schedules, {count} states");
}

/// All that needs no runtime of its own.
fn polled_by_hand() -> impl Iterator<Item = Operation> {
    ALL.into_iter().filter(|operation| *operation != CompleteTicket)
}

#[test]
fn every_operation_after_an_upload_survives_every_crash() {
    one_after_the_other(UploadOne, &ALL);
}

#[test]
fn two_processes_that_meet_survive_every_crash() {
    for operations in [[UploadOne, Compaction], [Compaction, UploadOne], [Delete, Backup], [Edit, Delete]] {
        interleaved(operations);
    }
}

#[test]
#[ignore = "takes long; `just crash-states` runs it"]
fn every_operation_after_every_other_survives_every_crash() {
    for first in ALL {
        one_after_the_other(first, &ALL);
    }
}

#[test]
#[ignore = "takes long; `just crash-states` runs it"]
fn any_two_processes_that_meet_survive_every_crash() {
    for first in polled_by_hand() {
        for second in polled_by_hand() {
            interleaved([first, second]);
        }
    }
}
