//! What is taken in, from Keepsake's own archives and from anywhere.

use std::collections::BTreeMap;
use std::pin::pin;

use futures::future::poll_immediate;
use serde_json::json;

use super::{export, id, import, older, open, records, write_all, zip_of};
use crate::domain::{World, png, seen, upload, upload_all};
use crate::world::found_nothing;
use shared::Error;
use shared::backup::Kind;
use shared::catalog::Record;
use shared::digest::Digest;
use shared::images::Patch;
use shared::portable::{Source, What};
use shared::restore::Mode;
use shared::store::ErrorKind;
use shared::store::testing::{Fault, Operation};

#[tokio::test]
async fn a_backup_that_was_taken_out_comes_back_whole_after_everything_is_lost() {
    let world = World::new();
    let keepsake = world.open();
    let ids = upload_all(&keepsake, 0..4).await;
    let patch = Patch { group_id: Some(Some("holiday".to_owned())), ..Patch::default() };
    keepsake.images.edit(ids[1].as_str(), &patch, shared::Any).await.unwrap();
    let odd = json!({ "odd.png": { "order": "7", "camera": { "lens": [1, null] } }, "link": { "url": "https://example.com/a" } });
    import(&keepsake, &zip_of([("image-metadata.json", older(odd)), ("uploads/odd.png", png(7))])).await;
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    let zip = export(&keepsake, What::Backup(backup)).await.unwrap().1;
    let (then, images) = (records(&keepsake).await, seen(&keepsake).await);

    let other = World::new();
    let wiped = other.open();
    wiped.recovery.recover().await.unwrap();
    let imported = import(&wiped, &zip).await;
    assert_eq!((imported.plan.restored.len(), imported.plan.kept, imported.plan.missing.len()), (6, 0, 0));
    assert!(imported.plan.adopted.is_empty() && imported.plan.renamed.is_empty() && imported.plan.skipped.is_empty());
    assert_eq!(records(&wiped).await, then);
    assert_eq!(seen(&wiped).await, images);
    // Both copies of each stand, and a start finds nothing to do.
    assert_eq!(other.keys("backups/images/").await.len(), 5);
    let report = other.open().recovery.recover().await.unwrap();
    assert!(found_nothing(&report), "{report:?}");

    let again = import(&wiped, &zip).await;
    assert_eq!((again.plan.restored.len(), again.plan.kept, again.safety_backup), (0, 6, None));
}

#[tokio::test]
async fn only_one_import_or_plan_runs_at_a_time() {
    let world = World::new();
    let keepsake = world.open();
    let zip = zip_of((0..4).map(|n| (["a.png", "b.png", "c.png", "d.png"][n as usize], png(n))));
    let (first, second) = (open(&zip).await.unwrap(), open(&zip).await.unwrap());
    let mut running = pin!(keepsake.imports.plan(&first));
    assert!(poll_immediate(running.as_mut()).await.is_none());
    assert!(matches!(keepsake.imports.plan(&second).await, Err(Error::RestoreRunning)));
    assert!(matches!(keepsake.imports.import(&second).await, Err(Error::RestoreRunning)));
    assert_eq!(running.await.unwrap().adopted.len(), 4);
    // A plan that is given up leaves the way free.
    drop(keepsake.imports.plan(&first));
    assert_eq!(import(&keepsake, &zip).await.plan.adopted.len(), 4);
}

#[tokio::test]
async fn import_keeps_live_images_restores_deleted_ones_and_can_be_undone() {
    let world = World::new();
    let keepsake = world.open();
    let ids = upload_all(&keepsake, 0..3).await;
    let zip = export(&keepsake, What::Now).await.unwrap().1;
    let patch = Patch { description: Some(Some("edited since".to_owned())), ..Patch::default() };
    keepsake.images.edit(ids[0].as_str(), &patch, shared::Any).await.unwrap();
    keepsake.images.delete(ids[1].as_str(), shared::Any).await.unwrap();
    let newer = upload(&keepsake, 8).await.unwrap().images[0].0.clone();
    let before = seen(&keepsake).await;

    let planned = keepsake.imports.plan(&open(&zip).await.unwrap()).await.unwrap();
    assert_eq!((planned.restored.iter().collect::<Vec<_>>(), planned.kept), (vec![&ids[1]], 2));
    assert_eq!(seen(&keepsake).await, before, "a plan changes nothing");

    let imported = import(&keepsake, &zip).await;
    assert_eq!((imported.plan.restored, imported.plan.kept), (planned.restored, planned.kept));
    let after = seen(&keepsake).await;
    assert_eq!(after[&ids[0]].0.as_deref(), Some("edited since"));
    assert_eq!(after[&ids[1]], (Some("number 1".to_owned()), Some(png(1))));
    assert!(after.contains_key(&newer) && after.len() == 4);
    // The tombstone has lost for good, in every place.
    keepsake.core.catalog.compact().await.unwrap();
    assert_eq!(seen(&world.open()).await, after);

    keepsake.restores.restore(imported.safety_backup.unwrap(), Mode::Exact).await.unwrap();
    assert_eq!(seen(&keepsake).await, before);
}

#[tokio::test]
async fn bytes_that_are_lost_here_come_back_from_an_archive_that_has_them() {
    let world = World::new();
    let keepsake = world.open();
    let ids = upload_all(&keepsake, 0..3).await;
    let zip = export(&keepsake, What::Now).await.unwrap().1;
    world.remove("uploads/").await;
    world.remove("backups/images/").await;
    world.put(&format!("uploads/{}", ids[0]), b"torn").await;
    let imported = import(&keepsake, &zip).await;
    assert_eq!((imported.plan.restored.len(), imported.plan.kept), (3, 0));
    assert!(seen(&keepsake).await.values().all(|(_, bytes)| bytes.is_some()));
    assert_eq!(seen(&keepsake).await[&ids[0]].1, Some(png(0)));
    assert_eq!(world.keys("backups/images/").await.len(), 3);
}

#[tokio::test]
async fn record_without_file_is_kept_and_bytes_come_from_archive() {
    let world = World::new();
    let keepsake = world.open();
    upload(&keepsake, 1).await.unwrap();
    let (known, unknown) = (Digest::of(&png(1)), Digest::of(b"?"));
    let metadata = json!({
        "known.png": { "sha256": known }, "unknown.png": { "sha256": unknown, "description": "gone" },
        "undigested.png": { "description": "gone too" }, "l": { "type": "link", "href": "https://example.com" },
    });
    let zip = zip_of([("image-metadata.json", older(metadata))]);
    let imported = import(&keepsake, &zip).await;
    assert_eq!(imported.plan.restored.len(), 4);
    assert_eq!(imported.plan.missing, [id("undigested.png"), id("unknown.png")].into());
    let seen = seen(&keepsake).await;
    assert_eq!(seen[&id("known.png")].1, Some(png(1)));
    assert_eq!(seen[&id("unknown.png")], (Some("gone".to_owned()), None));
    assert_eq!(records(&keepsake).await[&id("l")].extra["href"], "https://example.com");

    let again = import(&keepsake, &zip).await;
    assert_eq!((again.plan.kept, again.plan.restored.len()), (4, 0));
    // The bytes that were missing may come later.
    let later = zip_of([("uploads/undigested.png", png(6))]);
    assert_eq!(import(&keepsake, &later).await.plan.restored, [id("undigested.png")].into());
    let record = records(&keepsake).await[&id("undigested.png")].clone();
    assert_eq!((record.description.as_deref(), record.sha256), (Some("gone too"), Some(Digest::of(&png(6)))));
}

#[tokio::test]
async fn file_that_contradicts_its_record_is_quarantined() {
    let world = World::new();
    let keepsake = world.open();
    let metadata = json!({ "a.png": { "sha256": Digest::of(&png(1)), "description": "a" } });
    let zip = zip_of([("image-metadata.json", older(metadata)), ("uploads/a.png", png(2))]);
    let imported = import(&keepsake, &zip).await;
    assert_eq!(
        (imported.plan.damaged, imported.plan.missing),
        (vec!["uploads/a.png".to_owned()], [id("a.png")].into())
    );
    assert_eq!(seen(&keepsake).await[&id("a.png")], (Some("a".to_owned()), None));
    let aside = format!("backups/quarantine/{}/a.png", Digest::of(&png(2)));
    assert_eq!(world.keys("backups/quarantine/").await, [aside]);
}

#[tokio::test]
async fn names_that_cannot_be_ids_get_new_ones_and_no_record_is_dropped() {
    let world = World::new();
    let keepsake = world.open();
    let metadata = json!({
        "2019/a.png": { "description": "in a folder" }, "https://example.com/x": { "type": "link", "url": "https://example.com/x" },
        ".hidden.png": { "description": "hidden" }, "broken": "no record", "plain.png": {},
    });
    let metadata = older(metadata);
    let zip = zip_of([
        ("image-metadata.json", metadata.clone()),
        ("uploads/2019/a.png", png(1)),
        ("uploads/.hidden.png", png(2)),
        ("uploads/plain.png", png(3)),
        ("uploads/2019/no record.png", png(4)),
        ("uploads/.other.png", png(5)),
    ]);
    let imported = import(&keepsake, &zip).await;
    assert_eq!((imported.plan.restored.len(), imported.plan.adopted.len()), (4, 1));
    assert_eq!(
        (imported.plan.unusable, imported.plan.skipped),
        (vec!["broken".to_owned()], vec!["uploads/.other.png".to_owned()])
    );
    let renamed = imported.plan.renamed;
    assert_eq!(renamed.len(), 4);
    let seen = seen(&keepsake).await;
    assert_eq!(seen[&renamed["2019/a.png"]], (Some("in a folder".to_owned()), Some(png(1))));
    assert_eq!(seen[&renamed[".hidden.png"]], (Some("hidden".to_owned()), Some(png(2))));
    assert_eq!(seen[&renamed["2019/no record.png"]].1, Some(png(4)));
    let records = records(&keepsake).await;
    assert_eq!(records[&renamed["2019/a.png"]].original_name.as_deref(), Some("2019/a.png"));
    assert_eq!(records[&renamed["https://example.com/x"]].extra["url"], "https://example.com/x");
    let aside = format!("backups/quarantine/{}/image-metadata.json", Digest::of(&metadata));
    assert_eq!(world.keys("backups/quarantine/").await, [aside]);

    let again = import(&keepsake, &zip).await;
    assert_eq!((again.plan.kept, again.plan.restored.len(), again.plan.adopted.len()), (5, 0, 0));
}

#[tokio::test]
async fn import_renames_image_with_taken_name_and_overwrites_nothing() {
    let world = World::new();
    let keepsake = world.open();
    let first = zip_of([
        ("image-metadata.json", older(json!({ "1.png": { "description": "first" } }))),
        ("uploads/1.png", png(1)),
    ]);
    let second = zip_of([
        ("image-metadata.json", older(json!({ "1.png": { "description": "second" } }))),
        ("uploads/1.png", png(2)),
    ]);
    import(&keepsake, &first).await;
    // A file whose record is not known lies under a name as well.
    world.put("uploads/2.png", &png(3)).await;
    for run in 0..2 {
        let imported = import(&keepsake, &second).await;
        let renamed = imported.plan.renamed["1.png"].clone();
        let seen = seen(&keepsake).await;
        assert_eq!(seen[&id("1.png")], (Some("first".to_owned()), Some(png(1))));
        assert_eq!(seen[&renamed], (Some("second".to_owned()), Some(png(2))));
        assert_eq!((seen.len(), imported.plan.kept), (2, run));
    }
    let third = zip_of([("uploads/2.png", png(4))]);
    let renamed = import(&keepsake, &third).await.plan.renamed["2.png"].clone();
    assert_eq!(seen(&keepsake).await[&renamed].1, Some(png(4)));
    assert_eq!(world.raw().read(&store::Key::new("uploads/2.png").unwrap()).await.unwrap().0, png(3));
}

#[tokio::test]
async fn plain_images_in_any_folders_come_in_once_and_what_is_no_image_is_named() {
    let world = World::new();
    let keepsake = world.open();
    let folder = tempfile::tempdir().unwrap();
    let nested = zip_of([("inner.png", png(9))]);
    write_all(
        folder.path(),
        [("a.png", png(1)), ("2019/a.png", png(2)), ("2020/a.png", png(2)), ("notes.txt", b"hello".to_vec())],
    );
    write_all(folder.path(), [("old.zip", nested), (".DS_Store", b"x".to_vec())]);
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link.png")).unwrap();
    let source = Source::folder(folder.path()).await.unwrap();
    let imported = keepsake.imports.import(&source).await.unwrap();
    assert_eq!((imported.plan.adopted.len(), imported.plan.restored.len()), (3, 0));
    assert_eq!(imported.plan.skipped, ["link.png", "notes.txt", "old.zip"]);
    let names: BTreeMap<_, _> =
        records(&keepsake).await.into_values().map(|r| (r.original_name.unwrap(), r.sha256)).collect();
    assert_eq!(names["2019/a.png"], Some(Digest::of(&png(2))));
    assert_eq!(names.len(), 3);
    let again = keepsake.imports.import(&source).await.unwrap();
    assert_eq!((again.plan.adopted.len(), again.plan.kept, again.safety_backup), (0, 3, None));
}

#[tokio::test]
async fn a_zip_of_the_folder_itself_and_one_of_its_content_are_the_same() {
    let metadata = || older(json!({ "a.png": { "description": "a" } }));
    let flat = zip_of([("image-metadata.json", metadata()), ("uploads/a.png", png(1))]);
    let wrapped = zip_of([
        ("my images/image-metadata.json", metadata()),
        ("my images/uploads/a.png", png(1)),
        ("__MACOSX/my images/._a.png", vec![0]),
    ]);
    for zip in [flat, wrapped] {
        let keepsake = World::new().open();
        import(&keepsake, &zip).await;
        assert_eq!(seen(&keepsake).await, [(id("a.png"), (Some("a".to_owned()), Some(png(1))))].into());
    }
}

#[tokio::test]
async fn import_of_store_folder_includes_pending_commits_and_deletes() {
    let world = World::new();
    let served = world.open();
    let ids = upload_all(&served, 0..3).await;
    served.core.catalog.compact().await.unwrap();
    served.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    let late = upload(&served, 4).await.unwrap().images[0].0.clone();
    let mut files = Vec::new();
    for key in world.keys("").await {
        files.push((key.clone(), world.raw().read(&store::Key::new(key).unwrap()).await.unwrap().0.to_vec()));
    }
    files.push((format!("uploads/{}", ids[0]), png(0)));
    let zip = zip_of(files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())));
    let other = World::new().open();
    let imported = import(&other, &zip).await;
    assert_eq!(imported.plan.restored, [ids[1].clone(), ids[2].clone(), late].into());
    assert_eq!(imported.plan.skipped, [format!("uploads/{}", ids[0])], "what was deleted there stays away");
    assert_eq!(records(&other).await, records(&served).await);
}

#[tokio::test]
async fn interrupted_import_is_atomic_and_finished_by_next() {
    let metadata = json!({ "a.png": { "description": "a" }, "b.png": { "description": "b" }, "l": { "url": "x" } });
    let zip = zip_of([
        ("image-metadata.json", older(metadata)),
        ("uploads/a.png", png(1)),
        ("uploads/b.png", png(2)),
        ("uploads/c.png", png(3)),
    ]);
    let (mut died, mut steps) = (true, 0);
    while died {
        let world = World::new();
        world.open().recovery.recover().await.unwrap();
        let count = std::sync::atomic::AtomicU64::new(0);
        let dies = move |_: &Operation| {
            let nth = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            (nth >= steps).then_some(Fault::Before(ErrorKind::Unavailable))
        };
        let first = world.open_failing(dies).imports.import(&open(&zip).await.unwrap()).await;
        died = first.is_err();
        let between = world.open();
        between.core.catalog.refresh().await.unwrap();
        let found = records(&between).await.len();
        assert!(found == 0 || found == 4, "{found} images after {steps} steps");
        // A start before the second try must not take what the first one left for images of its own.
        world.pass(jiff::SignedDuration::from_secs(90));
        between.recovery.recover().await.unwrap();
        let keepsake = world.open();
        import(&keepsake, &zip).await;
        let seen = seen(&keepsake).await;
        assert_eq!(seen[&id("a.png")], (Some("a".to_owned()), Some(png(1))), "after {steps} steps");
        assert_eq!(seen[&id("b.png")], (Some("b".to_owned()), Some(png(2))));
        assert_eq!((seen[&id("c.png")].1.clone(), seen.len()), (Some(png(3)), 4));
        assert!(import(&keepsake, &zip).await.safety_backup.is_none(), "the next changes nothing");
        steps += 1;
    }
    assert!(steps > 25, "only {steps} steps");
}

#[tokio::test]
async fn what_someone_changes_while_an_import_runs_wins() {
    let world = World::new();
    let keepsake = world.open();
    let ids = upload_all(&keepsake, 0..2).await;
    let zip = export(&keepsake, What::Now).await.unwrap().1;
    keepsake.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    keepsake.images.delete(ids[1].as_str(), shared::Any).await.unwrap();
    let backup = keepsake.backups.list().await.unwrap();
    assert!(backup.is_empty());
    // Another process brings one of them back and edits it, right when the import makes its safety backup.
    let other = std::sync::Arc::new(world.open());
    let memory = world.memory.clone();
    let first = ids[0].clone();
    let done = std::sync::atomic::AtomicBool::new(false);
    let meddles = move |operation: &Operation| {
        let manifest = operation.name == "put" && operation.key.as_str().ends_with("manifest.json");
        if manifest && !done.swap(true, std::sync::atomic::Ordering::Relaxed) {
            let content =
                shared::catalog::Content::Live(Record { description: Some("theirs".to_owned()), ..Record::default() });
            let change = shared::catalog::Change { version: 9, content };
            futures::executor::block_on(other.core.catalog.commit(vec![(first.clone(), change)])).unwrap();
        }
        None
    };
    let faulty = std::sync::Arc::new(store::testing::FaultStore::with_plan(memory, meddles));
    let imported = world.open_on(faulty).imports.import(&open(&zip).await.unwrap()).await.unwrap();
    assert_eq!((imported.plan.restored, imported.plan.kept), ([ids[1].clone()].into(), 1));
    assert_eq!(records(&keepsake).await[&ids[0]].description.as_deref(), Some("theirs"));
}

#[tokio::test]
async fn an_import_and_a_restore_do_not_run_beside_each_other() {
    let world = World::new();
    let keepsake = world.open();
    let key = store::Key::new("backups/restore.json").unwrap();
    let lease =
        json!({ "holder": uuid::Uuid::from_u128(1), "renewed": shared::clock::format_millis(world.clock.now()) });
    world.put(key.as_str(), lease.to_string().as_bytes()).await;
    let refused = keepsake.imports.import(&open(&zip_of([("a.png", png(1))])).await.unwrap()).await;
    assert!(matches!(refused, Err(Error::RestoreRunning)), "{refused:?}");
    world.pass(jiff::SignedDuration::from_secs(61));
    import(&keepsake, &zip_of([("a.png", png(1))])).await;
    assert_eq!(world.keys("backups/restore.json").await, [] as [String; 0], "the lease is given up");
}

#[tokio::test]
async fn import_of_many_images_makes_one_automatic_backup() {
    let world = World::new();
    let keepsake = world.open();
    upload_all(&keepsake, 0..10).await;
    assert_eq!(keepsake.backups.list().await.unwrap().len(), 1);
    let images: Vec<(String, Vec<u8>)> = (100..225).map(|n| (format!("uploads/{n}.png"), png(n))).collect();
    import(&keepsake, &zip_of(images.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())))).await;
    let kinds = |backups: Vec<shared::backup::Listed>| backups.iter().map(|b| (b.kind, b.images)).collect::<Vec<_>>();
    let backups = kinds(keepsake.backups.list().await.unwrap());
    assert_eq!(backups, [(Kind::Auto, 135), (Kind::Safety, 10), (Kind::Auto, 10)]);
    // 135 images are there: the next tenth upload is the fifth from now.
    upload_all(&keepsake, 300..304).await;
    assert_eq!(keepsake.backups.list().await.unwrap().len(), 3);
    upload(&keepsake, 305).await.unwrap();
    assert_eq!(keepsake.backups.list().await.unwrap().len(), 4);
}

#[tokio::test]
async fn interrupted_import_makes_no_backup_for_each_ten_images() {
    let images: Vec<(String, Vec<u8>)> = (100..109).map(|n| (format!("uploads/{n}.png"), png(n))).collect();
    let zip = zip_of(images.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())));
    // Each second upload makes a backup, so that few images are many backups.
    let settings = shared::Settings { backup_every: 2, ..shared::Settings::default() };
    let (mut died, mut steps, mut committed) = (true, 0, 0);
    while died {
        let world = World::new();
        let other = world.open_with(world.memory.clone(), settings.clone());
        upload_all(&other, 0..3).await;
        let count = std::sync::atomic::AtomicU64::new(0);
        let dies = move |_: &Operation| {
            let nth = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            (nth >= steps).then_some(Fault::Before(ErrorKind::Unavailable))
        };
        let faulty = std::sync::Arc::new(store::testing::FaultStore::with_plan(world.memory.clone(), dies));
        let importer = world.open_with(faulty, settings.clone());
        died = importer.imports.import(&open(&zip).await.unwrap()).await.is_err();
        upload(&other, 3).await.unwrap();
        let automatic = async || {
            let backups = world.open().backups.list().await.unwrap();
            backups.iter().filter(|backup| backup.kind == Kind::Auto).count()
        };
        let (images, backups) = (records(&other).await.len(), automatic().await);
        if images == 4 {
            assert_eq!(backups, 2, "died at {steps}, before the commit");
            upload_all(&other, 4..14).await;
            assert_eq!(automatic().await, 7, "died at {steps}: each second upload makes one, as ever");
        } else {
            committed += 1;
            assert_eq!(images, 13);
            assert_eq!(backups, 2, "died at {steps}, after the commit");
            upload(&other, 4).await.unwrap();
            assert_eq!(automatic().await, 3, "died at {steps}");
        }
        steps += 1;
    }
    assert!(committed > 5, "{committed}");
}
