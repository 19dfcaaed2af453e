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

/// The URL of Cloudinary's API.
const HOME: &str = "https://api.cloudinary.com";
/// The largest page of a list.
const PAGE: &str = "500";

/// How Cloudinary stores an object. Each kind has its own namespace: an image and a raw object may share a public id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An image: web pages can show it in all sizes, and any client that knows its digest can fetch it.
    Image,
    /// Bytes that only a signed request can fetch.
    Raw,
}

impl Kind {
    /// The path segment in the API.
    fn path(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Raw => "raw",
        }
    }

    /// Who may fetch it: everyone, or the owner.
    fn delivery(self) -> &'static str {
        match self {
            Self::Image => "upload",
            Self::Raw => "authenticated",
        }
    }
}

/// Cloudinary's description of an object.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Resource {
    pub(super) public_id: String,
    /// The time of its last upload, in seconds.
    pub(super) version: u64,
    pub(super) bytes: u64,
    /// The delivery URL of an image, with the version in the path, so that no cache holds an older one.
    pub(super) secure_url: String,
    /// For an upload that must not overwrite: whether an object existed already; if so, this describes that object.
    #[serde(default)]
    pub(super) existing: bool,
    /// Whether it is the placeholder that a deleted object leaves behind.
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

/// One product environment, accessed with one key.
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

    /// Deletes an object, also from caches; an absent object is not an error.
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

    /// Describes the current version of an object.
    pub(super) async fn describe(&self, kind: Kind, id: &str) -> Result<Option<Resource>, Failed> {
        let url = format!("{}/resources/{}/{}/{id}", self.base, kind.path(), kind.delivery());
        match self.http.json::<Resource>(0, || self.asked(&url)).await {
            Ok(found) => Ok(Some(found.value).filter(|resource| !resource.placeholder)),
            Err(e) if e.kind == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Lists every object of this kind whose public id starts with `prefix`.
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

    /// Checks whether the API answers.
    pub(super) async fn ping(&self) -> Result<(), Failed> {
        let url = format!("{}/ping", self.base);
        self.http.json::<serde_json::Value>(0, || self.asked(&url)).await.map(drop)
    }

    /// Opens an object. An image is read from its public URL, so that this checks what web pages show; raw bytes have
    /// no public URL and are read with a signed request.
    pub(super) async fn open(&self, kind: Kind, resource: &Resource) -> Result<Opened, Failed> {
        if kind == Kind::Image {
            return self.http.open(&resource.secure_url).await;
        }
        let fields = self.signed([("public_id", &resource.public_id), ("type", kind.delivery())]);
        self.http.open(&format!("{}/{}/download?{}", self.base, kind.path(), joined(&fields))).await
    }

    /// Reads a whole object; returns its length and digest.
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

    /// Signs the fields of a request: the signature is a hash of all of them, in order, and of the secret.
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

/// The fields, joined for signing and for a URL: none of them needs encoding.
fn joined(fields: &BTreeMap<&'static str, String>) -> String {
    fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// The current time in seconds: Cloudinary accepts a signature for an hour.
#[expect(clippy::disallowed_methods, reason = "it must be the real time, whatever time a test plays")]
fn seconds() -> i64 {
    Timestamp::now().as_second()
}

/// An upload form: the fields, and the bytes in a part named `file`.
fn form(url: &str, fields: &BTreeMap<&'static str, String>, body: &Body) -> Request<OutBody> {
    // No field can contain the boundary. Neither can the bytes, because the boundary contains their digest.
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
