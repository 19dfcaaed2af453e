//! Requests whose store fails under them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{World, png, seen, upload, upload_all};
use shared::backup::Kind;
use shared::health::Status;
use shared::images::Fields;
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::store::{Body, DiskStore, ErrorKind, ObjectStore, Store};
use shared::upload::NewImage;
use shared::{Error, Keepsake, Settings};

/// Fails the `n`th operation of a process, and no other.
fn nth(n: u64, fault: Fault) -> impl Fn(&Operation) -> Option<Fault> + Send + Sync + 'static {
    move |operation| (operation.sequence == n).then_some(fault)
}

#[tokio::test]
async fn failed_upload_leaves_nothing_visible() {
    for kind in [ErrorKind::Full, ErrorKind::Refused] {
        for n in 0.. {
            let world = World::new();
            world.open().recovery.recover().await.unwrap();
            let outcome = upload(&world.open_failing(nth(n, Fault::Before(kind))), 1).await;
            let after = world.open();
            if let Ok(uploaded) = outcome {
                assert_eq!(seen(&after).await[&uploaded.images[0].0].1, Some(png(1)));
                if n > 20 {
                    break;
                }
                continue;
            }
            assert_eq!(seen(&after).await, BTreeMap::new(), "operation {n}");
            assert!(world.keys("uploads/").await.is_empty(), "operation {n} left bytes");
            after.recovery.recover().await.unwrap();
            assert_eq!(seen(&after).await, BTreeMap::new(), "operation {n} came back");
        }
    }
}

#[tokio::test]
async fn an_upload_whose_reply_is_lost_is_there_in_full_or_not_at_all() {
    for n in 0..25 {
        let world = World::new();
        world.open().recovery.recover().await.unwrap();
        let outcome = upload(&world.open_failing(nth(n, Fault::After(ErrorKind::Unavailable))), 1).await;
        let after = world.open();
        after.recovery.recover().await.unwrap();
        let seen = seen(&after).await;
        assert!(seen.len() <= 1 && (outcome.is_err() || seen.len() == 1), "operation {n}: {outcome:?}");
        assert!(seen.values().all(|(said, bytes)| said.as_deref() == Some("number 1") && *bytes == Some(png(1))));
    }
}

#[tokio::test]
async fn interrupted_restore_leaves_old_or_new_state_and_can_be_repeated() {
    let world = World::new();
    let keepsake = world.open();
    keepsake.recovery.recover().await.unwrap();
    let ids = upload_all(&keepsake, 0..4).await;
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    let before_damage = seen(&keepsake).await;
    for n in 0.. {
        for id in &ids {
            // Whether it is there depends on how far the last round came.
            let _ = world.open().images.delete(id.as_str(), shared::Any).await;
        }
        // Else each round would find more commits to read than the one before, and never come to its end.
        world.open().core.catalog.compact().await.unwrap();
        let deleted = seen(&world.open()).await;
        assert!(deleted.is_empty());
        let outcome = {
            let failing = world.open_failing(move |operation| {
                (operation.sequence >= n).then_some(Fault::Before(ErrorKind::Unavailable))
            });
            failing.restores.restore(backup, shared::restore::Mode::Merge).await
        };
        let now = seen(&world.open()).await;
        assert!(now == deleted || now == before_damage, "operation {n} left something between");
        if outcome.is_ok() {
            assert_eq!(now, before_damage);
            break;
        }
        // Its lease ends by itself.
        world.clock.advance(jiff::SignedDuration::from_secs(61));
        world.open().restores.restore(backup, shared::restore::Mode::Merge).await.unwrap();
        assert_eq!(seen(&world.open()).await, before_damage, "running it again finishes the job");
    }
}

/// The lease of somebody else, who renewed it at this moment.
fn lease(renewed: &str) -> Vec<u8> {
    format!(r#"{{"holder":"01a20c87-1075-7675-957c-7fc02efe5572","renewed":"{renewed}"}}"#).into_bytes()
}

#[tokio::test]
async fn only_one_restore_runs_at_a_time() {
    let world = World::new();
    let keepsake = world.open();
    upload_all(&keepsake, 0..1).await;
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    // A process that dies in mid-restore leaves its lease.
    let dying = world.open_failing(|operation| {
        (operation.name == "get" && operation.key.contains("manifest")).then_some(Fault::Before(ErrorKind::Unavailable))
    });
    let _ = dying.restores.restore(backup, shared::restore::Mode::Merge).await;
    world.put("backups/restore.json", &lease("2026-11-20T08:00:00.000Z")).await;
    let busy = keepsake.restores.restore(backup, shared::restore::Mode::Merge).await;
    assert!(matches!(busy, Err(Error::RestoreRunning)), "{busy:?}");
    world.clock.advance(jiff::SignedDuration::from_secs(61));
    keepsake.restores.restore(backup, shared::restore::Mode::Merge).await.unwrap();
}

#[tokio::test]
async fn lease_tolerates_clock_minutes_ahead_but_not_years() {
    let world = World::new();
    let keepsake = world.open();
    upload_all(&keepsake, 0..1).await;
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    for (renewed, holds) in [("2026-11-20T08:50:00.000Z", true), ("2031-11-20T08:00:00.000Z", false)] {
        world.put("backups/restore.json", &lease(renewed)).await;
        let outcome = keepsake.restores.restore(backup, shared::restore::Mode::Merge).await;
        assert_eq!(matches!(outcome, Err(Error::RestoreRunning)), holds, "{renewed}: {outcome:?}");
    }
}

#[tokio::test]
async fn restore_survives_failed_renewal_but_not_expired_lease() {
    for (fault, times, lives) in [
        (Fault::Before(ErrorKind::Unavailable), 1, true),
        (Fault::After(ErrorKind::Unavailable), 1, true),
        (Fault::Before(ErrorKind::Unavailable), u64::MAX, false),
    ] {
        let world = World::new();
        upload_all(&world.open(), 0..1).await;
        let backup = world.open().backups.create(Kind::Manual).await.unwrap().name;
        world.remove("uploads/").await;
        world.pass(jiff::SignedDuration::from_secs(1));
        let (clock, failed) = (world.clock.clone(), AtomicU64::new(0));
        let renewals = AtomicU64::new(0);
        let fails = move |operation: &Operation| {
            let second = |seconds| clock.advance(jiff::SignedDuration::from_secs(seconds));
            if operation.name == "put" && operation.key.ends_with("manifest.json") {
                second(25);
            }
            let renewal = operation.name == "put" && operation.key.ends_with("restore.json");
            if !renewal || renewals.fetch_add(1, Ordering::Relaxed) == 0 || failed.load(Ordering::Relaxed) >= times {
                return None;
            }
            failed.fetch_add(1, Ordering::Relaxed);
            second(25);
            Some(fault)
        };
        let outcome = world.open_failing(fails).restores.restore(backup, shared::restore::Mode::Merge).await;
        assert_eq!(outcome.is_ok(), lives, "{fault:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn failed_replica_leaves_no_bytes_of_the_upload() {
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn ObjectStore> = Arc::new(DiskStore::open(folder.path()).unwrap());
    let memory: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let failing = FaultStore::with_plan(memory, |operation| {
        (operation.name == "put" && operation.key.starts_with("images/"))
            .then_some(Fault::Before(ErrorKind::Unavailable))
    });
    let clock = World::new().clock;
    let (primary, archive) = (Store::new(disk, folder.path()), Store::new(Arc::new(failing), folder.path()));
    let keepsake =
        Keepsake::new(primary, archive, Vec::new(), clock, Settings { reserve_bytes: 0, ..Settings::default() });
    for n in 0..20 {
        upload(&keepsake, n).await.unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path().join("uploads")).unwrap().count(), 0, "upload {n}");
    }
}

#[tokio::test]
async fn a_failed_refresh_is_shared_by_all_who_wait_for_it() {
    let world = World::new();
    let (hangs, away) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
    let (gate, switch) = (Arc::clone(&hangs), Arc::clone(&away));
    let plan = move |_: &Operation| switch.load(Ordering::SeqCst).then_some(Fault::Before(ErrorKind::Unavailable));
    let gate = move || !gate.load(Ordering::SeqCst);
    let store = Arc::new(FaultStore::with_gate(Arc::clone(&world.memory) as _, plan, gate));
    let keepsake = world.open_on(store.clone());
    let asked = || store.counts().values().sum::<u64>();
    let mut waiting: Vec<_> = (0..8).map(|_| Box::pin(keepsake.images.get("a.png"))).collect();
    for request in &mut waiting {
        assert!(futures::poll!(request).is_pending());
    }
    hangs.store(false, Ordering::SeqCst);
    for outcome in futures::future::join_all(waiting).await {
        assert_eq!(outcome.unwrap_err().store_kind(), Some(ErrorKind::Unavailable));
    }
    let once = asked();
    assert_eq!(once, 1, "one of them asked the store for all");
    keepsake.images.get("a.png").await.unwrap_err();
    assert_eq!(asked(), once + 1, "who comes later asks again");
    away.store(false, Ordering::SeqCst);
    assert!(matches!(keepsake.images.get("a.png").await, Err(Error::NoSuchImage(_))));
}

#[tokio::test]
async fn one_idempotency_key_in_two_processes_never_mixes_two_images() {
    let world = World::new();
    world.open().recovery.recover().await.unwrap();
    let send = async |keepsake: &Keepsake, n: u32| {
        let image = NewImage { body: Body::from(png(n)), original_name: None };
        keepsake.uploads.upload(vec![image], Fields::default(), Some("key")).await
    };
    // Neither has seen the other's commit when it writes its bytes.
    let (one, two) = (world.open(), world.open());
    let outcomes = futures::join!(send(&one, 1), send(&two, 2));
    let answered = [outcomes.0.is_ok(), outcomes.1.is_ok()];
    assert_ne!(answered, [true, true]);
    for (id, (_, bytes)) in seen(&world.open()).await {
        let record = one.images.get(id.as_str()).await.unwrap().1.live().unwrap().clone();
        assert_eq!(record.sha256, bytes.map(|bytes| shared::digest::Digest::of(&bytes)));
    }
    let again = send(&world.open(), if answered[0] { 1 } else { 2 }).await.unwrap();
    assert_eq!(again.images.len(), 1);
    assert_eq!(seen(&world.open()).await.len(), 1);
}

/// Between the put that was not answered and anything that its uploader does next, a reader may have come by.
#[tokio::test]
async fn change_of_unknown_outcome_that_was_read_is_not_rolled_back() {
    let world = World::new();
    world.open().recovery.recover().await.unwrap();
    let unanswered = || {
        world.open_failing(|operation| {
            (operation.name == "put" && operation.key.starts_with("image-metadata.d/"))
                .then_some(Fault::After(ErrorKind::Unavailable))
        })
    };
    let error = upload(&unanswered(), 1).await.unwrap_err();
    assert!(matches!(error, Error::Commit(shared::catalog::CommitError::Unknown(_))));
    let shown = seen(&world.open()).await;
    assert_eq!(shown.values().next(), Some(&(Some("number 1".to_owned()), Some(png(1)))));

    let id = shown.keys().next().unwrap();
    unanswered().images.delete(id.as_str(), shared::Any).await.unwrap_err();
    assert!(seen(&world.open()).await.is_empty());
    let after = world.open();
    after.recovery.recover().await.unwrap();
    assert!(seen(&after).await.is_empty());
}

/// The status and message of the checks of the two places.
async fn places(keepsake: &Keepsake) -> [(Status, String); 2] {
    let health = keepsake.health.report().await;
    let check = |name: &str| {
        let check = health.checks.iter().find(|check| check.name == name).unwrap();
        (check.status, check.message.clone())
    };
    [check("primary"), check("archive")]
}

#[tokio::test]
async fn health_names_the_store_whose_write_failed() {
    for (archive_sync, level, said) in
        [(true, Status::Error, "The last write failed"), (false, Status::Warn, "What follows a change")]
    {
        let world = World::new();
        let refusing = FaultStore::with_plan(Arc::new(MemoryStore::new()), |operation| {
            (operation.name == "put").then_some(Fault::Before(ErrorKind::Refused))
        });
        let archive = Store::new(Arc::new(refusing), &std::env::temp_dir()).named("archive");
        let settings = Settings { archive_sync, ..Settings::default() };
        let primary = world.raw().named("primary");
        let keepsake = Keepsake::new(primary, archive, Vec::new(), world.clock.clone(), settings);
        assert_eq!(upload(&keepsake, 1).await.is_err(), archive_sync);
        if !archive_sync {
            keepsake.maintenance.catch_up().await.unwrap_err();
        }
        let [primary, archive] = places(&keepsake).await;
        assert_eq!(primary, (Status::Ok, "It can be read and written.".to_owned()));
        assert_eq!(archive.0, level, "{}", archive.1);
        assert!(archive.1.starts_with(said), "{}", archive.1);
    }
}

#[tokio::test]
async fn health_tells_a_refusal_from_silence() {
    for (kind, said) in [
        (ErrorKind::Refused, "It refuses access: its credentials or rights need a look"),
        (ErrorKind::Unavailable, "It cannot be reached"),
    ] {
        let world = World::new();
        let plan = move |_: &Operation| Some(Fault::Before(kind));
        let failing = FaultStore::with_plan(Arc::new(MemoryStore::new()), plan);
        let archive = Store::new(Arc::new(failing), &std::env::temp_dir()).named("archive");
        let settings = Settings { archive_sync: false, ..Settings::default() };
        let keepsake = Keepsake::new(world.raw(), archive, Vec::new(), world.clock.clone(), settings);
        let [_, archive] = places(&keepsake).await;
        assert_eq!(archive.0, Status::Warn);
        assert!(archive.1.starts_with(said), "{}", archive.1);
    }
}

#[tokio::test]
async fn health_warns_while_automatic_backups_fail() {
    for archive_sync in [true, false] {
        let world = World::new();
        let refuses = Arc::new(AtomicBool::new(true));
        let plan = {
            let refuses = Arc::clone(&refuses);
            move |operation: &Operation| {
                let refused = operation.name == "put" && operation.key.ends_with("sequence.json");
                (refused && refuses.load(Ordering::SeqCst)).then_some(Fault::Before(ErrorKind::Refused))
            }
        };
        let settings = Settings { archive_sync, backup_every: 1, ..Settings::default() };
        let backend = Arc::new(FaultStore::with_plan(Arc::clone(&world.memory) as _, plan));
        let keepsake = world.open_with(backend, settings);
        upload(&keepsake, 1).await.unwrap();
        keepsake.backups.make_due().await.unwrap_err();
        let [(status, message), _] = places(&keepsake).await;
        assert_eq!((status, message.starts_with("What follows a change")), (Status::Warn, true), "{message}");
        refuses.store(false, Ordering::SeqCst);
        keepsake.backups.make_due().await.unwrap();
        assert_eq!(places(&keepsake).await[0].0, Status::Ok);
    }
}

#[tokio::test]
async fn an_idempotency_key_of_a_deleted_image_says_so() {
    let world = World::new();
    let keepsake = world.open();
    let send = async |numbers: &[u32]| {
        let image = |n: &u32| NewImage { body: Body::from(png(*n)), original_name: None };
        keepsake.uploads.upload(numbers.iter().map(image).collect(), Fields::default(), Some("key")).await
    };
    let ids: Vec<_> = send(&[1, 2]).await.unwrap().images.into_iter().map(|(id, _)| id).collect();
    for (deleted, left) in ids.iter().zip([1, 0]) {
        keepsake.images.delete(deleted.as_str(), shared::Any).await.unwrap();
        let again = send(&[1, 2]).await;
        match left {
            0 => assert!(matches!(again, Err(Error::DeletedSince)), "{again:?}"),
            left => assert_eq!(again.unwrap().images.len(), left),
        }
        // What was never sent under this key is another upload, whatever was deleted.
        for other in [&[3, 2][..], &[1, 3], &[1]] {
            let refused = send(other).await;
            assert!(matches!(refused, Err(Error::IdempotencyMismatch)), "{other:?}: {refused:?}");
        }
    }
    assert!(seen(&keepsake).await.is_empty(), "what was deleted stays so");
}
