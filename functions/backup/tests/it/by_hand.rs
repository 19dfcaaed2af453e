//! Whole backups over HTTP: downloads and what is taken in.

use std::io::{Cursor, Read, Write};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use shared::backup::Kind;
use shared::config::Secret;
use shared::digest::Digest;
use shared::http::{Access, App, finish};
use shared::layout;
use shared::restore::Mode;
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::store::{ErrorKind, Key};
use shared::testing::{Answer, StubStore, app, app_on, keepsake_on, png, request, send, store_image};
use shared::{Error, Settings};
use tower::ServiceExt;

fn server(app: &App) -> Router {
    finish(backup::server_routes().into_router(app.clone()), app)
}

async fn ask(app: &App, method: &str, path: &str, body: impl Into<Body>) -> Answer {
    send(&server(app), request(method, path, &[], body)).await
}

/// Deletes a page of the catalog in every location, so that no replica is left.
async fn lose_page(app: &App, page: Digest) {
    let key = layout::page(&page);
    app.keepsake.core.primary.delete(&key).await.unwrap();
    app.keepsake.core.archive.store().delete(&key).await.unwrap();
}

fn zip_of(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(bytes).unwrap();
    zip.finish().unwrap().into_inner()
}

/// Every image: its item without the version that its entity tag tells of.
async fn images(app: &App) -> Vec<(String, shared::catalog::Record)> {
    app.keepsake.core.catalog.refresh().await.unwrap();
    let live = app.keepsake.core.catalog.view().live();
    live.map_ok(|(id, entry)| (id.to_string(), entry.live().unwrap().clone())).try_collect().await.unwrap()
}

#[tokio::test]
async fn downloaded_backup_imports_completely_into_empty_store() {
    let app_before = app();
    for number in 0..3 {
        store_image(&app_before.keepsake, png(number)).await;
    }
    let name = app_before.keepsake.backups.create(Kind::Manual).await.unwrap().name;
    let path = format!("/api/backups/{name}/download");
    let download = ask(&app_before, "GET", &path, Body::empty()).await;
    assert_eq!((download.status.as_u16(), download.header("content-type")), (200, "application/zip"));
    assert_eq!(download.header("content-disposition"), format!("attachment; filename=\"{name}.zip\""));
    let head = ask(&app_before, "HEAD", &path, Body::empty()).await;
    assert_eq!((head.status.as_u16(), head.body.len(), head.header("content-type")), (200, 0, "application/zip"));
    let mut zip = zip::ZipArchive::new(Cursor::new(download.body.clone())).unwrap();
    let mut metadata = String::new();
    zip.by_name("image-metadata.json").unwrap().read_to_string(&mut metadata).unwrap();
    assert!(metadata.contains("photo.png"));

    let app_after = app();
    let dry = ask(&app_after, "POST", "/api/backups?dryRun=true", download.body.clone()).await.json();
    assert_eq!((&dry["restored"], &dry["dryRun"], images(&app_after).await.len()), (&json!(3), &json!(true), 0));
    let answer = ask(&app_after, "POST", "/api/backups", download.body.clone()).await;
    let done = answer.json();
    assert_eq!((answer.status.as_u16(), &done["success"], &done["restored"]), (200, &json!(true), &json!(3)));
    for nothing in ["kept", "adopted", "missing", "unusable"] {
        assert_eq!(done[nothing], 0, "{nothing}");
    }
    assert!(done["safetyBackup"].as_str().unwrap().starts_with("backup-") && done["message"].is_string());
    assert_eq!(images(&app_after).await, images(&app_before).await);
    for (id, record) in images(&app_after).await {
        let key = Key::new(format!("uploads/{id}")).unwrap();
        assert_eq!(Some(app_after.keepsake.core.primary.hash(&key).await.unwrap().1), record.sha256);
    }
    let again = ask(&app_after, "POST", "/api/backups", download.body).await.json();
    assert_eq!((&again["kept"], &again["restored"], &again["safetyBackup"]), (&json!(3), &json!(0), &json!(null)));
}

#[tokio::test]
async fn what_is_no_zip_is_refused_with_a_sentence() {
    let app = app();
    for (path, body, problem) in [
        ("/api/backups", b"PK no zip".to_vec(), (422, "unusable-archive")),
        ("/api/backups", zip_of("../x.png", &png(1)), (422, "unusable-archive")),
        ("/api/backups", Vec::new(), (400, "invalid-request")),
        ("/api/backups?dryrun=true", zip_of("x.png", &png(1)), (400, "invalid-request")),
    ] {
        let answer = ask(&app, "POST", path, body).await;
        assert_eq!((answer.problem(), &answer.json()["success"]), ((problem.0, problem.1.to_owned()), &json!(false)));
    }
    let form = [("content-type", "multipart/form-data; boundary=x")];
    let answer = send(&server(&app), request("POST", "/api/backups", &form, "--x--")).await;
    assert_eq!(answer.problem(), (415, "not-a-zip".to_owned()));
    assert!(images(&app).await.is_empty());
}

#[tokio::test]
async fn download_of_missing_backup_is_a_problem_response() {
    let memory = Arc::new(MemoryStore::new());
    let app = app_on(memory.clone());
    store_image(&app.keepsake, png(1)).await;
    for name in ["x", "backup-2026-01-01T00-00-00-000Z", "..%2Fx"] {
        for method in ["GET", "HEAD"] {
            let answer = ask(&app, method, &format!("/api/backups/{name}/download"), Body::empty()).await;
            assert_eq!(answer.status.as_u16(), 404, "{name}");
        }
    }
    let backup = app.keepsake.backups.create(Kind::Manual).await.unwrap();
    lose_page(&app, backup.page().unwrap()).await;
    // A process that has not read it before.
    let app = app_on(memory);
    let answer = ask(&app, "GET", &format!("/api/backups/{}/download", backup.name), Body::empty()).await;
    assert_eq!(answer.problem(), (500, "damaged-backup".to_owned()));
    let shown = ask(&app, "GET", &format!("/api/backups/{}?plan=true", backup.name), Body::empty()).await.json();
    assert_eq!((&shown["plan"], &shown["fileCount"]), (&json!(null), &json!(1)), "it can still be shown");
}

#[tokio::test]
async fn a_download_breaks_off_where_its_backup_is_deleted_and_pruned_meanwhile() {
    let memory = Arc::new(MemoryStore::new());
    let quiet = app_on(memory.clone());
    let large = |n: u32| [png(n), vec![7; 2 << 20]].concat();
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(store_image(&quiet.keepsake, large(n)).await);
    }
    let name = quiet.keepsake.backups.create(Kind::Manual).await.unwrap().name;
    for id in &ids {
        quiet.keepsake.images.delete(id, shared::Any).await.unwrap();
    }
    let response = server(&quiet)
        .oneshot(request("GET", &format!("/api/backups/{name}/download"), &[], Body::empty()))
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body().into_data_stream();
    body.next().await.unwrap().unwrap();
    // It waits for its reader now. The delete is not kept waiting for that, and a prune a day later is neither.
    assert_eq!(ask(&quiet, "DELETE", &format!("/api/backups/{name}"), Body::empty()).await.status, 200);
    for n in 0..20 {
        let key = Key::new(format!("backups/images/{}", Digest::of(&large(n)))).unwrap();
        quiet.keepsake.core.primary.delete(&key).await.unwrap();
    }
    let mut failed = false;
    while let Some(chunk) = body.next().await {
        failed |= chunk.is_err();
    }
    assert!(failed, "the answer ended as if it were whole");
}

#[tokio::test]
async fn a_download_needs_the_token_since_it_holds_what_was_deleted() {
    let keepsake = keepsake_on(Arc::new(MemoryStore::new()), Settings::default());
    store_image(&keepsake, png(1)).await;
    let name = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    let app = App::new(keepsake, Access::new(Some(Secret::new("secret".to_owned())), Vec::new(), false));
    let path = format!("/api/backups/{name}/download");
    for method in ["GET", "HEAD"] {
        assert_eq!(ask(&app, method, &path, Body::empty()).await.status, 401);
        let token = [("authorization", "Bearer secret")];
        assert_eq!(send(&server(&app), request(method, &path, &token, Body::empty())).await.status, 200);
    }
    assert_eq!(ask(&app, "GET", &format!("/api/backups/{name}"), Body::empty()).await.status, 200);
}

#[tokio::test]
async fn showing_a_backup_reads_only_its_manifest_and_plan_needs_token() {
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let keepsake = keepsake_on(store.clone(), Settings::default());
    store_image(&keepsake, png(1)).await;
    let name = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    let app = App::new(keepsake, Access::new(Some(Secret::new("secret".to_owned())), Vec::new(), false));
    let before: u64 = store.counts().values().sum();
    let shown = ask(&app, "GET", &format!("/api/backups/{name}"), Body::empty()).await.json();
    assert_eq!((&shown["fileCount"], shown.get("plan")), (&json!(1), None));
    assert_eq!(store.counts().values().sum::<u64>() - before, 1);
    let path = format!("/api/backups/{name}?plan=true");
    assert_eq!(ask(&app, "GET", &path, Body::empty()).await.status, 401);
    assert_eq!(store.counts().values().sum::<u64>() - before, 1, "who has no token makes no work");
    let token = [("authorization", "Bearer secret")];
    let shown = send(&server(&app), request("GET", &path, &token, Body::empty())).await.json();
    assert_eq!(shown["plan"]["merge"]["kept"], 1);
}

#[tokio::test]
async fn a_zip_of_someone_without_the_token_is_not_read() {
    let keepsake = keepsake_on(Arc::new(MemoryStore::new()), Settings::default());
    let app = App::new(keepsake, Access::new(Some(Secret::new("secret".to_owned())), Vec::new(), false));
    let endless = futures::stream::poll_fn(|_| -> std::task::Poll<Option<Result<Vec<u8>, std::io::Error>>> {
        panic!("the body was read")
    });
    assert_eq!(ask(&app, "POST", "/api/backups", Body::from_stream(endless)).await.status, 401);
}

#[tokio::test]
async fn an_export_that_breaks_down_is_no_fault_of_the_client() {
    let memory = Arc::new(MemoryStore::new());
    let name = app_on(memory.clone()).keepsake.backups.create(Kind::Manual).await.unwrap().name;
    let breaks = |operation: &Operation| match operation.key.as_str().ends_with("manifest.json") {
        true => panic!("a bug"),
        false => None,
    };
    let app = app_on(Arc::new(FaultStore::with_plan(memory, breaks)));
    let answer = ask(&app, "GET", &format!("/api/backups/{name}/download"), Body::empty()).await;
    assert_eq!(answer.problem(), (500, "internal".to_owned()));
}

#[tokio::test]
async fn a_function_names_the_command_line_instead() {
    let app = app();
    let router = backup::router(app.clone());
    for (method, path) in [("GET", "/api/backups/backup-2026-01-01T00-00-00-000Z/download"), ("POST", "/api/backups")] {
        let answer = send(&router, request(method, path, &[], Body::empty())).await;
        assert_eq!(answer.problem(), (501, "needs-command-line".to_owned()));
        assert!(answer.json()["detail"].as_str().unwrap().contains("keepsake export"));
    }
}

#[tokio::test]
async fn a_backup_shows_what_restoring_it_would_do_now() {
    let app = app();
    let ids = [store_image(&app.keepsake, png(1)).await, store_image(&app.keepsake, png(2)).await];
    let name = app.keepsake.backups.create(Kind::Manual).await.unwrap().name;
    app.keepsake.images.delete(&ids[0], shared::Any).await.unwrap();
    store_image(&app.keepsake, png(3)).await;
    let shown = ask(&app, "GET", &format!("/api/backups/{name}?plan=true"), Body::empty()).await.json();
    let counts = |kept, removed| json!({ "restored": 1, "changed": 0, "kept": kept, "removed": removed, "missing": 0 });
    assert_eq!(shown["plan"], json!({ "merge": counts(2, 0), "exact": counts(1, 1) }));
}

#[tokio::test]
async fn a_backup_shows_how_much_room_restoring_it_lacks() {
    let store = Arc::new(StubStore::default());
    let app = app_on(Arc::clone(&store) as _);
    let id = store_image(&app.keepsake, png(1)).await;
    let name = app.keepsake.backups.create(Kind::Manual).await.unwrap().name;
    app.keepsake.images.delete(&id, shared::Any).await.unwrap();
    store.status.lock().unwrap().free_bytes = Some(Settings::default().reserve_bytes);
    let lacking = app.keepsake.restores.plan(name, Mode::Merge).await.unwrap().lacking_bytes;
    let shown = ask(&app, "GET", &format!("/api/backups/{name}?plan=true"), Body::empty()).await.json();
    assert!(lacking > 0);
    for mode in ["merge", "exact"] {
        assert_eq!(shown["plan"][mode]["lackingBytes"], lacking, "{mode}");
    }
}

#[tokio::test]
async fn a_full_disk_takes_nothing_in_and_still_gives_out() {
    let memory = Arc::new(MemoryStore::new());
    let before = app_on(memory.clone());
    store_image(&before.keepsake, [png(1), vec![7; 5 << 20]].concat()).await;
    let name = before.keepsake.backups.create(Kind::Manual).await.unwrap().name;
    let full = |operation: &Operation| (operation.name == "put").then_some(Fault::Before(ErrorKind::Full));
    let app = app_on(Arc::new(FaultStore::with_plan(memory, full)));
    let answer = ask(&app, "POST", "/api/backups", zip_of("x.png", &png(2))).await;
    assert_eq!(answer.problem(), (507, "insufficient-storage".to_owned()));
    let download = ask(&app, "GET", &format!("/api/backups/{name}/download"), Body::empty()).await;
    assert!(zip::ZipArchive::new(Cursor::new(download.body)).is_ok());
    assert!(matches!(app.keepsake.images.get("x.png").await, Err(Error::NoSuchImage(_))));
}
