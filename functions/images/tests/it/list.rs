//! Listing and showing.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};
use shared::http::{Access, App};
use shared::images::Fields;
use shared::store::testing::{FaultStore, MemoryStore};
use shared::testing::{app, app_on, import, keepsake_on, png, request, send, store_image, store_image_as};

use super::{ask, get, router};

/// Five images, a second apart; their ids, newest first.
async fn five(app: &App) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..5 {
        let fields = Fields {
            category: Some(if n % 2 == 0 { "pets" } else { "fun" }.to_owned()),
            description: Some(format!("Bild Nummer {n}")),
            group_id: (n < 2).then(|| "g".to_owned()),
            order: None,
            ..Fields::default()
        };
        ids.insert(0, store_image_as(&app.keepsake, png(n), fields).await);
        app.keepsake.core.clock.advance(SignedDuration::from_secs(1));
    }
    ids
}

fn ids(list: &Value) -> Vec<String> {
    list["images"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn all_images_newest_first_with_every_field() {
    let app = app();
    let stored = five(&app).await;
    let answer = get(&app, "/api/images?flat=true").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    let list = answer.json();
    assert_eq!(ids(&list), stored);
    assert_eq!((list.get("next"), &list["total"]), (None, &json!(5)));
    let fields: Vec<&String> = list["images"][0].as_object().unwrap().keys().collect();
    let documented = [
        "category",
        "contentType",
        "description",
        "filename",
        "groupId",
        "height",
        "id",
        "order",
        "orientation",
        "originalName",
        "sha256",
        "size",
        "type",
        "uploadDate",
        "url",
        "width",
    ];
    assert_eq!(fields, documented);
}

#[tokio::test]
async fn an_empty_store_has_an_empty_list() {
    assert_eq!(get(&app(), "/api/images").await.json(), json!({ "images": [], "total": 0 }));
}

#[tokio::test]
async fn a_list_can_be_read_page_by_page() {
    let app = app();
    let stored = five(&app).await;
    let (mut seen, mut target) = (Vec::new(), "/api/images?flat=true&limit=2".to_owned());
    for expected in [2, 2, 1] {
        let page = get(&app, &target).await.json();
        assert_eq!(ids(&page).len(), expected);
        seen.extend(ids(&page));
        target = format!("/api/images?flat=true&limit=2&cursor={}", page["next"].as_str().unwrap_or("END"));
    }
    assert!(target.ends_with("END"));
    assert_eq!(seen, stored);
    assert_eq!(ids(&get(&app, "/api/images?flat=true&limit=5000").await.json()), stored);
}

#[tokio::test]
async fn a_list_can_be_filtered() {
    let app = app();
    let stored = five(&app).await;
    for (query, expected) in [
        ("category=pets", &[0, 2, 4][..]),
        ("groupId=g", &[3, 4]),
        ("type=image", &[0, 1, 2, 3, 4]),
        ("type=video", &[]),
        ("q=nummer+3", &[1]),
        ("q=3+bild", &[1]),
        ("q=pets+BILD+2", &[2]),
        ("q=pets+3", &[]),
        ("q=++", &[0, 1, 2, 3, 4]),
        ("q=PETS", &[0, 2, 4]),
        ("category=fun&q=bild&groupId=g", &[3]),
        ("category=&groupId=&type=&q=&cursor=", &[0, 1, 2, 3, 4]),
    ] {
        let expected: Vec<String> = expected.iter().map(|n| stored[*n].clone()).collect();
        let list = get(&app, &format!("/api/images?flat=true&{query}")).await.json();
        assert_eq!((ids(&list), &list["total"]), (expected.clone(), &json!(expected.len())), "{query}");
        let page = get(&app, &format!("/api/images?flat=true&{query}&limit=1")).await.json();
        assert_eq!(page["total"], expected.len(), "{query}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let app = app();
    for query in [
        "limit=0",
        "limit=-1",
        "limit=ten",
        "limit=1.5",
        "limit=99999999999999999999999",
        "cursor=x",
        "cursor=AAAA",
        "limit=1&limit=2",
        "flat=yes",
    ] {
        let answer = get(&app, &format!("/api/images?{query}")).await;
        assert_eq!(answer.problem(), (400, "invalid-request".to_owned()), "{query}");
    }
}

#[tokio::test]
async fn a_list_that_has_not_changed_is_not_sent_again() {
    let app = app();
    five(&app).await;
    let etag = get(&app, "/api/images").await.header("etag").to_owned();
    assert!(etag.starts_with('"'));
    for tags in [etag.clone(), format!("\"x\", {etag}"), "*".to_owned(), format!("W/{etag}")] {
        let answer = ask(&app, "GET", "/api/images", &[("if-none-match", &tags)]).await;
        assert_eq!((answer.status.as_u16(), answer.body.len(), answer.header("etag")), (304, 0, etag.as_str()));
        assert_eq!(answer.header("cache-control"), "no-cache");
    }
    store_image(&app.keepsake, png(9)).await;
    let answer = ask(&app, "GET", "/api/images", &[("if-none-match", &etag)]).await;
    assert_eq!(answer.status, 200);
    assert_ne!(answer.header("etag"), etag);
}

#[tokio::test]
async fn on_lambda_a_page_is_as_long_as_its_answer_may_be() {
    let app = App { on_lambda: true, ..app() };
    for n in 0..600 {
        import(&app.keepsake, &format!("{n:03}.png"), json!({ "description": "x".repeat(9_000) })).await;
    }
    let first = get(&app, "/api/images?flat=true").await;
    assert!(first.body.len() <= 4_500_000);
    let next = first.json()["next"].as_str().unwrap().to_owned();
    let second = get(&app, &format!("/api/images?flat=true&cursor={next}")).await;
    assert_eq!(ids(&first.json()).len() + ids(&second.json()).len(), 600);
}

#[tokio::test]
async fn one_image_can_be_shown_and_revalidated() {
    let app = app();
    let id = store_image(&app.keepsake, png(1)).await;
    let path = format!("/api/images/{id}");
    let answer = get(&app, &path).await;
    assert_eq!((answer.status.as_u16(), answer.json()["id"].as_str()), (200, Some(id.as_str())));
    assert_eq!(answer.json(), get(&app, "/api/images").await.json()["images"][0]);
    let etag = answer.header("etag").to_owned();
    assert!(etag.starts_with("\"v1-"), "{etag}");
    assert_eq!(ask(&app, "GET", &path, &[("if-none-match", &etag)]).await.status, 304);
    assert_eq!(
        ask(&app, "GET", &path, &[("if-match", "\"other\"")]).await.problem(),
        (412, "precondition-failed".to_owned())
    );
    let head = ask(&app, "HEAD", &path, &[]).await;
    assert_eq!((head.status, head.header("etag"), head.body.len()), (answer.status, etag.as_str(), 0));
}

#[tokio::test]
async fn what_is_not_there_is_not_found_however_it_is_asked_for() {
    let app = app();
    for id in ["x.png", "..%2Fimage-metadata.json", "%2e%2e", "%00", "$keepsake", "a%5Cb", "%FF", ".hidden"] {
        for path in [format!("/api/images/{id}"), format!("/uploads/{id}")] {
            let answer = get(&app, &path).await;
            assert_eq!(answer.problem().0, 404, "{path}");
        }
    }
    for path in ["/uploads/", "/uploads", "/uploads/a/b.png", "/api/images/", "/uploads/../image-metadata.json"] {
        assert_eq!(get(&app, path).await.problem(), (404, "not-found".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn reading_never_writes_and_needs_no_token() {
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let access = Access::new(Some(shared::config::Secret::new("x")), Vec::new(), false);
    let app = App::new(keepsake_on(store.clone(), Default::default()), access);
    let id = store_image(&app.keepsake, png(1)).await;
    let writes = |store: &FaultStore| ["put", "delete", "copy", "sweep"].map(|name| store.counts().get(name).copied());
    let before = writes(&store);
    for path in ["/api/images".to_owned(), format!("/api/images/{id}"), format!("/uploads/{id}")] {
        for method in ["GET", "HEAD"] {
            assert_eq!(ask(&app, method, &path, &[]).await.status, 200);
        }
    }
    assert_eq!(writes(&store), before);
}

#[tokio::test]
async fn a_store_out_of_reach_is_no_empty_list() {
    use shared::store::ErrorKind;
    use shared::store::testing::Fault;
    let fails = |_: &_| Some(Fault::Before(ErrorKind::Unavailable));
    let app = app_on(Arc::new(FaultStore::with_plan(Arc::new(MemoryStore::new()), fails)));
    for path in ["/api/images", "/api/images/x.png", "/uploads/x.png"] {
        let answer = get(&app, path).await;
        assert_eq!(answer.problem(), (503, "store-unavailable".to_owned()));
        assert_eq!(answer.header("retry-after"), "5");
    }
}

#[tokio::test]
async fn images_without_a_category_can_be_listed_alone() {
    let app = app();
    let mut stored = Vec::new();
    for category in ["pets", "", "fun"] {
        let fields = Fields { category: Some(category.to_owned()), ..Fields::default() };
        stored.push(store_image_as(&app.keepsake, png(1), fields).await);
        app.keepsake.core.clock.advance(SignedDuration::from_secs(1));
    }
    let cleared = json!({ "category": null }).to_string();
    let patch =
        request("PATCH", &format!("/api/images/{}", stored[2]), &[("content-type", "application/json")], cleared);
    assert_eq!(send(&router(&app), patch).await.status, 200);
    for flat in ["", "&flat=true"] {
        let list = get(&app, &format!("/api/images?withoutCategory=true{flat}")).await.json();
        assert_eq!((&list["total"], ids(&list)), (&json!(2), vec![stored[2].clone(), stored[1].clone()]));
        for all in ["false", ""] {
            let list = get(&app, &format!("/api/images?withoutCategory={all}{flat}")).await.json();
            assert_eq!(list["total"], 3);
        }
    }
    assert_eq!(get(&app, "/api/images?withoutCategory=true&category=pets").await.json()["total"], 0);
    assert_eq!(get(&app, "/api/images?withoutCategory=yes").await.problem().0, 400);
}
