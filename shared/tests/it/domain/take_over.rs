//! A store of format 1, as versions before trees left it: one `image-metadata.json`, commits, and backups that list
//! chunks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::TryStreamExt;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{World, png, upload_all};
use shared::digest::Digest;
use shared::images::Fields;
use shared::layout::{self, BackupName};
use shared::restore::Mode;
use shared::store::testing::{Fault, FaultStore, Operation};
use shared::store::{Body, ErrorKind, Key};
use shared::testing::catalog::{Entries, entries_of};
use shared::testing::documents::sealed;
use shared::upload::NewImage;

/// Turns what a new version has written into a store of format 1. Returns its entries, and the name of its backup.
async fn store_of_format_1(world: &World) -> (Entries, BackupName) {
    let keepsake = world.open();
    keepsake.recovery.recover().await.unwrap();
    let ids = upload_all(&keepsake, 0..6).await;
    let group = Fields { group_id: Some("trip".into()), description: Some("of a group".into()), ..Fields::default() };
    for n in 10..13 {
        let image = NewImage { body: Body::from(png(n)), original_name: Some(format!("{n}.png")) };
        keepsake.uploads.upload(vec![image], group.clone(), None).await.unwrap();
    }
    keepsake.uploads.add_link("https://example.com/film", Fields::default()).await.unwrap();
    keepsake.images.delete(ids[2].as_str(), shared::Any).await.unwrap();
    keepsake.core.catalog.compact().await.unwrap();
    keepsake.core.catalog.refresh().await.unwrap();
    let name = format_1_backup(world, &entries_of(&keepsake.core.catalog.view()).await.unwrap()).await;
    // What is not compacted yet is in commits.
    upload_all(&keepsake, 20..22).await;
    keepsake.images.delete(ids[4].as_str(), shared::Any).await.unwrap();
    let entries = entries_of(&keepsake.core.catalog.view()).await.unwrap();

    for location in ["", "backups/"] {
        let key = Key::new(format!("{location}{}", layout::metadata_file())).unwrap();
        let (bytes, _) = world.raw().read(&key).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let without: String = text.split_inclusive('\n').filter(|line| !line.contains("\"tree\": \"")).collect();
        world.put(key.as_str(), &sealed(without.as_bytes())).await;
        world.remove(&format!("{location}catalog.json")).await;
        for page in world.pages(location).await {
            world.remove(&format!("{location}{}", layout::page(&page))).await;
        }
    }
    (entries, name)
}

/// A backup of these entries that lists chunks, and none that does not.
async fn format_1_backup(world: &World, entries: &Entries) -> BackupName {
    world.remove("backups/backup-").await;
    let live: serde_json::Map<String, Value> = entries
        .iter()
        .filter(|(_, entry)| entry.live().is_some())
        .map(|(id, entry)| (id.to_string(), serde_json::to_value(&**entry).unwrap()))
        .collect();
    let (images, chunk) = (live.len(), serde_json::to_vec(&live).unwrap());
    let digest = Digest::of(&chunk);
    world.put(&format!("backups/{}", layout::chunk(&digest)), &chunk).await;
    let name = BackupName::at(world.clock.now());
    let moment = world.clock.now().to_string();
    let manifest = json!({
        "format": 1, "name": name, "created": moment,
        "kind": "manual", "images": images, "bytes": 600, "verifiedAt": moment,
        "chunks": [{ "sha256": digest, "images": images }],
    });
    let text = serde_json::to_string_pretty(&manifest).unwrap();
    let text = text.replacen('{', &format!("{{\n  \"digest\": \"sha256:{}\",", "0".repeat(64)), 1);
    world.put(&format!("backups/{}", layout::manifest(name)), &sealed(text.as_bytes())).await;
    name
}

async fn entries_after_start(world: &World) -> Entries {
    let keepsake = world.open();
    keepsake.recovery.recover().await.unwrap();
    entries_of(&keepsake.core.catalog.view()).await.unwrap()
}

#[tokio::test]
async fn a_store_of_format_1_is_taken_over_with_its_backups() {
    let world = World::new();
    let (entries, name) = store_of_format_1(&world).await;
    assert_eq!(entries_after_start(&world).await, entries);
    assert_eq!(world.keys("catalog.json").await.len(), 1);
    assert_eq!(world.keys(layout::COMMITS).await.len(), 0, "they are compacted");

    let keepsake = world.open();
    let listed = keepsake.backups.list().await.unwrap();
    assert!(listed.iter().any(|backup| backup.name == name));
    let plan = keepsake.restores.plan(name, Mode::Exact).await.unwrap();
    assert_eq!((plan.restored.len(), plan.removed.len(), plan.missing.len()), (1, 2, 0));
    keepsake.restores.restore(name, Mode::Exact).await.unwrap();
    let live = keepsake.core.catalog.view().totals().live;
    assert_eq!(live, 9, "eight images and a link");
}

#[tokio::test]
async fn nothing_is_lost_wherever_the_first_start_is_cut_off() {
    let first = World::new();
    let (entries, _) = store_of_format_1(&first).await;
    for cut_off in 0_u64.. {
        let world = first.copy().await;
        let calls = Arc::new(AtomicU64::new(0));
        let plan = {
            let calls = Arc::clone(&calls);
            move |_: &Operation| {
                let is_dead = calls.fetch_add(1, Ordering::Relaxed) >= cut_off;
                is_dead.then_some(Fault::Before(ErrorKind::Unavailable))
            }
        };
        let dying = world.open_on(Arc::new(FaultStore::with_plan(Arc::clone(&world.memory) as _, plan)));
        let ended = dying.recovery.recover().await.is_ok();
        drop(dying);
        assert_eq!(entries_after_start(&world).await, entries, "cut off after {cut_off} operations");
        if ended {
            assert!(cut_off > 50, "{cut_off}");
            break;
        }
    }
}

#[tokio::test]
async fn a_version_before_trees_finds_everything_in_the_metadata_file_and_its_changes_are_joined() {
    let world = World::new();
    let (entries, _) = store_of_format_1(&world).await;
    assert_eq!(entries_after_start(&world).await, entries);
    let raw = world.raw();
    let (file, _) = raw.read(&layout::metadata_file()).await.unwrap();
    let shared::catalog::MetadataFile::Ours(ours) = shared::catalog::decode_metadata_file(&file).unwrap() else {
        panic!("it is ours");
    };
    assert_eq!(ours.entries.into_iter().collect::<Entries>(), entries, "all of it is in the file");

    // What an older version does: it knows neither the root nor `tree`, and writes the file anew.
    let mut text: Value = serde_json::from_slice(&file).unwrap();
    text["$keepsake"].as_object_mut().unwrap().remove("tree");
    let (edited, _) = entries.iter().find(|(_, entry)| entry.live().is_some()).unwrap();
    let record = text[edited.as_str()].as_object_mut().unwrap();
    let version = record["version"].as_u64().unwrap() + 1;
    record.insert("version".into(), version.into());
    record.insert("description".into(), "edited by an older version".into());
    let unsealed = serde_json::to_string_pretty(&text).unwrap();
    let at = unsealed.find("sha256:").unwrap() + 7;
    let unsealed = format!("{}{}{}", &unsealed[..at], "0".repeat(64), &unsealed[at + 64..]);
    world.put(layout::metadata_file().as_str(), &sealed(unsealed.as_bytes())).await;

    let again = entries_after_start(&world).await;
    let after = again[edited].live().unwrap();
    assert_eq!(after.description.as_deref(), Some("edited by an older version"));
    assert_eq!(again.len(), entries.len());
    world.pass(SignedDuration::from_mins(1));
    let pages: Vec<_> = raw.list(layout::CATALOG, None).try_collect().await.unwrap();
    assert!(!pages.is_empty());
}
