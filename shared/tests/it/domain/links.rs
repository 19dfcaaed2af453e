//! Links: records without bytes, which nothing misses and nothing loses.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::Value;

use super::portable::{entries_of, export, import, records};
use super::{World, png, seen, upload};
use shared::Error;
use shared::backup::Kind;
use shared::catalog::Record;
use shared::health::Status;
use shared::images::Fields;
use shared::layout::ImageId;
use shared::portable::What;
use shared::restore::Mode;
use shared::store::ErrorKind;
use shared::store::testing::Fault;
use shared::verify::Slice;

const URL: &str = "https://youtu.be/dQw4w9WgXcQ";

async fn link(keepsake: &shared::Keepsake) -> ImageId {
    let fields = Fields { description: Some("a film".to_owned()), group_id: Some("g".to_owned()), ..Fields::default() };
    keepsake.uploads.add_link(URL, fields).await.unwrap().images[0].0.clone()
}

fn url(records: &BTreeMap<ImageId, Record>, id: &ImageId) -> Option<Value> {
    records.get(id).and_then(|record| record.extra.get("url").cloned())
}

#[tokio::test]
async fn a_link_is_backed_up_deleted_and_restored_and_no_bytes_of_it_are_missed() {
    let world = World::new();
    let keepsake = world.open();
    keepsake.recovery.recover().await.unwrap();
    let image = upload(&keepsake, 1).await.unwrap().images[0].0.clone();
    let id = link(&keepsake).await;
    assert!(id.is_link() && !image.is_link());
    assert_eq!(keepsake.core.catalog.view().totals().undigested, 0, "there is no file to look at");

    let backup = keepsake.backups.create(Kind::Manual).await.unwrap();
    assert_eq!((backup.images, backup.bytes, backup.missing.len()), (2, png(1).len() as u64, 0));
    for check in keepsake.health.report().await.checks {
        assert_eq!(check.status, Status::Ok, "{check:?}");
    }
    let verified = keepsake.verifier.verify(Slice::WHOLE, true).await.unwrap();
    assert!(verified.images == 1 && !verified.needs_attention(), "{verified:?}");

    keepsake.images.delete(id.as_str(), shared::Any).await.unwrap();
    assert_eq!(seen(&keepsake).await.len(), 1);
    keepsake.pruner.prune(false).await.unwrap();
    let restored = keepsake.restores.restore(backup.name, Mode::Merge).await.unwrap();
    assert_eq!(restored.plan.restored.iter().collect::<Vec<_>>(), [&id]);
    assert!(restored.plan.missing.is_empty() && restored.plan.bytes_to_bring.is_empty());
    assert_eq!(url(&records(&keepsake).await, &id), Some(Value::from(URL)));
    let exact = keepsake.restores.restore(backup.name, Mode::Exact).await.unwrap();
    assert_eq!((exact.plan.kept, exact.plan.removed.len()), (2, 0));
}

#[tokio::test]
async fn a_link_outlives_the_loss_of_each_place() {
    for lost in ["uploads/", "backups/", "image-metadata", "catalog"] {
        let world = World::new();
        let keepsake = world.open();
        keepsake.recovery.recover().await.unwrap();
        upload(&keepsake, 1).await.unwrap();
        let id = link(&keepsake).await;
        keepsake.replication.compact().await.unwrap();
        drop(keepsake);
        world.pass(SignedDuration::from_hours(48));
        world.remove(lost).await;
        for _ in 0..2 {
            let after = world.open();
            let report = after.recovery.recover().await.unwrap();
            assert!(report.missing.is_empty(), "{lost}: {report:?}");
            assert_eq!(report.adopted, 0, "{lost}: {report:?}");
            assert_eq!(url(&records(&after).await, &id), Some(Value::from(URL)), "{lost}");
            assert_eq!(seen(&after).await.len(), 2, "{lost}");
        }
    }
}

#[tokio::test]
async fn a_link_is_taken_out_and_in_again() {
    let (here, there) = (World::new(), World::new());
    let keepsake = here.open();
    upload(&keepsake, 1).await.unwrap();
    let id = link(&keepsake).await;
    let (exported, zip) = export(&keepsake, What::Now).await.unwrap();
    assert_eq!((exported.records, exported.images, exported.missing.len()), (2, 1, 0));
    assert!(!entries_of(&zip).contains_key("missing.txt"));
    let other = there.open();
    let imported = import(&other, &zip).await;
    assert!(imported.plan.restored.contains(&id) && imported.plan.missing.is_empty());
    let taken = records(&other).await;
    assert_eq!(taken[&id], records(&keepsake).await[&id]);
    assert_eq!(import(&other, &zip).await.plan.kept, 2, "a second time changes nothing");
}

#[tokio::test]
async fn every_tenth_upload_makes_a_backup_whatever_is_uploaded() {
    let world = World::new();
    let keepsake = world.open();
    for n in 0..9 {
        upload(&keepsake, n).await.unwrap();
    }
    let made = keepsake.uploads.add_link(URL, Fields::default()).await.unwrap().backup.unwrap();
    let manifest = keepsake.backups.manifest(made).await.unwrap();
    assert_eq!((manifest.images, manifest.missing.len()), (10, 0));
}

#[tokio::test]
async fn a_link_that_could_not_be_stored_is_not_there() {
    let world = World::new();
    let failing = world.open_failing(|operation| {
        let is_commit = operation.name == "put" && operation.key.contains("image-metadata.d/");
        is_commit.then_some(Fault::Before(ErrorKind::Full))
    });
    let refused = failing.uploads.add_link(URL, Fields::default()).await.unwrap_err();
    assert_eq!(refused.store_kind(), Some(ErrorKind::Full));
    assert!(matches!(failing.uploads.add_link("ftp://x", Fields::default()).await, Err(Error::Invalid(_))));
    assert!(seen(&world.open()).await.is_empty());
}
