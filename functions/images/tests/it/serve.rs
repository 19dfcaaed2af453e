//! Serving bytes: ranges and conditions.

use shared::digest::Digest;
use shared::http::App;
use shared::testing::{app, png, samples, store_image};

use super::{ask, get};

/// The moment of upload, as HTTP says it.
const UPLOADED: &str = "Fri, 20 Nov 2026 08:00:00 GMT";

async fn one(app: &App) -> (String, Vec<u8>, String) {
    let bytes = png(1);
    let etag = format!("\"{}\"", Digest::of(&bytes));
    (format!("/uploads/{}", store_image(&app.keepsake, bytes.clone()).await), bytes, etag)
}

#[tokio::test]
async fn every_format_comes_back_bit_for_bit_with_its_own_type() {
    let app = app();
    for (format, bytes) in samples() {
        let path = format!("/uploads/{}", store_image(&app.keepsake, bytes.clone()).await);
        let answer = get(&app, &path).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, format.content_type()));
        assert!(answer.body == bytes, "{format}");
    }
}

#[tokio::test]
async fn an_entity_tag_that_no_server_gives_is_no_failure_of_this_one() {
    let app = app();
    let (path, bytes, _) = one(&app).await;
    for (header, status) in [("if-none-match", 200), ("if-match", 412)] {
        let answer = ask(&app, "GET", &path, &[(header, "\"of another kind\"")]).await;
        assert_eq!((answer.status.as_u16(), answer.body == bytes), (status, status == 200), "{header}");
    }
}

#[tokio::test]
async fn the_headers_let_an_image_be_cached_for_ever_and_do_nothing_else() {
    let app = app();
    let (path, bytes, etag) = one(&app).await;
    let answer = get(&app, &path).await;
    let length = bytes.len().to_string();
    let digest = format!("sha-256=:{}:", Digest::of(&bytes).to_base64());
    for (name, value) in [
        ("content-type", "image/png"),
        ("content-length", length.as_str()),
        ("etag", etag.as_str()),
        ("last-modified", UPLOADED),
        ("cache-control", "public, max-age=31536000, immutable"),
        ("accept-ranges", "bytes"),
        ("repr-digest", digest.as_str()),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; sandbox"),
        ("content-disposition", ""),
        ("content-range", ""),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let head = ask(&app, "HEAD", &path, &[]).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    let mut expected = answer.headers;
    expected.insert("x-request-id", head.headers["x-request-id"].clone());
    assert_eq!(head.headers, expected);
}

#[tokio::test]
async fn one_range_is_served() {
    let app = app();
    let (path, bytes, etag) = one(&app).await;
    let length = bytes.len();
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=10-", 10, length),
        ("bytes=-5", length - 5, length),
        ("bytes=0-99999", 0, length),
        ("bytes=-99999", 0, length),
    ] {
        let answer = ask(&app, "GET", &path, &[("range", range)]).await;
        assert_eq!(answer.status, 206, "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes {start}-{}/{length}", end - 1));
        assert_eq!(answer.header("content-length"), (end - start).to_string());
        assert_eq!(answer.header("etag"), etag);
        assert!(answer.body == bytes[start..end], "{range}");
    }
}

#[tokio::test]
async fn a_range_that_is_malformed_manifold_or_asked_of_a_head_gives_the_whole() {
    let app = app();
    let (path, bytes, _) = one(&app).await;
    for range in ["bytes=0-1,5-6", "bytes=5-3", "bytes=x", "rows=0-1", "bytes"] {
        let answer = ask(&app, "GET", &path, &[("range", range)]).await;
        assert!(answer.status == 200 && answer.body == bytes, "{range}");
    }
    assert_eq!(ask(&app, "HEAD", &path, &[("range", "bytes=0-1")]).await.status, 200);
}

#[tokio::test]
async fn a_range_beyond_the_end_cannot_be_had() {
    let app = app();
    let (path, bytes, _) = one(&app).await;
    for range in [format!("bytes={}-", bytes.len()), "bytes=-0".to_owned()] {
        let answer = ask(&app, "GET", &path, &[("range", &range)]).await;
        assert_eq!(answer.problem(), (416, "range-not-satisfiable".to_owned()));
        assert_eq!(answer.header("content-range"), format!("bytes */{}", bytes.len()));
    }
}

#[tokio::test]
async fn if_range_decides_between_the_part_and_the_whole() {
    let app = app();
    let (path, _, etag) = one(&app).await;
    let weak = format!("W/{etag}");
    for (condition, status) in [
        (etag.as_str(), 206),
        (UPLOADED, 206),
        ("\"other\"", 200),
        (weak.as_str(), 200),
        ("Fri, 20 Nov 2026 07:59:59 GMT", 200),
        ("nonsense", 200),
    ] {
        let answer = ask(&app, "GET", &path, &[("range", "bytes=0-1"), ("if-range", condition)]).await;
        assert_eq!(answer.status.as_u16(), status, "{condition}");
    }
}

#[tokio::test]
async fn conditions_are_judged_in_their_order() {
    let app = app();
    let (path, _, etag) = one(&app).await;
    let (tag, before, after) = (etag.as_str(), "Fri, 20 Nov 2026 07:59:59 GMT", "Fri, 20 Nov 2026 09:00:00 GMT");
    for (headers, status) in [
        (&[("if-none-match", tag)][..], 304),
        (&[("if-none-match", "*")], 304),
        (&[("if-none-match", "\"other\"")], 200),
        (&[("if-modified-since", UPLOADED)], 304),
        (&[("if-modified-since", after)], 304),
        (&[("if-modified-since", before)], 200),
        (&[("if-modified-since", "nonsense")], 200),
        (&[("if-none-match", "\"other\""), ("if-modified-since", after)], 200),
        (&[("if-match", tag)], 200),
        (&[("if-match", "*")], 200),
        (&[("if-match", "\"other\"")], 412),
        (&[("if-match", "nonsense")], 412),
        (&[("if-unmodified-since", UPLOADED)], 200),
        (&[("if-unmodified-since", before)], 412),
        (&[("if-match", tag), ("if-unmodified-since", before)], 200),
        (&[("if-match", tag), ("if-none-match", tag)], 304),
        (&[("if-none-match", tag), ("range", "bytes=0-1")], 304),
        (&[("if-match", "\"other\""), ("if-none-match", tag)], 412),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = ask(&app, method, &path, headers).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {headers:?}");
            if status == 304 {
                let kept = ["etag", "cache-control", "last-modified"].map(|name| answer.header(name).to_owned());
                assert_eq!(kept, [tag, "public, max-age=31536000, immutable", UPLOADED]);
                assert_eq!((answer.body.len(), answer.header("content-type")), (0, ""));
            }
        }
    }
}

#[tokio::test]
async fn a_download_is_saved_under_its_original_name_and_is_the_same_bytes() {
    let app = app();
    let (path, bytes, etag) = one(&app).await;
    let saved = get(&app, &format!("{path}?download=1")).await;
    assert_eq!((saved.status.as_u16(), saved.header("etag"), &saved.body[..]), (200, etag.as_str(), &bytes[..]));
    assert_eq!(saved.header("content-disposition"), "attachment; filename=\"photo.png\"; filename*=UTF-8''photo.png");
    assert_eq!(saved.header("content-type"), "image/png");
    let part = ask(&app, "GET", &format!("{path}?download=1"), &[("range", "bytes=0-3")]).await;
    assert_eq!((part.status.as_u16(), part.header("content-disposition")), (206, saved.header("content-disposition")));
    assert_eq!(get(&app, &path).await.header("content-disposition"), "");
}
