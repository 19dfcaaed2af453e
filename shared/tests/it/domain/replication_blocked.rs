//! Replicas that the archive refuses, or takes only after many tries, and what goes on beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::SignedDuration;

use super::replication::{Pair, behind, described, keys, never, whole};
use super::{png, seen, upload, upload_all};
use shared::health::Status;
use shared::images::Fields;
use shared::store::testing::{Fault, Operation};
use shared::store::{Body, ErrorKind};
use shared::upload::NewImage;
use shared::{Error, Settings, layout};

fn deferring() -> Settings {
    Settings { archive_sync: false, ..Settings::default() }
}

#[tokio::test]
async fn images_refused_by_archive_block_no_others_and_show_in_health() {
    // More than are worked on in one go.
    const REFUSED: u32 = 65;
    let pair = Pair::new();
    let last = layout::archived_image(&Body::from(png(REFUSED)).digest()).to_string();
    let refusing = Arc::new(AtomicBool::new(true));
    let refuses = Arc::clone(&refusing);
    let all_but_one = move |operation: &Operation| {
        let image = operation.name == "put" && operation.key.starts_with("images/") && operation.key != last;
        (image && refuses.load(Ordering::SeqCst)).then_some(Fault::Before(ErrorKind::Refused))
    };
    let keepsake = pair.open_with(deferring(), Box::new(never), Box::new(all_but_one));
    keepsake.recovery.recover().await.unwrap();
    upload_all(&keepsake, 0..REFUSED + 1).await;
    assert_eq!(keepsake.replication.compact().await.unwrap_err().store_kind(), Some(ErrorKind::Refused));
    assert_eq!((keys(&pair.archive, "images/").await.len(), behind(&keepsake).await), (1, Some(REFUSED.into())));
    let told = async || {
        let checks = keepsake.health.report().await.checks;
        checks.into_iter().find(|check| check.name == "archive").map(|check| (check.status, check.message)).unwrap()
    };
    assert_eq!(told().await.0, Status::Ok, "not for long yet");
    pair.clock.advance(SignedDuration::from_mins(100));
    let (status, message) = told().await;
    assert!(status == Status::Warn && message.contains("100 minutes"), "{status:?}: {message}");

    // A start finds the same, and copies what it can before it says so.
    whole(&pair.archive).delete(&keys(&pair.archive, "images/").await[0].parse().unwrap()).await.unwrap();
    assert_eq!(keepsake.recovery.recover().await.unwrap_err().store_kind(), Some(ErrorKind::Refused));
    assert_eq!((keys(&pair.archive, "images/").await.len(), behind(&keepsake).await), (1, Some(REFUSED.into())));
    refusing.store(false, Ordering::SeqCst);
    keepsake.recovery.recover().await.unwrap();
    assert_eq!((told().await.0, behind(&keepsake).await), (Status::Ok, Some(0)));
}

#[tokio::test]
async fn unchanged_checkpoint_is_not_rewritten_during_archive_outage() {
    let (pair, puts) = (Pair::new(), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&puts);
    let count = move |operation: &Operation| {
        let writes = operation.name == "put" && operation.key == layout::metadata_file().to_string();
        counted.fetch_add(u64::from(writes), Ordering::SeqCst);
        None
    };
    let keepsake = pair.open_with(deferring(), Box::new(count), Box::new(never));
    keepsake.recovery.recover().await.unwrap();
    pair.goes(true);
    upload_all(&keepsake, 0..3).await;
    let before = puts.load(Ordering::SeqCst);
    for _ in 0..5 {
        assert!(keepsake.replication.compact().await.is_err());
    }
    assert_eq!(puts.load(Ordering::SeqCst) - before, 1);
    upload(&keepsake, 3).await.unwrap();
    assert!(keepsake.replication.compact().await.is_err());
    assert_eq!(puts.load(Ordering::SeqCst) - before, 2, "what has changed is");
    pair.goes(false);
    keepsake.replication.compact().await.unwrap();
    assert_eq!((seen(&pair.open(false)).await.len(), keys(&pair.archive, "image-metadata.d/").await.len()), (4, 0));
}

#[tokio::test]
async fn archived_commit_read_by_recovery_survives_concurrent_compaction() {
    for steps in 0..60 {
        let pair = Pair::new();
        let first = pair.open(true);
        first.recovery.recover().await.unwrap();
        upload_all(&first, 0..2).await;
        first.replication.compact().await.unwrap();
        // One whose process died between its two puts, so that only the archive has its commit.
        upload(&first, 2).await.unwrap();
        let key = keys(&pair.primary, "image-metadata.d/").await[0].parse().unwrap();
        whole(&pair.primary).delete(&key).await.unwrap();
        let process = pair.open(true);
        upload(&process, 3).await.unwrap();

        let mut fold = Box::pin(process.replication.compact());
        let mut compacted = false;
        for _ in 0..steps {
            compacted = compacted || futures::poll!(&mut fold).is_ready();
        }
        let mut load = Box::pin(process.core.catalog.load());
        for _ in 0..200 {
            if futures::poll!(&mut load).is_ready() {
                break;
            }
        }
        drop(load);
        if !compacted {
            fold.await.unwrap();
        }
        let elsewhere = pair.wiped().await.open(true);
        elsewhere.recovery.recover().await.unwrap();
        assert_eq!(seen(&elsewhere).await.len(), 4, "after {steps} steps");
    }
}

#[tokio::test]
async fn pending_replication_is_bounded_and_deletes_always_work() {
    let pair = Pair::new();
    let settings = Settings { behind_max: 3, ..deferring() };
    let keepsake = pair.open_with(settings.clone(), Box::new(never), Box::new(never));
    keepsake.recovery.recover().await.unwrap();
    pair.goes(true);
    let ids = upload_all(&keepsake, 0..3).await;
    assert!(matches!(upload(&keepsake, 3).await, Err(Error::ArchiveBehind)));
    let edit = keepsake.images.edit(ids[0].as_str(), &described("edited"), shared::Any).await;
    assert!(matches!(edit, Err(Error::ArchiveBehind)));
    keepsake.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    let restarted = pair.open_with(settings, Box::new(never), Box::new(never));
    restarted.core.catalog.refresh().await.unwrap();
    assert!(matches!(upload(&restarted, 3).await, Err(Error::ArchiveBehind)), "also after a restart");
    pair.goes(false);
    restarted.replication.compact().await.unwrap();
    upload(&restarted, 3).await.unwrap();
}

#[tokio::test]
async fn a_record_waits_for_its_image_where_only_the_image_cannot_be_copied() {
    let pair = Pair::new();
    let refusing = Arc::new(AtomicBool::new(true));
    let refuses = Arc::clone(&refusing);
    let images = move |operation: &Operation| {
        let image = operation.name == "put" && operation.key.starts_with("images/");
        (image && refuses.load(Ordering::SeqCst)).then_some(Fault::Before(ErrorKind::Unavailable))
    };
    let keepsake = pair.open_with(deferring(), Box::new(never), Box::new(images));
    keepsake.recovery.recover().await.unwrap();
    let ids = upload_all(&keepsake, 0..3).await;
    keepsake.images.edit(ids[1].as_str(), &described("edited"), shared::Any).await.unwrap();
    assert!(keepsake.replication.compact().await.is_err());
    assert_eq!(behind(&keepsake).await, Some(3));
    let elsewhere = pair.wiped().await.open(false);
    assert_eq!(elsewhere.recovery.recover().await.unwrap().missing, [], "a record came before its bytes");
    assert!(seen(&elsewhere).await.is_empty());
    refusing.store(false, Ordering::SeqCst);
    keepsake.replication.compact().await.unwrap();
    assert_eq!(behind(&keepsake).await, Some(0));
}

#[tokio::test]
async fn an_image_that_is_gone_keeps_no_record_of_its_upload_from_the_archive() {
    let pair = Pair::new();
    // The root never gets there.
    let roots = |operation: &Operation| {
        let is_root = operation.name == "put" && operation.key == layout::root().to_string();
        is_root.then_some(Fault::Before(ErrorKind::Unavailable))
    };
    let keepsake = pair.open_with(deferring(), Box::new(never), Box::new(roots));
    let _ = keepsake.recovery.recover().await;
    let image = |n: u32| NewImage { body: Body::from(png(n)), original_name: None };
    let uploaded = keepsake.uploads.upload(vec![image(1), image(2)], Fields::default(), None).await.unwrap();
    let [gone, whole_one] = [0, 1].map(|at: usize| uploaded.images[at].0.clone());
    whole(&pair.primary).delete(&layout::image(&gone)).await.unwrap();
    assert!(keepsake.replication.compact().await.is_err());
    assert_eq!(behind(&keepsake).await, Some(0));
    let elsewhere = pair.wiped().await.open(false);
    assert_eq!(elsewhere.recovery.recover().await.unwrap().missing, std::slice::from_ref(&gone));
    let records = seen(&elsewhere).await;
    assert!(records.contains_key(&gone) && records[&whole_one].1.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_change_is_not_applied_while_its_replica_exists() {
    let pair = Pair::new();
    let (reached, has_reached) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let may_go_on = std::sync::Mutex::new(may_go_on);
    let refuses = Arc::new(AtomicBool::new(false));
    let refusing = Arc::clone(&refuses);
    // Between the two copies of a commit, and then there is no room for the one that counts.
    let full = move |operation: &Operation| {
        let commit = operation.name == "put" && operation.key.starts_with("image-metadata.d/");
        if !commit || !refusing.load(Ordering::SeqCst) {
            return None;
        }
        reached.send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        Some(Fault::Before(ErrorKind::Full))
    };
    let keepsake = Arc::new(pair.open_with(Settings::default(), Box::new(full), Box::new(never)));
    keepsake.recovery.recover().await.unwrap();
    let ids = upload_all(&keepsake, 0..1).await;
    refuses.store(true, Ordering::SeqCst);
    let (other, id) = (Arc::clone(&keepsake), ids[0].clone());
    let edit = tokio::spawn(async move { other.images.edit(id.as_str(), &described("refused"), shared::Any).await });
    tokio::task::spawn_blocking(move || has_reached.recv().unwrap()).await.unwrap();
    refuses.store(false, Ordering::SeqCst);
    assert_eq!(keys(&pair.archive, "image-metadata.d/").await.len(), 2);
    keepsake.recovery.look_at_archive_again().await.unwrap();
    go_on.send(()).unwrap();
    assert_eq!(edit.await.unwrap().unwrap_err().store_kind(), Some(ErrorKind::Full));
    keepsake.replication.compact().await.unwrap();
    assert_eq!(seen(&pair.open(true)).await[&ids[0]].0.as_deref(), Some("number 0"));
}

#[tokio::test]
async fn an_image_that_is_gone_does_not_hide_that_another_of_its_upload_waits() {
    let pair = Pair::new();
    let mut numbers: Vec<u32> = (0..12).collect();
    // In this order their replicas are made.
    numbers.sort_by_key(|n| Body::from(png(*n)).digest());
    let waiting = layout::archived_image(&Body::from(png(numbers[11])).digest()).to_string();
    let fails = Arc::new(AtomicBool::new(true));
    let failing = Arc::clone(&fails);
    let one = move |operation: &Operation| {
        let waits = operation.name == "put" && operation.key == waiting && failing.load(Ordering::SeqCst);
        waits.then_some(Fault::Before(ErrorKind::Unavailable))
    };
    let keepsake = pair.open_with(deferring(), Box::new(never), Box::new(one));
    keepsake.recovery.recover().await.unwrap();
    let image = |n: &u32| NewImage { body: Body::from(png(*n)), original_name: None };
    let uploaded = keepsake.uploads.upload(numbers.iter().map(image).collect(), Fields::default(), None).await.unwrap();
    whole(&pair.primary).delete(&layout::image(&uploaded.images[0].0)).await.unwrap();
    assert!(keepsake.replication.compact().await.is_err());
    assert_eq!(behind(&keepsake).await, Some(12));
    fails.store(false, Ordering::SeqCst);
    keepsake.replication.compact().await.unwrap();
    assert_eq!((behind(&keepsake).await, keys(&pair.archive, "images/").await.len()), (Some(0), 11));
}
