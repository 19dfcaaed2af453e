//! What follows a change where uploads leave it to others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::SignedDuration;
use uuid::Uuid;

use super::{World, png, seen, upload, upload_all};
use shared::backup::Kind;
use shared::catalog::Compacted;
use shared::digest::Digest;
use shared::images::Patch;
use shared::store::testing::{Fault, FaultStore, Operation};
use shared::store::{Body, ErrorKind, ObjectStore, PutMode};
use shared::{Keepsake, Settings, layout};

impl World {
    /// A process whose uploads leave replicas and backups to others, and which others can come between.
    fn open_deferring(&self) -> Keepsake {
        self.deferring_on(FaultStore::new(Arc::clone(&self.memory) as _))
    }

    fn deferring_on(&self, backend: impl ObjectStore + 'static) -> Keepsake {
        self.open_with(Arc::new(backend), Settings { archive_sync: false, ..Settings::default() })
    }

    fn deferring_with(&self, plan: impl Fn(&Operation) -> Option<Fault> + Send + Sync + 'static) -> Keepsake {
        self.deferring_on(FaultStore::with_plan(Arc::clone(&self.memory) as _, plan))
    }

    /// The ids of the commits that lie in the primary.
    async fn commits(&self) -> BTreeSet<Uuid> {
        let keys = self.keys("image-metadata.d/").await;
        let name = |key: String| Some(key.strip_prefix("image-metadata.d/")?.strip_suffix(".json")?.parse().unwrap());
        keys.into_iter().filter_map(name).collect()
    }
}

fn automatic(listed: &[shared::backup::Listed]) -> usize {
    listed.iter().filter(|backup| backup.kind == Kind::Auto).count()
}

#[tokio::test]
async fn deferring_upload_writes_image_and_commit_and_reads_nothing() {
    let world = World::new();
    let backend = FaultStore::new(Arc::clone(&world.memory) as _);
    let keepsake = world.deferring_on(backend.clone());
    let uploaded = upload(&keepsake, 1).await.unwrap();
    assert_eq!((uploaded.copies, uploaded.backup), (1, None));
    let counts = backend.counts();
    let asked: Vec<_> = counts.iter().filter(|(name, _)| **name != "status").collect();
    assert_eq!(asked, [(&"put", &2)]);
    assert!(world.keys("backups/").await.is_empty());
}

#[tokio::test]
async fn replication_of_a_commit_is_idempotent_and_may_be_late() {
    let world = World::new();
    upload_all(&world.open_deferring(), 0..3).await;
    let commits = world.commits().await;
    let maintenance = world.open_deferring();
    for _ in 0..2 {
        assert!(maintenance.replication.replicate_commits(&commits).await.unwrap().is_empty());
        for n in 0..3 {
            assert!(world.keys("backups/images/").await.contains(&format!("backups/images/{}", Digest::of(&png(n)))));
        }
        assert_eq!(world.keys("backups/image-metadata.d/").await.len(), 3);
    }

    // Compacted before anyone followed it: that replicates it.
    let (late, id) = (world.open_deferring(), upload(&world.open_deferring(), 7).await.unwrap().images[0].0.clone());
    let commits: BTreeSet<Uuid> = world.commits().await.difference(&commits).copied().collect();
    maintenance.replication.compact().await.unwrap();
    assert!(world.commits().await.is_empty());
    assert!(late.replication.replicate_commits(&commits).await.unwrap().is_empty());
    assert!(late.core.archive.has(&Digest::of(&png(7)), None).await.unwrap());

    // Deleted before anyone followed it, and a commit that never was.
    upload(&world.open_deferring(), 8).await.unwrap();
    let commits = world.commits().await.into_iter().chain([Uuid::nil()]).collect();
    maintenance.images.delete(id.as_str(), shared::Any).await.unwrap();
    assert!(maintenance.replication.replicate_commits(&commits).await.unwrap().is_empty());
}

#[tokio::test]
async fn schedule_removes_replica_of_commit_that_missed_compaction() {
    let world = World::new();
    upload_all(&world.open_deferring(), 0..2).await;
    let [first, _] = &world.keys("image-metadata.d/").await[..] else { panic!("two commits") };
    let bytes = world.raw().read(&store::Key::new(first.as_str()).unwrap()).await.unwrap().0;
    let maintenance = world.open_deferring();
    maintenance.maintenance.tidy().await.unwrap();
    world.put(&format!("backups/{first}"), &bytes).await;
    maintenance.maintenance.tidy().await.unwrap();
    assert!(world.keys("backups/image-metadata.d/").await.is_empty());
    assert_eq!(seen(&maintenance).await.len(), 2);
}

#[tokio::test]
async fn only_commits_that_failed_to_replicate_are_reported() {
    let world = World::new();
    let deferring = world.open_deferring();
    upload(&deferring, 0).await.unwrap();
    let good = world.commits().await;
    upload(&deferring, 1).await.unwrap();
    let bad: BTreeSet<Uuid> = world.commits().await.difference(&good).copied().collect();
    let unlucky = format!("backups/images/{}", Digest::of(&png(1)));
    let failing = world.deferring_with(move |operation| {
        (operation.name == "put" && operation.key == unlucky).then_some(Fault::Before(ErrorKind::Unavailable))
    });
    let failed = failing.replication.replicate_commits(&world.commits().await).await.unwrap();
    assert_eq!(failed.iter().map(|(commit, _)| *commit).collect::<BTreeSet<_>>(), bad);
    assert!(failing.core.archive.has(&Digest::of(&png(0)), None).await.unwrap());

    // Bytes that are nowhere are not passed over.
    world.remove("uploads/").await;
    assert_eq!(world.open_deferring().replication.replicate_commits(&bad).await.unwrap().len(), 1);
}

#[tokio::test]
async fn every_ten_uploads_get_one_backup_whoever_drains() {
    let world = World::new();
    upload_all(&world.open_deferring(), 0..45).await;
    let runs: Vec<Keepsake> = (0..4).map(|_| world.open_deferring()).collect();
    for outcome in futures::future::join_all(runs.iter().map(|run| run.maintenance.follow_up())).await {
        outcome.unwrap();
    }
    upload_all(&world.open_deferring(), 45..51).await;
    let (one, other) = (world.open_deferring(), world.open_deferring());
    let (first, second) = futures::join!(one.maintenance.follow_up(), other.maintenance.follow_up());
    first.and(second).unwrap();
    let after = world.open_deferring();
    after.maintenance.tidy().await.unwrap();
    assert_eq!(automatic(&after.backups.list().await.unwrap()), 5);
    assert_eq!(seen(&after).await.len(), 51);
    assert!(world.commits().await.is_empty(), "tidying folds");
    assert_eq!(after.maintenance.backup_overdue().await.unwrap(), SignedDuration::ZERO);
}

#[tokio::test]
async fn a_backup_is_overdue_from_the_tenth_upload_on_that_none_holds() {
    let world = World::new();
    let keepsake = world.open_deferring();
    upload_all(&keepsake, 0..9).await;
    world.clock.advance(SignedDuration::from_hours(1));
    assert_eq!(keepsake.maintenance.backup_overdue().await.unwrap(), SignedDuration::ZERO);
    upload(&keepsake, 9).await.unwrap();
    assert_eq!(keepsake.maintenance.backup_overdue().await.unwrap(), SignedDuration::from_hours(1));
    keepsake.maintenance.follow_up().await.unwrap();
    world.clock.advance(SignedDuration::from_hours(9));
    assert_eq!(keepsake.maintenance.backup_overdue().await.unwrap(), SignedDuration::ZERO);
    upload_all(&keepsake, 10..20).await;
    assert_eq!(keepsake.maintenance.backup_overdue().await.unwrap(), SignedDuration::from_hours(9));
}

#[tokio::test]
async fn what_a_cut_off_run_left_is_finished_by_the_schedule_without_any_event() {
    for n in 0..60 {
        let world = World::new();
        upload_all(&world.open_deferring(), 0..12).await;
        let dying = world.deferring_with(move |operation| {
            (operation.sequence >= n).then_some(Fault::Before(ErrorKind::Unavailable))
        });
        let commits = world.commits().await;
        let _ = dying.replication.replicate_commits(&commits).await;
        let _ = dying.maintenance.follow_up().await;
        let schedule = world.open_deferring();
        schedule.backups.make_due().await.unwrap();
        schedule.recovery.recover().await.unwrap();
        assert_eq!(automatic(&schedule.backups.list().await.unwrap()), 1, "operation {n}");
        assert_eq!(world.keys("backups/images/").await.len(), 12, "operation {n}");
        assert_eq!(seen(&schedule).await.len(), 12, "operation {n}");
        assert!(world.commits().await.is_empty());
    }
}

#[tokio::test]
async fn full_compaction_continues_after_losing_to_an_earlier_one() {
    let world = World::new();
    let id = upload_all(&world.open(), 0..1).await.remove(0);
    world.open().replication.compact_all().await.unwrap();
    let raw = world.raw();
    let (earlier, _) = raw.read(&layout::root()).await.unwrap();
    // Just before the root is written, someone else writes one that does not hold the edit.
    let (quicker, wins) = (AtomicU64::new(0), 2);
    let keepsake = world.open_failing(move |operation| {
        let writes = operation.name == "put" && operation.key == layout::root().as_str();
        if writes && quicker.fetch_add(1, Ordering::SeqCst) < wins {
            let bytes = Body::from([earlier.as_ref(), b"\n"].concat());
            futures::executor::block_on(raw.put(&layout::root(), &bytes, &PutMode::Overwrite)).unwrap();
        }
        None
    });
    let edit = Patch { description: Some(Some("seen at once".to_owned())), ..Patch::default() };
    keepsake.images.edit(id.as_str(), &edit, shared::Any).await.unwrap();
    assert_eq!(keepsake.replication.compact().await.unwrap(), Compacted::Superseded);
    keepsake.replication.compact_all().await.unwrap();
    let (now, _) = world.raw().read(&layout::metadata_file()).await.unwrap();
    assert!(String::from_utf8_lossy(&now).contains("seen at once"));
    assert!(world.commits().await.is_empty());
}
