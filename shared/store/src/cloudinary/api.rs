//! The few calls of Cloudinary's HTTP API that a store needs.
//!
//! Uploads and deletes are calls of its Upload API, which has no limit of requests an hour, and are signed. Lists and
//! descriptions are calls of its Admin API, which has one (500 on the free plan), and go with the key and its secret.

use std::collections::BTreeMap;
use std::io;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Request};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use jiff::Timestamp;
use serde::Deserialize;

use super::http::{Answer, Failed, Http, Opened, OutBody, empty};
use super::options::CloudinaryOptions;
use crate::body::Body;
use crate::digest::{Digest, Hasher};
use crate::error::ErrorKind;

/// Where Cloudinary's API is.
const HOME: &str = "https://api.cloudinary.com";
/// The most objects that a page of a list can have.
const PAGE: &str = "500";

/// As what Cloudinary keeps an object. The two have names of their own: one public id may be given to one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A picture, which pages can show in all sizes, and which whoever knows its digest can fetch.
    Image,
    /// Bytes, which only a signed request can fetch.
    Raw,
}

impl Kind {
    /// In the paths of the API.
    fn path(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Raw => "raw",
        }
    }

    /// Who may fetch it: all, or the owner.
    fn delivery(self) -> &'static str {
        match self {
            Self::Image => "upload",
            Self::Raw => "authenticated",
        }
    }
}

/// What Cloudinary tells of an object.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Resource {
    pub(super) public_id: String,
    /// The second in which it was last uploaded.
    pub(super) version: u64,
    pub(super) bytes: u64,
    /// Where a picture is delivered, with the version in the path, so that no cache holds an older one.
    pub(super) secure_url: String,
    /// Of an upload that was not to overwrite: whether there was an object already, which is what is told of.
    #[serde(default)]
    pub(super) existing: bool,
    /// Whether it is the mark that a deleted object left behind.
    #[serde(default)]
    pub(super) placeholder: bool,
}

#[derive(Deserialize)]
struct Page {
    resources: Vec<Resource>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Outcome {
    result: String,
}

/// One product environment, as seen by one key.
#[derive(Clone, Debug)]
pub(super) struct Api {
    pub(super) http: Http,
    base: String,
    options: CloudinaryOptions,
}

impl Api {
    pub(super) fn new(options: CloudinaryOptions) -> io::Result<Self> {
        let base = format!("{}/v1_1/{}", options.endpoint.as_deref().unwrap_or(HOME), options.cloud);
        Ok(Self { http: Http::new(options.first_wait)?, base, options })
    }

    /// Uploads an object.
    pub(super) async fn upload(
        &self,
        kind: Kind,
        id: &str,
        body: &Body,
        overwrite: bool,
    ) -> Result<Answer<Resource>, Failed> {
        let url = format!("{}/{}/upload", self.base, kind.path());
        let overwrite = if overwrite { "true" } else { "false" };
        let request = || {
            let fields = self.signed([
                ("invalidate", overwrite),
                ("overwrite", overwrite),
                ("public_id", id),
                ("type", kind.delivery()),
            ]);
            form(&url, &fields, body)
        };
        self.http.json(body.size(), request).await
    }

    /// Deletes an object, also from caches; one that is not there is fine.
    pub(super) async fn destroy(&self, kind: Kind, id: &str) -> Result<(), Failed> {
        let url = format!("{}/{}/destroy", self.base, kind.path());
        let request = || {
            let fields = self.signed([("invalidate", "true"), ("public_id", id), ("type", kind.delivery())]);
            let body = Full::from(joined(&fields)).map_err(|never| match never {}).boxed_unsync();
            post(&url, "application/x-www-form-urlencoded".to_owned(), body)
        };
        let done: Answer<Outcome> = self.http.json(0, request).await?;
        match done.value.result.as_str() {
            "ok" | "not found" => Ok(()),
            other => Err(Failed::unavailable(format!("Cloudinary says {other:?} of a delete"))),
        }
    }

    /// What Cloudinary knows of an object now.
    pub(super) async fn describe(&self, kind: Kind, id: &str) -> Result<Option<Resource>, Failed> {
        let url = format!("{}/resources/{}/{}/{id}", self.base, kind.path(), kind.delivery());
        match self.http.json::<Resource>(0, || self.asked(&url)).await {
            Ok(found) => Ok(Some(found.value).filter(|resource| !resource.placeholder)),
            Err(e) if e.kind == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Everything of this kind whose public id starts with `prefix`.
    pub(super) async fn list(&self, kind: Kind, prefix: &str) -> Result<Vec<Resource>, Failed> {
        let first =
            format!("{}/resources/{}/{}?max_results={PAGE}&prefix={prefix}", self.base, kind.path(), kind.delivery());
        let (mut all, mut url) = (Vec::new(), first.clone());
        loop {
            let page: Answer<Page> = self.http.json(0, || self.asked(&url)).await?;
            all.extend(page.value.resources.into_iter().filter(|resource| !resource.placeholder));
            let Some(cursor) = page.value.next_cursor else { return Ok(all) };
            let cursor = percent_encoding::utf8_percent_encode(&cursor, percent_encoding::NON_ALPHANUMERIC);
            url = format!("{first}&next_cursor={cursor}");
        }
    }

    /// Asks whether the API answers at all.
    pub(super) async fn ping(&self) -> Result<(), Failed> {
        let url = format!("{}/ping", self.base);
        self.http.json::<serde_json::Value>(0, || self.asked(&url)).await.map(drop)
    }

    /// Opens an object as everyone is shown it, so that what pages show is what was put; plain bytes are shown to nobody, and
    /// are asked for.
    pub(super) async fn open(&self, kind: Kind, resource: &Resource) -> Result<Opened, Failed> {
        if kind == Kind::Image {
            return self.http.open(&resource.secure_url).await;
        }
        let fields = self.signed([("public_id", &resource.public_id), ("type", kind.delivery())]);
        self.http.open(&format!("{}/{}/download?{}", self.base, kind.path(), joined(&fields))).await
    }

    /// Reads an object through; length and digest.
    pub(super) async fn hash(&self, kind: Kind, resource: &Resource) -> Result<(u64, Digest), Failed> {
        let (_, mut bytes) = self.open(kind, resource).await?;
        let (mut hasher, mut size) = (Hasher::default(), 0);
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk.map_err(|e| Failed::unavailable(format!("Cloudinary's answer broke off ({e})")))?;
            size += chunk.len() as u64;
            hasher.update(&chunk);
        }
        Ok((size, hasher.finish()))
    }

    /// Fields of a request with what vouches for them: a hash of all of them in order, and of the secret.
    fn signed<const N: usize>(&self, fields: [(&'static str, &str); N]) -> BTreeMap<&'static str, String> {
        let mut fields: BTreeMap<_, _> = fields.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        fields.insert("timestamp", seconds().to_string());
        let signature = Digest::of(format!("{}{}", joined(&fields), self.options.secret.expose()).as_bytes());
        fields.insert("signature", signature.to_string());
        fields.insert("api_key", self.options.key.clone());
        fields
    }

    /// A request to the Admin API.
    fn asked(&self, url: &str) -> Request<OutBody> {
        let pair = format!("{}:{}", self.options.key, self.options.secret.expose());
        let request = Request::get(url).header(AUTHORIZATION, format!("Basic {}", BASE64_STANDARD.encode(pair)));
        request.body(empty()).unwrap_or_else(|e| unreachable!("every part of it was checked: {e}"))
    }
}

/// Fields as they are signed, and as they stand in a URL: nothing in them need be encoded.
fn joined(fields: &BTreeMap<&'static str, String>) -> String {
    fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Now: Cloudinary takes a signature for an hour.
#[expect(clippy::disallowed_methods, reason = "it must be the real time, whatever time a test plays")]
fn seconds() -> i64 {
    Timestamp::now().as_second()
}

/// An upload: the fields, and the bytes in a part that is called `file`.
fn form(url: &str, fields: &BTreeMap<&'static str, String>, body: &Body) -> Request<OutBody> {
    // Nothing in the fields can be taken for a boundary; whatever the bytes hold is told from it by one that holds their digest.
    let boundary = format!("keepsake-{}", body.digest());
    let mut head = String::new();
    for (name, value) in fields {
        head += &format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    head += &format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let length = head.len() as u64 + body.size() + tail.len() as u64;
    let one = |text: String| stream::iter([Ok(Bytes::from(text))]);
    let whole = one(head).chain(body.stream()).chain(one(tail)).map(|chunk: io::Result<Bytes>| chunk.map(Frame::data));
    let mut request =
        post(url, format!("multipart/form-data; boundary={boundary}"), StreamBody::new(whole).boxed_unsync());
    request.headers_mut().insert(CONTENT_LENGTH, length.into());
    request
}

fn post(url: &str, content_type: String, body: OutBody) -> Request<OutBody> {
    let request = Request::builder().method(Method::POST).uri(url).header(CONTENT_TYPE, content_type);
    request.body(body).unwrap_or_else(|e| unreachable!("every part of it was checked: {e}"))
}
