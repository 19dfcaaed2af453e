//! What the tests of the functions share: a store to serve, images to send, and somewhere to send them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

pub mod catalog;
pub mod documents;
#[cfg(feature = "testing")]
pub mod lambda;
pub mod located;

use std::io::{Cursor, Write};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body as HttpBody, to_bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde_json::Value;
use tower::ServiceExt;

use crate::base::clock::Clock;
use crate::catalog::{Change, Content, Record};
use crate::core::settings::Settings;
use crate::http::{Access, App};
use crate::keepsake::Keepsake;
use crate::layout::{self, ImageId};
use crate::media::Format;
use crate::services::images::Fields;
use crate::services::upload::NewImage;
use store::sync::{Mutex, lock};
use store::testing::MemoryStore;
use store::{Body, ETag, Key, Object, ObjectMeta, ObjectStore, PutMode, Result, ServedAs, Store, StoreStatus};

/// The moment at which the clock of [`keepsake_on`] stands.
pub const START: &str = "2026-11-20T08:00:00Z";

/// A new store on `backend`, with an archive inside it, and a clock that stands still until it is advanced.
pub fn keepsake_on(backend: Arc<dyn ObjectStore>, settings: Settings) -> Keepsake {
    let primary = Store::new(backend, &std::env::temp_dir());
    let archive = primary.below(&layout::default_archive());
    Keepsake::new(primary, archive, Vec::new(), Clock::manual(START.parse().unwrap()), settings)
}

/// A new store in memory, served to all.
pub fn app() -> App {
    app_on(Arc::new(MemoryStore::new()))
}

/// A new store on `backend`, served to all.
pub fn app_on(backend: Arc<dyn ObjectStore>) -> App {
    App::new(keepsake_on(backend, Settings::default()), Access::default())
}

/// Stores an image and returns its id.
pub async fn store_image(keepsake: &Keepsake, bytes: Vec<u8>) -> String {
    store_image_as(keepsake, bytes, Fields::default()).await
}

/// Stores an image of which this is said, and returns its id.
pub async fn store_image_as(keepsake: &Keepsake, bytes: Vec<u8>, fields: Fields) -> String {
    let image = NewImage { body: Body::from(bytes), original_name: Some("photo.png".to_owned()) };
    keepsake.uploads.upload(vec![image], fields, None).await.unwrap().images[0].0.to_string()
}

/// Stores a record as an import would, with these fields and no more.
pub async fn import(keepsake: &Keepsake, name: &str, fields: Value) {
    let Value::Object(fields) = fields else { panic!("a record is an object") };
    let change = Change { version: 0, content: Content::Live(Record::from_older(fields)) };
    keepsake.core.catalog.commit(vec![(ImageId::new(name).unwrap(), change)]).await.unwrap();
}

/// A log that a test reads. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    /// All of it.
    pub fn text(&self) -> String {
        String::from_utf8(lock(&self.0).clone()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// A header as text; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// The status and the `type` of a problem, after a look at all that every problem must have.
    #[track_caller]
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header(CONTENT_TYPE.as_str()), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        for field in ["type", "title", "detail", "error"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        (self.status.as_u16(), problem["type"].as_str().unwrap().to_owned())
    }
}

/// Sends a request through a router.
pub async fn send(router: &Router, request: Request<HttpBody>) -> Answer {
    let (head, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    Answer { status: head.status, headers: head.headers, body: to_bytes(body, usize::MAX).await.unwrap() }
}

/// A request of this method to this path with these headers and this body.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<HttpBody>) -> Request<HttpBody> {
    let builder = Request::builder().method(method).uri(path);
    let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    builder.body(body.into()).unwrap()
}

/// Sends a GET.
pub async fn get(router: &Router, path: &str) -> Answer {
    send(router, request("GET", path, &[], HttpBody::empty())).await
}

/// A small PNG; those of different numbers differ.
pub fn png(number: u32) -> Vec<u8> {
    encode(image::ImageFormat::Png, number)
}

/// A small JPEG that says in Exif and in XMP where it was taken.
pub fn jpeg_with_a_place() -> Vec<u8> {
    let segments = [located::app1(&located::exif(located::Order::Big)), located::app1_xmp()];
    located::jpeg_with(&encode(image::ImageFormat::Jpeg, 1), &segments)
}

fn encode(format: image::ImageFormat, number: u32) -> Vec<u8> {
    let [_, r, g, b] = number.to_be_bytes();
    let mut bytes = Cursor::new(Vec::new());
    image::RgbImage::from_pixel(4, 3, image::Rgb([r, g, b])).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// One image of each format, 4 × 3 pixels, followed by every byte there is: what is served must be what was sent also
/// where it is no valid text.
pub fn samples() -> Vec<(Format, Vec<u8>)> {
    use image::ImageFormat as Encoder;
    let all_bytes: Vec<u8> = (0..=255).collect();
    let with_all_bytes = |bytes: Vec<u8>| [bytes, all_bytes.clone()].concat();
    let sample = |format: &Format| {
        let bytes = match format {
            Format::Jpeg => encode(Encoder::Jpeg, 1),
            Format::Png => encode(Encoder::Png, 1),
            Format::Gif => encode(Encoder::Gif, 1),
            Format::WebP => encode(Encoder::WebP, 1),
            Format::Bmp => encode(Encoder::Bmp, 1),
            Format::Tiff => encode(Encoder::Tiff, 1),
            Format::Ico => encode(Encoder::Ico, 1),
            Format::Avif => heif(b"avif"),
            Format::Heic => heif(b"heic"),
            // Nothing may follow a video: it has those bytes inside.
            Format::Mp4 => return (*format, mp4(&all_bytes)),
            Format::WebM => return (*format, webm(&all_bytes)),
        };
        (*format, with_all_bytes(bytes))
    };
    Format::ALL.iter().map(sample).collect()
}

/// A box of the ISO base media file format.
pub fn iso_box(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32 + 8).to_be_bytes()[..], name, content].concat()
}

/// An MP4 with this content: the boxes that tell its dimensions.
pub fn mp4(content: &[u8]) -> Vec<u8> {
    let ftyp = iso_box(b"ftyp", b"isom\0\0\x02\0isomiso2");
    let mut tkhd = [0; 84];
    (tkhd[77], tkhd[81], tkhd[41]) = (4, 3, 1);
    let moov = iso_box(b"moov", &iso_box(b"trak", &iso_box(b"tkhd", &tkhd)));
    [ftyp, moov, iso_box(b"mdat", content)].concat()
}

/// A WebM with this content: the elements that tell its dimensions.
pub fn webm(content: &[u8]) -> Vec<u8> {
    let element =
        |name: &[u8], content: &[u8]| [name, &(1_u64 << 56 | content.len() as u64).to_be_bytes(), content].concat();
    let head = element(&[0x1a, 0x45, 0xdf, 0xa3], &element(&[0x42, 0x82], b"webm"));
    let video = element(&[0xe0], &[element(&[0xb0], &[4]), element(&[0xba], &[3])].concat());
    let tracks = element(&[0x16, 0x54, 0xae, 0x6b], &element(&[0xae], &video));
    let cluster = element(&[0x1f, 0x43, 0xb6, 0x75], content);
    [head, element(&[0x18, 0x53, 0x80, 0x67], &[tracks, cluster].concat())].concat()
}

/// A HEIF file of this brand, for which the `image` crate has no encoder: the boxes that tell its dimensions.
fn heif(brand: &[u8; 4]) -> Vec<u8> {
    let ispe = iso_box(b"ispe", &[[0; 4], 4_u32.to_be_bytes(), 3_u32.to_be_bytes()].concat());
    let iprp = iso_box(b"iprp", &[iso_box(b"ipco", &ispe), iso_box(b"ipma", &[0; 12])].concat());
    let hdlr = iso_box(b"hdlr", b"\0\0\0\0\0\0\0\0pict\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let meta = iso_box(b"meta", &[vec![0; 4], hdlr, iprp].concat());
    let ftyp = iso_box(b"ftyp", &[&brand[..], &[0; 4], brand].concat());
    [ftyp, meta, iso_box(b"mdat", &[0x5a; 16])].concat()
}

/// A store in memory that says of itself what a test wants it to.
#[derive(Debug, Default)]
pub struct StubStore {
    inner: MemoryStore,
    /// What it says of itself.
    pub status: Mutex<StoreStatus>,
    /// What its signed URLs start with, where it has any.
    signs: Option<&'static str>,
}

impl StubStore {
    /// A store that says this of itself.
    pub fn with_status(status: StoreStatus) -> Self {
        Self { status: Mutex::new(status), ..Self::default() }
    }

    /// A store whose signed URLs start like this.
    pub fn signing(start: &'static str) -> Self {
        Self { signs: Some(start), ..Self::default() }
    }
}

#[async_trait]
impl ObjectStore for StubStore {
    async fn put(&self, key: &Key, body: &Body, mode: &PutMode) -> Result<ETag> {
        self.inner.put(key, body, mode).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Object> {
        self.inner.get(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta> {
        self.inner.head(key).await
    }

    fn list(&self, prefix: &str, start_after: Option<&str>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix, start_after)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }

    async fn delete_version(&self, version: &ObjectMeta) -> Result<()> {
        self.inner.delete_version(version).await
    }

    async fn signed_url(&self, key: &Key, served: ServedAs<'_>, _valid_for: Duration) -> Result<Option<String>> {
        let disposition = served.disposition.map(|disposition| format!("?{disposition}")).unwrap_or_default();
        Ok(self.signs.map(|start| format!("{start}{key}{disposition}")))
    }

    async fn status(&self) -> Result<StoreStatus> {
        Ok(lock(&self.status).clone())
    }

    async fn sweep_unfinished(&self, _before: Timestamp) -> Result<u64> {
        Ok(0)
    }
}
