//! A whole library of the older format, as someone brings it along.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{id, records};
use crate::domain::png;
use crate::world::entries;
use shared::clock::Clock;
use shared::portable::Source;
use shared::store::{DiskStore, Store};
use shared::{Keepsake, Settings, layout};

/// A folder of the older format with `count` files, in groups, with fields that nobody knows, links to elsewhere, one
/// record without its file and one file without a record; returns its records.
fn older_library(folder: &std::path::Path, count: u32) -> Map<String, Value> {
    let uploads = folder.join("uploads");
    std::fs::create_dir_all(&uploads).unwrap();
    let mut metadata = Map::new();
    for n in 0..count {
        let name = format!("{n}.png");
        std::fs::write(uploads.join(&name), png(n)).unwrap();
        let record = json!({
            "category": if n % 3 == 0 { "fun" } else { "work" }, "description": format!("number {n}"),
            "uploadDate": "2021-05-04T03:02:01.000Z", "type": "image", "groupId": format!("group {}", n / 7), "order": n % 7,
            "camera": { "lens": n, "settings": [1.5, null, "f/2"] },
        });
        metadata.insert(name, record);
    }
    for n in 0..count / 100 {
        let url = format!("https://example.com/{n}");
        metadata.insert(format!("link-{n}"), json!({ "type": "link", "url": url, "groupId": "links", "order": n }));
    }
    metadata.insert("missing.png".to_owned(), json!({ "description": "its file is gone", "rating": 5 }));
    std::fs::write(folder.join("image-metadata.json"), serde_json::to_vec_pretty(&metadata).unwrap()).unwrap();
    std::fs::write(uploads.join("orphan.png"), png(0x00ff_ffff)).unwrap();
    metadata
}

fn keepsake_in(folder: &std::path::Path) -> Keepsake {
    let primary = Store::new(Arc::new(DiskStore::open(folder).unwrap()), folder);
    let archive = primary.below(&layout::default_archive());
    Keepsake::new(primary, archive, Vec::new(), Clock::system(), Settings::default())
}

/// Imports a library of so many files, compares everything, and does it again.
async fn import_library(count: u32) {
    let (library, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let metadata = older_library(library.path(), count);
    let keepsake = keepsake_in(data.path());
    keepsake.recovery.recover().await.unwrap();
    let source = Source::folder(library.path()).await.unwrap();
    let imported = keepsake.imports.import(&source).await.unwrap();
    assert_eq!(imported.plan.restored.len(), metadata.len());
    assert_eq!((imported.plan.adopted, imported.plan.missing), ([id("orphan.png")].into(), [id("missing.png")].into()));
    assert!(imported.plan.skipped.is_empty() && imported.plan.unusable.is_empty() && imported.plan.kept == 0);
    let (last, taken) = (keepsake.core.progress.seen(), metadata.len() as u64 + 1);
    assert_eq!((last.step, last.done, last.total), ("images", taken, taken));

    let found = records(&keepsake).await;
    assert_eq!(found.len(), metadata.len() + 1);
    for (name, fields) in &metadata {
        let record = serde_json::to_value(&found[&id(name)]).unwrap();
        for (field, value) in fields.as_object().unwrap() {
            assert_eq!(&record[field], value, "{field} of {name}");
        }
    }
    for n in 0..count {
        let (bytes, _) = keepsake.core.primary.read(&layout::image(&id(&format!("{n}.png")))).await.unwrap();
        assert!(bytes == png(n), "{n}.png");
    }
    assert!(keepsake.core.primary.read(&layout::image(&id("orphan.png"))).await.is_ok());

    let stamps_of = async |keepsake: &Keepsake| {
        entries(keepsake).await.into_iter().map(|(id, entry)| (id, entry.stamp)).collect::<Vec<_>>()
    };
    let (stamps, backups) = (stamps_of(&keepsake).await, keepsake.backups.list().await.unwrap().len());
    let again = keepsake.imports.import(&source).await.unwrap();
    assert_eq!((again.plan.kept, again.safety_backup), (metadata.len() as u64 + 1, None));
    assert!(again.plan.restored.is_empty() && again.plan.adopted.is_empty() && again.plan.missing.is_empty());
    keepsake.core.catalog.refresh().await.unwrap();
    assert_eq!(stamps_of(&keepsake).await, stamps);
    assert_eq!(keepsake.backups.list().await.unwrap().len(), backups);
    // A start finds all of it in order.
    let report = keepsake_in(data.path()).recovery.recover().await.unwrap();
    assert_eq!((report.missing, report.brought_back + report.adopted + report.archived), (vec![id("missing.png")], 0));
}

#[tokio::test]
async fn import_of_500_files_in_older_format_is_complete_and_idempotent() {
    import_library(500).await;
}

#[tokio::test]
#[ignore = "takes a minute on a slow disk; .ci/nightly runs it"]
async fn import_of_10_000_files_in_older_format_is_complete_and_idempotent() {
    import_library(10_000).await;
}
