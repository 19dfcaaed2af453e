//! The digests in a request: RFC 9530.

use axum::http::HeaderMap;
use shared::digest::Digest;
use shared::{Error, Result};

/// The SHA-256 digests in `Content-Digest` and `Repr-Digest`. For a request body, which has no content coding here,
/// both are the same. Other algorithms are ignored.
pub(crate) fn announced(headers: &HeaderMap) -> Result<Vec<Digest>> {
    let values = ["content-digest", "repr-digest"].into_iter().flat_map(|name| headers.get_all(name));
    let mut digests = Vec::new();
    for value in values {
        // Neither a comma nor a semicolon occurs in base64.
        for member in value.to_str().unwrap_or_default().split(',') {
            if let Some(("sha-256", value)) = member.trim().split_once('=') {
                digests.push(parse(value).ok_or_else(malformed)?);
            }
        }
    }
    Ok(digests)
}

/// A byte sequence of RFC 8941, such as `:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:`.
fn parse(value: &str) -> Option<Digest> {
    let sequence = value.split(';').next()?.trim();
    Digest::from_base64(sequence.strip_prefix(':')?.strip_suffix(':')?)
}

fn malformed() -> Error {
    Error::Invalid("A digest must be written as sha-256=:<base64 of 32 bytes>:.".to_owned())
}
