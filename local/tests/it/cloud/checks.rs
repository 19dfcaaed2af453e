//! What must hold when a crowd has gone, looked at in S3 itself and through functions that saw nothing of it.

use std::collections::{HashMap, HashSet};

use axum::http::StatusCode;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use shared::catalog::{MetadataFile, decode_metadata_file};
use shared::layout;
use shared::store::{Key, Store};
use shared::testing::catalog::{Entries, stored_entries};
use shared::testing::lambda::EventBody;

use super::bucket::Access;
use super::crowd::{BACKUP_EVERY, list_all};
use super::lambda::{Function, Lambda};

/// Requests at a time.
const AT_A_TIME: usize = 8;
/// Every so manyth backup is restored, as a dry run.
const SAMPLE: usize = 16;

/// Checks a bucket that holds these images and no others, and these backups made by hand besides the automatic ones. At
/// most so many bytes without a record may lie beside them, of puts of which nobody knew whether they had taken place.
pub async fn everything(
    access: &Access,
    lambda: &Lambda,
    acknowledged: &HashSet<String>,
    by_hand: &[String],
    strays: usize,
) {
    let listed = list_all(&lambda.function("images", access)).await.unwrap();
    assert_eq!(&listed, acknowledged, "a list holds what was acknowledged and nothing else");
    let images = names_below(&access.store(), layout::UPLOADS).await;
    assert!(images.is_superset(acknowledged) && images.len() <= acknowledged.len() + strays, "so does the folder");
    records(access, acknowledged).await;
    backups(access, lambda, acknowledged.len(), by_hand).await;
}

/// The entries of the root of a location, from its own pages alone.
async fn stored_in(place: &Store) -> Entries {
    let mut objects = HashMap::from([(layout::root(), place.read(&layout::root()).await.unwrap().0)]);
    let pages: Vec<_> = place.list(layout::CATALOG, None).map_ok(|meta| meta.key).try_collect().await.unwrap();
    let read = async |key: Key| (key.clone(), place.read(&key).await.unwrap().0);
    objects.extend(stream::iter(pages).map(read).buffer_unordered(AT_A_TIME).collect::<Vec<_>>().await);
    stored_entries(move |key| objects.get(key).cloned()).expect("a root is whole")
}

/// The names below a folder.
async fn names_below(store: &Store, folder: &str) -> HashSet<String> {
    let names = store.list(folder, None).map_ok(|meta| meta.key.as_str()[folder.len()..].to_owned());
    names.try_collect().await.unwrap()
}

/// Every record is in both roots and both metadata files, no commit is left, and every image has its bytes and their replica.
async fn records(access: &Access, acknowledged: &HashSet<String>) {
    let keepsake = &access.keepsake();
    for place in [&keepsake.core.primary, keepsake.core.archive.store()] {
        let entries = stored_in(place).await;
        let live = entries.iter().filter(|(_, entry)| entry.live().is_some());
        assert_eq!(&live.map(|(id, _)| id.to_string()).collect::<HashSet<_>>(), acknowledged, "a root has each record");
        let bytes = place.read(&layout::metadata_file()).await.unwrap().0;
        assert!(matches!(decode_metadata_file(&bytes).unwrap(), MetadataFile::Ours(_)), "a metadata file is whole");
        let json: Value = serde_json::from_slice(&bytes).unwrap();
        let names = json.as_object().unwrap().keys().filter(|name| *name != "$keepsake");
        let ids: HashSet<String> = names.cloned().collect();
        assert_eq!(&ids, acknowledged, "a metadata file holds each record");
        assert_eq!(names_below(place, layout::COMMITS).await, HashSet::new(), "all commits were folded");
    }
    keepsake.core.catalog.refresh().await.unwrap();
    let live = keepsake.core.catalog.view().live();
    let digests = live.map_ok(|(id, entry)| {
        let record = entry.live().unwrap();
        (id, record.sha256.unwrap(), record.size.unwrap())
    });
    let digests: Vec<_> = digests.try_collect().await.unwrap();
    let check = async |(id, digest, size)| {
        let image = keepsake.core.primary.hash(&layout::image(&id)).await.unwrap();
        let copy = keepsake.core.archive.store().hash(&layout::archived_image(&digest)).await.unwrap();
        assert!(image == (size, digest) && copy == (size, digest), "{id}");
    };
    stream::iter(digests).map(check).buffer_unordered(AT_A_TIME).collect::<()>().await;
}

/// There is one automatic backup for each ten uploads, and those made by hand; all are whole.
async fn backups(access: &Access, lambda: &Lambda, uploads: usize, by_hand: &[String]) {
    let function = lambda.function("backup", access);
    let listed = get(&function, "/api/backups").await;
    let listed = listed["backups"].as_array().unwrap();
    let of_kind = |kind: &str| -> HashSet<&str> {
        let of_kind = listed.iter().filter(|backup| backup["kind"] == kind);
        of_kind.map(|backup| backup["name"].as_str().unwrap()).collect()
    };
    let (automatic, manual) = (of_kind("auto"), of_kind("manual"));
    assert_eq!(automatic.len(), uploads / BACKUP_EVERY, "one automatic backup for each ten uploads");
    assert!(by_hand.iter().all(|name| manual.contains(name.as_str())), "each backup that was acknowledged is listed");

    let mut sequences = HashSet::new();
    for name in automatic.iter().chain(&manual) {
        let shown = get(&function, &format!("/api/backups/{name}")).await;
        assert_eq!(shown["missing"], Value::Array(Vec::new()), "{name}");
        if let Some(sequence) = shown["sequence"].as_u64() {
            assert!(shown["fileCount"].as_u64().unwrap() >= sequence * BACKUP_EVERY as u64, "{shown}");
            sequences.insert(sequence);
        }
    }
    assert_eq!(sequences, (1..=(uploads / BACKUP_EVERY) as u64).collect(), "each ten has a backup of its own");

    let restore = lambda.function("restore", access);
    for backup in listed.iter().step_by(SAMPLE) {
        let target = format!("/api/restore/{}?dryRun=true", backup["name"].as_str().unwrap());
        let plan = restore.ask("POST", &target, &[], EventBody::None).await;
        assert_eq!(plan.status, StatusCode::OK, "{plan:?}");
        let plan = plan.json();
        assert_eq!((&plan["missingImages"], &plan["restored"]), (&Value::Array(Vec::new()), &Value::from(0)), "{plan}");
    }
    println!("{} automatic backups, {} by hand, all read", automatic.len(), manual.len());
}

async fn get(function: &Function, target: &str) -> Value {
    let answer = function.get(target).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()
}
