//! Which checksums a service verifies and which form of a condition it accepts, as found by the probe.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream::TryStreamExt;
use md5::{Digest as _, Md5};

use crate::body::Body;
use crate::object::ETag;

/// What a service supports. Before a probe, the same as S3 itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// How damaged bytes are kept from being stored.
    pub(super) integrity: Integrity,
    /// Whether entity tags are quoted in `If-Match`, as in responses. Ceph up to release 16 compares the raw header
    /// with an unquoted tag.
    pub(super) quoted: bool,
}

/// How a put is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Integrity {
    /// The service verifies and stores `x-amz-checksum-sha256`.
    Sha256,
    /// The service verifies `Content-MD5`.
    Md5,
    /// The service verifies nothing, so each put is read back.
    ReadBack,
}

/// The checksum sent with one put.
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
    /// An entity tag in the form that the service accepts in a condition.
    pub(super) fn condition(self, etag: &ETag) -> String {
        if self.quoted { etag.0.clone() } else { unquoted(etag).to_owned() }
    }

    /// How puts are checked, for display.
    pub(super) fn summary(self) -> &'static str {
        match self.integrity {
            Integrity::Sha256 => "the service compares the SHA-256 of each put",
            Integrity::Md5 => "the service compares the Content-MD5 of each put; it ignores SHA-256",
            Integrity::ReadBack => "the service compares no checksum, so each put is read back",
        }
    }
}

impl Integrity {
    /// The checksum of these bytes that the service verifies.
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
