//! Requests that are refused, and leave nothing behind.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use futures::{FutureExt, StreamExt, stream};
use shared::Settings;
use shared::digest::Digest;
use shared::http::{Access, App};
use shared::media::Limits;
use shared::store::testing::MemoryStore;
use shared::testing::{app, keepsake_on, png, request, send};

use super::{Form, form_request, form_type, keys, router, send_raw};

/// Sends a request that must be refused like this and must leave the store as it was: empty.
#[track_caller]
fn refused(app: &App, request: Request<Body>, status: u16, slug: &str) -> impl Future<Output = String> {
    let (router, slug) = (router(app), slug.to_owned());
    async move {
        let answer = send(&router, request).await;
        assert_eq!(answer.problem(), (status, slug), "{}", answer.json());
        assert_eq!(keys(app).await, Vec::<String>::new());
        answer.json()["detail"].as_str().unwrap().to_owned()
    }
}

fn raw(headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    request("POST", "/api/upload", headers, body)
}

/// Bytes that must not be read.
fn unread() -> Body {
    Body::from_stream(stream::poll_fn(|_| -> std::task::Poll<Option<Result<Vec<u8>, std::io::Error>>> {
        panic!("the body is not to be read")
    }))
}

fn limited(max_upload_bytes: u64, media: Limits) -> App {
    let settings = Settings { max_upload_bytes, media, ..Settings::default() };
    App::new(keepsake_on(Arc::new(MemoryStore::new()), settings), Access::default())
}

#[tokio::test]
async fn a_request_without_an_image() {
    let app = app();
    refused(&app, raw(&[], ""), 400, "no-file").await;
    refused(&app, raw(&[("content-type", "image/png")], ""), 400, "no-file").await;
    refused(&app, Form::new().text("category", "x").request(&[]), 400, "no-file").await;
    refused(&app, Form::new().request(&[]), 400, "no-file").await;
    refused(&app, Form::new().file("image", "", b"").request(&[]), 400, "no-file").await;
}

#[tokio::test]
async fn an_empty_image_alone_or_among_others() {
    let app = app();
    refused(&app, Form::new().file("image", "a.png", b"").request(&[]), 400, "empty-file").await;
    let form = Form::new().file("image", "a.png", &png(1)).file("image", "b.png", b"");
    refused(&app, form.request(&[]), 400, "empty-file").await;
}

#[tokio::test]
async fn a_malformed_form() {
    let app = app();
    let whole = Form::new().file("image", "a.png", &png(1)).bytes();
    for length in [0, 1, 10, 60, 120, whole.len() - 10, whole.len() - 5] {
        refused(&app, form_request(whole[..length].to_vec(), &[]), 400, "invalid-request").await;
    }
    refused(&app, form_request("no form at all", &[]), 400, "invalid-request").await;
    for content_type in ["multipart/form-data", "multipart/mixed; boundary=x", "Multipart/Form-Data; boundary"] {
        refused(&app, raw(&[("content-type", content_type)], whole.clone()), 400, "invalid-request").await;
    }
}

#[tokio::test]
async fn a_form_that_never_comes_to_a_part_is_not_kept_in_memory() {
    let app = app();
    let endless = || Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 10_000])).take(5_000));
    refused(&app, form_request(endless(), &[]), 400, "invalid-request").await;
    let head = format!("--{}\r\nContent-Disposition: form-data; name=\"", super::BOUNDARY).into_bytes();
    let endless_head = stream::iter([Ok::<_, std::io::Error>(head)])
        .chain(endless().into_data_stream().map(|c| Ok(c.unwrap().to_vec())));
    refused(&app, form_request(Body::from_stream(endless_head), &[]), 400, "invalid-request").await;
}

#[tokio::test]
async fn fields_that_cannot_be() {
    let app = app();
    let image = || Form::new().file("image", "a.png", &png(1));
    let long = "ü".repeat(10_001);
    refused(&app, image().text("description", &long).request(&[]), 400, "invalid-request").await;
    refused(&app, image().text("description", &"x".repeat(1 << 20)).request(&[]), 400, "invalid-request").await;
    refused(&app, image().text("category", &"x".repeat(1_001)).request(&[]), 400, "invalid-request").await;
    refused(&app, image().part("name=\"description\"", b"\xff\xfe").request(&[]), 400, "invalid-request").await;
    for order in ["first", "1.5", "1e3", "99999999999999999999", "0x10"] {
        refused(&app, image().text("order", order).request(&[]), 400, "invalid-request").await;
        let target = format!("/api/upload?order={order}");
        refused(&app, request("POST", &target, &[], png(1)), 400, "invalid-request").await;
    }
    refused(&app, request("POST", "/api/upload?order=1&order=2", &[], png(1)), 400, "invalid-request").await;
    let detail = refused(&app, image().file("avatar", "b.png", &png(2)).request(&[]), 400, "invalid-request").await;
    assert!(detail.contains("avatar"));
    let at_the_limit = image().text("description", &"ü".repeat(10_000)).send(&app).await;
    assert_eq!(at_the_limit.status, 201);
}

#[tokio::test]
async fn oversized_body_is_refused_by_content_length_before_reading() {
    let app = limited(1_000, Limits::default());
    refused(&app, raw(&[("content-length", "1001")], unread()), 413, "too-large").await;
    let content_type = form_type();
    let headers = [("content-length", "66537"), ("content-type", content_type.as_str())];
    let detail = refused(&app, raw(&headers, unread()), 413, "too-large").await;
    assert!(detail.contains("1000 bytes") && !detail.contains("tickets"));
}

#[tokio::test]
async fn a_body_of_unknown_length_is_read_only_to_the_limit() {
    let app = limited(1_000, Limits::default());
    let endless = || stream::repeat_with(|| Ok::<_, std::io::Error>(vec![0; 700]));
    refused(&app, raw(&[], Body::from_stream(endless())), 413, "too-large").await;
    let head = Form::new().file("image", "a.png", b"").0;
    let form = stream::iter([Ok(head[..head.len() - 2].to_vec())]).chain(endless());
    refused(&app, form_request(Body::from_stream(form), &[]), 413, "too-large").await;
}

#[tokio::test]
async fn an_image_of_exactly_the_limit_is_taken_in_either_way() {
    let exactly = [png(1), vec![0; 1_000]].concat()[..1_000].to_vec();
    let app = limited(1_000, Limits::default());
    assert_eq!(send_raw(&app, "/api/upload", &[], exactly.clone()).await.status, 201);
    assert_eq!(Form::new().file("image", "a.png", &exactly).text("description", "x").send(&app).await.status, 201);
    let longer = [&exactly[..], b"x"].concat();
    let answer = Form::new().file("image", "a.png", &longer).send(&app).await;
    assert_eq!(answer.problem(), (413, "too-large".to_owned()));
}

#[tokio::test]
async fn content_that_is_no_image_whatever_it_says_of_itself() {
    let app = app();
    let page = b"<html><script>alert(1)</script></html>";
    refused(&app, Form::new().file("image", "a.png", page).request(&[]), 415, "not-an-image").await;
    refused(&app, raw(&[("content-type", "image/png"), ("x-filename", "a.png")], &page[..]), 415, "not-an-image").await;
    let svg = r#"<svg xmlns="http://www.w3.org/2000/svg"/>"#;
    refused(&app, raw(&[("content-type", "image/svg+xml")], svg), 415, "not-an-image").await;
    refused(&app, raw(&[("content-type", "application/json")], r#"{"image":"x"}"#), 415, "not-an-image").await;
}

#[tokio::test]
async fn one_bad_image_among_good_ones() {
    let form =
        Form::new().file("image", "a.png", &png(1)).file("image", "b.png", b"text").file("image", "c.png", &png(3));
    refused(&app(), form.request(&[]), 415, "not-an-image").await;
}

#[tokio::test]
async fn images_that_cannot_be_read_or_demand_too_much() {
    refused(&app(), raw(&[], png(1)[..20].to_vec()), 422, "undecodable").await;
    let strict = limited(1 << 20, Limits { max_pixels: 11, max_frames: 1 });
    refused(&strict, raw(&[], png(1)), 422, "too-many-pixels").await;
    let mut gif = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
    encoder.encode_frames((0..3).map(|_| image::Frame::new(image::RgbaImage::new(2, 2)))).unwrap();
    drop(encoder);
    refused(&strict, raw(&[], gif), 422, "too-many-frames").await;
}

#[tokio::test]
async fn digests_that_do_not_match_or_are_malformed() {
    let app = app();
    let wrong = format!("sha-256=:{}:", Digest::of(b"other").to_base64());
    for name in ["content-digest", "repr-digest"] {
        refused(&app, raw(&[(name, &wrong)], png(1)), 422, "digest-mismatch").await;
        let form = Form::new().file("image", "a.png", &png(1)).request(&[(name, &wrong)]);
        refused(&app, form, 422, "digest-mismatch").await;
        for malformed in ["sha-256=abc", "sha-256=:AAAA:", "sha-256=:!:", "sha-256="] {
            refused(&app, raw(&[(name, malformed)], png(1)), 400, "invalid-request").await;
        }
    }
    let right = format!("sha-256=:{}:", Digest::of(&png(1)).to_base64());
    let both = [("content-digest", right.as_str()), ("repr-digest", wrong.as_str())];
    refused(&app, raw(&both, png(1)), 422, "digest-mismatch").await;
}

#[tokio::test]
async fn an_idempotency_key_that_was_used_for_something_else() {
    let app = app();
    let upload = |n, key| Form::new().file("image", "a.png", &png(n)).request(&[("idempotency-key", key)]);
    assert_eq!(send(&router(&app), upload(1, "k")).await.status, 201);
    let before = keys(&app).await;
    let other = send(&router(&app), upload(2, "k")).await;
    assert_eq!(other.problem(), (422, "idempotency-mismatch".to_owned()));
    let empty = send(&router(&app), upload(2, " ")).await;
    assert_eq!(empty.problem(), (400, "invalid-request".to_owned()));
    assert_eq!(keys(&app).await, before);
}

#[tokio::test]
async fn an_idempotency_key_whose_image_was_deleted_since() {
    let app = app();
    let upload = |n| Form::new().file("image", "a.png", &png(n)).request(&[("idempotency-key", "k")]);
    let stored = send(&router(&app), upload(1)).await.json();
    app.keepsake.images.delete(stored["id"].as_str().unwrap(), shared::Any).await.unwrap();
    let before = keys(&app).await;
    assert_eq!(send(&router(&app), upload(1)).await.problem(), (422, "deleted-since".to_owned()));
    assert_eq!(send(&router(&app), upload(2)).await.problem(), (422, "idempotency-mismatch".to_owned()));
    assert_eq!(keys(&app).await, before);
}

#[tokio::test]
async fn a_client_that_breaks_off_in_mid_upload() {
    let app = app();
    let half = || Form::new().file("image", "a.png", &png(1)).bytes()[..150].to_vec();
    let broken = stream::iter([Ok(half()), Err(std::io::Error::other("gone"))]);
    refused(&app, form_request(Body::from_stream(broken), &[]), 400, "invalid-request").await;
    let broken = stream::iter([Ok(png(1)[..50].to_vec()), Err(std::io::Error::other("gone"))]);
    refused(&app, raw(&[], Body::from_stream(broken)), 400, "invalid-request").await;
    // What a server does when the connection is gone: it drops the request in the middle.
    let silent = stream::iter([Ok::<_, std::io::Error>(half())]).chain(stream::pending());
    assert!(send(&router(&app), form_request(Body::from_stream(silent), &[])).now_or_never().is_none());
    assert_eq!(keys(&app).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_answer_to_a_refused_form_names_the_file() {
    let app = limited(5_000, Limits::default());
    let good = || Form::new().file("image", "good one.png", &png(1));
    for (content, status, slug) in [
        (b"no image at all".to_vec(), 415, "not-an-image"),
        (Vec::new(), 400, "empty-file"),
        (png(2)[..20].to_vec(), 422, "undecodable"),
        (vec![7; 6_000], 413, "too-large"),
    ] {
        let form = good().file("image", "C:\\x\\bad \u{fc}%22.jpg", &content).file("image", "last.png", &png(3));
        let answer = send(&router(&app), form.request(&[])).await;
        assert_eq!(answer.problem(), (status, slug.to_owned()), "{}", answer.json());
        let (detail, file) = (answer.json()["detail"].as_str().unwrap().to_owned(), answer.json()["file"].clone());
        assert_eq!(file, "bad \u{fc}\".jpg", "{slug}");
        assert!(detail.contains("bad \u{fc}") && !detail.contains("good one"), "{detail}");
        assert_eq!(keys(&app).await, Vec::<String>::new());
    }
    let named = raw(&[("x-filename", "plain%20text.jpg")], "no image at all");
    let answer = send(&router(&app), named).await;
    assert_eq!(answer.json()["file"], "plain text.jpg");
    let unnamed = send(&router(&app), raw(&[], "no image at all")).await;
    assert_eq!((unnamed.json().get("file"), unnamed.status.as_u16()), (None, 415));
}

#[tokio::test]
async fn problem_of_an_image_too_large_has_the_limit_as_a_member_and_no_tickets() {
    let app = limited(1_000, Limits::default());
    let form = Form::new().file("image", "a.png", &png(1)).file("image", "b.png", &[7; 1_001]).request(&[]);
    for request in [raw(&[("content-length", "1001")], unread()), form] {
        let problem = send(&router(&app), request).await.json();
        assert_eq!((&problem["limitBytes"], problem.get("ticketsUrl")), (&1_000.into(), None), "{problem}");
    }
}
