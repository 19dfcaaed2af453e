//! What a service checks and which form of a condition it takes, as the probe found it.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream::TryStreamExt;
use md5::{Digest as _, Md5};

use crate::body::Body;
use crate::object::ETag;

/// What a service does. Before a probe it is taken to do what S3 itself does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// What keeps bytes from being stored that were damaged on their way.
    pub(super) integrity: Integrity,
    /// Whether entity tags stand in quotation marks in `If-Match`, as they do in answers. Ceph up to release 16 compares
    /// the header as it is with a tag that has none.
    pub(super) quoted: bool,
}

/// How a put is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Integrity {
    /// The service compares `x-amz-checksum-sha256`, and keeps it.
    Sha256,
    /// The service compares `Content-MD5`.
    Md5,
    /// The service compares nothing, so each put is read back.
    ReadBack,
}

/// The checksum that goes with one put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Checksum {
    Sha256(String),
    Md5(String),
    None,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self { integrity: Integrity::Sha256, quoted: true }
    }
}

impl Capabilities {
    /// An entity tag in the form that the service takes in a condition.
    pub(super) fn condition(self, etag: &ETag) -> String {
        if self.quoted { etag.0.clone() } else { unquoted(etag).to_owned() }
    }

    /// How puts are checked, as a person reads it.
    pub(super) fn told(self) -> &'static str {
        match self.integrity {
            Integrity::Sha256 => "the service compares the SHA-256 of each put",
            Integrity::Md5 => "the service compares the Content-MD5 of each put; it ignores SHA-256",
            Integrity::ReadBack => "the service compares no checksum, so each put is read back",
        }
    }
}

impl Integrity {
    /// The checksum of these bytes that the service compares.
    pub(super) async fn checksum(self, body: &Body) -> io::Result<Checksum> {
        Ok(match self {
            Self::Sha256 => Checksum::Sha256(body.digest().to_base64()),
            Self::Md5 => {
                let hash = async |mut md5: Md5, chunk: bytes::Bytes| {
                    md5.update(&chunk);
                    Ok(md5)
                };
                let md5 = body.stream().try_fold(Md5::new(), hash).await?;
                Checksum::Md5(STANDARD.encode(md5.finalize()))
            }
            Self::ReadBack => Checksum::None,
        })
    }
}

/// An entity tag without its quotation marks.
pub(super) fn unquoted(ETag(etag): &ETag) -> &str {
    etag.trim_matches('"')
}
