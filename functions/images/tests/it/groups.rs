//! Showing, arranging and deleting groups.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use shared::http::App;
use shared::images::Fields;
use shared::store::ErrorKind;
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::testing::{Answer, app, app_on, import, png, request, send, store_image, store_image_as};

use super::{ask, get, router};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn put(app: &App, path: &str, headers: &[(&str, &str)], body: impl ToString) -> Answer {
    let headers = [&[JSON], headers].concat();
    send(&router(app), request("PUT", &format!("/api/groups/{path}"), &headers, body.to_string())).await
}

async fn delete(app: &App, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(app, "DELETE", &format!("/api/groups/{path}"), headers).await
}

/// Images of no group.
async fn store<const N: usize>(app: &App) -> [String; N] {
    let mut ids = [const { String::new() }; N];
    for (number, id) in (1..).zip(&mut ids) {
        *id = store_image(&app.keepsake, png(number)).await;
    }
    ids
}

async fn item(app: &App, id: &str) -> Value {
    get(app, &format!("/api/images/{id}")).await.json()
}

/// The names of a group's images in their order; none where there is no such group.
async fn files(app: &App, group: &str) -> Vec<String> {
    let answer = get(app, &format!("/api/groups/{group}")).await;
    if answer.status == 404 {
        assert_eq!(answer.problem().1, "no-such-group");
        return Vec::new();
    }
    names(&answer.json())
}

fn names(group: &Value) -> Vec<String> {
    let files = group["files"].as_array().unwrap();
    assert_eq!(group["fileCount"], files.len());
    files.iter().map(|file| file["id"].as_str().unwrap().to_owned()).collect()
}

/// How many commits there are.
async fn commits(app: &App) -> usize {
    app.keepsake.core.catalog.refresh().await.unwrap();
    app.keepsake.core.catalog.uncompacted()
}

#[tokio::test]
async fn a_group_is_made_of_images_in_an_order_by_one_commit() {
    let app = app();
    let [a, b, c] = store(&app).await;
    let before = commits(&app).await;
    let answer = put(&app, "summer", &[], json!({ "files": [c, a], "title": "Summer" })).await;
    assert_eq!((answer.status.as_u16(), commits(&app).await), (200, before + 1));
    let group = answer.json();
    assert_eq!((names(&group), &group["title"]), (vec![c.clone(), a.clone()], &json!("Summer")));
    assert_eq!(group, get(&app, "/api/groups/summer").await.json());
    assert_eq!(group, get(&app, "/api/images?type=group").await.json()["images"][0]);
    let [first, second, outside] = [item(&app, &c).await, item(&app, &a).await, item(&app, &b).await];
    assert_eq!(
        (&first["groupId"], &first["order"], &first["groupTitle"]),
        (&json!("summer"), &json!(0), &json!("Summer"))
    );
    assert_eq!((&second["order"], &second["groupTitle"]), (&json!(1), &json!("Summer")));
    assert_eq!((&outside["groupId"], outside.get("groupTitle")), (&Value::Null, None));
}

#[tokio::test]
async fn setting_the_order_removes_unlisted_images_and_moves_listed_ones() {
    let app = app();
    let [a, b, c, d] = store(&app).await;
    put(&app, "g", &[], json!({ "files": [a, b], "title": "G" })).await;
    put(&app, "h", &[], json!({ "files": [c, d], "title": "H" })).await;
    let answer = put(&app, "g", &[], json!({ "files": [d, b] })).await.json();
    assert_eq!((names(&answer), &answer["title"]), (vec![d.clone(), b], &json!("G")));
    assert_eq!(files(&app, "h").await, [c]);
    let (left, taken) = (item(&app, &a).await, item(&app, &d).await);
    assert_eq!((&left["groupId"], left.get("groupTitle"), &left["order"]), (&Value::Null, None, &json!(999)));
    assert_eq!((&taken["groupId"], &taken["groupTitle"]), (&json!("g"), &json!("G")));
}

#[tokio::test]
async fn a_change_that_changes_nothing_commits_nothing() {
    let app = app();
    let [a, b] = store(&app).await;
    let body = json!({ "files": [b, a], "title": "T" });
    let first = put(&app, "g", &[], &body).await;
    let before = commits(&app).await;
    for (path, body) in [
        ("g", body),
        ("g", json!({ "files": [b, a] })),
        ("g/order", json!({ "files": [b, a] })),
        ("g/title", json!({ "title": "T" })),
        ("g/title", json!({ "titleImage": b })),
    ] {
        let again = put(&app, path, &[], &body).await;
        assert_eq!((again.status.as_u16(), again.json()), (200, first.json()), "{path} {body}");
        assert_eq!(again.header("etag"), first.header("etag"));
    }
    assert_eq!(commits(&app).await, before);
}

#[tokio::test]
async fn a_title_and_a_title_image_can_be_set_and_a_title_cleared() {
    let app = app();
    let [a, b, c] = store(&app).await;
    put(&app, "g", &[], json!({ "files": [a, b, c] })).await;
    let titled = put(&app, "g/title", &[], json!({ "title": "Ein Tag", "titleImage": b })).await.json();
    assert_eq!((&titled["title"], names(&titled)), (&json!("Ein Tag"), vec![b.clone(), a.clone(), c.clone()]));
    assert_eq!(titled["url"], format!("/uploads/{b}"));
    let moved = put(&app, "g/title", &[], json!({ "titleImage": c })).await.json();
    assert_eq!((&moved["title"], names(&moved)), (&json!("Ein Tag"), vec![c, b, a.clone()]));
    for nothing in [json!(null), json!("")] {
        put(&app, "g/title", &[], json!({ "title": "again" })).await;
        assert_eq!(put(&app, "g/title", &[], json!({ "title": nothing })).await.json()["title"], Value::Null);
    }
    assert_eq!(item(&app, &a).await.get("groupTitle"), None);
}

#[tokio::test]
async fn a_title_follows_images_that_come_and_stays_behind_those_that_go() {
    let app = app();
    let [a, b] = store(&app).await;
    put(&app, "g", &[], json!({ "files": [a], "title": "T" })).await;
    let uploaded = store_image_as(&app.keepsake, png(9), Fields { group_id: Some("g".into()), ..Fields::default() });
    let uploaded = uploaded.await;
    assert_eq!(item(&app, &uploaded).await["groupTitle"], "T");
    let patch = async |id: &str, body: Value| {
        let path = format!("/api/images/{id}");
        send(&router(&app), request("PATCH", &path, &[JSON], body.to_string())).await.json()
    };
    assert_eq!(patch(&b, json!({ "groupId": "g" })).await["groupTitle"], "T");
    assert_eq!(patch(&b, json!({ "description": "x" })).await["groupTitle"], "T");
    assert_eq!(patch(&b, json!({ "groupId": "h" })).await.get("groupTitle"), None);
    assert_eq!(patch(&a, json!({ "groupId": null })).await.get("groupTitle"), None);
    assert_eq!(get(&app, "/api/groups/g").await.json()["title"], "T", "the image that is left keeps it");
}

#[tokio::test]
async fn an_order_names_every_image_of_the_group_once() {
    let app = app();
    let [a, b, c, other] = store(&app).await;
    put(&app, "g", &[], json!({ "files": [a, b, c] })).await;
    let before = commits(&app).await;
    let answer = put(&app, "g/order", &[], json!({ "files": [b, c, a] })).await;
    assert_eq!((names(&answer.json()), commits(&app).await), (vec![b.clone(), c.clone(), a.clone()], before + 1));
    for wrong in
        [json!([a, b]), json!([a, b, c, other]), json!([a, b, b]), json!([a, b, c, c]), json!([]), json!([a, b, "x"])]
    {
        let answer = put(&app, "g/order", &[], json!({ "files": wrong })).await;
        assert_eq!(answer.problem(), (400, "invalid-request".to_owned()), "{wrong}");
    }
    assert_eq!(files(&app, "g").await, [b, c, a]);
}

#[tokio::test]
async fn what_makes_no_sense_changes_nothing() {
    let app = app();
    let [a, b] = store(&app).await;
    put(&app, "g", &[], json!({ "files": [a] })).await;
    let before = commits(&app).await;
    let bad = (400, "invalid-request");
    let missing = (404, "no-such-image");
    let long = "x".repeat(1_001);
    for (path, body, problem) in [
        ("g", json!({}), bad),
        ("g", json!([a]), bad),
        ("g", json!({ "files": [] }), bad),
        ("g", json!({ "files": [a, a] }), bad),
        ("g", json!({ "files": a }), bad),
        ("g", json!({ "files": [1] }), bad),
        ("g", json!({ "files": [a, "x.png"] }), missing),
        ("g", json!({ "files": [b, "../x"] }), missing),
        ("g", json!({ "files": [a], "title": 5 }), bad),
        ("g", json!({ "files": [a], "title": long }), bad),
        ("g", json!({ "files": [a], "titel": "x" }), bad),
        (&long, json!({ "files": [a] }), bad),
        ("g/title", json!({}), bad),
        ("g/title", json!({ "titleImage": b }), bad),
        ("g/title", json!({ "titleImage": null }), bad),
        ("g/title", json!({ "title": long }), bad),
        ("g/order", json!({ "order": [a] }), bad),
        ("x/title", json!({ "title": "x" }), (404, "no-such-group")),
        ("x/order", json!({ "files": [a] }), (404, "no-such-group")),
    ] {
        let answer = put(&app, path, &[], &body).await;
        assert_eq!(answer.problem(), (problem.0, problem.1.to_owned()), "{path} {body}");
    }
    for path in ["x", "x?keepImages=true"] {
        assert_eq!(delete(&app, path, &[]).await.problem(), (404, "no-such-group".to_owned()));
    }
    assert_eq!(delete(&app, "g?keepimages=true", &[]).await.problem().0, 400, "a misspelt keepImages deletes nothing");
    assert_eq!(get(&app, "/api/groups/x").await.problem(), (404, "no-such-group".to_owned()));
    let path = "/api/groups/g";
    let typeless = send(&router(&app), request("PUT", path, &[], json!({ "files": [b] }).to_string())).await;
    assert_eq!(typeless.problem(), (415, "unsupported-media-type".to_owned()));
    let huge = json!({ "files": ["x".repeat(1024 * 1024)] });
    assert_eq!(put(&app, "g", &[], huge).await.problem(), (413, "too-large".to_owned()));
    assert_eq!((files(&app, "g").await, commits(&app).await), (vec![a], before));
}

#[tokio::test]
async fn a_change_of_a_version_that_is_gone_changes_nothing() {
    let app = app();
    let [a, b] = store(&app).await;
    let made = put(&app, "g", &[], json!({ "files": [a, b] })).await;
    let stale = made.header("etag").to_owned();
    assert_eq!(get(&app, "/api/groups/g").await.header("etag"), stale);
    assert_eq!(ask(&app, "GET", "/api/groups/g", &[("if-none-match", &stale)]).await.status, 304);
    let fresh = put(&app, "g/title", &[("if-match", &stale)], json!({ "title": "T" })).await.header("etag").to_owned();
    assert_ne!(fresh, stale);
    for (path, body) in [
        ("g", json!({ "files": [a] })),
        ("g/title", json!({ "title": "U" })),
        ("g/order", json!({ "files": [b, a] })),
        ("new", json!({ "files": [a] })),
    ] {
        let answer = put(&app, path, &[("if-match", &stale)], &body).await;
        assert_eq!(answer.problem(), (412, "precondition-failed".to_owned()), "{path}");
    }
    for path in ["g", "g?keepImages=true"] {
        assert_eq!(
            delete(&app, path, &[("if-match", &stale)]).await.problem(),
            (412, "precondition-failed".to_owned())
        );
    }
    let group = get(&app, "/api/groups/g").await;
    assert_eq!((names(&group.json()), group.header("etag")), (vec![a, b], fresh.as_str()));
    assert_eq!(delete(&app, "g", &[("if-match", &fresh)]).await.status, 200);
}

#[tokio::test]
async fn a_group_that_was_looked_at_in_a_list_is_only_deleted_as_it_was_there() {
    let app = app();
    let [a, b, c] = store(&app).await;
    put(&app, "g", &[], json!({ "files": [a, b] })).await;
    let listed = async || {
        let list = get(&app, "/api/images?type=group").await.json();
        list["images"][0]["etag"].as_str().unwrap().to_owned()
    };
    let looked_at = listed().await;
    let fields = Fields { group_id: Some("g".to_owned()), ..Fields::default() };
    let came = store_image_as(&app.keepsake, png(9), fields).await;
    for path in ["g", "g?keepImages=true"] {
        assert_eq!(
            delete(&app, path, &[("if-match", &looked_at)]).await.problem(),
            (412, "precondition-failed".to_owned())
        );
    }
    let pushes_out = put(&app, "g", &[("if-match", &looked_at)], json!({ "files": [a, b, c] })).await;
    assert_eq!(pushes_out.problem(), (412, "precondition-failed".to_owned()));
    assert_eq!(files(&app, "g").await, [a, b, came.clone()]);
    assert_eq!(get(&app, &format!("/uploads/{came}")).await.body, png(9));

    let answer = delete(&app, "g", &[("if-match", &listed().await)]).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["images"]), (200, &json!(3)));
    assert!(files(&app, "g").await.is_empty());
}

#[tokio::test]
async fn a_group_is_deleted_with_its_images_in_one_commit() {
    let app = app();
    let [a, b, c] = store(&app).await;
    import(&app.keepsake, "lost.png", json!({ "groupId": "g" })).await;
    put(&app, "g", &[], json!({ "files": [a, b, "lost.png"] })).await;
    let before = commits(&app).await;
    let answer = delete(&app, "g", &[]).await;
    assert_eq!((answer.status.as_u16(), commits(&app).await), (200, before + 1));
    let answer = answer.json();
    assert_eq!((&answer["id"], &answer["images"]), (&json!("g"), &json!(3)));
    assert!(answer["message"].is_string());
    assert!(files(&app, "g").await.is_empty());
    for id in [&a, &b] {
        assert_eq!(get(&app, &format!("/uploads/{id}")).await.status, 404);
        let key = shared::layout::image(&shared::layout::ImageId::new(id).unwrap());
        assert!(app.keepsake.core.primary.head(&key).await.unwrap_err().is_not_found());
    }
    assert_eq!(item(&app, &c).await["id"], json!(c));
    let archived = shared::digest::Digest::of(&png(1));
    assert!(app.keepsake.core.archive.store().head(&shared::layout::archived_image(&archived)).await.is_ok());
}

#[tokio::test]
async fn a_group_that_is_dissolved_leaves_its_images() {
    let app = app();
    let [a, b] = store(&app).await;
    put(&app, "g", &[], json!({ "files": [a, b], "title": "T" })).await;
    let answer = delete(&app, "g?keepImages=true", &[]).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["images"]), (200, &json!(2)));
    assert!(files(&app, "g").await.is_empty());
    for id in [a, b] {
        let item = item(&app, &id).await;
        assert_eq!((&item["groupId"], item.get("groupTitle")), (&Value::Null, None));
    }
}

#[tokio::test]
async fn any_text_can_be_the_id_of_a_group() {
    let app = app();
    let [a] = store(&app).await;
    for (path, id) in [("a%20b%2Fc", "a b/c"), ("%C3%9C", "Ü"), ("%22%3Cscript%3E", "\"<script>"), ("...", "...")] {
        let answer = put(&app, path, &[], json!({ "files": [a] })).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["id"]), (200, &json!(id)));
        assert_eq!(files(&app, path).await, std::slice::from_ref(&a));
    }
}

/// A store in memory whose puts fail in this way while the switch is on.
fn failing(kind: ErrorKind) -> (App, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&fails);
    let plan = move |operation: &Operation| {
        if operation.name == "delete" && operation.key.starts_with("uploads/") && kind == ErrorKind::Full {
            switch.store(false, Ordering::SeqCst);
        }
        (operation.name == "put" && switch.load(Ordering::SeqCst)).then_some(Fault::Before(kind))
    };
    (app_on(Arc::new(FaultStore::with_plan(Arc::new(MemoryStore::new()), plan))), fails)
}

#[tokio::test]
async fn a_change_that_could_not_be_stored_leaves_the_group_as_it_was() {
    let (app, fails) = failing(ErrorKind::ReadOnly);
    let [a, b] = store(&app).await;
    put(&app, "g", &[], json!({ "files": [a, b] })).await;
    fails.store(true, Ordering::SeqCst);
    for answer in [
        put(&app, "g", &[], json!({ "files": [b] })).await,
        put(&app, "g/order", &[], json!({ "files": [b, a] })).await,
        put(&app, "g/title", &[], json!({ "title": "T" })).await,
        delete(&app, "g", &[]).await,
        delete(&app, "g?keepImages=true", &[]).await,
    ] {
        assert_eq!(answer.problem(), (503, "read-only".to_owned()));
    }
    let group = get(&app, "/api/groups/g").await.json();
    assert_eq!((names(&group), &group["title"]), (vec![a.clone(), b], &Value::Null));
    assert_eq!(get(&app, &format!("/uploads/{a}")).await.body, png(1));
}

#[tokio::test]
async fn a_group_can_be_deleted_from_a_full_disk() {
    let (app, fails) = failing(ErrorKind::Full);
    let [a, b] = store(&app).await;
    put(&app, "g", &[], json!({ "files": [a, b] })).await;
    fails.store(true, Ordering::SeqCst);
    assert_eq!(
        put(&app, "g/title", &[], json!({ "title": "T" })).await.problem(),
        (507, "insufficient-storage".to_owned())
    );
    assert_eq!(delete(&app, "g", &[("if-match", "\"other\"")]).await.problem().0, 412);
    assert_eq!(files(&app, "g").await, [a, b], "bytes go for a delete that is meant, and for no other");
    assert_eq!(delete(&app, "g", &[]).await.json()["images"], 2);
    assert!(files(&app, "g").await.is_empty());
}

#[tokio::test]
async fn a_group_is_downloaded_as_a_zip_with_safe_names_in_its_order() {
    let app = app();
    let upload = async |name: &str, bytes: Vec<u8>| {
        let image = shared::upload::NewImage { body: bytes.into(), original_name: Some(name.to_owned()) };
        app.keepsake.uploads.upload(vec![image], Fields::default(), None).await.unwrap().images[0].0.to_string()
    };
    let (a, b, c) = (
        upload("Cat.png", png(1)).await,
        upload("Cat.png", png(2)).await,
        upload("../..\\evil:\u{202e}.png", png(3)).await,
    );
    let link = app.keepsake.uploads.add_link("https://example.com/x", Fields::default()).await.unwrap().images[0]
        .0
        .to_string();
    import(&app.keepsake, "lost.png", json!({ "originalName": "lost.png" })).await;
    put(&app, "g", &[], json!({ "files": [b, c, link, a, "lost.png"], "title": "A/B \u{1f431}" })).await;

    let router = images::server_routes().into_router(app.clone());
    let answer = send(&router, request("GET", "/api/groups/g/download", &[], "")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/zip"));
    let disposition = "attachment; filename=\"B _.zip\"; filename*=UTF-8''B%20%F0%9F%90%B1.zip";
    assert_eq!(answer.header("content-disposition"), disposition);
    let length = answer.body.len().to_string();
    assert_eq!(answer.header("content-length"), length);
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(answer.body)).unwrap();
    let mut entries = Vec::new();
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        entries.push((entry.name().unwrap().into_owned(), bytes));
    }
    let expected = [
        ("1 Cat.png", png(2)),
        ("2 evil_.png", png(3)),
        ("4 Cat.png", png(1)),
        ("links.txt", b"https://example.com/x\n".to_vec()),
        ("missing.txt", b"5 lost.png\n".to_vec()),
    ];
    assert_eq!(entries, expected.map(|(name, bytes)| (name.to_owned(), bytes)));

    let head = send(&router, request("HEAD", "/api/groups/g/download", &[], "")).await;
    assert_eq!((head.status.as_u16(), head.body.len(), head.header("content-disposition")), (200, 0, disposition));
    assert_eq!(head.header("content-length"), length);
    let unknown = send(&router, request("GET", "/api/groups/x/download", &[], "")).await;
    assert_eq!(unknown.problem(), (404, "no-such-group".to_owned()));
}
