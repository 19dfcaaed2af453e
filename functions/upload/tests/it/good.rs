//! Uploads that succeed.

use jiff::SignedDuration;
use serde_json::{Value, json};
use shared::digest::Digest;
use shared::http::App;
use shared::images::Fields;
use shared::media::Format;
use shared::testing::{app, app_on, get, mp4, png, request, samples, send, store_image, webm};

use super::{Form, form_request, keys, router, send_raw};

#[tokio::test]
async fn a_form_with_one_image_is_answered_with_all_that_is_known_of_it() {
    let app = app();
    let form = Form::new().file("image", "C:\\photos\\Cat.PNG", &png(1)).text("category", "pets").text("groupId", "g");
    let answer = form.text("description", "Ein Kätzchen").text("order", " 7 ").send(&app).await;
    assert_eq!(answer.status, 201);
    let item = answer.json();
    let id = item["id"].as_str().unwrap();
    let expected = json!({
        "id": id, "url": format!("/uploads/{id}"), "filename": id, "category": "pets", "description": "Ein Kätzchen",
        "uploadDate": "2026-11-20T08:00:00.000Z", "type": "image", "groupId": "g", "order": 7,
        "originalName": "Cat.PNG", "contentType": "image/png", "size": png(1).len(), "width": 4, "height": 3,
        "orientation": 1,
        "sha256": Digest::of(&png(1)).to_string(), "copies": 2,
    });
    assert_eq!(item, expected);
    assert!(id.ends_with(".png"));
    assert_eq!(answer.header("location"), format!("/uploads/{id}"));
    assert_eq!((answer.header("x-content-type-options"), answer.header("cache-control")), ("nosniff", "no-store"));
    assert!(keys(&app).await.contains(&format!("uploads/{id}")));
}

#[tokio::test]
async fn urls_in_answers_begin_with_the_public_url() {
    let app = App { public_url: "https://photos.example".into(), ..app() };
    let one = Form::new().file("image", "a.png", &png(1)).send(&app).await;
    let url = format!("https://photos.example/uploads/{}", one.json()["id"].as_str().unwrap());
    assert_eq!((one.json()["url"].as_str().unwrap(), one.header("location")), (&*url, &*url));
    let plain = [("host", "other.example"), ("accept", "text/plain")];
    let plain = send(&router(&app), request("POST", "/api/upload", &plain, png(2))).await;
    assert!(String::from_utf8_lossy(&plain.body).starts_with("https://photos.example/uploads/"));
    let announced = json!({ "size": 1, "sha256": Digest::of(b"a").to_string() }).to_string();
    let ticket = send(&router(&app), request("POST", "/api/upload/tickets", &[], announced)).await.json();
    for url in ["uploadUrl", "completeUrl"] {
        assert!(ticket[url].as_str().unwrap().starts_with("https://photos.example/api/upload/"), "{ticket}");
    }
}

#[tokio::test]
async fn fields_may_stand_before_the_image_and_are_not_needed() {
    let app = app();
    let before = Form::new().text("category", "pets").file("image", "a.png", &png(1)).send(&app).await.json();
    assert_eq!(before["category"], "pets");
    let without = Form::new().file("file", "a.png", &png(2)).send(&app).await.json();
    assert_eq!((&without["category"], &without["description"]), (&json!("fun"), &json!("")));
    assert_eq!((&without["groupId"], &without["order"]), (&Value::Null, &json!(999)));
}

#[tokio::test]
async fn empty_form_fields_count_as_missing_but_for_the_category() {
    let form = Form::new().text("category", "").text("groupId", "").text("order", "").text("description", "");
    let item = form.file("image", "a.png", &png(1)).file("images", "", b"").send(&app()).await.json();
    assert_eq!((&item["category"], &item["groupId"], &item["order"]), (&json!(""), &Value::Null, &json!(999)));
}

#[tokio::test]
async fn several_images_are_one_commit_and_one_list() {
    let app = app();
    let form =
        Form::new().file("image", "a.png", &png(1)).file("images", "b.png", &png(2)).file("files", "c.png", &png(3));
    let form = form.file("file", "d.png", &png(4)).file("images[]", "e.png", &png(5)).text("groupId", "g");
    let answer = form.text("order", "5").send(&app).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (201, ""));
    let images = answer.json()["images"].as_array().unwrap().clone();
    let names: Vec<_> = images.iter().map(|image| image["originalName"].as_str().unwrap()).collect();
    assert_eq!(names, ["a.png", "b.png", "c.png", "d.png", "e.png"]);
    let orders: Vec<_> = images.iter().map(|image| image["order"].as_i64().unwrap()).collect();
    assert_eq!(orders, [5, 6, 7, 8, 9]);
    assert!(images.iter().all(|image| image["copies"] == 2 && image["groupId"] == "g"));
    let commits = keys(&app).await.iter().filter(|key| key.starts_with("image-metadata.d/")).count();
    assert_eq!(commits, 1);
}

/// The parser of forms reads on at each part, however small that is.
#[tokio::test]
async fn a_large_image_may_follow_many_small_ones_that_arrived_with_it() {
    let app = app();
    let large = [png(0), vec![7; 2 << 20]].concat();
    let mut form = Form::new().text("category", "a").text("description", "b").text("groupId", "c");
    for number in 1..20 {
        form = form.file("images", "small.png", &png(number));
    }
    let answer = form.file("images", "large.png", &large).send(&app).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let images = answer.json()["images"].as_array().unwrap().clone();
    assert_eq!((images.len(), images[19]["size"].as_u64()), (20, Some(large.len() as u64)));
}

#[tokio::test]
async fn an_image_without_an_order_is_the_next_of_its_group() {
    let app = app();
    store_image_of_group(&app, Some(3)).await;
    let next = Form::new().file("image", "a.png", &png(2)).text("groupId", "g").send(&app).await.json();
    assert_eq!(next["order"], 4);
}

async fn store_image_of_group(app: &App, order: Option<i64>) {
    let fields = Fields { group_id: Some("g".to_owned()), order, ..Fields::default() };
    shared::testing::store_image_as(&app.keepsake, png(1), fields).await;
}

#[tokio::test]
async fn a_body_that_is_an_image_is_taken_whatever_it_is_declared_as() {
    let app = app();
    for headers in [
        &[("content-type", "image/png")][..],
        &[("content-type", "image/gif")],
        &[("content-type", "application/octet-stream")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[],
    ] {
        let answer = send_raw(&app, "/api/upload", headers, png(1)).await;
        let item = answer.json();
        assert_eq!((answer.status.as_u16(), &item["contentType"]), (201, &json!("image/png")), "{headers:?}");
        assert_eq!(item["originalName"], Value::Null);
    }
}

#[tokio::test]
async fn a_raw_image_has_its_fields_in_the_query_and_its_name_in_a_header() {
    let target = "/api/upload?category=a%26b&description=x+y&groupId=g&order=-2&unknown=1";
    for (header, name) in [("%C3%9Cber%20uns.png", "Über uns.png"), ("100%.png", "100%.png"), ("/tmp/x.png", "x.png")]
    {
        let item = send_raw(&app(), target, &[("x-filename", header)], png(1)).await.json();
        assert_eq!(item["originalName"], name);
        assert_eq!((&item["category"], &item["description"]), (&json!("a&b"), &json!("x y")));
        assert_eq!((&item["groupId"], &item["order"]), (&json!("g"), &json!(-2)));
    }
}

#[tokio::test]
async fn a_file_name_beyond_ascii_is_read_in_either_form() {
    for disposition in [
        "name=\"image\"; filename=\"Über.png\"",
        "name=\"image\"; filename*=UTF-8''%C3%9Cber.png",
        "name=\"image\"; filename=\"x.png\"; filename*=utf-8'de'%C3%9Cber.png",
    ] {
        let item = Form::new().part(disposition, &png(1)).send(&app()).await.json();
        assert_eq!(item["originalName"], "Über.png", "{disposition}");
    }
}

#[tokio::test]
async fn every_format_is_taken_and_stored_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let app = app_on(std::sync::Arc::new(shared::store::DiskStore::open(folder.path()).unwrap()));
    for (format, bytes) in samples() {
        let item = Form::new().file("image", "x", &bytes).send(&app).await.json();
        assert_eq!(item["contentType"], format.content_type());
        let stored = std::fs::read(folder.path().join("uploads").join(item["id"].as_str().unwrap())).unwrap();
        assert!(stored == bytes, "{format}");
    }
    assert_eq!(Format::ALL.len(), samples().len());
}

#[tokio::test]
async fn an_image_too_large_for_memory_is_spooled() {
    let folder = tempfile::tempdir().unwrap();
    let app = app_on(std::sync::Arc::new(shared::store::DiskStore::open(folder.path()).unwrap()));
    let large = [png(1), (0..3_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761) as u8).collect()].concat();
    let chunks: Vec<Result<Vec<u8>, std::io::Error>> =
        Form::new().file("image", "x", &large).bytes().chunks(7_000).map(|chunk| Ok(chunk.to_vec())).collect();
    let body = axum::body::Body::from_stream(futures::stream::iter(chunks));
    let item = send(&router(&app), form_request(body, &[])).await.json();
    let stored = std::fs::read(folder.path().join("uploads").join(item["id"].as_str().unwrap())).unwrap();
    assert!(stored == large && item["sha256"] == Digest::of(&large).to_string());
}

#[tokio::test]
async fn digests_that_match_are_no_obstacle() {
    let app = app();
    let digest = |bytes: &[u8]| format!("sha-512=:AAAA:,md5=x, sha-256=:{}:;q=1", Digest::of(bytes).to_base64());
    for name in ["content-digest", "repr-digest"] {
        let answer = send_raw(&app, "/api/upload", &[(name, digest(&png(1)).as_str())], png(1)).await;
        assert_eq!(answer.status, 201, "{name}");
        let form = [Form::new().file("image", "a.png", &png(1)).bytes(), b"an epilogue".to_vec()].concat();
        let announced = digest(&form);
        let answer = send(&router(&app), form_request(form, &[(name, announced.as_str())])).await;
        assert_eq!(answer.status, 201, "{name}");
    }
}

#[tokio::test]
async fn an_idempotency_key_that_comes_again_gets_the_first_answer_again() {
    let app = app();
    let upload =
        || Form::new().file("image", "a.png", &png(1)).text("groupId", "g").request(&[("idempotency-key", "k1")]);
    let first = send(&router(&app), upload()).await;
    let second = send(&router(&app), upload()).await;
    assert_eq!((first.status.as_u16(), &first.body), (second.status.as_u16(), &second.body));
    assert_eq!(first.header("location"), second.header("location"));
    assert_eq!(keys(&app).await.iter().filter(|key| key.starts_with("uploads/")).count(), 1);
}

#[tokio::test]
async fn the_tenth_upload_names_the_backup_it_completed() {
    let app = app();
    for n in 0..9 {
        store_image(&app.keepsake, png(n)).await;
    }
    let tenth = Form::new().file("image", "a.png", &png(9)).send(&app).await.json();
    assert_eq!(tenth["backup"], "backup-2026-11-20T08-00-00-000Z");
    assert_eq!(app.keepsake.backups.list().await.unwrap()[0].images, 10);
    for n in 10..18 {
        store_image(&app.keepsake, png(n)).await;
    }
    let form = Form::new().file("image", "a.png", &png(18)).file("image", "b.png", &png(19));
    let several = form.send(&app).await.json();
    assert_eq!(several["backup"], "backup-2026-11-20T08-00-00-001Z");
}

#[tokio::test]
async fn a_photo_is_answered_with_the_size_that_browsers_show() {
    let app = app();
    // Exif that turns the picture, in a chunk before its pixels.
    let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0\0\0\0\0";
    let turned = [&png(1)[..33], &26_u32.to_be_bytes(), b"eXIf", exif, &[0; 4], &png(1)[33..]].concat();
    let item = Form::new().file("image", "a.png", &turned).send(&app).await.json();
    assert_eq!((&item["width"], &item["height"], &item["orientation"]), (&json!(3), &json!(4), &json!(8)));
    assert_eq!(item.get("truncated"), None);
}

#[tokio::test]
async fn an_image_that_is_cut_off_is_kept_and_marked() {
    let app = app();
    let cut = &png(1)[..png(1).len() - 14];
    let answer = Form::new().file("image", "a.png", cut).send(&app).await;
    assert_eq!(answer.status, 201);
    let item = answer.json();
    assert_eq!(item["truncated"], json!(true));
    let images = images::router(app.clone());
    let listed = get(&images, "/api/images").await.json();
    assert_eq!(listed["images"][0]["truncated"], json!(true));
    assert_eq!(&get(&images, item["url"].as_str().unwrap()).await.body[..], cut, "bit for bit");
}

#[tokio::test]
async fn a_short_video_is_kept_like_an_image() {
    let app = app();
    for (bytes, kind) in [(mp4(b"moving"), "mp4"), (webm(b"moving"), "webm")] {
        let content_type = format!("video/{kind}");
        let headers = [("content-type", content_type.as_str()), ("x-filename", "sea.mov")];
        let item = send_raw(&app, "/api/upload", &headers, bytes.clone()).await.json();
        assert_eq!((&item["type"], &item["contentType"]), (&json!("video"), &json!(content_type)));
        assert_eq!((&item["width"], &item["height"], &item["size"]), (&json!(4), &json!(3), &json!(bytes.len())));
        let url = item["url"].as_str().unwrap();
        assert!(url.ends_with(kind), "{url}");
        let images = images::router(app.clone());
        let part = send(&images, request("GET", url, &[("range", "bytes=-6")], "")).await;
        assert_eq!(
            (part.status.as_u16(), &part.body[..], part.header("content-type")),
            (206, &b"moving"[..], &*content_type)
        );
        assert_eq!(part.header("x-content-type-options"), "nosniff");
        assert_eq!(part.header("content-security-policy"), "default-src 'none'; sandbox");

        let cut_off = send_raw(&app, "/api/upload", &headers, bytes[..bytes.len() - 1].to_vec()).await;
        assert_eq!(cut_off.problem(), (422, "undecodable".to_owned()));
        let polyglot = [&bytes[..], b"<script>alert(1)</script>"].concat();
        assert_eq!(send_raw(&app, "/api/upload", &headers, polyglot).await.problem(), (422, "undecodable".to_owned()));
    }
    let disguised = send_raw(&app, "/api/upload", &[("content-type", "video/mp4")], "<html>ftypisom</html>").await;
    assert_eq!(disguised.problem(), (415, "not-an-image".to_owned()));
}

#[tokio::test]
async fn images_of_one_selection_are_listed_in_its_order_whichever_came_first() {
    let app = app();
    let chosen = app.keepsake.core.clock.now();
    let at = |millis: i64| (chosen - SignedDuration::from_millis(millis)).to_string();
    app.keepsake.core.clock.advance(SignedDuration::from_hours(2));
    // The page says that each was chosen before the one in front of it.
    for (name, millis) in [("c.png", 2), ("a.png", 0), ("b.png", 1)] {
        let item = Form::new().text("queuedAt", &at(millis)).file("image", name, &png(1)).send(&app).await.json();
        assert!(item["queuedAt"].as_str() < item["uploadDate"].as_str(), "{item}");
        app.keepsake.core.clock.advance(SignedDuration::from_mins(1));
    }
    let filter = shared::images::Filter::default();
    let listed = app.keepsake.images.list(&filter, None, 10).await.unwrap().images;
    let names = listed.iter().map(|(_, entry)| entry.live().unwrap().original_name.clone().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["a.png", "b.png", "c.png"]);
}

#[tokio::test]
async fn impossible_queue_time_is_ignored_and_malformed_one_refused() {
    let app = app();
    let now = app.keepsake.core.clock.now();
    let (later, earlier) = (now + SignedDuration::from_mins(1), now - SignedDuration::from_hours(8 * 24));
    for (queued, group) in [(later, ""), (earlier, ""), (now, "g")] {
        let form = Form::new().text("queuedAt", &queued.to_string()).text("groupId", group);
        let item = form.file("image", "a.png", &png(1)).send(&app).await.json();
        assert_eq!((item.get("queuedAt"), item["uploadDate"].is_string()), (None, true), "{queued}");
    }
    let refused = Form::new().text("queuedAt", "yesterday").file("image", "a.png", &png(1)).send(&app).await;
    assert_eq!(refused.problem(), (400, "invalid-request".to_owned()));
}

/// Browsers and curl escape these three characters in the names of files, and nothing else.
#[tokio::test]
async fn a_name_in_a_form_has_its_escaped_quotes_and_line_breaks_again() {
    for (sent, name) in [
        ("a%22b.png", "a\"b.png"),
        ("a%0D%0Ab.png", "a\r\nb.png"),
        ("100%25 %2F%41.png", "100%25 %2F%41.png"),
        ("%2522.png", "%2522.png"),
        ("%0d.png", "%0d.png"),
    ] {
        let item = Form::new().file("image", sent, &png(1)).send(&app()).await.json();
        assert_eq!(item["originalName"], name, "{sent}");
    }
    let form = Form::new().part("name=\"image\"; filename=\"x\"; filename*=UTF-8''a%22b%2522.png", &png(1));
    assert_eq!(form.send(&app()).await.json()["originalName"], "a\"b%22.png", "an extended name is decoded once");
}
