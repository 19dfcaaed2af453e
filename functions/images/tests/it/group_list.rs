//! Lists in which each group stands once.

use jiff::SignedDuration;
use serde_json::{Value, json};
use shared::http::App;
use shared::images::Fields;
use shared::testing::{app, import, png, store_image_as};

use super::{ask, get};

/// Stores an image, a second after the last one.
async fn store(app: &App, number: u32, group: &str) -> String {
    let fields = Fields {
        category: Some(if number.is_multiple_of(2) { "even" } else { "odd" }.to_owned()),
        description: Some(format!("number {number}")),
        group_id: Some(group.to_owned()).filter(|group| !group.is_empty()),
        order: None,
        ..Fields::default()
    };
    app.keepsake.core.clock.advance(SignedDuration::from_secs(1));
    store_image_as(&app.keepsake, png(number), fields).await
}

/// What a list shows: names of images, and of groups with those of their images.
fn shown(list: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let entry = |item: &Value| match item["files"].as_array() {
        None => text(&item["id"]),
        Some(files) => {
            let files: Vec<String> = files.iter().map(|file| text(&file["id"])).collect();
            format!("{}({})", text(&item["id"]), files.join(" "))
        }
    };
    list["images"].as_array().unwrap().iter().map(entry).collect()
}

async fn list(app: &App, query: &str) -> Value {
    let answer = get(app, &format!("/api/images?{query}")).await;
    assert_eq!(answer.status, 200, "{query}");
    answer.json()
}

#[tokio::test]
async fn group_is_listed_once_at_its_newest_image_in_order() {
    let app = app();
    let (a, b, c) = (store(&app, 1, "").await, store(&app, 2, "g").await, store(&app, 3, "").await);
    let (d, e) = (store(&app, 4, "g").await, store(&app, 5, "").await);
    let all = list(&app, "").await;
    assert_eq!(shown(&all), [e.clone(), format!("g({b} {d})"), c.clone(), a.clone()]);
    assert_eq!((all.get("next"), &all["total"]), (None, &json!(4)));

    let mut group = all["images"][1].clone();
    let files = group["files"].take();
    let etag = group["etag"].take();
    assert_eq!(etag, get(&app, "/api/groups/g").await.header("etag"));
    let expected = json!({
        "type": "group", "id": "g", "etag": null, "groupId": "g", "title": null, "category": "even", "description": "number 2",
        "uploadDate": "2026-11-20T08:00:04.000Z", "url": format!("/uploads/{b}"), "order": null, "fileCount": 2,
        "files": null,
    });
    assert_eq!(group, expected);
    let one_by_one = list(&app, "flat=true").await;
    assert_eq!(shown(&one_by_one), [e, d, c, b, a]);
    assert_eq!(files, json!([one_by_one["images"][3], one_by_one["images"][1]]));
    assert_eq!(shown(&list(&app, "groupId=g").await), shown(&list(&app, "groupId=g&flat=true").await));
    let etag = get(&app, "/api/images").await.header("etag").to_owned();
    assert_eq!(ask(&app, "GET", "/api/images", &[("if-none-match", &etag)]).await.status, 304);
}

#[tokio::test]
async fn a_filter_takes_a_group_that_has_one_such_image_and_shows_it_whole() {
    let app = app();
    let (a, b, c) = (store(&app, 1, "g").await, store(&app, 2, "g").await, store(&app, 3, "h").await);
    let d = store(&app, 4, "").await;
    import(&app.keepsake, "film.mp4", json!({ "type": "video", "groupId": "h", "groupTitle": "Ferien am Meer" })).await;
    import(&app.keepsake, "none.png", json!({ "type": "image", "groupId": "" })).await;
    let (g, h) = (format!("g({a} {b})"), format!("h({c} film.mp4)"));
    let none = "none.png".to_owned();
    for (query, expected) in [
        ("", vec![&d, &h, &g, &none]),
        ("category=even", vec![&d, &g]),
        ("category=odd", vec![&h, &g]),
        ("type=video", vec![&h]),
        ("type=image", vec![&d, &h, &g, &none]),
        ("type=group", vec![&h, &g]),
        ("type=group&category=even", vec![&g]),
        ("type=link", vec![]),
        ("q=NUMBER+4", vec![&d]),
        ("q=number+1", vec![&g]),
        ("q=meer", vec![&h]),
    ] {
        let list = list(&app, query).await;
        assert_eq!(shown(&list).iter().collect::<Vec<_>>(), expected, "{query}");
        assert_eq!(list["total"], expected.len(), "{query}");
    }
}

/// Reads a list to its end, two entries at a time, doing something between its first and its second page.
async fn paged(app: &App, query: &str, meanwhile: impl AsyncFnOnce()) -> Vec<String> {
    let first = list(app, &format!("limit=2{query}")).await;
    meanwhile().await;
    let (mut seen, mut next) = (shown(&first), first["next"].as_str().map(str::to_owned));
    while let Some(cursor) = next {
        let page = list(app, &format!("limit=2{query}&cursor={cursor}")).await;
        assert_eq!(page.get("total"), None, "only the first page counts");
        assert!(shown(&page).len() <= 2);
        seen.extend(shown(&page));
        next = page["next"].as_str().map(str::to_owned);
    }
    seen
}

#[tokio::test]
async fn a_group_whose_images_lie_pages_apart_is_listed_once() {
    let app = app();
    for number in 0..12 {
        store(&app, number, ["g", "", "h"][number as usize % 3]).await;
    }
    let whole = shown(&list(&app, "").await);
    assert_eq!(whole.len(), 6);
    assert_eq!(paged(&app, "", async || ()).await, whole);
    let groups = shown(&list(&app, "type=group").await);
    assert_eq!(paged(&app, "&type=group", async || ()).await, groups);
}

#[tokio::test]
async fn a_group_that_grows_while_a_list_is_read_is_not_missed() {
    let app = app();
    let a = store(&app, 1, "g").await;
    let (b, c, d) = (store(&app, 2, "").await, store(&app, 3, "seen").await, store(&app, 4, "").await);
    let (mut e, mut f) = (String::new(), String::new());
    let seen = paged(&app, "", async || {
        e = store(&app, 5, "g").await;
        f = store(&app, 6, "seen").await;
        store(&app, 7, "").await;
        store(&app, 8, "new").await;
    });
    assert_eq!(seen.await, [d, format!("seen({c})"), b, format!("g({a} {e})")]);
    assert_eq!(shown(&list(&app, "limit=4").await)[2], format!("seen({c} {f})"));
}

#[tokio::test]
async fn a_group_that_loses_its_newest_image_moves_down_to_the_next() {
    let app = app();
    let (a, b) = (store(&app, 1, "g").await, store(&app, 2, "").await);
    let c = store(&app, 3, "g").await;
    assert_eq!(shown(&list(&app, "").await), [format!("g({a} {c})"), b.clone()]);
    app.keepsake.images.delete(&c, shared::Any).await.unwrap();
    assert_eq!(shown(&list(&app, "").await), [b.clone(), format!("g({a})")]);
    app.keepsake.images.delete(&a, shared::Any).await.unwrap();
    let list = list(&app, "").await;
    assert_eq!((shown(&list), &list["total"]), (vec![b], &json!(1)));
}

#[tokio::test]
async fn lambda_group_pages_fit_the_response_limit() {
    let app = App { on_lambda: true, ..app() };
    for n in 0..600 {
        let fields = json!({ "description": "x".repeat(9_000), "groupId": format!("g{}", n / 590), "order": n });
        import(&app.keepsake, &format!("{n:03}.png"), fields).await;
    }
    let first = get(&app, "/api/images").await;
    assert!(first.body.len() <= 4_500_000);
    let first = first.json();
    // Where no time is known, names count.
    assert_eq!((&first["images"][0]["id"], &first["total"]), (&json!("g1"), &json!(2)));
    let cursor = first["next"].as_str().unwrap();
    let second = get(&app, &format!("/api/images?cursor={cursor}")).await;
    assert!(second.body.len() <= 4_500_000);
    let group = &second.json()["images"][0];
    let files = group["files"].as_array().unwrap();
    assert_eq!((&group["fileCount"], &files[0]["id"]), (&json!(590), &json!("000.png")));
    assert!((200..590).contains(&files.len()), "{}", files.len());
    let shown = get(&app, "/api/groups/g0").await;
    assert!(shown.body.len() <= 4_500_000 && shown.json()["fileCount"] == 590);
}
