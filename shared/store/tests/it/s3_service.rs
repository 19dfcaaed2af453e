//! A small S3 service that behaves as some real ones do: which checksums it compares, which conditions it takes.

use std::collections::HashMap;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use store::digest::Digest;

use crate::wire::{Reply, Request, Server};

/// What a service does with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heeds {
    /// What S3 does.
    Fully,
    /// Nothing.
    Ignores,
    /// It answers 501.
    NotImplemented,
    /// It answers 412, whether the condition holds or not.
    AlwaysRefuses,
    /// It compares the entity tag without quotation marks, as it stands in the header.
    Unquoted,
}

/// How a service differs from S3.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    pub sha256: Heeds,
    pub md5: Heeds,
    pub if_none_match: Heeds,
    pub if_match: Heeds,
    pub if_match_of_deletes: Heeds,
    /// So many puts arrive with other bytes than were sent.
    pub damages: usize,
    pub has_bucket: bool,
}

pub const S3: Service = Service {
    sha256: Heeds::Fully,
    md5: Heeds::Fully,
    if_none_match: Heeds::Fully,
    if_match: Heeds::Fully,
    if_match_of_deletes: Heeds::Fully,
    damages: 0,
    has_bucket: true,
};

/// Ceph's gateway, release 16.
pub const CEPH: Service =
    Service { sha256: Heeds::Ignores, if_match: Heeds::Unquoted, if_match_of_deletes: Heeds::Ignores, ..S3 };

struct Stored {
    bytes: Vec<u8>,
    put_id: String,
}

impl Stored {
    fn etag(&self) -> String {
        hex(&Md5::digest(&self.bytes))
    }

    fn reply(&self, body: &[u8]) -> Reply {
        Reply::object(&self.etag(), body).header("x-amz-meta-put-id", self.put_id.clone())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Service {
    /// Starts the service, with one bucket.
    pub async fn start(self) -> Server {
        let state = Mutex::new((HashMap::new(), self.damages));
        Server::start(move |_, requests| {
            let mut state = state.lock().unwrap();
            let (objects, damages) = &mut *state;
            self.answer(requests.last().unwrap(), objects, damages)
        })
        .await
    }

    fn answer(self, request: &Request, objects: &mut HashMap<String, Stored>, damages: &mut usize) -> Reply {
        if !self.has_bucket && request.method != "PUT" {
            return Reply::error(404, "NoSuchBucket");
        }
        let path = request.target.split('?').next().unwrap_or_default().to_owned();
        let found = objects.get(&path);
        match request.method.as_str() {
            "GET" if request.target.contains("list-type=2") => Reply::listing(),
            "GET" => found.map_or(Reply::error(404, "NoSuchKey"), |object| object.reply(&object.bytes.clone())),
            "HEAD" if path.trim_end_matches('/').matches('/').count() == 1 => Reply::status(200),
            "HEAD" => found.map_or(Reply::status(404), |object| object.reply(&object.bytes.clone())),
            "DELETE" => match self.refuses(self.if_match_of_deletes, request.header("if-match"), found) {
                Some(refusal) => refusal,
                None => {
                    objects.remove(&path);
                    Reply::status(204)
                }
            },
            _ => {
                let create = match (request.header("if-none-match"), self.if_none_match) {
                    ("", _) | (_, Heeds::Ignores) => None,
                    (_, Heeds::NotImplemented) => Some(Reply::error(501, "NotImplemented")),
                    (_, Heeds::AlwaysRefuses) => Some(Reply::error(412, "PreconditionFailed")),
                    _ => found.map(|_| Reply::error(412, "PreconditionFailed")),
                };
                let refusal = create.or_else(|| self.refuses(self.if_match, request.header("if-match"), found));
                if let Some(refusal) = refusal.or_else(|| self.compares(request)) {
                    return refusal;
                }
                let mut bytes = request.body.clone();
                if *damages > 0 && !path.contains("probe") {
                    *damages -= 1;
                    bytes.push(0);
                }
                let stored = Stored { bytes, put_id: request.header("x-amz-meta-put-id").to_owned() };
                let reply = stored.reply(b"");
                objects.insert(path, stored);
                reply
            }
        }
    }

    fn refuses(self, heeds: Heeds, condition: &str, found: Option<&Stored>) -> Option<Reply> {
        let etag = found.map(Stored::etag).unwrap_or_default();
        let holds = match heeds {
            _ if condition.is_empty() => true,
            Heeds::Ignores => true,
            Heeds::NotImplemented => return Some(Reply::error(501, "NotImplemented")),
            Heeds::AlwaysRefuses => false,
            Heeds::Unquoted => condition == etag,
            Heeds::Fully => condition.trim_matches('"') == etag,
        };
        (!holds).then(|| Reply::error(412, "PreconditionFailed"))
    }

    fn compares(self, request: &Request) -> Option<Reply> {
        let sha256 = request.header("x-amz-checksum-sha256");
        let md5 = request.header("content-md5");
        let wrong_sha256 = sha256 != Digest::of(&request.body).to_base64();
        let wrong_md5 = md5 != STANDARD.encode(Md5::digest(&request.body));
        for (header, wrong, heeds) in [(sha256, wrong_sha256, self.sha256), (md5, wrong_md5, self.md5)] {
            match heeds {
                _ if header.is_empty() => {}
                Heeds::NotImplemented => return Some(Reply::error(501, "NotImplemented")),
                Heeds::Fully if wrong => return Some(Reply::error(400, "BadDigest")),
                _ => {}
            }
        }
        None
    }
}
