//! What holds a prune back: something that names contents and cannot be read.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::prune::{DAY, few, keepsake, worn};
use super::{World, upload};
use crate::world::{catalog_of, parts_of};
use shared::digest::Digest;
use shared::layout;
use shared::store::ErrorKind;
use shared::store::testing::{Fault, FaultStore, Operation};
use shared::testing::catalog::{stored_entries, stored_pages};

/// Nothing is removed where something that names contents cannot be read.
async fn held_back_by(what: &str, damage: impl AsyncFn(&World), reason: &str) {
    let world = worn().await;
    damage(&world).await;
    let before = world.keys("").await;
    let pruned = keepsake(&world, 1).pruner.prune(false).await.unwrap();
    assert!(pruned.held_back.is_some_and(|given| given.contains(reason)), "{what}: {pruned:?}");
    assert_eq!((pruned.removed, pruned.bytes, world.keys("").await), (vec![], 0, before), "{what}");
}

#[tokio::test]
async fn nothing_goes_where_something_that_names_contents_cannot_be_read() {
    let spoil = async |world: &World, prefix: &str, at: usize| {
        let keys: Vec<_> = world.keys(prefix).await.into_iter().filter(|key| key.ends_with(".json")).collect();
        world.put(&keys[at], b"rotten").await;
    };
    held_back_by("an old manifest", async |world| spoil(world, "backups/backup-", 0).await, "backup").await;
    held_back_by("a new manifest", async |world| spoil(world, "backups/backup-", 3).await, "backup").await;
    held_back_by("the root", async |world| spoil(world, "catalog.json", 0).await, "catalog").await;
    held_back_by("its replica", async |world| spoil(world, "backups/catalog.json", 0).await, "catalog").await;
    held_back_by(
        "a commit in the archive",
        async |world| spoil(world, "backups/image-metadata.d/", 0).await,
        "catalog",
    )
    .await;
    let both_copies = async |world: &World| {
        spoil(world, "image-metadata.d/", 0).await;
        spoil(world, "backups/image-metadata.d/", 0).await;
    };
    held_back_by("a commit in both places", both_copies, "catalog").await;
    let set_aside = async |world: &World| {
        both_copies(world).await;
        world.open().recovery.recover().await.unwrap();
    };
    held_back_by("a commit in quarantine", set_aside, "quarantine").await;
    let all_gone = async |world: &World| {
        world.remove_catalog("").await;
        for place in ["catalog.json", "image-metadata"] {
            world.remove(&format!("backups/{place}")).await;
        }
        world.remove("uploads/").await;
        world.open().recovery.recover().await.unwrap();
    };
    held_back_by("a catalog that was lost", all_gone, "lost").await;
}

#[tokio::test]
async fn nothing_goes_where_a_page_of_the_root_is_damaged_in_each_location() {
    let read = Arc::new(catalog_of(&worn().await, "").await);
    let all = stored_pages({
        let read = Arc::clone(&read);
        move |key| read(key)
    })
    .unwrap();
    // Those of lists name nothing that the others do not.
    let names_contents = |page: &Digest| {
        let (read, lost) = (Arc::clone(&read), layout::page(page));
        stored_entries(move |key| read(key).filter(|_| *key != lost)).is_err()
    };
    let pages: Vec<Digest> = all.into_iter().filter(names_contents).collect();
    assert!(!pages.is_empty());
    for page in pages {
        let world = worn().await;
        world.spoil_page(&page, b"rotten").await;
        let before = world.keys("").await;
        if let Ok(pruned) = keepsake(&world, 1).pruner.prune(false).await {
            assert!(pruned.held_back.is_some(), "{page}: {pruned:?}");
        }
        let is_lease = |key: &String| key.ends_with("restore.json");
        let after = world.keys("").await.into_iter().filter(|key| !is_lease(key));
        assert_eq!(after.collect::<Vec<_>>(), before, "{page}");
    }
}

#[tokio::test]
async fn a_page_of_a_backup_that_stays_holds_a_prune_back() {
    let world = worn().await;
    let keepsake = keepsake(&world, 1);
    let newest = keepsake.backups.list().await.unwrap()[0].name;
    let pages = async |name| parts_of(&world, &keepsake.backups.manifest(name).await.unwrap()).await.0;
    let newest = pages(newest).await;
    let mut with_it = Vec::new();
    for backup in keepsake.backups.list().await.unwrap() {
        if !newest.is_disjoint(&pages(backup.name).await) {
            with_it.push(backup.name);
        }
    }
    // Where the state is still that of the backup, what its pages name needs no reading.
    upload(&keepsake, 99).await.unwrap();
    keepsake.core.catalog.compact().await.unwrap();
    for page in &newest {
        world.spoil_page(page, b"{}").await;
    }
    let keepsake = super::prune::keepsake(&world, 1);
    assert!(keepsake.pruner.prune(false).await.unwrap().held_back.is_some());
    for name in with_it {
        keepsake.backups.delete(name).await.unwrap();
    }
    assert_eq!(keepsake.pruner.prune(false).await.unwrap().held_back, None, "once nothing needs it");
}

#[tokio::test]
async fn a_prune_reads_no_page_of_different_states_twice() {
    let world = worn().await;
    let keepsake = keepsake(&world, 100);
    keepsake.recovery.recover().await.unwrap();
    keepsake.backups.create(shared::backup::Kind::Manual).await.unwrap();
    // No reading ends early, since something is named nowhere.
    world.put(&format!("backups/images/{}", Digest::of(b"stray")), b"stray").await;
    world.pass(2 * DAY);
    let mut pages = HashSet::new();
    for backup in keepsake.backups.list().await.unwrap() {
        pages.extend(parts_of(&world, &keepsake.backups.manifest(backup.name).await.unwrap()).await.0);
    }
    assert_eq!(pages.len(), 3, "the newest are of the present state");
    let reads = async || {
        let read = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&read);
        let count = move |operation: &Operation| {
            if operation.name == "get" && operation.key.contains("catalog/") {
                counter.fetch_add(1, Ordering::SeqCst);
            }
            None
        };
        let counted = FaultStore::with_plan(Arc::clone(&world.memory) as _, count);
        let keepsake = world.open_with(Arc::new(counted), few(100));
        assert_eq!(keepsake.pruner.prune(false).await.unwrap().held_back, None);
        read.load(Ordering::SeqCst)
    };
    // The images of the present state are read by time, and its deleted one by name.
    assert_eq!(reads().await, pages.len() + 1);
    let older = keepsake.backups.list().await.unwrap().into_iter().skip(1);
    for backup in older {
        keepsake.backups.delete(backup.name).await.unwrap();
    }
    world.put(&format!("backups/images/{}", Digest::of(b"stray")), b"stray").await;
    world.pass(2 * DAY);
    assert_eq!(reads().await, 2);
}

#[tokio::test]
async fn a_damaged_backup_that_was_deleted_is_damaged_no_longer() {
    let world = worn().await;
    let keepsake = keepsake(&world, 1);
    let oldest = keepsake.backups.list().await.unwrap().pop().unwrap().name;
    world.put(&format!("backups/{oldest}/manifest.json"), b"rotten").await;
    keepsake.verifier.verify(shared::verify::Slice::WHOLE, true).await.unwrap();
    let damaged = async || keepsake.verifier.verifications().await.unwrap().damaged_backups;
    assert_eq!(damaged().await, BTreeSet::from([oldest]));
    keepsake.backups.delete(oldest).await.unwrap();
    keepsake.verifier.verify_next().await.unwrap();
    assert!(damaged().await.is_empty());
    assert_eq!(keepsake.pruner.prune(false).await.unwrap().held_back, None);
}

#[tokio::test]
async fn a_manifest_that_does_not_answer_ends_a_prune_before_anything_goes() {
    let world = worn().await;
    let before = world.keys("").await;
    let silent = |operation: &Operation| {
        (operation.name == "get" && operation.key.ends_with("manifest.json"))
            .then_some(Fault::Before(ErrorKind::Unavailable))
    };
    let failing = Arc::new(FaultStore::with_plan(Arc::clone(&world.memory) as _, silent));
    world.open_with(failing, few(1)).pruner.prune(false).await.unwrap_err();
    assert_eq!(world.keys("").await, before);
}
