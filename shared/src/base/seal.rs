//! Sealed JSON: documents that contain the SHA-256 of all their other bytes, so that a torn or damaged one is detected
//! whichever part is affected.
//!
//! The first field named `digest` contains `sha256:` and 64 hexadecimal digits. The digest is computed over the whole
//! document with those digits replaced by zeros.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use store::digest::{Digest, Hasher};
use store::{Body, Spool};

/// The value of a document's `digest` field before it is sealed.
pub(crate) const UNSEALED: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

const DIGITS: usize = 64;
/// How much of a body is read at a time.
const CHUNK: usize = 64 * 1024;
/// The field is this close to the start, so that arbitrary text is not searched for it.
const WITHIN: usize = 100;

/// Why a document is not a valid sealed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is no digest where a sealed document has one.
    #[error("the document carries no digest")]
    Missing,
    /// The digest does not match.
    #[error("the document's digest does not match its bytes")]
    Broken,
}

/// A document with its digest before all other fields.
#[derive(Serialize)]
struct Sealed<'a, T> {
    digest: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

/// Serializes `body`, which must be a JSON object without a field named `digest`, as sealed JSON with two spaces of
/// indentation.
pub fn seal(body: &impl Serialize) -> Vec<u8> {
    seal_document(&Sealed { digest: UNSEALED, body })
}

/// Seals a document that has its own `digest` field near its start, with [`UNSEALED`] as its value.
pub(crate) fn seal_document(document: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(document).unwrap_or_else(|e| unreachable!("plain data serialises: {e}"));
    bytes.push(b'\n');
    if !write_digest(&mut bytes) {
        unreachable!("a document to be sealed starts with its digest");
    }
    bytes
}

/// Writes the digest of a document into it; false if it has no field for one.
pub(crate) fn write_digest(document: &mut [u8]) -> bool {
    let Some(at) = digits_at(document) else { return false };
    let digest = digest(document, at).to_string();
    document[at..at + DIGITS].copy_from_slice(digest.as_bytes());
    true
}

/// Checks that `bytes` are a valid sealed document.
pub fn check(bytes: &[u8]) -> Result<(), SealError> {
    let at = digits_at(bytes).ok_or(SealError::Missing)?;
    if digest(bytes, at).to_string().as_bytes() == &bytes[at..at + DIGITS] { Ok(()) } else { Err(SealError::Broken) }
}

/// Like [`check`], for bytes that need not be in memory. Blocks.
pub(crate) fn check_body(body: &Body) -> Result<(), SealError> {
    let (mut hasher, mut offset, mut expected) = (Hasher::default(), 0, None);
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = body.read_at(offset, &mut chunk).map_err(|_| SealError::Broken)?;
        if offset == 0 {
            let at = digits_at(&chunk[..read]).ok_or(SealError::Missing)?;
            expected = Some(chunk[at..at + DIGITS].to_vec());
            chunk[at..at + DIGITS].fill(b'0');
        }
        if read == 0 {
            break;
        }
        hasher.update(&chunk[..read]);
        offset += read as u64;
    }
    let digest = hasher.finish().to_string();
    if expected.is_some_and(|expected| digest.as_bytes() == expected) { Ok(()) } else { Err(SealError::Broken) }
}

/// Seals a body that is too large for memory: copies it, with its digest written into it.
pub(crate) async fn seal_body(unsealed: &Body, mut sealed: Spool) -> io::Result<Body> {
    let (digest, mut offset) = (unsealed.digest().to_string(), 0);
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = unsealed.read_at(offset, &mut chunk)?;
        if read == 0 {
            return sealed.finish().await;
        }
        if offset == 0
            && let Some(at) = digits_at(&chunk[..read])
        {
            chunk[at..at + DIGITS].copy_from_slice(digest.as_bytes());
        }
        sealed.write(&chunk[..read]).await?;
        offset += read as u64;
    }
}

/// Parses a sealed document; `None` if its digest does not match or it is of another type.
pub(crate) fn open<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    check(bytes).ok()?;
    serde_json::from_slice(bytes).ok()
}

/// Computes the digest of a document whose digest field has its digits at `at`.
fn digest(bytes: &[u8], at: usize) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(&bytes[..at]);
    hasher.update(&[b'0'; DIGITS]);
    hasher.update(&bytes[at + DIGITS..]);
    hasher.finish()
}

/// The position of the digest's digits.
fn digits_at(bytes: &[u8]) -> Option<usize> {
    const FIELD: &[u8] = br#""digest": "sha256:"#;
    let head = &bytes[..bytes.len().min(WITHIN)];
    let at = head.windows(FIELD.len()).position(|w| w == FIELD)? + FIELD.len();
    (bytes.len() >= at + DIGITS).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Document {
        text: String,
    }

    proptest! {
        #[test]
        fn any_changed_or_missing_byte_breaks_the_seal(text in ".{0,200}", at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let document = Document { text };
            let sealed = seal(&document);
            prop_assert_eq!(open::<Document>(&sealed), Some(document));
            let at = at.index(sealed.len());
            prop_assert!(check(&sealed[..at]).is_err());
            let mut rotten = sealed;
            rotten[at] ^= 1 << bit;
            prop_assert!(check(&rotten).is_err());
        }
    }
}
