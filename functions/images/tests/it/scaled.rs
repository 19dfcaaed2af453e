//! Images made smaller.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use image::{ImageFormat, Rgba, RgbaImage};
use serde_json::json;
use shared::digest::Digest;
use shared::http::App;
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::store::{Body, ErrorKind, Key, PutMode};
use shared::testing::{Answer, app, app_on, import, samples, store_image};
use shared::thumbnails::{Limits, Thumbnails};

use super::{ask, get};

fn scaling(app: App) -> App {
    app.with_thumbnails(Thumbnails::new(Arc::new(scaling::Engine), Limits::default()))
}

/// A picture of many colours, as opaque as that.
fn picture(width: u32, height: u32, alpha: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let color = |x: u32, y: u32| Rgba([(200 + x % 50) as u8, (50 + y % 50) as u8, ((x * y) % 100) as u8, alpha]);
    RgbaImage::from_fn(width, height, color).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn size(answer: &Answer) -> (u32, u32) {
    let image = image::load_from_memory(&answer.body).unwrap();
    (image.width(), image.height())
}

#[tokio::test]
async fn an_image_is_made_to_fit_into_the_next_size_of_the_ladder() {
    let app = scaling(app());
    let path = format!("/uploads/{}", store_image(&app.keepsake, picture(1000, 500, 255)).await);
    for (query, expected) in [
        ("w=320", (320, 160)),
        ("w=300", (320, 160)),
        ("h=100", (320, 160)),
        ("w=640&h=100", (320, 160)),
        ("w=2560", (1000, 500)),
        ("w=1", (160, 80)),
    ] {
        let answer = get(&app, &format!("{path}?{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "image/jpeg"), "{query}");
        assert_eq!(size(&answer), expected, "{query}");
    }
    assert!(get(&app, &path).await.body == picture(1000, 500, 255), "who asks for no size gets what was sent");
}

#[tokio::test]
async fn thumbnail_uses_replica_if_file_disappears_during_read() {
    let (asked, goes) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
    let is_asked = Arc::clone(&asked);
    // It is found, and is gone once it is read.
    let plan = move |operation: &Operation| {
        if !is_asked.load(Ordering::SeqCst) || !operation.key.starts_with("uploads/") {
            return None;
        }
        let gone = operation.name != "head" || goes.load(Ordering::SeqCst);
        goes.store(gone, Ordering::SeqCst);
        gone.then_some(Fault::Before(ErrorKind::NotFound))
    };
    let app = scaling(app_on(Arc::new(FaultStore::with_plan(Arc::new(MemoryStore::new()), plan))));
    let id = store_image(&app.keepsake, picture(1000, 500, 255)).await;
    asked.store(true, Ordering::SeqCst);
    let first = get(&app, &format!("/uploads/{id}?w=320")).await;
    assert_eq!((first.status.as_u16(), size(&first)), (200, (320, 160)));
}

#[tokio::test]
async fn sizes_that_are_none_are_refused() {
    let app = scaling(app());
    let path = format!("/uploads/{}", store_image(&app.keepsake, picture(10, 10, 255)).await);
    for query in ["w=0", "w=2561", "h=-1", "w=x", "w=", "w=1.5", "w=320&h=0", "w=99999999999"] {
        assert_eq!(
            get(&app, &format!("{path}?{query}")).await.problem(),
            (400, "invalid-request".to_owned()),
            "{query}"
        );
    }
    assert_eq!(get(&app, "/uploads/unknown.png?w=320").await.problem(), (404, "no-such-image".to_owned()));
}

#[tokio::test]
async fn the_headers_let_a_derivative_be_cached_for_ever_and_do_nothing_else() {
    let app = scaling(app());
    let path = format!("/uploads/{}?w=160", store_image(&app.keepsake, picture(320, 320, 255)).await);
    let answer = get(&app, &path).await;
    let length = answer.body.len().to_string();
    let digest = format!("sha-256=:{}:", Digest::of(&answer.body).to_base64());
    for (name, value) in [
        ("content-type", "image/jpeg"),
        ("content-length", length.as_str()),
        ("vary", "accept"),
        ("cache-control", "public, max-age=31536000, immutable"),
        ("repr-digest", digest.as_str()),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; sandbox"),
        ("last-modified", ""),
        ("accept-ranges", ""),
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
async fn thumbnail_has_strong_etag_for_revalidation() {
    let app = scaling(app());
    let first = format!("/uploads/{}", store_image(&app.keepsake, picture(320, 320, 255)).await);
    let second = format!("/uploads/{}", store_image(&app.keepsake, picture(320, 320, 254)).await);
    let webp = [("accept", "image/webp")];
    let mut tags = Vec::new();
    for (path, headers) in [
        (first.clone(), &[][..]),
        (format!("{first}?w=160"), &[]),
        (format!("{first}?w=160"), &webp),
        (format!("{first}?w=640"), &[]),
        (format!("{first}?h=640"), &[]),
        (format!("{second}?w=160"), &[]),
    ] {
        let tag = ask(&app, "GET", &path, headers).await.header("etag").to_owned();
        assert!(tag.starts_with('"') && !tags.contains(&tag), "{path} {tag}");
        for method in ["GET", "HEAD"] {
            let again = ask(&app, method, &path, &[headers, &[("if-none-match", tag.as_str())]].concat()).await;
            assert_eq!((again.status.as_u16(), again.body.len(), again.header("etag")), (304, 0, tag.as_str()));
            assert_eq!(again.header("vary"), if path.contains('?') { "accept" } else { "" });
        }
        let other = ask(&app, "GET", &path, &[("if-match", "\"other\"")]).await;
        assert_eq!(other.problem(), (412, "precondition-failed".to_owned()));
        tags.push(tag);
    }
    let (asked, same) = (get(&app, &format!("{first}?w=100")).await, get(&app, &format!("{first}?w=160")).await);
    assert_eq!((asked.header("etag"), &asked.body), (same.header("etag"), &same.body));
}

#[tokio::test]
async fn what_is_transparent_comes_in_a_format_that_the_client_takes() {
    let app = scaling(app());
    let path = format!("/uploads/{}?w=160", store_image(&app.keepsake, picture(320, 320, 100)).await);
    for (accept, content_type) in [
        ("image/avif,image/webp,image/apng,*/*;q=0.8", "image/webp"),
        ("image/png, IMAGE/WEBP;q=0.5", "image/webp"),
        ("image/webp;q=0", "image/png"),
        ("image/webp;q=0.0, image/png", "image/png"),
        ("image/*", "image/png"),
        ("*/*", "image/png"),
        ("image/webpage", "image/png"),
        ("", "image/png"),
    ] {
        let answer = ask(&app, "GET", &path, &[("accept", accept)]).await;
        assert_eq!(answer.header("content-type"), content_type, "{accept}");
        let image = image::load_from_memory(&answer.body).unwrap().into_rgba8();
        assert!(image.get_pixel(80, 80).0[3].abs_diff(100) < 2);
    }
}

#[tokio::test]
async fn pinned_format_does_not_depend_on_what_the_client_accepts() {
    let app = scaling(app());
    let path = format!("/uploads/{}?w=160", store_image(&app.keepsake, picture(320, 320, 255)).await);
    for (format, content_type) in [("webp", "image/webp"), ("jpeg", "image/jpeg"), ("png", "image/png")] {
        let [plain, webp] = ["*/*", "image/webp"].map(|accept| [("accept", accept)]);
        let pinned = format!("{path}&format={format}");
        let (plain, webp) = (ask(&app, "GET", &pinned, &plain).await, ask(&app, "GET", &pinned, &webp).await);
        assert_eq!((plain.status.as_u16(), plain.header("content-type")), (200, content_type));
        assert_eq!((&plain.body, plain.header("etag")), (&webp.body, webp.header("etag")));
        assert_eq!((plain.header("vary"), webp.header("vary")), ("", ""), "caches need not look at Accept");
        let negotiated = get(&app, &path).await;
        assert!(negotiated.header("etag") != plain.header("etag") && negotiated.header("vary") == "accept");
    }
    let whole = path.trim_end_matches("?w=160");
    for query in ["?w=160&format=gif", "?w=160&format=", "?format=webp", "?format=avif"] {
        assert_eq!(
            get(&app, &format!("{whole}{query}")).await.problem(),
            (400, "invalid-request".to_owned()),
            "{query}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_scaled_is_said_to_be_so() {
    let app = scaling(app());
    for (format, bytes) in samples() {
        let answer = get(&app, &format!("/uploads/{}?w=320", store_image(&app.keepsake, bytes).await)).await;
        match format.extension() {
            // That icon is one that cannot be transparent.
            "heic" | "avif" | "ico" | "mp4" | "webm" => {
                assert_eq!(answer.problem(), (415, "not-scalable".to_owned()), "{format}")
            }
            _ => assert_eq!((answer.status.as_u16(), size(&answer)), (200, (4, 3)), "{format}"),
        }
    }
    // Its header is whole, so it was taken in; its pixels are not there.
    let cut = &picture(320, 320, 255)[..60];
    let id = store_image(&app.keepsake, cut.to_vec()).await;
    assert_eq!(get(&app, &format!("/uploads/{id}?w=160")).await.problem(), (415, "not-scalable".to_owned()));
    import(&app.keepsake, "page.html", json!({ "contentType": "text/html" })).await;
    let key = Key::new("uploads/page.html").unwrap();
    app.keepsake.core.primary.put(&key, &Body::from(b"<p>no image".to_vec()), &PutMode::Create).await.unwrap();
    assert_eq!(get(&app, "/uploads/page.html?w=160").await.problem(), (415, "not-scalable".to_owned()));
}

#[tokio::test]
async fn what_has_rotted_is_never_scaled() {
    let app = scaling(app());
    let id = store_image(&app.keepsake, picture(320, 320, 255)).await;
    let right = get(&app, &format!("/uploads/{id}?w=160")).await;
    let key = Key::new(format!("uploads/{id}")).unwrap();
    let mut rotten = picture(320, 320, 255);
    let last = rotten.len() - 40;
    rotten[last] ^= 1;
    app.keepsake.core.primary.put(&key, &Body::from(rotten.clone()), &PutMode::Overwrite).await.unwrap();
    let answer = get(&app, &format!("/uploads/{id}?w=320")).await;
    assert_eq!((answer.status.as_u16(), size(&answer)), (200, (320, 320)), "out of the replica");
    assert_eq!(get(&app, &format!("/uploads/{id}?w=160")).await.body, right.body);
    let copy = Key::new(format!("backups/images/{}", Digest::of(&picture(320, 320, 255)))).unwrap();
    app.keepsake.core.primary.put(&copy, &Body::from(rotten), &PutMode::Overwrite).await.unwrap();
    assert_eq!(get(&app, &format!("/uploads/{id}?h=640")).await.problem(), (503, "image-data-lost".to_owned()));
}

#[tokio::test]
async fn an_imported_image_is_scaled_before_it_is_completed() {
    let app = scaling(app());
    import(&app.keepsake, "old.png", json!({})).await;
    let key = Key::new("uploads/old.png").unwrap();
    app.keepsake.core.primary.put(&key, &Body::from(picture(320, 320, 255)), &PutMode::Create).await.unwrap();
    let answer = get(&app, "/uploads/old.png?w=160").await;
    assert_eq!((answer.status.as_u16(), size(&answer)), (200, (160, 160)));
}

#[tokio::test]
async fn where_nothing_is_scaled_the_image_itself_is_the_answer() {
    let app = app();
    let id = store_image(&app.keepsake, picture(320, 320, 255)).await;
    assert!(get(&app, &format!("/uploads/{id}?w=160")).await.body == picture(320, 320, 255));
}
