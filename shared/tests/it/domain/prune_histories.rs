//! Random histories of a store: no prune removes what is referenced, and prunes by schedule leave nothing behind.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use proptest::prelude::*;

use super::prune::{DAY, assert_whole, keepsake};
use super::{World, upload};
use crate::world::live;
use shared::backup::Kind;
use shared::digest::Digest;
use shared::layout::BackupName;
use shared::restore::Mode;

/// One thing that happens to a store.
#[derive(Debug, Clone)]
enum Event {
    Upload(u32),
    Delete(prop::sample::Index),
    Backup(Kind),
    DeleteBackup(prop::sample::Index),
    Restore(prop::sample::Index, bool),
    Compaction,
    Prune(u32),
    PruneBySchedule(u32),
    Pass(i64),
}

fn event() -> impl Strategy<Value = Event> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (0..5_u32).prop_map(Event::Upload),
        3 => index().prop_map(Event::Delete),
        3 => prop_oneof![Just(Kind::Auto), Just(Kind::Manual), Just(Kind::Safety)].prop_map(Event::Backup),
        1 => index().prop_map(Event::DeleteBackup),
        1 => (index(), any::<bool>()).prop_map(|(at, exact)| Event::Restore(at, exact)),
        2 => Just(Event::Compaction),
        2 => (0..3_u32).prop_map(Event::Prune),
        4 => (0..3_u32).prop_map(Event::PruneBySchedule),
        4 => prop_oneof![Just(1_i64), Just(7), Just(13), Just(25), Just(24 * 31)].prop_map(Event::Pass),
    ]
}

async fn play(events: Vec<Event>) {
    let world = World::new();
    let processes = [keepsake(&world, 1), keepsake(&world, 2)];
    processes[0].recovery.recover().await.unwrap();
    let mut backups: BTreeMap<BackupName, BTreeSet<Digest>> = BTreeMap::new();
    for (n, event) in events.iter().enumerate() {
        world.pass(SignedDuration::from_secs(1));
        let keepsake = &processes[n % 2];
        let live: Vec<_> = {
            keepsake.core.catalog.refresh().await.unwrap();
            live(keepsake).await.into_iter().map(|(id, record)| (id, record.sha256.unwrap())).collect()
        };
        let standing: Vec<BackupName> = backups.keys().copied().collect();
        match event {
            Event::Upload(image) => _ = upload(keepsake, *image).await.unwrap(),
            Event::Delete(at) if !live.is_empty() => {
                keepsake.images.delete(at.get(&live).0.as_str(), shared::Any).await.unwrap();
            }
            Event::Backup(kind) => {
                let made = keepsake.backups.create(*kind).await.unwrap();
                backups.insert(made.name, live.iter().map(|(_, digest)| *digest).collect());
            }
            Event::DeleteBackup(at) if !standing.is_empty() => {
                keepsake.backups.delete(*at.get(&standing)).await.unwrap();
                backups.remove(at.get(&standing));
            }
            Event::Restore(at, exact) if !standing.is_empty() => {
                let mode = if *exact { Mode::Exact } else { Mode::Merge };
                let restored = keepsake.restores.restore(*at.get(&standing), mode).await.unwrap();
                assert!(restored.plan.missing.is_empty());
            }
            Event::Compaction => _ = keepsake.core.catalog.compact().await.unwrap(),
            Event::Prune(last) => {
                let keepsake = super::prune::keepsake(&world, *last);
                let planned = keepsake.pruner.prune(true).await.unwrap();
                assert_eq!(keepsake.pruner.prune(false).await.unwrap(), planned);
                backups.retain(|name, _| !planned.removed.contains(name));
            }
            Event::PruneBySchedule(last) => {
                let pruned = super::prune::keepsake(&world, *last).pruner.prune_by_schedule().await.unwrap();
                backups.retain(|name, _| !pruned.removed.contains(name));
            }
            Event::Pass(hours) => world.pass(SignedDuration::from_hours(*hours)),
            _ => {}
        }
        assert_whole(&world, &format!("{event:?}, number {n}")).await;
    }
    // Where nothing fails, a prune by schedule finds all that has lost its references since the last prune: when the last
    // tombstones have gone, it leaves nothing for a sweep to find.
    world.pass(31 * DAY);
    if processes[0].pruner.prune(true).await.unwrap().held_back.is_some() {
        return;
    }
    let kept = keepsake(&world, 100);
    kept.pruner.prune(false).await.unwrap();
    for _ in 0..2 {
        kept.recovery.recover().await.unwrap();
        kept.core.catalog.compact().await.unwrap();
        kept.core.catalog.compact().await.unwrap();
        world.pass(DAY + SignedDuration::from_mins(1));
        kept.pruner.prune_by_schedule().await.unwrap();
        assert_whole(&world, "at the end").await;
    }
    let left = kept.pruner.prune(true).await.unwrap();
    assert_eq!((left.images, left.pages), (vec![], vec![]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_no_prune_removes_what_is_named(events in prop::collection::vec(event(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(play(events));
    }
}
