//! Tickets whose completion is cut off, fails, or is asked for twice at once.

use jiff::SignedDuration;
use uuid::Uuid;

use super::{World, png, seen};
use shared::digest::Digest;
use shared::images::Fields;
use shared::store::testing::Fault;
use shared::store::{Body, ErrorKind};
use shared::ticket::{Announcement, Destination};
use shared::{Error, Keepsake};

fn announcement(bytes: &[u8]) -> Announcement {
    Announcement {
        client: None,
        original_name: Some("a.png".to_owned()),
        content_type: "image/png".to_owned(),
        size: bytes.len() as u64,
        sha256: Digest::of(bytes),
        fields: Fields { description: Some("under a ticket".to_owned()), ..Fields::default() },
    }
}

/// A ticket whose bytes have arrived.
async fn arrived(keepsake: &Keepsake, bytes: &[u8]) -> Uuid {
    let issued = keepsake.tickets.issue(announcement(bytes)).await.unwrap();
    let Destination::Here { secret } = issued.destination else { panic!("memory signs nothing") };
    let terms = keepsake.tickets.expected(issued.id, &secret).await.unwrap();
    keepsake.tickets.receive(issued.id, &terms, &Body::from(bytes.to_vec())).await.unwrap();
    issued.id
}

#[tokio::test]
async fn a_completion_that_fails_or_dies_anywhere_can_be_asked_for_again() {
    for fault in [Fault::Before(ErrorKind::Refused), Fault::After(ErrorKind::Unavailable)] {
        for (n, forever) in (0..40).flat_map(|n| [(n, false), (n, true)]) {
            let world = World::new();
            world.open().recovery.recover().await.unwrap();
            let id = arrived(&world.open(), &png(1)).await;
            let failing = world.open_failing(move |operation| {
                (operation.sequence == n || forever && operation.sequence > n).then_some(fault)
            });
            let outcome = failing.tickets.complete(id).await;
            let between = seen(&world.open()).await;
            assert!(between.len() == 1 || outcome.is_err(), "operation {n}: {outcome:?}");
            world.open().recovery.recover().await.unwrap();
            let again = world.open().tickets.complete(id).await.unwrap();
            let after = seen(&world.open()).await;
            assert_eq!(after.len(), 1, "operation {n}");
            assert_eq!(after[&again.images[0].0], (Some("under a ticket".to_owned()), Some(png(1))), "operation {n}");
        }
    }
}

#[tokio::test]
async fn of_two_completions_at_once_one_that_fails_takes_nothing_from_the_other() {
    for n in 0..30 {
        let world = World::new();
        world.open().recovery.recover().await.unwrap();
        let id = arrived(&world.open(), &png(1)).await;
        let failing =
            world.open_failing(move |operation| (operation.sequence == n).then_some(Fault::Before(ErrorKind::Refused)));
        let good = world.open_failing(|_| None);
        let (bad, good) = futures::join!(failing.tickets.complete(id), good.tickets.complete(id));
        let id = &good.unwrap().images[0].0;
        assert!(bad.is_err() || bad.unwrap().images[0].0 == *id);
        let after = world.open();
        assert_eq!(seen(&after).await[id].1, Some(png(1)), "operation {n}");
        after.recovery.recover().await.unwrap();
        assert_eq!(seen(&after).await[id].1, Some(png(1)), "operation {n}");
        assert_eq!(after.core.catalog.view().totals().uploads(), 1);
    }
}

#[tokio::test]
async fn a_ticket_that_is_never_completed_is_cleared_away_after_a_day() {
    let world = World::new();
    let keepsake = world.open();
    let id = arrived(&keepsake, &png(1)).await;
    world.clock.advance(SignedDuration::from_hours(23));
    keepsake.recovery.recover().await.unwrap();
    assert_eq!(world.keys("incoming/").await.len(), 2);
    world.clock.advance(SignedDuration::from_hours(2));
    keepsake.recovery.recover().await.unwrap();
    assert!(world.keys("incoming/").await.is_empty());
    assert!(matches!(keepsake.tickets.complete(id).await, Err(Error::NoSuchTicket)));
}

/// Completes a ticket in a process that is stopped before its operation number `stop`, runs `meanwhile`, and lets it go
/// on; returns how it ended. `None` where it needed fewer operations.
async fn interrupted(
    world: &World,
    id: Uuid,
    stop: usize,
    meanwhile: impl AsyncFnOnce(),
) -> Option<shared::Result<shared::upload::Uploaded>> {
    let slow = world.open_failing(|_| None);
    let mut completing = std::pin::pin!(slow.tickets.complete(id));
    for _ in 0..stop {
        // Each poll is an operation, or a piece of work on another thread to wait for.
        if futures::poll!(&mut completing).is_ready() {
            return None;
        }
        tokio::task::yield_now().await;
    }
    meanwhile().await;
    Some(completing.await)
}

#[tokio::test]
async fn a_completion_that_comes_late_takes_back_neither_an_edit_nor_a_deletion() {
    for delete in [false, true] {
        for stop in 0..60 {
            let world = World::new();
            world.open().recovery.recover().await.unwrap();
            let id = arrived(&world.open(), &png(1)).await;
            let quick = world.open();
            let meanwhile = async || {
                let image = quick.tickets.complete(id).await.unwrap().images[0].0.clone();
                if delete {
                    quick.images.delete(image.as_str(), shared::Any).await.unwrap();
                } else {
                    let patch =
                        shared::images::Patch { description: Some(Some("edited".to_owned())), ..Default::default() };
                    quick.images.edit(image.as_str(), &patch, shared::Any).await.unwrap();
                }
            };
            let Some(_) = interrupted(&world, id, stop, meanwhile).await else { continue };
            let after = seen(&world.open()).await;
            if delete {
                assert!(after.is_empty(), "stopped at {stop}");
            } else {
                let said: Vec<_> = after.values().map(|(said, _)| said.as_deref()).collect();
                assert_eq!(said, [Some("edited")], "stopped at {stop}");
            }
        }
    }
}

#[tokio::test]
async fn a_recovery_that_listed_long_ago_takes_nothing_from_a_completion_since() {
    for stop in 0..40 {
        let world = World::new();
        world.open().recovery.recover().await.unwrap();
        let id = arrived(&world.open(), &png(1)).await;
        // An attempt that got as far as copying.
        let failing = world.open_failing(|operation| {
            (operation.name == "put" && operation.key.starts_with("image-metadata.d/"))
                .then_some(Fault::Before(ErrorKind::Refused))
        });
        failing.tickets.complete(id).await.unwrap_err();
        world.clock.advance(SignedDuration::from_hours(25));
        world.memory.set_now(world.clock.now());
        let recovering = world.open_failing(|_| None);
        let mut recovery = std::pin::pin!(recovering.recovery.recover());
        let mut done = false;
        for _ in 0..stop {
            done = done || futures::poll!(&mut recovery).is_ready();
            tokio::task::yield_now().await;
        }
        let completed = world.open().tickets.complete(id).await;
        if !done {
            recovery.await.unwrap();
        }
        if let Ok(uploaded) = completed {
            assert_eq!(seen(&world.open()).await[&uploaded.images[0].0].1, Some(png(1)), "stopped at {stop}");
        }
    }
}
