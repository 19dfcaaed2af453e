//! Uploads that come in parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use futures::stream;
use jiff::SignedDuration;
use serde_json::json;
use shared::Settings;
use shared::http::{Access, App};
use shared::store::ErrorKind;
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::testing::{Answer, app_on, get, keepsake_on, png, request, send};

use super::{Form, form_type};

pub(crate) const VERSION: (&str, &str) = ("upload-draft-interop-version", "8");

/// What waits to become an image.
pub(crate) async fn waiting(app: &App) -> Vec<String> {
    let mut keys = super::keys(app).await;
    keys.retain(|key| key.starts_with("incoming/"));
    keys
}

pub(crate) fn router(app: &App) -> axum::Router {
    shared::http::finish(upload::server_routes().into_router(app.clone()), app)
}

pub(crate) async fn begin(app: &App, path: &str, headers: &[(&str, &str)], bytes: &[u8]) -> Answer {
    let headers = [headers, &[VERSION, ("upload-complete", "?0")]].concat();
    send(&router(app), request("POST", path, &headers, bytes.to_vec())).await
}

pub(crate) fn part(path: &str, offset: usize, complete: &str, body: impl Into<Body>) -> Request<Body> {
    let offset = offset.to_string();
    let headers = [
        VERSION,
        ("content-type", "application/partial-upload"),
        ("upload-offset", &offset),
        ("upload-complete", complete),
    ];
    request("PATCH", path, &headers, body)
}

pub(crate) async fn append(app: &App, path: &str, offset: usize, complete: &str, bytes: &[u8]) -> Answer {
    send(&router(app), part(path, offset, complete, bytes.to_vec())).await
}

/// How far an upload is, and whether it has ended.
pub(crate) async fn standing(app: &App, path: &str) -> (usize, bool) {
    let answer = send(&router(app), request("HEAD", path, &[VERSION], Body::empty())).await;
    assert!(answer.status.is_success() && answer.body.is_empty(), "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    (answer.header("upload-offset").parse().unwrap(), answer.header("upload-complete") == "?1")
}

#[tokio::test]
async fn an_image_that_comes_in_parts_is_one_image_bit_for_bit() {
    let (app, bytes) = (shared::testing::app(), png(1));
    let length = bytes.len().to_string();
    let described = [("content-type", "image/png"), ("x-filename", "%C3%9C.png"), ("upload-length", &length)];
    let begun = begin(&app, "/api/upload?category=trip", &described, &bytes[..10]).await;
    assert_eq!((begun.status, begun.header("upload-offset")), (StatusCode::CREATED, "10"), "{begun:?}");
    assert!(begun.header("upload-limit").starts_with("max-size="));
    let path = begun.header("location").to_owned();
    assert_eq!(begun.json(), serde_json::json!({ "uploadUrl": path, "offset": 10 }));
    let images = images::router(app.clone());
    assert_eq!(get(&images, "/api/images").await.json()["images"].as_array().unwrap().len(), 0, "not yet");

    let more = append(&app, &path, 10, "?0", &bytes[10..20]).await;
    assert_eq!((more.status, more.header("upload-offset")), (StatusCode::NO_CONTENT, "20"));
    assert_eq!(standing(&app, &path).await, (20, false));
    let done = append(&app, &path, 20, "?1", &bytes[20..]).await;
    assert_eq!(done.status, StatusCode::CREATED, "{done:?}");
    let item = done.json();
    assert_eq!((&item["category"], &item["originalName"]), (&"trip".into(), &"Ü.png".into()));
    assert_eq!(get(&images, item["url"].as_str().unwrap()).await.body, bytes);
    assert_eq!(done.header("upload-complete"), "?1");
    assert_eq!(standing(&app, &path).await, (bytes.len(), true), "who lost the answer can ask");
    let asked = get(&router(&app), &path).await;
    assert_eq!((asked.status, asked.json()), (StatusCode::OK, item));
    assert_eq!(append(&app, &path, bytes.len(), "?1", b"x").await.problem(), (400, "completed-upload".to_owned()));
    let left = waiting(&app).await;
    assert!(left.len() == 1 && left[0].ends_with(".resumable.json"), "{left:?}");
}

#[tokio::test]
async fn a_form_may_come_in_parts_too() {
    let app = shared::testing::app();
    let body =
        Form::new().text("description", "two").file("image", "a.png", &png(1)).file("image", "b.png", &png(2)).bytes();
    let begun = begin(&app, "/api/upload", &[("content-type", &form_type())], b"").await;
    let path = begun.header("location").to_owned();
    assert_eq!(append(&app, &path, 0, "?0", &body[..50]).await.status, StatusCode::NO_CONTENT);
    let done = append(&app, &path, 50, "?1", &body[50..]).await;
    assert_eq!(done.json()["images"].as_array().unwrap().len(), 2, "{done:?}");
    assert_eq!(get(&router(&app), &path).await.json(), done.json(), "who lost the answer can ask");
}

#[tokio::test]
async fn what_came_before_a_connection_broke_need_not_be_sent_again() {
    let (app, bytes) = (shared::testing::app(), png(1));
    let path = begin(&app, "/api/upload", &[("content-type", "image/png")], b"").await.header("location").to_owned();
    let broken = stream::iter([Ok(Bytes::copy_from_slice(&bytes[..30])), Err(std::io::Error::other("gone"))]);
    let answer = send(&router(&app), part(&path, 0, "?1", Body::from_stream(broken))).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(standing(&app, &path).await, (30, false));
    assert_eq!(append(&app, &path, 30, "?1", &bytes[30..]).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn an_upload_that_begins_anew_under_the_same_key_makes_one_image() {
    let (app, bytes) = (shared::testing::app(), png(1));
    let key = [("idempotency-key", "mine"), ("content-type", "image/png")];
    let mut items = Vec::new();
    for _ in 0..2 {
        let path = begin(&app, "/api/upload", &key, b"").await.header("location").to_owned();
        items.push(append(&app, &path, 0, "?1", &bytes).await.json());
        assert_eq!(get(&router(&app), &path).await.json(), items[0]);
    }
    assert_eq!(items[0], items[1]);
}

#[tokio::test]
async fn parts_that_cannot_be_read_at_the_moment_are_not_taken_for_a_bad_image() {
    let fails = Arc::new(AtomicBool::new(true));
    let plan = {
        let fails = Arc::clone(&fails);
        move |operation: &Operation| {
            let is_part = operation.name == "get" && operation.key.contains(".part-");
            (is_part && fails.load(Ordering::SeqCst)).then_some(Fault::Before(ErrorKind::Unavailable))
        }
    };
    let app = app_on(Arc::new(FaultStore::with_plan(Arc::new(MemoryStore::new()), plan)));
    let path = begin(&app, "/api/upload", &[("content-type", "image/png")], b"").await.header("location").to_owned();
    assert_eq!(append(&app, &path, 0, "?1", &png(1)).await.problem(), (503, "store-unavailable".to_owned()));
    assert_eq!(standing(&app, &path).await, (png(1).len(), false));
    fails.store(false, Ordering::SeqCst);
    assert_eq!(append(&app, &path, png(1).len(), "?1", b"").await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_part_that_does_not_follow_changes_nothing_and_is_told_what_would() {
    let (app, bytes) = (shared::testing::app(), png(1));
    let path = begin(&app, "/api/upload", &[("upload-length", "40")], &bytes[..10]).await.header("location").to_owned();
    for offset in [0, 9, 11] {
        let answer = append(&app, &path, offset, "?0", b"x").await;
        assert_eq!(answer.problem(), (409, "mismatching-upload-offset".to_owned()));
        assert_eq!(answer.header("upload-offset"), "10");
    }
    assert_eq!(append(&app, &path, 10, "?0", &[0; 31]).await.problem(), (413, "too-large".to_owned()));
    assert_eq!(append(&app, &path, 10, "?1", b"x").await.problem(), (400, "inconsistent-upload-length".to_owned()));
    assert_eq!(standing(&app, &path).await.0, 11);
    for (name, value) in [("upload-offset", "x"), ("upload-complete", "yes"), ("upload-draft-interop-version", "3")] {
        let mut request = part(&path, 11, "?0", Body::empty());
        request.headers_mut().insert(name, value.parse().unwrap());
        assert_eq!(send(&router(&app), request).await.problem(), (400, "invalid-request".to_owned()), "{name}");
    }
    let whole = request("PATCH", &path, &[("content-type", "image/png")], Body::empty());
    assert_eq!(send(&router(&app), whole).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn of_two_parts_for_one_place_one_is_kept() {
    let (app, bytes) = (shared::testing::app(), png(1));
    let path = begin(&app, "/api/upload", &[], b"").await.header("location").to_owned();
    let (one, other) =
        futures::join!(append(&app, &path, 0, "?0", &bytes[..20]), append(&app, &path, 0, "?0", &bytes[..20]));
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 409]);
    assert_eq!(append(&app, &path, 20, "?1", &bytes[20..]).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn what_is_no_image_in_the_end_is_refused_and_gone() {
    let app = shared::testing::app();
    let path = begin(&app, "/api/upload", &[("content-type", "image/png")], b"no").await.header("location").to_owned();
    let refused = append(&app, &path, 2, "?1", b" image").await;
    assert_eq!((refused.status, refused.header("upload-complete")), (StatusCode::UNSUPPORTED_MEDIA_TYPE, "?1"));
    assert_eq!(standing(&app, &path).await, (8, true));
    assert_eq!(get(&router(&app), &path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(waiting(&app).await.len(), 1);
}

#[tokio::test]
async fn an_upload_that_is_cancelled_or_never_completed_leaves_nothing() {
    let app = shared::testing::app();
    let cancelled = begin(&app, "/api/upload", &[], b"abc").await.header("location").to_owned();
    let answer = send(&router(&app), request("DELETE", &cancelled, &[], Body::empty())).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert!(waiting(&app).await.is_empty());
    for method in ["HEAD", "DELETE"] {
        let answer = send(&router(&app), request(method, &cancelled, &[], Body::empty())).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method}");
    }
    assert_eq!(append(&app, &cancelled, 3, "?1", b"").await.status, StatusCode::NOT_FOUND);

    begin(&app, "/api/upload", &[], b"abc").await;
    assert_eq!(waiting(&app).await.len(), 2);
    // The store has a clock of its own.
    app.keepsake.core.clock.advance(SignedDuration::from_hours(24 * 365 * 100));
    app.keepsake.tickets.clear().await.unwrap();
    assert!(waiting(&app).await.is_empty());
}

#[tokio::test]
async fn too_much_is_refused_before_it_comes_and_a_function_names_the_other_way() {
    let app = shared::testing::app();
    let too_long = (app.max_body_bytes() + (1 << 20)).to_string();
    assert_eq!(begin(&app, "/api/upload", &[("upload-length", &too_long)], b"").await.problem().0, 413);
    assert_eq!(begin(&app, "/api/upload?order=x", &[], b"").await.problem().0, 400);
    let function = App { on_lambda: true, ..app.clone() };
    let refused = begin(&function, "/api/upload", &[], b"").await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.json()["detail"].as_str().unwrap().contains("/api/upload/tickets"));
    assert!(waiting(&app).await.is_empty());
}

/// A part as a client of an earlier draft sends it.
fn part_of_version(version: &str, path: &str, headers: &[(&str, &str)], bytes: &[u8]) -> Request<Body> {
    let headers = [headers, &[("upload-draft-interop-version", version)]].concat();
    request("PATCH", path, &headers, bytes.to_vec())
}

#[tokio::test]
async fn interop_versions_5_to_8_are_spoken() {
    for version in ["5", "6", "7", "8"] {
        let (app, bytes) = (shared::testing::app(), png(1));
        let length = bytes.len().to_string();
        let metadata = ("upload-metadata", "filetype aW1hZ2UvcG5n,filename w5wgMS5wbmc=");
        let headers = [
            ("upload-draft-interop-version", version),
            ("upload-complete", "?0"),
            ("upload-length", &length),
            metadata,
        ];
        let begun = send(&router(&app), request("POST", "/api/upload", &headers, Body::empty())).await;
        assert_eq!((begun.status, begun.header("upload-offset")), (StatusCode::CREATED, "0"), "{version}: {begun:?}");
        let path = begun.header("location");
        let mut headers = vec![("upload-offset", "0"), ("upload-complete", "?1")];
        if version != "5" {
            headers.push(("content-type", "application/partial-upload"));
        }
        let done = send(&router(&app), part_of_version(version, path, &headers, &bytes)).await;
        assert_eq!((done.status, done.header("upload-offset")), (StatusCode::CREATED, &*length), "{version}: {done:?}");
        assert_eq!(done.json()["originalName"], "Ü 1.png");
        let asked = send(&router(&app), request("HEAD", path, &[], Body::empty())).await;
        assert_eq!((asked.header("upload-offset"), asked.header("upload-length")), (&*length, &*length));
    }
}

#[tokio::test]
async fn an_upload_whose_announced_length_is_here_is_taken_in() {
    let (app, bytes) = (shared::testing::app(), png(1));
    let length = bytes.len().to_string();
    let headers = [("content-type", "image/png"), ("upload-length", length.as_str())];
    // Its client does not know yet that there is no more.
    let path = begin(&app, "/api/upload", &headers, &bytes[..10]).await.header("location").to_owned();
    let done = append(&app, &path, 10, "?0", &bytes[10..]).await;
    assert_eq!((done.status, done.header("upload-offset")), (StatusCode::CREATED, &*length), "{done:?}");
    let last = append(&app, &path, bytes.len(), "?1", b"").await;
    assert_eq!((last.status, last.json()), (StatusCode::OK, done.json()));
    let begun = begin(&app, "/api/upload", &headers, &bytes).await;
    assert_eq!((begun.status, begun.header("upload-offset")), (StatusCode::CREATED, &*length), "{begun:?}");
    assert!(begun.header("location").starts_with("/uploads/"), "{begun:?}");
}

#[tokio::test]
async fn a_whole_upload_of_a_client_that_speaks_parts_says_its_offset() {
    let (app, bytes) = (shared::testing::app(), png(1));
    let length = bytes.len().to_string();
    let headers = [VERSION, ("upload-complete", "?1"), ("content-type", "application/partial-upload")];
    let named = [&headers[..], &[("upload-metadata", "name Yi5wbmc="), ("x-filename", "a.png")]].concat();
    let done = send(&router(&app), request("POST", "/api/upload", &named, bytes.clone())).await;
    assert_eq!((done.status, done.header("upload-offset")), (StatusCode::CREATED, &*length), "{done:?}");
    assert_eq!((done.header("upload-complete"), &done.json()["originalName"]), ("?1", &"a.png".into()));
    let plain = send(&router(&app), request("POST", "/api/upload", &[], bytes)).await;
    assert_eq!((plain.status, plain.header("upload-offset")), (StatusCode::CREATED, ""));
}

#[tokio::test]
async fn what_is_no_image_is_refused_with_its_first_part() {
    let app = shared::testing::app();
    let mut movie = b"\0\0\0\x14ftypqt  \0\0\0\0qt  \0\0\0\x08wide".to_vec();
    movie.resize(100_000, 7);
    let form = Form::new().text("description", "a movie").file("image", "a.mov", &movie).bytes();
    for (content_type, bytes) in [("video/quicktime", movie), (form_type().as_str(), form)] {
        let headers = [("content-type", content_type), ("upload-length", "60000000")];
        let refused = begin(&app, "/api/upload", &headers, &bytes[..90_000]).await;
        assert_eq!(refused.problem(), (415, "not-an-image".to_owned()), "{content_type}");
        assert!(waiting(&app).await.is_empty(), "{content_type}");

        let path = begin(&app, "/api/upload", &headers, b"").await.header("location").to_owned();
        let refused = append(&app, &path, 0, "?0", &bytes[..20_000]).await;
        assert_eq!((refused.problem().0, refused.header("upload-complete")), (415, "?1"), "{content_type}");
        assert_eq!(standing(&app, &path).await, (0, true));
        // A client that lost the refusal sends the part again.
        let again = append(&app, &path, 0, "?0", &bytes[..20_000]).await;
        assert_eq!(again.problem(), (415, "not-an-image".to_owned()), "{content_type}");
        assert_eq!(again.header("upload-complete"), "?1", "{content_type}");
        send(&router(&app), request("DELETE", &path, &[], Body::empty())).await;
    }
    // What is an image goes on, though nothing but its beginning is here.
    let mut image = png(1);
    image.resize(700, 0);
    let path = begin(&app, "/api/upload", &[("content-type", "image/png")], b"").await.header("location").to_owned();
    assert_eq!(append(&app, &path, 0, "?0", &image[..600]).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_client_of_tus_1_0_is_told_what_is_spoken_here() {
    let app = shared::testing::app();
    let headers = [("tus-resumable", "1.0.0"), ("upload-length", "3")];
    let refused = send(&router(&app), request("POST", "/api/upload", &headers, Body::empty())).await;
    assert_eq!(refused.problem(), (400, "invalid-request".to_owned()));
    assert!(refused.json()["detail"].as_str().unwrap().contains("ietf-draft-05"), "{refused:?}");
}

#[tokio::test]
async fn a_form_in_parts_may_speak_of_file_names_before_its_image() {
    let app = App::new(keepsake_on(Arc::new(MemoryStore::default()), Settings::default()), Access::default());
    let text =
        |name: &str, value: &str| format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    // So many that their bytes are enough to be judged.
    let head =
        "--b\r\ncontent-type: image/png\r\ncontent-disposition: form-data; name=images; filename*=utf-8''a.png\r\n\r\n";
    let images: Vec<_> = (0..10).flat_map(|shade| [head.as_bytes(), &png(shade), b"\r\n"].concat()).collect();
    let headers = [("content-type", "multipart/form-data; boundary=b")];
    for fields in [
        text("filename", "a.png") + &text("tags", "a"),
        text("originalFilename", "a.png"),
        text("description", "see filename list") + &text("tags", "a"),
        text("description", "a\r\n\r\ncontent-disposition: form-data; filename=a\r\n\r\nb") + &text("tags", "a"),
    ] {
        let form = [fields.as_bytes(), &images, b"--b--\r\n"].concat();
        let begun = begin(&app, "/api/upload", &headers, b"").await.header("location").to_owned();
        let half = form.len() - 20;
        let first = append(&app, &begun, 0, "?0", &form[..half]).await;
        assert_eq!(first.status, StatusCode::NO_CONTENT, "{fields}: {first:?}");
        let last = append(&app, &begun, half, "?1", &form[half..]).await;
        assert_eq!(last.status, StatusCode::CREATED, "{fields}: {last:?}");
    }
}

#[tokio::test]
async fn problem_of_a_first_part_on_lambda_has_limit_and_tickets_as_members() {
    let app = App { on_lambda: true, ..shared::testing::app() };
    let refused = begin(&app, "/api/upload", &[], b"").await.json();
    assert_eq!((&refused["limitBytes"], &refused["ticketsUrl"]), (&json!(4_500_000), &json!("/api/upload/tickets")));
}
