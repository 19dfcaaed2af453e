//! Restores: what comes back, what stays, and what is refused.

use futures::FutureExt;

use super::{World, png, seen, upload, upload_all};
use crate::world::parts_of;
use shared::Error;
use shared::backup::Kind;
use shared::restore::Mode;

#[tokio::test]
async fn a_restore_refuses_a_tampered_image_and_brings_back_the_others() {
    let world = World::new();
    let keepsake = world.open();
    let ids = upload_all(&keepsake, 0..3).await;
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    for id in &ids {
        keepsake.images.delete(id.as_str(), shared::Any).await.unwrap();
    }
    let tampered = shared::digest::Digest::of(&png(1));
    let mut bytes = png(1);
    bytes[30] ^= 1;
    world.put(&format!("backups/images/{tampered}"), &bytes).await;

    let restored = keepsake.restores.restore(backup, Mode::Merge).await.unwrap();
    assert_eq!(restored.plan.missing.iter().collect::<Vec<_>>(), [&ids[1]]);
    let seen = seen(&keepsake).await;
    assert_eq!(seen.keys().collect::<Vec<_>>(), [&ids[0], &ids[2]]);
    assert_eq!(seen[&ids[2]].1, Some(png(2)));
}

#[tokio::test]
async fn restore_rejects_foreign_bytes_under_name_of_deleted_image() {
    let world = World::new();
    let keepsake = world.open();
    let ids = upload_all(&keepsake, 0..2).await;
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    for id in &ids {
        keepsake.images.delete(id.as_str(), shared::Any).await.unwrap();
    }
    // A deletion that was cut off left the file of one, and that has rotted since.
    let mut rotten = png(0);
    rotten[30] ^= 1;
    world.put(&format!("uploads/{}", ids[0]), &rotten).await;

    let restored = keepsake.restores.restore(backup, Mode::Merge).await.unwrap();
    assert_eq!(restored.plan.bytes_to_bring.len(), 2);
    let seen = seen(&keepsake).await;
    assert_eq!((&seen[&ids[0]].1, &seen[&ids[1]].1), (&Some(png(0)), &Some(png(1))));
    assert_eq!(world.keys("backups/quarantine/").await.len(), 1, "what cannot be explained is kept");
}

#[tokio::test]
async fn a_backup_with_a_damaged_page_is_refused_and_nothing_changes() {
    let world = World::new();
    let keepsake = world.open();
    let ids = upload_all(&keepsake, 0..3).await;
    let made = keepsake.backups.create(Kind::Manual).await.unwrap();
    let backup = made.name;
    // A page that the present state has is read from there.
    keepsake.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    keepsake.core.catalog.compact().await.unwrap();
    let (pages, _) = parts_of(&world, &made).await;
    let [page] = pages.into_iter().collect::<Vec<_>>()[..] else { panic!("one page") };
    world.spoil_page(&page, b"{}").await;
    let keepsake = world.open();
    let before = seen(&keepsake).await;
    let outcome = keepsake.restores.restore(backup, Mode::Exact).await;
    assert!(matches!(outcome, Err(Error::DamagedBackup(_))), "{outcome:?}");
    assert_eq!(seen(&keepsake).await, before);
    assert_eq!(keepsake.backups.list().await.unwrap().len(), 1, "not even a safety backup was made");
}

#[tokio::test]
async fn a_plan_says_what_the_restore_then_does_and_changes_nothing() {
    let world = World::new();
    let keepsake = world.open();
    let ids = upload_all(&keepsake, 0..4).await;
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    keepsake.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    let patch = shared::images::Patch { description: Some(Some("changed".to_owned())), ..Default::default() };
    keepsake.images.edit(ids[1].as_str(), &patch, shared::Any).await.unwrap();
    let late = upload(&keepsake, 9).await.unwrap().images[0].0.clone();
    world.remove(&format!("uploads/{}", ids[2])).await;

    let keys = world.keys("").await;
    let plan = keepsake.restores.plan(backup, Mode::Exact).await.unwrap();
    assert_eq!(world.keys("").await, keys);
    assert_eq!(plan.restored.iter().collect::<Vec<_>>(), [&ids[0]]);
    assert_eq!(plan.changed.iter().collect::<Vec<_>>(), [&ids[1]]);
    assert_eq!(plan.removed.iter().collect::<Vec<_>>(), [&late]);
    assert_eq!((plan.kept, plan.bytes_to_bring.len()), (2, 2));

    let done = keepsake.restores.restore(backup, Mode::Exact).await.unwrap();
    assert_eq!((done.plan.restored, done.plan.changed, done.plan.removed), (plan.restored, plan.changed, plan.removed));
    let now = seen(&keepsake).await;
    assert_eq!(now.keys().collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    assert!(now.values().zip(0..).all(|((_, bytes), n)| *bytes == Some(png(n))));

    keepsake.restores.restore(done.safety_backup.unwrap(), Mode::Exact).await.unwrap();
    let undone = seen(&keepsake).await;
    assert_eq!(undone[&ids[1]].0.as_deref(), Some("changed"));
    assert!(undone.contains_key(&late) && !undone.contains_key(&ids[0]));
}

#[tokio::test]
async fn exact_restore_removes_no_image_without_replica() {
    let world = World::new();
    let keepsake = world.open();
    upload_all(&keepsake, 0..1).await;
    let first = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    let late = upload(&keepsake, 1).await.unwrap().images[0].0.clone();
    keepsake.backups.create(Kind::Manual).await.unwrap();
    world.remove(&format!("backups/images/{}", shared::digest::Digest::of(&png(1)))).await;

    let done = keepsake.restores.restore(first, Mode::Exact).await.unwrap();
    assert!(!seen(&keepsake).await.contains_key(&late));
    keepsake.restores.restore(done.safety_backup.unwrap(), Mode::Exact).await.unwrap();
    assert_eq!(seen(&keepsake).await[&late].1, Some(png(1)));
}

#[tokio::test]
async fn delete_repairs_corrupt_replica_before_removing_the_original() {
    let world = World::new();
    let keepsake = world.open();
    let ids = upload_all(&keepsake, 0..1).await;
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    let mut rotten = png(0);
    rotten[30] ^= 1;
    world.put(&format!("backups/images/{}", shared::digest::Digest::of(&png(0))), &rotten).await;
    keepsake.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    keepsake.restores.restore(backup, Mode::Merge).await.unwrap();
    assert_eq!(seen(&keepsake).await[&ids[0]].1, Some(png(0)));
}

#[tokio::test]
async fn a_restore_wakes_the_background_task() {
    let world = World::new();
    let keepsake = world.open();
    let ids = upload_all(&keepsake, 0..1).await;
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    keepsake.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    let woken = || keepsake.core.changed.notified().now_or_never().is_some();
    while woken() {}
    keepsake.restores.restore(backup, Mode::Merge).await.unwrap();
    assert!(woken());
    // Only the bytes are missing, so that there is no commit.
    world.remove("uploads/").await;
    keepsake.restores.restore(backup, Mode::Merge).await.unwrap();
    assert!(!woken(), "without a change there is nothing to fold");
}
