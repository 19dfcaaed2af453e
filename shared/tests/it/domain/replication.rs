//! Replicas in an archive elsewhere: made later, while it is away and after it, and what comes back from them.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use futures::TryStreamExt;
use jiff::SignedDuration;

use super::{png, seen, upload, upload_all};
use shared::clock::Clock;
use shared::health::Status;
use shared::images::Patch;
use shared::layout::{self, ImageId};
use shared::recovery::Restoring;
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::store::{ErrorKind, PutMode, Store};
use shared::{Error, Keepsake, Settings};

pub(crate) type Plan = Box<dyn Fn(&Operation) -> Option<Fault> + Send + Sync>;

/// A primary and an archive that have nothing in common but the processes which serve them.
pub(crate) struct Pair {
    pub(crate) primary: Arc<MemoryStore>,
    pub(crate) archive: Arc<MemoryStore>,
    pub(crate) clock: Clock,
    /// Whether the archive does not answer.
    away: Arc<AtomicBool>,
}

/// How many operations a process may have yet.
struct Limit(Arc<AtomicU64>);

impl Limit {
    fn dies_after(&self, n: u64) {
        self.0.store(n, Ordering::SeqCst);
    }
}

pub(crate) fn never(_: &Operation) -> Option<Fault> {
    None
}

pub(crate) fn whole(memory: &Arc<MemoryStore>) -> Store {
    Store::new(Arc::clone(memory) as _, &std::env::temp_dir())
}

pub(crate) async fn keys(memory: &Arc<MemoryStore>, prefix: &str) -> Vec<String> {
    whole(memory).list(prefix, None).map_ok(|meta| meta.key.to_string()).try_collect().await.unwrap()
}

pub(crate) async fn copy_of(memory: &Arc<MemoryStore>) -> Arc<MemoryStore> {
    let copy = Arc::new(MemoryStore::new());
    let (from, to) = (whole(memory), whole(&copy));
    let listed: Vec<_> = from.list("", None).try_collect().await.unwrap();
    for meta in listed {
        to.put(&meta.key, &from.fetch(&meta.key).await.unwrap(), &PutMode::Create).await.unwrap();
    }
    copy
}

impl Pair {
    pub(crate) fn new() -> Self {
        let clock = Clock::manual("2026-11-20T08:00:00Z".parse().unwrap());
        Self { primary: Arc::default(), archive: Arc::default(), clock, away: Arc::default() }
    }

    /// The same archive, and a disk on which nothing is.
    pub(crate) async fn wiped(&self) -> Self {
        let archive = copy_of(&self.archive).await;
        Self { archive, clock: self.clock.clone(), ..Self::new() }
    }

    pub(crate) fn open(&self, archive_sync: bool) -> Keepsake {
        self.open_with(Settings { archive_sync, ..Settings::default() }, Box::new(never), Box::new(never))
    }

    /// A process whose operations fail as these plans say, those on the archive also while it is away.
    pub(crate) fn open_with(&self, settings: Settings, on_primary: Plan, on_archive: Plan) -> Keepsake {
        let away = Arc::clone(&self.away);
        let on_archive = move |operation: &Operation| {
            let gone = away.load(Ordering::SeqCst).then_some(Fault::Before(ErrorKind::Unavailable));
            gone.or_else(|| on_archive(operation))
        };
        let primary = FaultStore::with_plan(Arc::clone(&self.primary) as _, on_primary);
        let archive = FaultStore::with_plan(Arc::clone(&self.archive) as _, on_archive);
        let [primary, archive] = [primary, archive].map(|store| Store::new(Arc::new(store), &std::env::temp_dir()));
        Keepsake::new(primary, archive, Vec::new(), self.clock.clone(), settings)
    }

    /// A process that is cut off from both places after `n` operations, and what says so.
    fn dying_at(&self, n: u64) -> (Keepsake, Limit) {
        let limit = Limit(Arc::new(AtomicU64::new(n)));
        let plan = || -> Plan {
            let left = Arc::clone(&limit.0);
            let dead = Fault::Before(ErrorKind::Unavailable);
            let one_less = |left: u64| left.checked_sub(1);
            Box::new(move |_| left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_err().then_some(dead))
        };
        (self.open_with(Settings { archive_sync: false, ..Settings::default() }, plan(), plan()), limit)
    }

    pub(crate) fn goes(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }
}

pub(crate) fn described(text: &str) -> Patch {
    Patch { description: Some(Some(text.to_owned())), ..Patch::default() }
}

pub(crate) async fn behind(keepsake: &Keepsake) -> Option<u64> {
    keepsake.health.report().await.archive.behind.map(|behind| behind.images)
}

#[tokio::test]
async fn sync_replication_refuses_uploads_during_outage_without_traces() {
    let pair = Pair::new();
    let keepsake = pair.open(true);
    let ids = upload_all(&keepsake, 0..2).await;
    let before = keys(&pair.primary, "").await;
    pair.goes(true);
    let error = upload(&keepsake, 2).await.unwrap_err();
    assert_eq!(error.store_kind(), Some(ErrorKind::Unavailable));
    assert!(!matches!(error, Error::Commit(_)), "it is known that nothing was stored: {error:?}");
    assert_eq!(keys(&pair.primary, "").await, before);
    assert_eq!(seen(&keepsake).await.len(), 2, "reading goes on");
    let health = keepsake.health.report().await;
    assert_eq!((health.status, health.writable, health.archive.status.is_some()), (Status::Error, false, false));
    pair.goes(false);
    upload(&keepsake, 2).await.unwrap();
    keepsake.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    assert_eq!(seen(&pair.open(true)).await.len(), 2);
}

#[tokio::test]
async fn changes_during_archive_outage_stay_pending_over_restart_and_replicate() {
    let pair = Pair::new();
    let keepsake = pair.open(false);
    keepsake.recovery.recover().await.unwrap();
    let ids = upload_all(&keepsake, 0..4).await;
    keepsake.replication.compact().await.unwrap();
    assert_eq!(behind(&keepsake).await, Some(0));

    pair.goes(true);
    let more = upload_all(&keepsake, 4..9).await;
    keepsake.images.edit(ids[0].as_str(), &described("edited"), shared::Any).await.unwrap();
    keepsake.images.edit(more[0].as_str(), &described("edited twice"), shared::Any).await.unwrap();
    keepsake.images.delete(ids[1].as_str(), shared::Any).await.unwrap();
    pair.clock.advance(SignedDuration::from_secs(90));
    assert!(keepsake.replication.compact().await.is_err());
    let health = keepsake.health.report().await;
    assert_eq!((health.status, health.writable, health.archive.status.is_some()), (Status::Warn, true, false));
    let reported = health.archive.behind.unwrap();
    assert_eq!((reported.images, reported.single_copies), (7, 6), "five new ones, an edit and a delete");
    assert!((89.0..120.0).contains(&health.behind_seconds().unwrap()), "{:?}", health.behind_seconds());
    let truth = seen(&keepsake).await;
    drop(keepsake);

    // The file that people open is up to date, and a process that starts knows what waits once it has compared.
    let bytes = whole(&pair.primary).read(&layout::metadata_file()).await.unwrap().0;
    assert!(std::str::from_utf8(&bytes).unwrap().contains("edited twice"));
    let takes_no_image = |operation: &Operation| {
        let image = operation.name == "put" && operation.key.starts_with("images/");
        image.then_some(Fault::Before(ErrorKind::Unavailable))
    };
    let settings = Settings { archive_sync: false, ..Settings::default() };
    let again = pair.open_with(settings, Box::new(never), Box::new(takes_no_image));
    again.core.catalog.refresh().await.unwrap();
    assert_eq!(behind(&again).await, None, "nobody has looked");
    pair.goes(false);
    assert!(again.recovery.recover().await.is_err());
    assert_eq!(behind(&again).await, Some(7));
    assert_eq!(behind(&again).await, Some(7), "looking changes nothing");
    let again = pair.open(false);
    again.recovery.recover().await.unwrap();
    again.replication.compact().await.unwrap();
    again.maintenance.catch_up().await.unwrap();
    assert_eq!((behind(&again).await, seen(&again).await), (Some(0), truth.clone()));
    for store in [&pair.primary, &pair.archive] {
        assert!(keys(store, "image-metadata.d/").await.is_empty());
    }

    let elsewhere = pair.wiped().await.open(false);
    assert!(elsewhere.recovery.recover().await.unwrap().missing.is_empty());
    assert_eq!(seen(&elsewhere).await, truth);
}

#[tokio::test]
async fn lost_primary_loses_only_reported_lag() {
    for n in 0..140 {
        let pair = Pair::new();
        let (dying, limit) = pair.dying_at(u64::MAX);
        dying.recovery.recover().await.unwrap();
        let ids = upload_all(&dying, 0..5).await;
        dying.replication.compact().await.unwrap();
        let more = upload_all(&dying, 5..9).await;
        dying.images.edit(ids[0].as_str(), &described("edited"), shared::Any).await.unwrap();
        dying.images.edit(more[0].as_str(), &described("edited twice"), shared::Any).await.unwrap();
        dying.images.delete(ids[1].as_str(), shared::Any).await.unwrap();
        let truth = seen(&dying).await;

        limit.dies_after(n);
        let done = dying.replication.compact().await.is_ok() && dying.maintenance.catch_up().await.is_ok();
        assert!(done || dying.health.report().await.archive.behind.is_none(), "what cannot be read cannot be counted");
        // It might as well have been an outage.
        limit.dies_after(u64::MAX);
        let said = behind(&dying).await.unwrap();
        let elsewhere = pair.wiped().await.open(false);
        let report = elsewhere.recovery.recover().await.unwrap();
        assert!(report.missing.is_empty(), "operation {n}: the archive knew of {:?} and had no bytes", report.missing);
        let back = seen(&elsewhere).await;
        let ids: BTreeSet<ImageId> = truth.keys().chain(back.keys()).cloned().collect();
        let lost = ids.into_iter().filter(|id| truth.get(id) != back.get(id)).count() as u64;
        assert!(lost <= said, "operation {n}: {lost} changes were lost, and {said} were said to be behind");
        assert!(!done || said == 0, "operation {n}");

        // And nothing of the queue is lost with the process.
        let next = pair.open(false);
        next.recovery.recover().await.unwrap();
        assert_eq!((behind(&next).await, seen(&next).await), (Some(0), truth.clone()), "operation {n}");
        let elsewhere = pair.wiped().await.open(false);
        elsewhere.recovery.recover().await.unwrap();
        assert_eq!(seen(&elsewhere).await, truth, "operation {n}");
    }
}

#[tokio::test]
async fn images_missing_in_new_archive_count_as_pending() {
    let pair = Pair::new();
    let first = pair.open(true);
    upload_all(&first, 0..6).await;
    first.replication.compact().await.unwrap();
    let fresh = Pair { archive: Arc::default(), primary: Arc::clone(&pair.primary), ..Pair::new() };
    fresh.goes(true);
    let keepsake = fresh.open(false);
    keepsake.core.catalog.refresh().await.unwrap();
    assert_eq!(behind(&keepsake).await, None, "nobody has looked");
    fresh.goes(false);
    let copied = AtomicU64::new(0);
    let some = move |operation: &Operation| {
        let copies = operation.name == "put" && operation.key.starts_with("images/");
        (copies && copied.fetch_add(1, Ordering::SeqCst) >= 2).then_some(Fault::Before(ErrorKind::Unavailable))
    };
    let settings = Settings { archive_sync: false, ..Settings::default() };
    let broken = fresh.open_with(settings, Box::new(never), Box::new(some));
    let records = broken.recovery.recover_records().await.unwrap();
    broken.recovery.recover_files(records).await.unwrap_err();
    let left = behind(&broken).await.unwrap();
    assert_eq!((left, keys(&fresh.archive, "images/").await.len()), (6, 2), "what has no record there is not safe");
    keepsake.recovery.recover().await.unwrap();
    assert_eq!(behind(&keepsake).await, Some(0));
    assert_eq!(keys(&fresh.archive, "images/").await.len(), 6);
}

#[tokio::test]
async fn primary_lost_while_archive_refills_loses_only_reported_lag() {
    let (pair, _) = used(6).await;
    let truth = seen(&pair.open(true)).await;
    let mut some_are_safe_before_all = false;
    for n in 0..120 {
        for keeps_images in [false, true] {
            let archive = if keeps_images { copy_of(&pair.archive).await } else { Arc::default() };
            if keeps_images {
                whole(&archive).delete(&layout::metadata_file()).await.unwrap();
            }
            let fresh = Pair { primary: copy_of(&pair.primary).await, archive, ..Pair::new() };
            let (dying, limit) = fresh.dying_at(n);
            let done = dying.recovery.recover().await.is_ok();
            limit.dies_after(u64::MAX);
            let said = behind(&dying).await;
            let elsewhere = fresh.wiped().await.open(false);
            elsewhere.recovery.recover().await.unwrap();
            let back = seen(&elsewhere).await;
            let lost = truth.iter().filter(|(id, known)| back.get(*id) != Some(known)).count() as u64;
            let context = format!("operation {n}, with images: {keeps_images}");
            assert!(
                said.is_none_or(|said| lost <= said),
                "{context}: {lost} are lost, {said:?} were said to be behind"
            );
            assert!(!done || said == Some(0), "{context}");
            some_are_safe_before_all |= !done && said == Some(0);
        }
    }
    assert!(some_are_safe_before_all, "it is known once it is so");
}

/// A store of `count` images of which one was edited and two were deleted, all of it in the archive.
async fn used(count: u32) -> (Pair, Vec<ImageId>) {
    let pair = Pair::new();
    let keepsake = pair.open(true);
    keepsake.recovery.recover().await.unwrap();
    let ids = upload_all(&keepsake, 0..count).await;
    keepsake.images.edit(ids[0].as_str(), &described("edited"), shared::Any).await.unwrap();
    for id in &ids[1..3] {
        keepsake.images.delete(id.as_str(), shared::Any).await.unwrap();
    }
    keepsake.replication.compact().await.unwrap();
    (pair, ids)
}

#[tokio::test]
async fn empty_disk_serves_images_from_archive_until_recovered() {
    let (pair, ids) = used(105).await;
    let truth = seen(&pair.open(true)).await;
    let wiped = pair.wiped().await;
    let keepsake = wiped.open(true);
    let records = keepsake.recovery.recover_records().await.unwrap();
    assert!(keys(&wiped.primary, "uploads/").await.is_empty());
    assert_eq!(keys(&wiped.primary, "image-metadata.json").await.len(), 1);
    let (id, entry) = keepsake.images.get(ids[0].as_str()).await.unwrap();
    let (store, meta) = keepsake.bytes.locate(&id, entry.live().unwrap()).await.unwrap();
    assert_eq!(store.read(&meta.key).await.unwrap().0, png(0));
    assert!(keepsake.images.get(ids[1].as_str()).await.is_err(), "what was deleted stays deleted");

    let (report, ()) = futures::join!(keepsake.recovery.recover_files(records), keepsake.recovering.is_long());
    let report = report.unwrap();
    assert_eq!((report.brought_back, report.metadata_restored, report.missing.len()), (103, true, 0));
    assert_eq!((keepsake.recovering.restoring(), seen(&keepsake).await), (None, truth));
}

#[tokio::test]
async fn what_happens_to_images_while_they_are_brought_back_holds() {
    for patience in (0..300).step_by(7) {
        let (pair, ids) = used(12).await;
        let wiped = pair.wiped().await;
        let keepsake = wiped.open(patience % 2 == 0);
        let records = keepsake.recovery.recover_records().await.unwrap();
        let others = async {
            for _ in 0..patience {
                tokio::task::yield_now().await;
            }
            keepsake.images.delete(ids[11].as_str(), shared::Any).await.unwrap();
            keepsake.images.delete(ids[4].as_str(), shared::Any).await.unwrap();
            keepsake.images.edit(ids[5].as_str(), &described("edited meanwhile"), shared::Any).await.unwrap();
            let made = keepsake.backups.create(shared::backup::Kind::Manual).await.unwrap();
            keepsake.verifier.verify(shared::verify::Slice::WHOLE, true).await.unwrap();
            keepsake.images.delete(ids[6].as_str(), shared::Any).await.unwrap();
            keepsake.restores.restore(made.name, shared::restore::Mode::Merge).await.unwrap();
            keepsake.pruner.prune(false).await.unwrap();
            upload(&keepsake, 40).await.unwrap()
        };
        let (report, uploaded) = futures::join!(keepsake.recovery.recover_files(records), others);
        assert!(report.unwrap().missing.is_empty());
        keepsake.replication.compact().await.unwrap();
        let now = seen(&keepsake).await;
        assert_eq!(now.len(), 12 - 4 + 1, "patience {patience}");
        assert!(now.values().all(|(_, bytes)| bytes.is_some()), "patience {patience}: not all are back");
        assert_eq!(now[&ids[5]].0.as_deref(), Some("edited meanwhile"));
        assert_eq!(now[&ids[6]].1, Some(png(6)), "the restore brought it back");
        assert_eq!(now[&uploaded.images[0].0].1, Some(png(40)));
        let files: BTreeSet<String> = keys(&wiped.primary, "uploads/").await.into_iter().collect();
        let known: BTreeSet<String> = now.keys().map(|id| format!("uploads/{id}")).collect();
        assert_eq!(files, known, "patience {patience}: a deleted image's bytes came back");
    }
}

#[tokio::test]
async fn interrupted_start_on_empty_disk_is_continued_by_next() {
    let (pair, ids) = used(6).await;
    let truth = seen(&pair.open(true)).await;
    for n in 0..120 {
        let wiped = pair.wiped().await;
        let (dying, _) = wiped.dying_at(n);
        let died = dying.recovery.recover().await.is_err();
        let next = wiped.open(true);
        assert!(next.recovery.recover().await.unwrap().missing.is_empty());
        assert_eq!(seen(&next).await, truth, "operation {n}");
        assert!(!keys(&wiped.primary, "uploads/").await.contains(&format!("uploads/{}", ids[1])), "operation {n}");
        assert!(keys(&wiped.archive, "quarantine/").await.is_empty(), "operation {n}: nothing was unexplained");
        assert!(died || n > 20, "operation {n}");
    }
}

#[tokio::test]
async fn disk_full_during_recovery_serves_rest_from_archive() {
    let (pair, _) = used(10).await;
    let truth = seen(&pair.open(true)).await;
    let wiped = pair.wiped().await;
    let (room, put) = (Arc::new(AtomicU64::new(3)), AtomicU64::new(0));
    let left = Arc::clone(&room);
    let full = move |operation: &Operation| {
        let image = operation.name == "put" && operation.key.starts_with("uploads/");
        let no_room = image && put.fetch_add(1, Ordering::SeqCst) >= left.load(Ordering::SeqCst);
        no_room.then_some(Fault::Before(ErrorKind::Full))
    };
    let keepsake = wiped.open_with(Settings::default(), Box::new(full), Box::new(never));
    let error = keepsake.recovery.recover().await.unwrap_err();
    assert_eq!(error.store_kind(), Some(ErrorKind::Full));
    assert_eq!(keepsake.recovering.restoring().map(|r| r.total), Some(8));
    assert!(
        matches!(keepsake.recovering.restoring(), Some(Restoring { done: 0..=3, .. })),
        "{:?}",
        keepsake.recovering.restoring()
    );
    let health = keepsake.health.report().await;
    assert!(health.checks.iter().any(|check| check.status == Status::Error && check.message.contains("no room")));
    for (id, (_, bytes)) in &truth {
        let (id, entry) = keepsake.images.get(id.as_str()).await.unwrap();
        let (store, meta) = keepsake.bytes.locate(&id, entry.live().unwrap()).await.unwrap();
        assert_eq!(Some(store.read(&meta.key).await.unwrap().0.to_vec()), *bytes);
    }
    room.store(u64::MAX, Ordering::SeqCst);
    keepsake.recovery.recover().await.unwrap();
    assert_eq!((seen(&keepsake).await, keepsake.recovering.restoring()), (truth, None));
}

/// Lets work go on to where it waits the next time, and waits there with it; says whether it has ended. To ask again and again
/// whether it can go on would be as many steps as there is time.
async fn step(mut work: Pin<&mut impl Future>) -> bool {
    let mut waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(false);
        }
        work.as_mut().poll(context).map(|_| true)
    })
    .await
}

#[tokio::test]
async fn image_deleted_during_its_recovery_stays_deleted() {
    for steps in 0..160 {
        let (pair, ids) = used(4).await;
        let wiped = pair.wiped().await;
        let keepsake = wiped.open(true);
        let records = keepsake.recovery.recover_records().await.unwrap();
        let mut recovery = Box::pin(keepsake.recovery.recover_files(records));
        for _ in 0..steps {
            if step(recovery.as_mut()).await {
                return;
            }
        }
        let mut delete = Box::pin(keepsake.images.delete(ids[3].as_str(), shared::Any));
        let mut deleted = false;
        for _ in 0..100 {
            // Where the recovery has what it waits for, it goes on with it.
            deleted = deleted || futures::poll!(&mut delete).is_ready();
        }
        let report = if deleted { recovery.await } else { futures::join!(recovery, delete).0 };
        assert_eq!(report.unwrap().missing, [], "after {steps} steps");
        let left = keys(&wiped.primary, "uploads/").await;
        assert_eq!(left, [format!("uploads/{}", ids[0])], "after {steps} steps");
    }
    panic!("a recovery takes fewer steps");
}
