//! What health tells, row by row of the contract.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod session;

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};
use shared::backup::Kind;
use shared::clock::Clock;
use shared::config::Secret;
use shared::digest::Digest;
use shared::http::{Access, App};
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::store::{DiskStore, ErrorKind, Store, StoreStatus};
use shared::testing::lambda::{EventBody, event, invoke};
use shared::testing::{Answer, StubStore, app, app_on, import, keepsake_on, png, store_image};
use shared::{Keepsake, Settings};

async fn get(app: &App, path: &str) -> Answer {
    shared::testing::get(&health::router(app.clone()), path).await
}

async fn health_of(status: StoreStatus) -> (u16, Value) {
    let answer = get(&app_on(Arc::new(StubStore::with_status(status))), "/api/health").await;
    (answer.status.as_u16(), answer.json())
}

/// What `/api/storage` tells of an image of this category and moment.
fn dated(category: Value, date: &str, size: u64) -> Value {
    json!({ "category": category, "uploadDate": date, "size": size, "sha256": Digest::of(date.as_bytes()).to_string() })
}

#[tokio::test]
async fn storage_is_told_by_category_and_by_month() {
    let status = StoreStatus { free_bytes: Some(70), total_bytes: Some(100), kind: "disk", ..StoreStatus::default() };
    let app = app_on(Arc::new(StubStore::with_status(status)));
    for (name, fields) in [
        ("a.png", dated(json!("fun"), "2026-01-31T23:59:59.999Z", 10)),
        ("b.png", dated(json!("fun"), "2026-02-01T00:30:00+01:00", 5)),
        ("c.png", dated(json!("pets"), "2026-03-01T00:00:00Z", 7)),
        ("d.png", dated(Value::Null, "2026-03-02T00:00:00Z", 1)),
        ("old.png", dated(json!("pets"), "some day", 2)),
        ("link", json!({ "type": "link", "url": "https://example.com", "uploadDate": "2026-03-03T00:00:00Z" })),
    ] {
        import(&app.keepsake, name, fields).await;
    }
    let expected = json!({
        "used": 25, "available": 70, "limit": 100, "images": 6,
        "byCategory": [
            { "category": "fun", "images": 2, "bytes": 15 },
            { "category": "pets", "images": 2, "bytes": 9 },
            { "category": "", "images": 2, "bytes": 1 },
        ],
        "history": [
            { "month": "2026-01", "byCategory": { "fun": 15, "pets": 2 } },
            { "month": "2026-03", "byCategory": { "fun": 15, "pets": 9, "": 1 } },
        ],
    });
    assert_eq!(get(&app, "/api/storage").await.json(), expected);
}

#[tokio::test]
async fn probes_without_a_host_are_answered_on_a_loopback_address() {
    let app = App::new(keepsake_on(Arc::new(MemoryStore::new()), Settings::default()), Access::new(None, vec![], true));
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/api/health", 403)] {
        assert_eq!(get(&app, path).await.status, status, "{path}");
    }
    let headers = [("host", "rebound.example")];
    let named = shared::testing::request("GET", "/livez", &headers, axum::body::Body::empty());
    assert_eq!(shared::testing::send(&health::router(app), named).await.status, 403, "a name must be a local one");
}

#[tokio::test]
async fn an_empty_bucket_has_no_limit_and_no_history() {
    let expected = json!({
        "used": 0, "available": null, "limit": null, "images": 0, "byCategory": [], "history": [],
    });
    assert_eq!(get(&app(), "/api/storage").await.json(), expected);
}

#[tokio::test]
async fn of_many_categories_the_small_ones_count_as_one() {
    let app = app();
    for number in 0..70 {
        let fields = dated(json!(format!("c{number}")), &format!("2026-01-01T00:00:{:02}Z", number % 60), 1 + number);
        import(&app.keepsake, &format!("{number}.png"), fields).await;
    }
    let storage = get(&app, "/api/storage").await.json();
    let categories = storage["byCategory"].as_array().unwrap();
    assert_eq!((categories.len(), storage["history"][0]["byCategory"].as_object().unwrap().len()), (51, 51));
    assert_eq!(categories[0], json!({ "category": "…", "images": 20, "bytes": (1..=20).sum::<u64>() }));
    assert_eq!(categories[1], json!({ "category": "c69", "images": 1, "bytes": 70 }));
}

#[tokio::test]
async fn a_store_in_good_health_says_everything_there_is_to_say() {
    let status = StoreStatus {
        free_bytes: Some(1 << 40),
        total_bytes: Some(1 << 41),
        kind: "disk",
        file_system: Some("ext4".to_owned()),
        ..StoreStatus::default()
    };
    let app = app_on(Arc::new(StubStore::with_status(status)));
    let deleted = store_image(&app.keepsake, png(1)).await;
    store_image(&app.keepsake, png(2)).await;
    app.keepsake.images.delete(&deleted, shared::Any).await.unwrap();
    app.keepsake.backups.create(Kind::Manual).await.unwrap();
    app.keepsake.core.clock.advance(SignedDuration::from_millis(1_500));
    store_image(&app.keepsake, png(3)).await;
    let answer = get(&app, "/api/health").await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-store"));
    let health = answer.json();
    let name = "backup-2026-11-20T08-00-00-000Z";
    let expected = json!({
        "status": "ok",
        "timestamp": "2026-11-20T08:00:01.500Z",
        "uptime": 1.5,
        "version": env!("CARGO_PKG_VERSION"),
        "persistence": {
            "writable": true, "verdict": "unproven", "evidence": health["persistence"]["evidence"], "platform": null,
            "mount": null, "fileSystem": "ext4", "warning": null,
        },
        "storage": {
            "images": 2, "bytes": png(2).len() + png(3).len(), "deleted": 1, "missing": 0, "freeBytes": 1_u64 << 40,
            "unfinishedUploads": 0, "unfinishedBytes": 0,
            "totalBytes": 1_u64 << 41, "kind": "disk",
        },
        "backups": { "count": 1, "newest": name, "newestVerified": name, "notBackedUp": 1, "singleCopies": 0 },
        "archive": { "mode": "sync", "reachable": true, "behindImages": 0, "behindSeconds": 0.0, "restoring": null },
        "checks": health["checks"],
    });
    assert_eq!(health, expected);
    for (name, check) in health["checks"].as_object().unwrap() {
        assert_eq!(check["status"], "ok", "{name}");
        assert!(check["message"].as_str().is_some_and(|message| message.ends_with('.')), "{name}");
    }
    let names: Vec<_> = health["checks"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["archive", "backups", "catalog", "persistence", "primary", "verification"]);
}

#[tokio::test]
async fn an_empty_store_is_well() {
    let health = get(&app(), "/api/health").await.json();
    assert_eq!((&health["status"], &health["backups"]["newest"]), (&json!("ok"), &Value::Null));
    assert_eq!((&health["storage"]["kind"], &health["storage"]["freeBytes"]), (&json!("memory"), &Value::Null));
}

#[tokio::test]
async fn a_file_system_that_goes_with_its_instance_is_a_warning() {
    for file_system in ["tmpfs", "ramfs", "overlay"] {
        let status = StoreStatus { kind: "disk", file_system: Some(file_system.to_owned()), ..StoreStatus::default() };
        let (code, health) = health_of(status).await;
        assert_eq!((code, &health["status"]), (200, &json!("warn")));
        let persistence = &health["persistence"];
        assert_eq!((&persistence["verdict"], &persistence["fileSystem"]), (&json!("ephemeral"), &json!(file_system)));
        assert!(persistence["warning"].as_str().unwrap().starts_with("Storage may be ephemeral"));
        assert_eq!(persistence["writable"], true);
        assert_eq!(health["checks"]["persistence"]["status"], "warn");
    }
}

#[tokio::test]
async fn a_store_that_takes_no_writes_says_so_and_is_in_error() {
    let read_only = StoreStatus { read_only: Some("It is mounted read-only.".to_owned()), ..StoreStatus::default() };
    let full = StoreStatus { free_bytes: Some(1_000), ..StoreStatus::default() };
    for status in [read_only, full] {
        let (code, health) = health_of(status).await;
        assert_eq!(
            (code, &health["status"], &health["persistence"]["writable"]),
            (503, &json!("error"), &json!(false))
        );
        assert_eq!(health["checks"]["primary"]["status"], "error");
    }
}

#[tokio::test]
async fn a_store_out_of_reach_is_an_error_without_a_word_about_where_it_is() {
    let fails = |_: &Operation| Some(Fault::Before(ErrorKind::Unavailable));
    let app = app_on(Arc::new(FaultStore::with_plan(Arc::new(MemoryStore::new()), fails)));
    let answer = get(&app, "/api/health").await;
    let health = answer.json();
    assert_eq!(
        (answer.status.as_u16(), &health["status"], &health["persistence"]["writable"]),
        (503, &json!("error"), &json!(false))
    );
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(!text.contains("image-metadata") && !text.contains("manifest"), "{text}");
    let ready = get(&app, "/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.header("content-type").starts_with("text/plain"));
    assert_eq!(get(&app, "/livez").await.status, 200);
}

#[tokio::test]
async fn machines_get_an_answer_in_plain_text() {
    let app = app();
    for path in ["/livez", "/readyz"] {
        let answer = get(&app, path).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"ok"[..]), "{path}");
        assert!(answer.header("content-type").starts_with("text/plain"));
    }
}

#[tokio::test]
async fn looking_never_writes_and_needs_no_token() {
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let access = Access::new(Some(Secret::new("x")), Vec::new(), false);
    let app = App::new(keepsake_on(store.clone(), Default::default()), access);
    for path in ["/api/health", "/livez", "/readyz"] {
        for method in ["GET", "HEAD"] {
            let request = shared::testing::request(method, path, &[], axum::body::Body::empty());
            assert_eq!(shared::testing::send(&health::router(app.clone()), request).await.status, 200);
        }
    }
    let writes: Vec<_> =
        store.counts().into_keys().filter(|name| ["put", "delete", "copy", "sweep"].contains(name)).collect();
    assert_eq!(writes, Vec::<&str>::new());
}

#[tokio::test]
async fn probes_are_answered_under_any_name() {
    let access = Access::default().for_hosts(vec!["images.example.com".to_owned()]);
    let app = App::new(keepsake_on(Arc::new(MemoryStore::new()), Default::default()), access);
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/api/health", 403)] {
        let request = shared::testing::request("GET", path, &[("host", "10.1.2.3:3000")], axum::body::Body::empty());
        assert_eq!(shared::testing::send(&health::router(app.clone()), request).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn full_async_archive_does_not_block_uploads() {
    for (archive_sync, expected) in [(false, ("warn", true)), (true, ("error", false))] {
        let store = |status| Store::new(Arc::new(StubStore::with_status(status)), &std::env::temp_dir());
        let roomy = StoreStatus { free_bytes: Some(1 << 40), kind: "disk", ..StoreStatus::default() };
        for full in [
            StoreStatus { free_bytes: Some(0), ..StoreStatus::default() },
            StoreStatus { read_only: Some("It is read-only.".to_owned()), ..StoreStatus::default() },
        ] {
            let settings = Settings { archive_sync, ..Settings::default() };
            let keepsake = Keepsake::new(store(roomy.clone()), store(full), Vec::new(), Clock::system(), settings);
            let health = get(&App::new(keepsake, Access::new(None, Vec::new(), false)), "/api/health").await.json();
            let archive = &health["checks"]["archive"];
            assert_eq!(
                (archive["status"].as_str().unwrap(), health["persistence"]["writable"] == true),
                expected,
                "{archive}"
            );
        }
    }
}

#[tokio::test]
async fn what_was_imported_with_old_dates_is_in_no_backup_before_one_is_made() {
    let app = app();
    app.keepsake.backups.create(Kind::Safety).await.unwrap();
    for name in ["a.png", "b.png"] {
        import(&app.keepsake, name, dated(json!("fun"), "2001-01-31T23:59:59.999Z", 10)).await;
    }
    let not_backed_up = async || get(&app, "/api/health").await.json()["backups"]["notBackedUp"].clone();
    assert_eq!(not_backed_up().await, 2);
    app.keepsake.backups.create(Kind::Manual).await.unwrap();
    assert_eq!(not_backed_up().await, 0);
}

#[tokio::test]
async fn a_folder_that_was_emptied_shows_until_its_images_are_back() {
    let folder = tempfile::tempdir().unwrap();
    let app = app_on(Arc::new(DiskStore::open(folder.path()).unwrap()));
    for number in 0..20 {
        store_image(&app.keepsake, png(number)).await;
    }
    let look = async || {
        let health = get(&app, "/api/health").await.json();
        let message = health["checks"]["primary"]["message"].as_str().unwrap().to_owned();
        let numbers = [health["backups"]["singleCopies"].clone(), health["storage"]["missing"].clone()];
        (health["checks"]["primary"]["status"].clone(), numbers, message)
    };
    assert_eq!(look().await, (json!("ok"), [json!(0), json!(0)], "It can be read and written.".to_owned()));
    std::fs::remove_dir_all(folder.path().join("uploads")).unwrap();
    store_image(&app.keepsake, png(20)).await;
    let (status, numbers, message) = look().await;
    assert_eq!((status, numbers), (json!("warn"), [json!(20), json!(20)]), "{message}");
    assert!(message.starts_with("Images that are gone from it: 20."), "{message}");
    app.keepsake.verifier.verify(shared::verify::Slice::WHOLE, true).await.unwrap();
    assert_eq!((look().await.0, look().await.1), (json!("ok"), [json!(0), json!(0)]));
}

#[tokio::test]
async fn whoever_may_not_read_learns_no_more_than_whether_it_is_well() {
    let access = Access::new(Some(Secret::new("right")), Vec::new(), false).private();
    let app = App::new(keepsake_on(Arc::new(MemoryStore::new()), Default::default()), access);
    let ask = async |headers: &[(&str, &str)]| {
        let request = shared::testing::request("GET", "/api/health", headers, axum::body::Body::empty());
        shared::testing::send(&health::router(app.clone()), request).await
    };
    for headers in [&[][..], &[("authorization", "Bearer wrong")]] {
        let answer = ask(headers).await;
        let expected = json!({ "status": "ok", "persistence": { "writable": true } });
        assert_eq!((answer.status.as_u16(), answer.json()), (200, expected));
    }
    assert_eq!(ask(&[("authorization", "Bearer right")]).await.json()["storage"]["images"], 0);
    assert_eq!(get(&app, "/livez").await.status, 200);
}

#[tokio::test]
async fn the_function_serves_its_routes_on_lambda() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["/api/health", "/livez", "/readyz", "/healthz", "/api/session"];
    let events = paths.iter().map(|path| event("GET", path, &[], EventBody::None)).collect();
    let answers = invoke(env!("CARGO_BIN_EXE_health"), folder.path(), &[], events).await;
    assert_eq!((answers[0].json()["storage"]["kind"].as_str(), answers[1].status.as_u16()), (Some("disk"), 200));
    assert_eq!((&answers[1].body[..], &answers[2].body[..]), (&b"ok"[..], &b"ok"[..]));
    assert_eq!(answers[3].problem(), (404, "not-found".to_owned()));
    assert_eq!(answers[4].json()["needsToken"], false);
}

#[tokio::test]
async fn a_session_on_lambda_is_a_cookie_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let set = [("API_TOKEN", "right"), ("READ", "token")];
    let sign_in =
        event("POST", "/api/session", &[("x-forwarded-proto", "https")], EventBody::Text(r#"{"token":"right"}"#));
    let answers = invoke(env!("CARGO_BIN_EXE_health"), folder.path(), &set, vec![sign_in]).await;
    let cookie = answers[0].header("set-cookie").split(';').next().unwrap().to_owned();
    assert!(cookie.starts_with("__Host-keepsake-session="), "{:?}", answers[0]);
    let look = |headers: &[(&str, &str)]| event("GET", "/api/session", headers, EventBody::None);
    let events = vec![look(&[("cookie", &cookie)]), look(&[])];
    let answers = invoke(env!("CARGO_BIN_EXE_health"), folder.path(), &set, events).await;
    assert_eq!((&answers[0].json()["signedIn"], &answers[1].json()["signedIn"]), (&json!(true), &json!(false)));
}
