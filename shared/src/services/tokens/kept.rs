//! The tokens of a store, as they are kept and changed.

use super::known::Tokens;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::Scope;
use crate::base::clock::millis;
use crate::base::seal::{self, UNSEALED};
use crate::core::error::{Error, Result};
use crate::digest::Digest;
use crate::layout;
use crate::store::{Body, Change, ErrorKind, Found, Optional, Store};

/// What every token begins with, so that people and scanners know one when they see it.
pub(super) const PREFIX: &str = "ksk_";
/// How long a token is: the prefix, and 256 bits as hexadecimal digits.
const LENGTH: usize = PREFIX.len() + 64;
/// The longest name, in characters.
const LONGEST_NAME: usize = 100;

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
    sha256: Digest,
    /// When it was made.
    #[serde(with = "millis")]
    pub created: Timestamp,
}

/// The tokens of a store; sealed JSON.
#[derive(Serialize, Deserialize)]
struct Document {
    digest: String,
    tokens: Vec<Token>,
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

fn decode(bytes: &[u8]) -> Option<Vec<Token>> {
    Some(seal::open::<Document>(bytes)?.tokens)
}

/// Whether these are tokens as they were written.
pub(crate) fn are_sound(bytes: &[u8]) -> bool {
    decode(bytes).is_some()
}

impl Tokens {
    /// Makes a token and returns it with the secret, which is nowhere else. It works at once, in a server that runs within a
    /// second.
    pub async fn issue(&self, name: &str, scope: Scope) -> Result<(Token, String)> {
        let name = name.trim();
        if name.is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
            return Err(Error::Invalid(format!("A token's name has 1 to {LONGEST_NAME} characters, all in one line.")));
        }
        let (id, secret) = (self.core.clock.new_id(), format!("{PREFIX}{}", self.core.clock.new_secret()));
        let token = Token {
            id,
            name: name.to_owned(),
            scope,
            sha256: Digest::of(secret.as_bytes()),
            created: self.core.clock.now(),
        };
        self.change_tokens(|tokens| {
            if tokens.iter().any(|known| known.name == token.name) {
                return Err(Error::Invalid(format!(
                    "There is a token {name:?} already. Revoke it, or choose another name."
                )));
            }
            tokens.push(token.clone());
            Ok(())
        })
        .await?;
        Ok((token, secret))
    }

    /// The tokens there are, the oldest first.
    pub async fn list(&self) -> Result<Vec<Token>> {
        read(&self.core.primary).await
    }

    /// Revokes the token of this name or id, and returns it. A server that runs may accept it for [`TRUSTED`](super::TRUSTED)
    /// longer, and for 15 minutes where the store does not answer it.
    pub async fn revoke(&self, which: &str) -> Result<Token> {
        self.change_tokens(|tokens| {
            let at = tokens.iter().position(|token| token.name == which || token.id.to_string() == which);
            at.map(|at| tokens.remove(at)).ok_or_else(|| Error::NoSuchToken(which.to_owned()))
        })
        .await
    }

    /// Changes the tokens by compare-and-set, so that of two changes at once neither is lost.
    async fn change_tokens<T>(&self, mut change: impl FnMut(&mut Vec<Token>) -> Result<T>) -> Result<T> {
        let apply = |found: Found| {
            let mut tokens = match found {
                Found::Absent => Vec::new(),
                Found::Bytes(bytes) => decode(&bytes).ok_or(Error::DamagedTokens)?,
                Found::Unreadable => return Err(Error::DamagedTokens),
            };
            let outcome = change(&mut tokens)?;
            let document = Document { digest: UNSEALED.to_owned(), tokens };
            Ok(Change::Put(Body::from(seal::seal(&document)), outcome))
        };
        self.core.primary.update(&layout::tokens(), apply).await
    }
}
