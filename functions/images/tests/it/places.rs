//! Images that are served without what they say of where they were taken.

use std::io::{Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use image::ImageFormat;
use serde_json::json;
use shared::digest::Digest;
use shared::http::App;
use shared::store::{Body, DiskStore, Key, PutMode};
use shared::testing::located::{Order, XMP, app1, exif, jpeg_with};
use shared::testing::{StubStore, app, app_on, import, jpeg_with_a_place, png, request, samples, send, store_image};
use shared::thumbnails::{Limits, Thumbnails};

use super::{app_with_reads, ask, get};

fn stripping(app: App) -> App {
    App { strip_gps: true, ..app }
}

/// Where two files of one length differ.
fn differences(one: &[u8], other: &[u8]) -> Vec<usize> {
    assert_eq!(one.len(), other.len());
    (0..one.len()).filter(|at| one[*at] != other[*at]).collect()
}

fn says_a_place(bytes: &[u8]) -> bool {
    let found = shared::media::location::find(&Body::from(bytes.to_vec())).unwrap();
    !found.is_empty() || bytes.windows(5).any(|text| text == b"52,30")
}

#[tokio::test]
async fn where_an_image_was_taken_is_not_served_and_all_else_is() {
    let app = stripping(app());
    let stored = jpeg_with_a_place();
    assert!(says_a_place(&stored));
    let path = format!("/uploads/{}", store_image(&app.keepsake, stored.clone()).await);
    let etag = format!("\"{}-nogps\"", Digest::of(&stored));
    for path in [path.clone(), format!("{path}?download=1")] {
        let answer = get(&app, &path).await;
        assert_eq!((answer.status.as_u16(), answer.header("etag")), (200, etag.as_str()));
        assert_eq!(answer.header("content-length"), stored.len().to_string());
        assert!(!says_a_place(&answer.body) && !differences(&answer.body, &stored).is_empty());
        let pixels = |bytes: &[u8]| image::load_from_memory_with_format(bytes, ImageFormat::Jpeg).unwrap();
        assert_eq!(pixels(&answer.body), pixels(&stored));
        assert!(answer.body.windows(16).any(|text| text == b"Keepsake Cameras"));
        // These are of the stored bytes and of the moment at which they came.
        assert_eq!((answer.header("repr-digest"), answer.header("last-modified")), ("", ""));
        let head = ask(&app, "HEAD", &path, &[]).await;
        let mut expected = answer.headers;
        expected.insert("x-request-id", head.headers["x-request-id"].clone());
        assert_eq!((head.headers, head.body.len()), (expected, 0));
    }
    // What is stored, and what its record says, is what was sent.
    let id = path.rsplit('/').next().unwrap();
    let lies = app.keepsake.core.primary.read(&Key::new(format!("uploads/{id}")).unwrap()).await.unwrap().0;
    assert!(lies == stored);
    let record = get(&app, &format!("/api/images/{id}")).await.json();
    assert_eq!(record["sha256"], Digest::of(&stored).to_string());
    let said = record.to_string().to_lowercase();
    assert!(["gps", "latitude", "keepsake cameras"].iter().all(|word| !said.contains(word)), "{said}");
}

#[tokio::test]
async fn any_part_of_such_an_image_is_that_part_of_what_is_served() {
    let app = stripping(app());
    let stored = jpeg_with_a_place();
    let path = format!("/uploads/{}", store_image(&app.keepsake, stored.clone()).await);
    let whole = get(&app, &path).await;
    let differ = differences(&whole.body, &stored);
    for at in differ.iter().step_by(differ.len() / 30).flat_map(|at| [at - 1, *at, at + 1]) {
        for (start, end) in [(at, at), (at.saturating_sub(20), at), (at, (at + 20).min(stored.len() - 1))] {
            let answer = ask(&app, "GET", &path, &[("range", &format!("bytes={start}-{end}"))]).await;
            assert_eq!(answer.status, 206);
            assert!(answer.body == whole.body[start..=end], "{start}-{end}");
            assert_eq!(answer.header("content-range"), format!("bytes {start}-{end}/{}", stored.len()));
            assert_eq!(answer.header("etag"), whole.header("etag"));
        }
    }
}

#[tokio::test]
async fn who_has_an_image_with_its_place_does_not_keep_it_for_current() {
    let open = app();
    let stored = jpeg_with_a_place();
    let path = format!("/uploads/{}", store_image(&open.keepsake, stored.clone()).await);
    let before = get(&open, &path).await;
    assert!(before.body == stored);
    let (old, moment) = (before.header("etag").to_owned(), before.header("last-modified").to_owned());
    let app = stripping(open);
    let new = format!("\"{}-nogps\"", Digest::of(&stored));
    for (headers, status) in [
        (&[("if-none-match", old.as_str())][..], 200),
        (&[("if-none-match", new.as_str())], 304),
        (&[("if-modified-since", moment.as_str())], 200),
        (&[("if-match", old.as_str())], 412),
        (&[("if-match", new.as_str())], 200),
        (&[("range", "bytes=0-1"), ("if-range", old.as_str())], 200),
        (&[("range", "bytes=0-1"), ("if-range", moment.as_str())], 200),
        (&[("range", "bytes=0-1"), ("if-range", new.as_str())], 206),
    ] {
        let answer = ask(&app, "GET", &path, headers).await;
        assert_eq!(answer.status.as_u16(), status, "{headers:?}");
        assert!(status == 412 || answer.header("etag") == new);
    }
}

#[tokio::test]
async fn an_image_that_says_no_place_is_served_as_ever() {
    let open = app();
    let mut paths = Vec::new();
    for (_, bytes) in samples() {
        paths.push(format!("/uploads/{}", store_image(&open.keepsake, bytes).await));
    }
    let stripping = stripping(open.clone());
    for path in paths {
        for headers in [&[][..], &[("range", "bytes=3-40")]] {
            let (mut as_ever, answer) =
                (ask(&open, "GET", &path, headers).await, ask(&stripping, "GET", &path, headers).await);
            as_ever.headers.insert("x-request-id", answer.headers["x-request-id"].clone());
            assert_eq!(answer, as_ever);
        }
    }
}

#[tokio::test]
async fn over_a_bucket_an_image_that_says_a_place_is_sent_by_the_server_itself() {
    let app = stripping(app_on(Arc::new(StubStore::signing("https://bucket.example/"))));
    let (with, without) =
        (store_image(&app.keepsake, jpeg_with_a_place()).await, store_image(&app.keepsake, png(1)).await);
    let answer = get(&app, &format!("/uploads/{with}")).await;
    assert!(answer.status == 200 && !says_a_place(&answer.body));
    let led = get(&app, &format!("/uploads/{without}")).await;
    assert_eq!(led.header("location"), format!("https://bucket.example/uploads/{without}"));
}

#[tokio::test]
async fn an_image_is_looked_through_once_and_known_from_then_on() {
    let (app, count) = app_with_reads();
    let app = stripping(app);
    let path = format!("/uploads/{}", store_image(&app.keepsake, jpeg_with_a_place()).await);
    count.store(0, Ordering::Relaxed);
    get(&app, &path).await;
    // Once from end to end, once for what Exif leads to, and once to be sent.
    assert_eq!(count.swap(0, Ordering::Relaxed), 3);
    let etag = get(&app, &path).await.header("etag").to_owned();
    // To be sent; it was found right just now.
    assert_eq!(count.swap(0, Ordering::Relaxed), 1);
    assert_eq!(ask(&app, "GET", &path, &[("if-none-match", &etag)]).await.status, 304);
    assert_eq!(ask(&app, "HEAD", &path, &[]).await.status, 200);
    assert_eq!(count.swap(0, Ordering::Relaxed), 0);
}

#[tokio::test]
async fn large_replaced_image_is_not_sent_before_it_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let app = stripping(app_on(Arc::new(DiskStore::open(folder.path()).unwrap())));
    let large = |mut bytes: Vec<u8>| {
        bytes.resize(3 * 1024 * 1024, 0);
        bytes
    };
    let id = store_image(&app.keepsake, large(png(1))).await;
    let path = format!("/uploads/{id}");
    assert!(get(&app, &path).await.body == large(png(1)));
    let replaced = large(jpeg_with_a_place());
    assert!(says_a_place(&replaced));
    std::fs::write(folder.path().join("uploads").join(&id), replaced).unwrap();
    assert!(get(&app, &path).await.body == large(png(1)));
}

#[tokio::test]
async fn corrupt_image_is_served_from_archive_without_gps() {
    let app = stripping(app());
    let stored = jpeg_with_a_place();
    let id = store_image(&app.keepsake, stored.clone()).await;
    // What has rotted says another place than the right bytes do, and says it elsewhere.
    let rotten = [&stored[..], b" exif:GPSLatitude=\"1,1N\""].concat();
    let key = Key::new(format!("uploads/{id}")).unwrap();
    app.keepsake.core.primary.put(&key, &Body::from(rotten), &PutMode::Overwrite).await.unwrap();
    let answer = get(&app, &format!("/uploads/{id}")).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, stored.len()));
    assert!(!says_a_place(&answer.body));
}

#[tokio::test]
async fn imported_image_without_digest_is_served_without_gps() {
    let app = stripping(app());
    import(&app.keepsake, "old.jpg", json!({ "contentType": "image/jpeg" })).await;
    let key = Key::new("uploads/old.jpg").unwrap();
    app.keepsake.core.primary.put(&key, &Body::from(jpeg_with_a_place()), &PutMode::Overwrite).await.unwrap();
    let answer = get(&app, "/uploads/old.jpg").await;
    assert!(answer.status == 200 && !says_a_place(&answer.body));
    assert!(answer.header("etag").ends_with("-nogps\""));
    let part = ask(&app, "GET", "/uploads/old.jpg", &[("range", "bytes=40-300")]).await;
    assert!(part.status == 206 && part.body == answer.body[40..=300]);
}

#[tokio::test]
async fn a_smaller_form_says_nothing_of_a_place() {
    let app = app().with_thumbnails(Thumbnails::new(Arc::new(scaling::Engine), Limits::default()));
    let mut large = Cursor::new(Vec::new());
    image::RgbImage::new(400, 300).write_to(&mut large, ImageFormat::Jpeg).unwrap();
    let xmp = shared::testing::located::app1_xmp();
    let stored = jpeg_with(&large.into_inner(), &[app1(&exif(Order::Little)), xmp]);
    let id = store_image(&app.keepsake, stored).await;
    let answer = get(&app, &format!("/uploads/{id}?w=160&format=jpeg")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "image/jpeg"));
    let holds = |text: &[u8]| answer.body.windows(text.len()).any(|part| part == text);
    assert!(!holds(b"Exif") && !holds(b"GPS") && !holds(&XMP.as_bytes()[..20]) && !says_a_place(&answer.body));
}

#[tokio::test]
async fn a_group_is_downloaded_without_the_places_of_its_images() {
    let app = stripping(app());
    let small = jpeg_with_a_place();
    // What is longer than what is kept in memory takes another way.
    let large = [&small[..], &vec![7; 5 << 20]].concat();
    let [a, b, c] = [
        store_image(&app.keepsake, small.clone()).await,
        store_image(&app.keepsake, large.clone()).await,
        store_image(&app.keepsake, png(1)).await,
    ];
    let files = json!({ "files": [a, b, c] }).to_string();
    let router = images::server_routes().into_router(app.clone());
    let put = request("PUT", "/api/groups/g", &[("content-type", "application/json")], files);
    assert_eq!(send(&router, put).await.status, 200);
    let answer = send(&router, request("GET", "/api/groups/g/download", &[], "")).await;
    let mut zip = zip::ZipArchive::new(Cursor::new(answer.body)).unwrap();
    for (index, stored) in [small, large, png(1)].iter().enumerate() {
        let mut bytes = Vec::new();
        // Reading to the end compares the checksum.
        zip.by_index(index).unwrap().read_to_end(&mut bytes).unwrap();
        assert!(!says_a_place(&bytes));
        assert_eq!(differences(&bytes, stored).is_empty(), index == 2);
    }
}
