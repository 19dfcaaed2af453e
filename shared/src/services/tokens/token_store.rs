//! The tokens of a store, as they are stored and changed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::Scope;
use crate::base::clock::millis;
use crate::base::seal;
use crate::core::error::{Error, Result};
use crate::layout;
use store::digest::Digest;
use store::{ErrorKind, Optional, Store};

/// The prefix of every token, so that people and secret scanners recognise one.
pub(super) const PREFIX: &str = "ksk_";
/// The length of a token: the prefix, and 256 bits as hexadecimal digits.
const LENGTH: usize = PREFIX.len() + 64;
/// The longest name, in characters.
pub(super) const LONGEST_NAME: usize = 100;

/// A token without its secret, of which only the digest is stored. A secret of 256 random bits cannot be guessed from
/// it at any speed, so no slow hash is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// Its permanent id.
    pub id: Uuid,
    /// Its name, which is unique in a store.
    pub name: String,
    /// What it allows.
    pub scope: Scope,
    pub(super) sha256: Digest,
    /// When it was issued.
    #[serde(with = "millis")]
    pub created: Timestamp,
}

/// The tokens of a store; sealed JSON.
#[derive(Serialize, Deserialize)]
pub(super) struct Document {
    pub(super) tokens: Vec<Token>,
}

/// Whether a text has the form of an issued token, which cannot be guessed.
fn has_form(given: &str) -> bool {
    given.len() == LENGTH && given.starts_with(PREFIX)
}

/// The digest by which a given token is looked up; `None` if the text does not have the form of a token.
pub(super) fn fingerprint(given: &str) -> Option<Digest> {
    has_form(given).then(|| Digest::of(given.as_bytes()))
}

/// The token with this digest. The time it takes reveals nothing about other tokens.
pub(super) fn find(tokens: &[Token], digest: Digest) -> Option<&Token> {
    let mut all = tokens.iter();
    all.find(|token| token.sha256.as_bytes().ct_eq(digest.as_bytes()).into())
}

/// Reads the tokens of a store. [`Error::DamagedTokens`] if they are damaged.
pub(super) async fn read(primary: &Store) -> Result<Vec<Token>> {
    match primary.read(&layout::tokens()).await {
        Err(e) if e.kind == ErrorKind::Corrupt => Err(Error::DamagedTokens),
        read => match read.optional()? {
            None => Ok(Vec::new()),
            Some((bytes, _)) => decode(&bytes).ok_or(Error::DamagedTokens),
        },
    }
}

pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Token>> {
    Some(seal::open::<Document>(bytes)?.tokens)
}

/// Whether these are intact tokens.
pub(crate) fn are_intact(bytes: &[u8]) -> bool {
    decode(bytes).is_some()
}
