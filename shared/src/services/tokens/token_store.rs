//! The tokens of a store, as they are kept and changed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::Scope;
use crate::base::clock::millis;
use crate::base::seal::{self};
use crate::core::error::{Error, Result};
use crate::layout;
use store::digest::Digest;
use store::{ErrorKind, Optional, Store};

/// What every token begins with, so that people and scanners know one when they see it.
pub(super) const PREFIX: &str = "ksk_";
/// How long a token is: the prefix, and 256 bits as hexadecimal digits.
const LENGTH: usize = PREFIX.len() + 64;
/// The longest name, in characters.
pub(super) const LONGEST_NAME: usize = 100;

/// A token, but for the secret itself, of which only the digest is kept: nobody can find 256 random bits from it, however fast
/// they try, so that no slow hash is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// What names it for ever.
    pub id: Uuid,
    /// What names it for people; no two tokens of a store have the same.
    pub name: String,
    /// What it allows.
    pub scope: Scope,
    pub(super) sha256: Digest,
    /// When it was made.
    #[serde(with = "millis")]
    pub created: Timestamp,
}

/// The tokens of a store; sealed JSON.
#[derive(Serialize, Deserialize)]
pub(super) struct Document {
    pub(super) tokens: Vec<Token>,
}

/// Whether a text has the form of a token that a store has made, which nobody guesses.
fn has_form(given: &str) -> bool {
    given.len() == LENGTH && given.starts_with(PREFIX)
}

/// What a text that is given as a token is looked up by; `None` where it does not have the form of one.
pub(super) fn fingerprint(given: &str) -> Option<Digest> {
    has_form(given).then(|| Digest::of(given.as_bytes()))
}

/// The token of this digest. How long it takes tells nothing of the others.
pub(super) fn find(tokens: &[Token], digest: Digest) -> Option<&Token> {
    let mut all = tokens.iter();
    all.find(|token| token.sha256.as_bytes().ct_eq(digest.as_bytes()).into())
}

/// Reads the tokens of a store. [`Error::DamagedTokens`] where they are not what was
/// written.
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

/// Whether these are tokens as they were written.
pub(crate) fn are_sound(bytes: &[u8]) -> bool {
    decode(bytes).is_some()
}
