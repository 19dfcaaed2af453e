//! What the routes of backups do, row by row of the contract.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod by_hand;
mod lengths;
mod zips;

use std::sync::Arc;

use axum::body::Body;
use jiff::SignedDuration;
use serde_json::json;
use shared::Settings;
use shared::backup::Kind;
use shared::config::Keep;
use shared::config::Secret;
use shared::digest::Digest;
use shared::http::{Access, App};
use shared::layout;
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::store::{DiskStore, ErrorKind, Key, PutMode};
use shared::testing::documents::sealed;
use shared::testing::lambda::{EventBody, event, invoke};
use shared::testing::{Answer, app, app_on, import, keepsake_on, png, request, send, store_image};

async fn ask(app: &App, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(&backup::router(app.clone()), request(method, path, headers, Body::empty())).await
}

#[tokio::test]
async fn a_backup_is_made_reported_listed_and_shown() {
    let app = app();
    store_image(&app.keepsake, png(1)).await;
    store_image(&app.keepsake, png(2)).await;
    let bytes = png(1).len() + png(2).len();
    let answer = ask(&app, "POST", "/api/backup", &[]).await;
    assert_eq!(answer.status, 201);
    let made = answer.json();
    let name = "backup-2026-11-20T08-00-00-000Z";
    let moment = "2026-11-20T08:00:00.000Z";
    let expected = json!({
        "success": true, "backupName": name, "message": made["message"], "fileCount": 2, "bytes": bytes, "verifiedAt": moment,
        "missing": [],
    });
    assert_eq!(made, expected);
    assert!(made["message"].as_str().unwrap().contains(name));
    assert_eq!(answer.header("location"), format!("/api/backups/{name}"));

    let list = ask(&app, "GET", "/api/backups", &[]).await.json();
    let modified = list["backups"][0]["modified"].clone();
    let item = json!({
        "name": name, "created": moment, "modified": modified, "hasMetadata": true, "fileCount": 2, "bytes": bytes,
        "kind": "manual", "verifiedAt": moment,
    });
    assert_eq!(list, json!({ "backups": [item] }));

    let shown = ask(&app, "GET", answer.header("location"), &[]).await.json();
    assert_eq!((&shown["name"], &shown["fileCount"], &shown["missing"]), (&json!(name), &json!(2), &json!([])));
    let page = shown["page"].as_str().unwrap().parse().unwrap();
    app.keepsake.core.archive.store().head(&layout::page(&page)).await.unwrap();
    assert_eq!(shown.get("chunks"), None);
    assert_eq!(shown.get("digest"), None);
}

#[tokio::test]
async fn a_backup_of_nothing_has_no_page() {
    let app = app();
    let made = ask(&app, "POST", "/api/backup", &[]).await;
    assert_eq!((made.status.as_u16(), &made.json()["fileCount"]), (201, &json!(0)));
    let shown = ask(&app, "GET", made.header("location"), &[]).await.json();
    assert_eq!((shown.get("page"), shown.get("chunks")), (Some(&json!(null)), None));
}

#[tokio::test]
async fn a_backup_of_an_older_version_is_shown_with_its_chunks_and_can_be_planned() {
    let (app, name) = (app(), "backup-2026-01-01T00-00-00-000Z");
    let record = json!({ "category": "fun", "sha256": Digest::of(&png(1)), "size": png(1).len(), "version": 1 });
    let chunk = serde_json::to_vec(&json!({ "a.png": record })).unwrap();
    let manifest = json!({
        "format": 1, "name": name, "created": "2026-01-01T00:00:00.000Z",
        "kind": "manual", "images": 1, "bytes": png(1).len(), "verifiedAt": "2026-01-01T00:00:00.000Z",
        "chunks": [{ "sha256": Digest::of(&chunk), "images": 1 }],
    });
    // The digest comes first.
    let text = manifest.to_string().replacen('{', &format!("{{\"digest\": \"sha256:{}\",", "0".repeat(64)), 1);
    let archive = app.keepsake.core.archive.store();
    let objects = [
        (layout::archived_image(&Digest::of(&png(1))), png(1)),
        (layout::chunk(&Digest::of(&chunk)), chunk.clone()),
        (layout::manifest(name.parse().unwrap()), sealed(text.as_bytes())),
    ];
    for (key, bytes) in objects {
        archive.put(&key, &bytes.into(), &PutMode::Create).await.unwrap();
    }
    let shown = ask(&app, "GET", &format!("/api/backups/{name}?plan=true"), &[]).await.json();
    assert_eq!((&shown["chunks"], shown.get("page")), (&manifest["chunks"], None), "{shown}");
    assert_eq!((&shown["fileCount"], &shown["plan"]["merge"]["restored"]), (&json!(1), &json!(1)), "{shown}");
}

#[tokio::test]
async fn backups_are_listed_newest_first_also_those_of_one_millisecond() {
    let app = app();
    let mut names = Vec::new();
    for _ in 0..3 {
        names.insert(0, ask(&app, "POST", "/api/backup", &[]).await.json()["backupName"].clone());
    }
    let list = ask(&app, "GET", "/api/backups", &[]).await.json();
    let listed: Vec<_> = list["backups"].as_array().unwrap().iter().map(|backup| backup["name"].clone()).collect();
    assert_eq!(listed, names);
}

#[tokio::test]
async fn there_may_be_none() {
    assert_eq!(ask(&app(), "GET", "/api/backups", &[]).await.json(), json!({ "backups": [] }));
}

#[tokio::test]
async fn a_backup_that_is_half_made_or_tampered_with_is_not_listed() {
    let app = app();
    let whole = ask(&app, "POST", "/api/backup", &[]).await.json()["backupName"].clone();
    for name in ["backup-2026-01-01T00-00-00-000Z", "backup-2026-01-02T00-00-00-000Z"] {
        let key = Key::new(format!("backups/{name}/manifest.json")).unwrap();
        let body = b"{\"digest\": \"sha256:00".to_vec().into();
        app.keepsake.core.primary.put(&key, &body, &PutMode::Create).await.unwrap();
        let answer = ask(&app, "GET", &format!("/api/backups/{name}"), &[]).await;
        assert_eq!(answer.problem(), (404, "no-such-backup".to_owned()));
    }
    let list = ask(&app, "GET", "/api/backups", &[]).await.json();
    assert_eq!((list["backups"].as_array().unwrap().len(), &list["backups"][0]["name"]), (1, &whole));
}

#[tokio::test]
async fn a_name_of_another_form_is_not_found_and_asks_the_store_nothing() {
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let app = app_on(store.clone());
    for name in [
        "x",
        "..%2F..%2Fetc",
        "backup-2026-13-01T00-00-00-000Z",
        "backup-",
        "%00",
        "backup-2026-01-01T00-00-00-000Z%2F..",
    ] {
        let answer = ask(&app, "GET", &format!("/api/backups/{name}"), &[]).await;
        assert_eq!(answer.problem(), (404, "no-such-backup".to_owned()), "{name}");
        assert_eq!(answer.json()["success"], false);
    }
    assert!(store.counts().is_empty());
}

#[tokio::test]
async fn an_image_whose_bytes_are_nowhere_is_named() {
    let app = app();
    import(&app.keepsake, "lost.png", json!({ "sha256": "0".repeat(64), "size": 5 })).await;
    let made = ask(&app, "POST", "/api/backup", &[]).await.json();
    assert!(made["message"].as_str().unwrap().contains("missing"), "{made}");
    assert_eq!(made["missing"], json!(["lost.png"]));
    let shown = ask(&app, "GET", &format!("/api/backups/{}", made["backupName"].as_str().unwrap()), &[]).await.json();
    assert_eq!(shown["missing"], json!(["lost.png"]));
}

#[tokio::test]
async fn failures_say_that_there_was_no_success() {
    let fails = |operation: &Operation| (operation.name == "put").then_some(Fault::Before(ErrorKind::Full));
    let app = app_on(Arc::new(FaultStore::with_plan(Arc::new(MemoryStore::new()), fails)));
    let answer = ask(&app, "POST", "/api/backup", &[]).await;
    assert_eq!(
        (answer.problem(), &answer.json()["success"]),
        ((507, "insufficient-storage".to_owned()), &json!(false))
    );
    let answer = ask(&app, "DELETE", "/api/backup", &[]).await;
    assert_eq!((answer.problem().0, answer.header("allow"), &answer.json()["success"]), (405, "POST", &json!(false)));
}

#[tokio::test]
async fn making_one_needs_the_token_and_looking_does_not() {
    let access = Access::new(Some(Secret::new("right")), Vec::new(), false);
    let app = App::new(keepsake_on(Arc::new(MemoryStore::new()), Default::default()), access);
    let answer = ask(&app, "POST", "/api/backup", &[]).await;
    assert_eq!((answer.problem().0, &answer.json()["success"]), (401, &json!(false)));
    assert_eq!(ask(&app, "GET", "/api/backups", &[]).await.json(), json!({ "backups": [] }));
    assert_eq!(ask(&app, "POST", "/api/backup", &[("authorization", "Bearer right")]).await.status, 201);
}

#[tokio::test]
async fn looking_never_writes() {
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let app = app_on(store.clone());
    let made = ask(&app, "POST", "/api/backup", &[]).await;
    let written = || (store.counts()["put"], store.counts().get("delete").copied());
    let before = written();
    for method in ["GET", "HEAD"] {
        assert_eq!(ask(&app, method, "/api/backups", &[]).await.status, 200);
        assert_eq!(ask(&app, method, made.header("location"), &[]).await.status, 200);
    }
    assert_eq!(written(), before);
}

#[tokio::test]
async fn the_function_serves_its_routes_on_lambda() {
    let folder = tempfile::tempdir().unwrap();
    let app = app_on(Arc::new(DiskStore::open(folder.path()).unwrap()));
    store_image(&app.keepsake, png(1)).await;
    let events = vec![
        event("POST", "/api/backup", &[], EventBody::None),
        event("GET", "/api/backups", &[], EventBody::None),
        event("GET", "/api/backups/x", &[], EventBody::None),
    ];
    let answers = invoke(env!("CARGO_BIN_EXE_backup"), folder.path(), &[], events).await;
    let name = answers[0].json()["backupName"].clone();
    assert_eq!((answers[0].status.as_u16(), &answers[0].json()["fileCount"]), (201, &json!(1)));
    assert_eq!(answers[1].body, ask(&app, "GET", "/api/backups", &[]).await.body);
    assert_eq!(answers[1].json()["backups"][0]["name"], name);
    assert_eq!((answers[2].problem().0, &answers[2].json()["success"]), (404, &json!(false)));
}

#[tokio::test]
async fn a_verification_says_what_it_found_and_repairs_where_that_is_asked_for() {
    let app = app();
    let id = store_image(&app.keepsake, png(1)).await;
    store_image(&app.keepsake, png(2)).await;
    let bytes = png(1).len() + png(2).len();
    let all_is_well = json!({
        "slice": "1/1", "ok": true, "images": 2, "bytes": bytes, "pieces": 0, "repaired": [], "copied": [], "damaged": [],
        "lost": [], "deleted": 0, "lostCopies": [], "rewritten": 0, "damagedBackups": [],
    });
    let good = ask(&app, "POST", "/api/verify", &[]).await;
    assert_eq!((good.status.as_u16(), good.json()), (200, all_is_well));
    let key = Key::new(format!("uploads/{id}")).unwrap();
    app.keepsake.core.primary.put(&key, &vec![7; png(1).len()].into(), &PutMode::Overwrite).await.unwrap();
    let found = ask(&app, "POST", "/api/verify?slice=1/1", &[]).await.json();
    assert_eq!((&found["ok"], &found["damaged"]), (&json!(false), &json!([id])));
    let repaired = ask(&app, "POST", "/api/verify?repair=true", &[]).await.json();
    assert_eq!((&repaired["ok"], &repaired["repaired"]), (&json!(true), &json!([id])));
    for bad in ["/api/verify?slice=3/2", "/api/verify?slice=x", "/api/verify?repair=perhaps"] {
        assert_eq!(ask(&app, "POST", bad, &[]).await.problem(), (400, "invalid-request".to_owned()), "{bad}");
    }
}

#[tokio::test]
async fn a_backup_is_deleted_once_and_then_there_is_none() {
    let app = app();
    store_image(&app.keepsake, png(1)).await;
    let path = ask(&app, "POST", "/api/backup", &[]).await.header("location").to_owned();
    let name = path.rsplit('/').next().unwrap();
    let deleted = ask(&app, "DELETE", &path, &[]).await;
    let expected = json!({ "success": true, "message": deleted.json()["message"], "name": name });
    assert_eq!((deleted.status.as_u16(), deleted.json()), (200, expected));
    assert_eq!(ask(&app, "GET", "/api/backups", &[]).await.json(), json!({ "backups": [] }));
    for path in [&*path, "/api/backups/x", "/api/backups/backup-2026-01-01T00-00-00-000Z"] {
        assert_eq!(ask(&app, "DELETE", path, &[]).await.problem(), (404, "no-such-backup".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn a_prune_says_what_it_removed_and_a_dry_run_what_it_would() {
    let memory = Arc::new(MemoryStore::new());
    let keep = Keep { last: 1, daily: 0, weekly: 0, monthly: 0 };
    let app = App::new(keepsake_on(memory.clone(), Settings { keep, ..Settings::default() }), Access::default());
    memory.set_now(app.keepsake.core.clock.now());
    store_image(&app.keepsake, png(1)).await;
    app.keepsake.core.catalog.compact().await.unwrap();
    let first = app.keepsake.backups.create(Kind::Auto).await.unwrap().name;
    store_image(&app.keepsake, png(2)).await;
    app.keepsake.core.catalog.compact().await.unwrap();
    let second = app.keepsake.backups.create(Kind::Auto).await.unwrap().name;
    app.keepsake.core.clock.advance(SignedDuration::from_hours(48));
    memory.set_now(app.keepsake.core.clock.now());
    for (path, dry_run) in [("/api/prune?dryRun=true", true), ("/api/prune", false)] {
        let answer = ask(&app, "POST", path, &[]).await.json();
        let expected = json!({
            "success": true, "dryRun": dry_run, "removed": [first], "kept": [second], "objects": 4, "bytes": answer["bytes"],
            "heldBack": null,
        });
        // A page of the names and one of the list, in both locations.
        assert_eq!(answer, expected);
        assert!(answer["bytes"].as_u64().unwrap() > 0);
    }
    let again = ask(&app, "POST", "/api/prune?dryRun=false", &[]).await.json();
    assert_eq!((&again["removed"], &again["objects"]), (&json!([]), &json!(0)));
    for query in ["dryRun=x", "dryrun=true", "dry_run=true"] {
        let answer = ask(&app, "POST", &format!("/api/prune?{query}"), &[]).await;
        assert_eq!(answer.problem(), (400, "invalid-request".to_owned()), "{query}");
    }
}

#[tokio::test]
async fn neither_runs_beside_a_restore_nor_without_the_token() {
    let access = Access::new(Some(Secret::new("right")), Vec::new(), false);
    let app = App::new(keepsake_on(Arc::new(MemoryStore::new()), Default::default()), access);
    let lease = br#"{"holder":"01a20c87-1075-7675-957c-7fc02efe5572","renewed":"2026-11-20T08:00:00.000Z"}"#;
    let key = Key::new("backups/restore.json").unwrap();
    app.keepsake.core.primary.put(&key, &lease.to_vec().into(), &PutMode::Overwrite).await.unwrap();
    for (method, path) in [("POST", "/api/prune"), ("DELETE", "/api/backups/backup-2026-01-01T00-00-00-000Z")] {
        assert_eq!(ask(&app, method, path, &[]).await.problem().0, 401, "{path}");
        let busy = ask(&app, method, path, &[("authorization", "Bearer right")]).await;
        assert_eq!(busy.problem(), (409, "restore-running".to_owned()), "{path}");
    }
}
