//! A prune beside everything that relies on what lies in the archive, with their store operations in every order that two
//! changes of turn give, and in random ones.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures::poll;
use jiff::SignedDuration;
use proptest::prelude::*;

use super::prune::{DAY, assert_whole};
use super::{World, seen, upload, upload_all};
use shared::backup::Kind;
use shared::config::Keep;
use shared::restore::Mode;
use shared::store::testing::FaultStore;
use shared::{Error, Keepsake, Settings};

/// Someone at work, one store operation at a time.
struct Actor<'a> {
    store: Arc<FaultStore>,
    work: Pin<Box<dyn Future<Output = ()> + 'a>>,
    done: bool,
}

impl<'a> Actor<'a> {
    /// Lets it make its next operation and go on to the one after it; returns whether there is more to do.
    async fn step(&mut self) -> bool {
        let operations = |store: &FaultStore| store.counts().values().sum::<u64>();
        let before = operations(&self.store);
        while !self.done && operations(&self.store) == before {
            self.done = poll!(self.work.as_mut()).is_ready();
            if !self.done {
                // What it waits for may be work of another thread.
                tokio::task::yield_now().await;
            }
        }
        !self.done
    }
}

/// What races a prune.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rival {
    /// An upload of bytes that lie in the archive and that nothing names any more.
    Upload,
    /// Likewise where replicas follow later.
    UploadThenCatchUp,
    /// A backup by a process that knows the one which is being deleted as the newest.
    Backup,
    /// One by a process that knows none.
    BackupOfAnother,
    /// One by a process that takes for the newest the one that the prune itself removes.
    BackupOnThinned,
    /// A restore of the backup that is being deleted.
    Restore,
    /// Where replicas follow later, an upload of bytes that lie in the archive, and the delete of that image.
    UploadThenDelete,
    /// An image is deleted whose content only a record names.
    Delete,
}

const RIVALS: [Rival; 8] = [
    Rival::Upload,
    Rival::UploadThenCatchUp,
    Rival::UploadThenDelete,
    Rival::Backup,
    Rival::BackupOfAnother,
    Rival::BackupOnThinned,
    Rival::Restore,
    Rival::Delete,
];

/// What a prune looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Everything, after a backup was deleted.
    Sweep,
    /// What was referenced before: by a backup that was deleted days before, or one that it thins out itself.
    Schedule,
}

/// A place where the only backup, its page and one image are old and nothing else names that image; and its processes.
struct Scene {
    world: World,
    stores: [Arc<FaultStore>; 2],
    pruner: Keepsake,
    rival: Keepsake,
    backup: shared::layout::BackupName,
    kept: shared::layout::ImageId,
}

async fn scene(rival: Rival, extent: Extent) -> Scene {
    let world = World::new();
    let keep = Keep { last: 1, daily: 0, weekly: 0, monthly: 0 };
    let open = |store: &Arc<FaultStore>, archive_sync: bool| {
        let settings = Settings { keep, archive_sync, ..Settings::default() };
        world.open_with(Arc::clone(store) as _, settings)
    };
    let stores = [0, 1].map(|_| Arc::new(FaultStore::new(Arc::clone(&world.memory) as _)));
    let (pruner, actor) = (
        open(&stores[0], true),
        open(&stores[1], !matches!(rival, Rival::UploadThenCatchUp | Rival::UploadThenDelete)),
    );
    pruner.recovery.recover().await.unwrap();
    let ids = upload_all(&pruner, 0..2).await;
    pruner.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    world.pass(31 * DAY);
    // What prunes by schedule know of is from before the tombstone goes.
    world.note_sweep().await;
    pruner.core.catalog.compact().await.unwrap();
    pruner.core.catalog.compact().await.unwrap();
    let maker = if matches!(rival, Rival::Backup | Rival::BackupOnThinned) { &actor } else { &pruner };
    let thins = rival == Rival::BackupOnThinned
        || extent == Extent::Schedule && matches!(rival, Rival::Backup | Rival::BackupOfAnother | Rival::Restore);
    let kind = if thins { Kind::Auto } else { Kind::Manual };
    let backup = maker.backups.create(kind).await.unwrap().name;
    world.pass(SignedDuration::from_secs(1));
    if rival == Rival::Restore {
        // So that there is something to bring back.
        pruner.images.delete(ids[1].as_str(), shared::Any).await.unwrap();
        world.pass(31 * DAY);
        world.note_sweep().await;
        pruner.core.catalog.compact().await.unwrap();
        pruner.core.catalog.compact().await.unwrap();
    }
    if thins || rival == Rival::BackupOfAnother {
        // The state of the old backup comes back, and with it its page.
        let id = upload_all(&pruner, 5..6).await.remove(0);
        pruner.backups.create(kind).await.unwrap();
        pruner.images.delete(id.as_str(), shared::Any).await.unwrap();
    }
    if extent == Extent::Schedule && !thins {
        pruner.backups.delete(backup).await.unwrap();
    }
    world.pass(2 * DAY);
    for keepsake in [&pruner, &actor] {
        keepsake.core.catalog.refresh().await.unwrap();
    }
    let kept = ids[1].clone();
    Scene { world, stores, pruner, rival: actor, backup, kept }
}

/// Plays a scene; `turn` says whether the pruner goes next, until it has nothing more to say.
async fn race(rival: Rival, extent: Extent, mut turn: impl FnMut() -> Option<bool>, what: &str) -> (u64, u64, usize) {
    let scene = scene(rival, extent).await;
    let what = format!("{rival:?} beside a {extent:?} {what}");
    let count = |n: usize| scene.stores[n].counts().values().sum::<u64>();
    let before = [count(0), count(1)];
    let (mut outcome, mut removed) = (Ok(()), 0);
    {
        let prune = async {
            if extent == Extent::Sweep && rival != Rival::BackupOnThinned {
                match scene.pruner.backups.delete(scene.backup).await {
                    Ok(()) | Err(Error::RestoreRunning) => {}
                    Err(error) => panic!("{what}: {error:?}"),
                }
            }
            let pruned = match extent {
                Extent::Sweep => scene.pruner.pruner.prune(false).await,
                Extent::Schedule => scene.pruner.pruner.prune_by_schedule().await,
            };
            match pruned {
                Ok(pruned) => {
                    assert_eq!(pruned.held_back, None, "{what}");
                    removed = pruned.images.len();
                }
                Err(Error::RestoreRunning) => {}
                Err(error) => panic!("{what}: {error:?}"),
            }
        };
        let act = async {
            let keepsake = &scene.rival;
            outcome = match rival {
                Rival::Upload => upload(keepsake, 0).await.map(drop),
                Rival::UploadThenCatchUp => {
                    upload(keepsake, 0).await.unwrap();
                    keepsake.maintenance.catch_up().await
                }
                Rival::UploadThenDelete => {
                    let id = upload(keepsake, 0).await.unwrap().images[0].0.clone();
                    keepsake.images.delete(id.as_str(), shared::Any).await.map(drop)
                }
                Rival::Backup | Rival::BackupOfAnother | Rival::BackupOnThinned => {
                    keepsake.backups.create(Kind::Manual).await.map(drop)
                }
                Rival::Restore => keepsake.restores.restore(scene.backup, Mode::Merge).await.map(drop),
                Rival::Delete => keepsake.images.delete(scene.kept.as_str(), shared::Any).await.map(drop),
            };
        };
        let [first, second] = scene.stores.clone();
        let mut pruner = Actor { store: first, work: Box::pin(prune), done: false };
        let mut actor = Actor { store: second, work: Box::pin(act), done: false };
        while let Some(prunes) = turn() {
            let more = if prunes { pruner.step().await } else { actor.step().await };
            if !more {
                break;
            }
        }
        while pruner.step().await {}
        while actor.step().await {}
    }
    match (rival, &outcome) {
        (Rival::Restore, Err(Error::RestoreRunning | Error::NoSuchBackup(_) | Error::DamagedBackup(_))) => {}
        (_, outcome) => assert!(outcome.is_ok(), "{what}: {outcome:?}"),
    }
    assert_whole(&scene.world, &what).await;
    for (id, (_, bytes)) in seen(&scene.world.open()).await {
        assert!(bytes.is_some(), "{what}: {id} has no bytes");
    }
    scene.world.clock.advance(SignedDuration::from_secs(61));
    (count(0) - before[0], count(1) - before[1], removed)
}

/// The turns in which one makes `first` operations, then the other `second`, and then each the rest.
fn turns(pruner_first: bool, first: u64, second: u64) -> impl FnMut() -> Option<bool> {
    let mut n = 0;
    move || {
        n += 1;
        match n - 1 {
            n if n < first => Some(pruner_first),
            n if n < first + second => Some(!pruner_first),
            _ => None,
        }
    }
}

async fn every_two_changes_of_turn(rival: Rival) {
    for extent in [Extent::Sweep, Extent::Schedule] {
        let (prunes, acts, removed) = race(rival, extent, || None, "after a prune").await;
        assert!(prunes > 15 && acts > 2, "{prunes} and {acts} operations");
        assert!(removed > 0, "{rival:?} beside a {extent:?} has nothing to lose");
        for first in 0..=prunes {
            for second in 0..=acts {
                let what = format!("{first} operations in, for {second}");
                race(rival, extent, turns(true, first, second), &what).await;
            }
        }
        for first in 0..=acts {
            race(rival, extent, turns(false, first, prunes + 9), &format!("around a prune after {first}")).await;
        }
    }
}

#[tokio::test]
async fn upload_of_bytes_being_pruned_keeps_its_replica() {
    every_two_changes_of_turn(Rival::Upload).await;
    every_two_changes_of_turn(Rival::UploadThenCatchUp).await;
    every_two_changes_of_turn(Rival::UploadThenDelete).await;
}

#[tokio::test]
async fn a_backup_made_while_its_base_is_deleted_and_pruned_is_whole() {
    every_two_changes_of_turn(Rival::Backup).await;
    every_two_changes_of_turn(Rival::BackupOnThinned).await;
}

#[tokio::test]
async fn backup_that_reuses_an_old_page_during_a_prune_is_whole() {
    every_two_changes_of_turn(Rival::BackupOfAnother).await;
}

#[tokio::test]
async fn a_restore_beside_a_prune_is_whole_or_refused() {
    every_two_changes_of_turn(Rival::Restore).await;
}

#[tokio::test]
async fn image_deleted_during_a_prune_keeps_its_replica() {
    every_two_changes_of_turn(Rival::Delete).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nor_is_anything_lost_in_any_other_order(
        rival in 0..RIVALS.len(),
        schedule: bool,
        turns in prop::collection::vec(any::<bool>(), 0..90),
    ) {
        let mut turns = turns.into_iter();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let extent = if schedule { Extent::Schedule } else { Extent::Sweep };
        let _ = runtime.block_on(race(RIVALS[rival], extent, || turns.next(), "in random order"));
    }
}
