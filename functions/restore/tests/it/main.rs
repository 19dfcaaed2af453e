//! What `POST /api/restore/{backupName}` does, row by row of the contract.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::sync::Arc;

use axum::body::Body;
use futures::TryStreamExt;
use serde_json::{Value, json};
use shared::backup::Kind;
use shared::http::App;
use shared::layout;
use shared::store::testing::{FaultStore, MemoryStore};
use shared::store::{DiskStore, Key, PutMode};
use shared::testing::lambda::{EventBody, event, invoke};
use shared::testing::{Answer, StubStore, app, app_on, png, request, send, store_image};
use shared::{Keepsake, Settings};

async fn restore(app: &App, target: &str) -> Answer {
    let path = format!("/api/restore/{target}");
    send(&restore::router(app.clone()), request("POST", &path, &[], Body::empty())).await
}

/// What changed since a backup.
struct Scene {
    backup: String,
    deleted: String,
    edited: String,
    same: String,
    new: String,
}

async fn scene(keepsake: &Keepsake) -> Scene {
    let deleted = store_image(keepsake, png(1)).await;
    let edited = store_image(keepsake, png(2)).await;
    let same = store_image(keepsake, png(3)).await;
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name.to_string();
    keepsake.images.delete(&deleted, shared::Any).await.unwrap();
    let patch = shared::images::Patch { description: Some(Some("new".to_owned())), ..Default::default() };
    keepsake.images.edit(&edited, &patch, shared::Any).await.unwrap();
    let new = store_image(keepsake, png(4)).await;
    Scene { backup, deleted, edited, same, new }
}

async fn ids(app: &App) -> Vec<String> {
    let page = app.keepsake.images.list(&Default::default(), None, 100).await.unwrap();
    let mut ids: Vec<String> = page.images.iter().map(|(id, _)| id.to_string()).collect();
    ids.sort();
    ids
}

fn sorted<const N: usize>(ids: [&String; N]) -> Vec<String> {
    let mut ids: Vec<String> = ids.into_iter().cloned().collect();
    ids.sort();
    ids
}

fn counts(answer: &Value) -> [i64; 4] {
    ["restored", "changed", "kept", "removed"].map(|name| answer[name].as_i64().unwrap())
}

#[tokio::test]
async fn a_merge_brings_back_what_was_and_keeps_what_came_after() {
    let app = app();
    let scene = scene(&app.keepsake).await;
    let answer = restore(&app, &scene.backup).await;
    assert_eq!(answer.status, 200);
    let done = answer.json();
    assert_eq!((counts(&done), &done["success"]), ([1, 1, 2, 0], &json!(true)));
    assert!(done["message"].as_str().unwrap().contains(&scene.backup));
    assert!(done.get("missing").is_none() && done.get("dryRun").is_none());
    assert_eq!(ids(&app).await, sorted([&scene.deleted, &scene.edited, &scene.same, &scene.new]));
    let safety = done["safetyBackup"].as_str().unwrap();
    let undone = restore(&app, &format!("{safety}?mode=exact")).await.json();
    assert_eq!(counts(&undone), [0, 1, 2, 1]);
    assert_eq!(ids(&app).await, sorted([&scene.edited, &scene.same, &scene.new]));
}

#[tokio::test]
async fn an_exact_restore_rewinds() {
    let app = app();
    let scene = scene(&app.keepsake).await;
    let done = restore(&app, &format!("{}?mode=exact&dryRun=false", scene.backup)).await.json();
    assert_eq!(counts(&done), [1, 1, 1, 1]);
    assert_eq!(ids(&app).await, sorted([&scene.deleted, &scene.edited, &scene.same]));
    let again = restore(&app, &format!("{}?mode=exact", scene.backup)).await.json();
    assert_eq!((counts(&again), &again["safetyBackup"]), ([0, 0, 3, 0], &Value::Null));
}

#[tokio::test]
async fn a_dry_run_tells_the_plan_and_changes_nothing() {
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let app = app_on(store.clone());
    let scene = scene(&app.keepsake).await;
    let (before, puts) = (ids(&app).await, store.counts()["put"]);
    let plan = restore(&app, &format!("{}?mode=exact&dryRun=true", scene.backup)).await.json();
    assert_eq!(counts(&plan), [1, 1, 1, 1]);
    assert_eq!((&plan["dryRun"], &plan["success"], &plan["safetyBackup"]), (&json!(true), &json!(true), &Value::Null));
    assert_eq!(plan["restoredImages"], json!([scene.deleted]));
    assert_eq!(plan["changedImages"], json!([scene.edited]));
    assert_eq!(plan["removedImages"], json!([scene.new]));
    assert_eq!(plan["missingImages"], json!([]));
    let name = json!("photo.png");
    let named = [&scene.deleted, &scene.edited, &scene.new].map(|id| (id.clone(), name.clone()));
    assert_eq!(plan["originalNames"], Value::Object(named.into_iter().collect()), "and none for what stays");
    assert_eq!((ids(&app).await, store.counts()["put"]), (before, puts));
    let done = restore(&app, &format!("{}?mode=exact", scene.backup)).await.json();
    assert_eq!(counts(&done), counts(&plan));
}

#[tokio::test]
async fn images_that_only_lost_their_bytes_count_as_restored() {
    let app = app();
    let scene = scene(&app.keepsake).await;
    let key = Key::new(format!("uploads/{}", scene.same)).unwrap();
    app.keepsake.core.primary.delete(&key).await.unwrap();
    let plan = restore(&app, &format!("{}?dryRun=true", scene.backup)).await.json();
    assert_eq!(counts(&plan), [2, 1, 1, 0]);
    assert_eq!(counts(&restore(&app, &scene.backup).await.json()), [2, 1, 1, 0]);
    assert!(app.keepsake.core.primary.head(&key).await.is_ok());
}

#[tokio::test]
async fn images_whose_bytes_are_nowhere_are_reported() {
    let app = app();
    let scene = scene(&app.keepsake).await;
    let digest = shared::digest::Digest::of(&png(1));
    app.keepsake.core.primary.delete(&Key::new(format!("backups/images/{digest}")).unwrap()).await.unwrap();
    let plan = restore(&app, &format!("{}?dryRun=true", scene.backup)).await.json();
    assert_eq!((&plan["missing"], &plan["missingImages"]), (&json!(1), &json!([scene.deleted])));
    let done = restore(&app, &scene.backup).await.json();
    assert_eq!((counts(&done)[0], &done["missing"]), (0, &json!(1)));
}

#[tokio::test]
async fn what_makes_no_sense_restores_nothing() {
    let app = app();
    let scene = scene(&app.keepsake).await;
    let before = keys(&app).await;
    for query in [
        "mode=all",
        "mode=",
        "mode=MERGE",
        "dryRun=yes",
        "dryRun=1",
        "dryRun",
        "dryrun=true",
        "mode=merge&mode=exact",
        "x=1",
    ] {
        let answer = restore(&app, &format!("{}?{query}", scene.backup)).await;
        assert_eq!(
            (answer.problem(), &answer.json()["success"]),
            ((400, "invalid-request".to_owned()), &json!(false)),
            "{query}"
        );
    }
    for name in ["x", "backup-2020-01-01T00-00-00-000Z", "..%2F..%2Fetc", "%FF%00"] {
        let answer = restore(&app, name).await;
        assert_eq!((answer.problem().0, &answer.json()["success"]), (404, &json!(false)), "{name}");
    }
    assert_eq!(keys(&app).await, before);
}

/// Every key in the store.
async fn keys(app: &App) -> Vec<String> {
    let listing = app.keepsake.core.primary.list("", None);
    listing.map_ok(|meta| meta.key.to_string()).try_collect().await.unwrap()
}

#[tokio::test]
async fn a_damaged_backup_changes_nothing() {
    let memory = Arc::new(MemoryStore::new());
    let app = app_on(memory.clone());
    let scene = scene(&app.keepsake).await;
    let page = app.keepsake.backups.manifest(scene.backup.parse().unwrap()).await.unwrap().page().unwrap();
    // In every location, or it would be read from a replica.
    for location in [&app.keepsake.core.primary, app.keepsake.core.archive.store()] {
        location.put(&layout::page(&page), &b"{}".to_vec().into(), &PutMode::Overwrite).await.unwrap();
    }
    let before = ids(&app).await;
    // A process that has not read it before.
    let app = app_on(memory);
    let answer = restore(&app, &scene.backup).await;
    assert_eq!((answer.problem(), &answer.json()["success"]), ((500, "damaged-backup".to_owned()), &json!(false)));
    assert_eq!(ids(&app).await, before);
}

#[tokio::test]
async fn a_restore_without_room_is_refused_and_its_plan_says_so() {
    let store = Arc::new(StubStore::default());
    let app = app_on(Arc::clone(&store) as _);
    let scene = scene(&app.keepsake).await;
    let free = |bytes| store.status.lock().unwrap().free_bytes = Some(bytes);
    free(Settings::default().reserve_bytes);
    let plan = restore(&app, &format!("{}?dryRun=true", scene.backup)).await.json();
    let lacking = plan["lackingBytes"].as_u64().unwrap();
    assert!(lacking > 0 && plan["message"].as_str().unwrap().contains(&lacking.to_string()), "{plan}");
    let before = keys(&app).await;
    let refused = restore(&app, &scene.backup).await;
    assert_eq!(refused.problem(), (507, "insufficient-storage".to_owned()));
    assert!(refused.json()["detail"].as_str().unwrap().contains(&lacking.to_string()), "{refused:?}");
    assert_eq!(keys(&app).await, before);
    free(Settings::default().reserve_bytes + lacking);
    let plan = restore(&app, &format!("{}?dryRun=true", scene.backup)).await.json();
    assert!(plan.get("lackingBytes").is_none(), "{plan}");
    assert_eq!(restore(&app, &scene.backup).await.status, 200);
}

#[tokio::test]
async fn a_second_restore_waits_its_turn() {
    let app = app_on(Arc::new(FaultStore::new(Arc::new(MemoryStore::new()))));
    let scene = scene(&app.keepsake).await;
    let (first, second) = tokio::join!(restore(&app, &scene.backup), restore(&app, &scene.backup));
    let (done, refused) = if first.status == 200 { (first, second) } else { (second, first) };
    assert_eq!(done.status, 200);
    assert_eq!((refused.problem(), &refused.json()["success"]), ((409, "restore-running".to_owned()), &json!(false)));
}

#[tokio::test]
async fn the_function_serves_its_route_on_lambda() {
    let folder = tempfile::tempdir().unwrap();
    let app = app_on(Arc::new(DiskStore::open(folder.path()).unwrap()));
    let scene = scene(&app.keepsake).await;
    let target = format!("/api/restore/{}", scene.backup);
    let events = vec![
        event("POST", &format!("{target}?dryRun=true"), &[], EventBody::None),
        event("POST", &target, &[("content-type", "application/json")], EventBody::Text("{}")),
        event("POST", &format!("{target}?mode=x"), &[], EventBody::None),
    ];
    let answers = invoke(env!("CARGO_BIN_EXE_restore"), folder.path(), &[], events).await;
    assert_eq!(answers[0].json()["restoredImages"], json!([scene.deleted]));
    assert_eq!((answers[1].status.as_u16(), counts(&answers[1].json())), (200, [1, 1, 2, 0]));
    assert_eq!((answers[2].problem().0, &answers[2].json()["success"]), (400, &json!(false)));
    assert_eq!(ids(&app).await, sorted([&scene.deleted, &scene.edited, &scene.same, &scene.new]));
}
