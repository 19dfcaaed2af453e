//! A migration that is cut off before any of its operations.

use std::sync::Arc;

use super::World;
use super::migrate::{assert_same, elsewhere, filled, versions};
use shared::Error;
use shared::migrate::migrate;
use shared::store::ErrorKind;
use shared::store::testing::{Fault, FaultStore};

/// Migrates until the place to migrate to has done so many operations, and then fails for ever.
async fn cut_off(from: &World, to: &World, after: u64) -> bool {
    let plan = move |operation: &store::testing::Operation| {
        (operation.sequence >= after).then_some(Fault::Before(ErrorKind::Unavailable))
    };
    let broken = to.open_on(Arc::new(FaultStore::with_plan(Arc::clone(&to.memory) as _, plan)));
    migrate(&from.open().core, &broken.core).await.is_err()
}

#[tokio::test]
async fn interrupted_migration_leaves_no_store_and_is_finished_by_next() {
    let from = World::new();
    filled(&from).await;
    let before = versions(&from).await;
    let mut refused = 0;
    for after in 0.. {
        let to = elsewhere();
        if !cut_off(&from, &to, after).await {
            break;
        }
        let (left, is_empty) = (to.keys("uploads/").await.len() as u64, to.keys("").await.is_empty());
        match to.open().recovery.recover().await {
            Err(Error::MigrationUnfinished) => refused += 1,
            Ok(report) if is_empty => assert!(report.is_new),
            Ok(report) => panic!("cut off after {after}, it is taken for a store: {report:?}"),
            Err(error) => panic!("cut off after {after}: {error}"),
        }
        let done = migrate(&from.open().core, &to.open().core).await.unwrap();
        assert_eq!(done.copied, 12 - left, "what is there is not copied again");
        assert_same(&from, &to).await;
    }
    assert!(refused > 40, "{refused}");
    assert_eq!(versions(&from).await, before);
}

#[tokio::test]
async fn interrupted_later_migration_leaves_old_or_new_state() {
    let from = World::new();
    let ids = filled(&from).await;
    let to = elsewhere();
    migrate(&from.open().core, &to.open().core).await.unwrap();
    let older = to.open().recovery.recover().await.unwrap().images;
    super::upload_all(&from.open(), 600..609).await;
    from.open().images.delete(ids[8].as_str(), shared::Any).await.unwrap();
    for after in 0.. {
        let cut = cut_off(&from, &to, after).await;
        let report = to.open().recovery.recover().await.unwrap();
        assert!([older, older + 8].contains(&report.images), "cut off after {after}: {report:?}");
        assert!(report.missing.is_empty() && !report.metadata_restored, "cut off after {after}: {report:?}");
        if !cut {
            break;
        }
    }
    assert_same(&from, &to).await;
}
