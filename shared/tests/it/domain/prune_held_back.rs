//! What holds a prune back: something that names contents and cannot be read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::prune::{few, keepsake, worn};
use super::{World, upload};
use shared::store::ErrorKind;
use shared::store::testing::{Fault, FaultStore, Operation};

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
    held_back_by("the checkpoint", async |world| spoil(world, "image-metadata.json", 0).await, "catalog").await;
    let replicate_image = "backups/image-metadata.json";
    held_back_by("its replica", async |world| spoil(world, replicate_image, 0).await, "catalog").await;
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
        for place in ["image-metadata", "backups/image-metadata", "uploads/"] {
            world.remove(place).await;
        }
        world.open().recovery.recover().await.unwrap();
    };
    held_back_by("a catalog that was lost", all_gone, "lost").await;
}

#[tokio::test]
async fn a_chunk_of_a_backup_that_stays_holds_a_prune_back() {
    let world = worn().await;
    let keepsake = keepsake(&world, 1);
    let newest = keepsake.backups.list().await.unwrap()[0].name;
    let chunk = keepsake.backups.manifest(newest).await.unwrap().chunks[0].sha256;
    // Where the state is still that of the backup, what its chunks name needs no reading.
    upload(&keepsake, 99).await.unwrap();
    world.put(&format!("backups/catalog/{chunk}.json"), b"{}").await;
    assert!(keepsake.pruner.prune(false).await.unwrap().held_back.is_some());
    for backup in keepsake.backups.list().await.unwrap() {
        if keepsake.backups.manifest(backup.name).await.unwrap().chunks.iter().any(|named| named.sha256 == chunk) {
            keepsake.backups.delete(backup.name).await.unwrap();
        }
    }
    assert_eq!(keepsake.pruner.prune(false).await.unwrap().held_back, None, "once nothing needs it");
}

#[tokio::test]
async fn a_prune_reads_only_those_chunks_that_have_changed_since() {
    let world = worn().await;
    let keepsake = keepsake(&world, 100);
    keepsake.recovery.recover().await.unwrap();
    keepsake.backups.create(shared::backup::Kind::Manual).await.unwrap();
    let chunks = world.keys("backups/catalog/").await.len();
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
    assert_eq!(reads().await, chunks - 1, "all but that of the state as it is");
    let older = keepsake.backups.list().await.unwrap().into_iter().skip(1);
    for backup in older {
        keepsake.backups.delete(backup.name).await.unwrap();
    }
    assert_eq!(reads().await, 0);
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
