//! What is taken out, and that nothing wrong ever looks whole.

use std::process::Command;

use serde_json::{Value, json};

use super::{entries_of, export, id, records};
use crate::domain::{World, png, seen, upload, upload_all};
use shared::backup::Kind;
use shared::config::Keep;
use shared::digest::Digest;
use shared::portable::What;
use shared::store::ErrorKind;
use shared::store::testing::{Fault, Operation};
use shared::{Error, Settings};

/// A picture that is too long to be sent from memory.
fn large() -> Vec<u8> {
    let mut bytes = png(9);
    bytes.resize(5 * 1024 * 1024, 7);
    bytes
}

#[tokio::test]
async fn a_backup_comes_out_as_plain_files_with_digests_and_the_same_each_time() {
    let world = World::new();
    let keepsake = world.open();
    let ids = upload_all(&keepsake, 0..3).await;
    let image = shared::upload::NewImage { body: large().into(), original_name: None };
    let long = keepsake.uploads.upload(vec![image], Default::default(), None).await.unwrap().images[0].0.clone();
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    // What happens to the images later does not change the backup.
    keepsake.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    upload(&keepsake, 5).await.unwrap();

    let (exported, zip) = export(&keepsake, What::Backup(backup)).await.unwrap();
    assert_eq!((exported.records, exported.images, exported.missing.len()), (4, 4, 0));
    assert_eq!(exported.bytes, (large().len() + (0..3).map(|n| png(n).len()).sum::<usize>()) as u64);
    let entries = entries_of(&zip);
    assert_eq!(entries.len(), 6, "no missing.txt where nothing is missing: {:?}", entries.keys());
    assert!(entries[&format!("uploads/{}", ids[0])] == png(0) && entries[&format!("uploads/{long}")] == large());
    let metadata: Value = serde_json::from_slice(&entries["image-metadata.json"]).unwrap();
    assert_eq!(metadata.as_object().unwrap().len(), 4);
    let record = &metadata[ids[1].as_str()];
    assert_eq!((&record["description"], &record["sha256"]), (&json!("number 1"), &json!(Digest::of(&png(1)))));
    assert_eq!((record.get("version"), metadata.get("$keepsake")), (None, None));
    let records = metadata.as_object().unwrap().values();
    assert!(records.clone().all(|record| record.get("groupId") == Some(&Value::Null)), "{metadata}");
    assert!(entries["image-metadata.json"].starts_with(b"{\n  \""), "it is laid out for people");

    assert!(export(&keepsake, What::Backup(backup)).await.unwrap().1 == zip, "the same bytes again");
    let now = entries_of(&export(&keepsake, What::Now).await.unwrap().1);
    assert!(now.len() == 6 && !now.contains_key(&format!("uploads/{}", ids[0])));
}

#[tokio::test]
async fn sha256sum_finds_every_file_of_an_export_right() {
    let world = World::new();
    let keepsake = world.open();
    upload_all(&keepsake, 0..3).await;
    let folder = tempfile::tempdir().unwrap();
    let exported = keepsake.exports.export_folder(What::Now, folder.path()).await.unwrap();
    assert_eq!((exported.images, exported.missing.len()), (3, 0));
    let check = || Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&folder).output();
    let checked = check().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    assert_eq!(String::from_utf8(checked.stdout).unwrap().lines().count(), 4);
    std::fs::write(folder.path().join("image-metadata.json"), "{}").unwrap();
    assert!(!check().unwrap().status.success());
}

#[tokio::test]
async fn an_export_into_a_folder_can_be_repeated_and_replaces_nothing() {
    let world = World::new();
    let keepsake = world.open();
    let ids = upload_all(&keepsake, 0..2).await;
    let folder = tempfile::tempdir().unwrap();
    let first = keepsake.exports.export_folder(What::Now, folder.path()).await.unwrap();
    let file = folder.path().join("uploads").join(ids[0].as_str());
    std::fs::remove_file(&file).unwrap();
    assert_eq!(keepsake.exports.export_folder(What::Now, folder.path()).await.unwrap(), first);
    assert_eq!(std::fs::read(&file).unwrap(), png(0));
    std::fs::write(&file, "mine").unwrap();
    let refused = keepsake.exports.export_folder(What::Now, folder.path()).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
}

#[tokio::test]
async fn wrong_bytes_are_never_taken_out() {
    let world = World::new();
    let keepsake = world.open();
    let ids = upload_all(&keepsake, 0..2).await;
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    let mut rotten = png(0);
    rotten[20] ^= 1;
    world.put(&format!("uploads/{}", ids[0]), &rotten).await;
    let name = format!("uploads/{}", ids[0]);
    let (_, zip) = export(&keepsake, What::Backup(backup)).await.unwrap();
    assert!(entries_of(&zip)[&name] == png(0), "the archive's copy is right");

    world.put(&format!("backups/images/{}", Digest::of(&png(0))), &rotten).await;
    let (exported, zip) = export(&keepsake, What::Backup(backup)).await.unwrap();
    assert_eq!(exported.missing.iter().collect::<Vec<_>>(), [&ids[0]]);
    let entries = entries_of(&zip);
    assert_eq!((entries.get(&name), &entries["missing.txt"]), (None, &format!("{}\n", ids[0]).into_bytes()));
    let sums = String::from_utf8(entries["SHA256SUMS"].clone()).unwrap();
    assert!(!sums.contains(ids[0].as_str()) && sums.contains("missing.txt") && sums.contains(ids[1].as_str()));
}

#[tokio::test]
async fn export_of_backup_pruned_meanwhile_fails() {
    let world = World::new();
    let keep_none = Keep { last: 0, daily: 0, weekly: 0, monthly: 0 };
    let keepsake = world.open_with(world.memory.clone(), Settings { keep: keep_none, ..Settings::default() });
    let ids = upload_all(&keepsake, 0..2).await;
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    for id in &ids {
        keepsake.images.delete(id.as_str(), shared::Any).await.unwrap();
    }
    // The archive loses what only the backup named: first the manifest, as a prune and a delete have it, then the rest.
    let lost = format!("backups/images/{}", Digest::of(&png(1)));
    let manifest = format!("backups/{backup}/manifest.json");
    let raw = world.raw();
    let pruning = world.open_failing(move |operation: &Operation| {
        let reads =
            operation.name == "get" && operation.key.as_str() == format!("backups/images/{}", Digest::of(&png(0)));
        if reads {
            for key in [&manifest, &lost] {
                futures::executor::block_on(raw.delete(&store::Key::new(key).unwrap())).unwrap();
            }
        }
        None
    });
    let mut written = Vec::new();
    let failed = pruning.exports.export_zip(What::Backup(backup), &mut written).await;
    assert!(matches!(failed, Err(Error::NoSuchBackup(_))), "{failed:?}");
    assert!(zip::ZipArchive::new(std::io::Cursor::new(written)).is_err(), "what was written is no zip");
}

#[tokio::test]
async fn unreachable_store_is_not_treated_as_data_loss() {
    let world = World::new();
    let ids = upload_all(&world.open(), 0..2).await;
    world.remove(&format!("uploads/{}", ids[1])).await;
    let away = |operation: &Operation| {
        let asked = operation.name == "get" && operation.key.as_str().starts_with("backups/images/");
        asked.then_some(Fault::Before(ErrorKind::Unavailable))
    };
    let failed = export(&world.open_failing(away), What::Now).await;
    assert_eq!(failed.unwrap_err().store_kind(), Some(ErrorKind::Unavailable));
}

#[tokio::test]
async fn what_was_taken_out_is_a_folder_that_a_store_can_start_on() {
    let world = World::new();
    let keepsake = world.open();
    upload_all(&keepsake, 0..3).await;
    super::import(&keepsake, &super::zip_of([("image-metadata.json", super::older(json!({ "l": { "url": "x" } })))]))
        .await;
    let (before, zip) = (records(&keepsake).await, export(&keepsake, What::Now).await.unwrap().1);
    let other = World::new();
    for (name, bytes) in entries_of(&zip) {
        other.put(&name, &bytes).await;
    }
    let started = other.open();
    let report = started.recovery.recover().await.unwrap();
    assert_eq!((report.adopted, report.missing.len(), report.images), (0, 0, 4));
    assert_eq!(records(&started).await, before);
    assert_eq!(seen(&started).await, seen(&keepsake).await);
    assert_eq!(before[&id("l")].extra["url"], "x");
}
