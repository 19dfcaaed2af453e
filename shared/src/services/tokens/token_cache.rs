//! What a process knows of the tokens, so that not every request reads them.

use crate::core::Core;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Scope;
use super::token_store::{self, fingerprint};
use super::token_store::{Document, LONGEST_NAME, PREFIX, Token, decode, read};
use crate::base::seal;
use crate::base::single_flight::{Failure, PATIENCE, SingleFlight, within};
use crate::core::error::{Error, Result};
use store::digest::Digest;
use store::{Body, Change, Found};

use crate::layout;
use store::sync::{Mutex, lock};
use store::{ErrorKind, StoreError};

/// For so long a process relies on what it has read: at most so long a token works on after it was revoked, where the store
/// answers.
pub const TRUSTED: SignedDuration = SignedDuration::from_secs(5);
/// For so long it relies on that where the store does not answer.
pub const TRUSTED_ALONE: SignedDuration = SignedDuration::from_mins(15);
/// So often at most it looks again for one that it does not know, which may have been made just now.
const LOOKS_AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// What a process knows of the tokens. The lock is never held while the store is asked.
#[derive(Debug, Default)]
pub(crate) struct Known {
    seen: Mutex<Option<Seen>>,
    reading: SingleFlight<StoreError>,
}

#[derive(Debug)]
struct Seen {
    at: Timestamp,
    tokens: Vec<Token>,
}

impl Known {
    /// How old what is known is, and the token of this digest in it; `None` where nothing is known.
    fn find(&self, digest: Digest, now: Timestamp) -> Option<(SignedDuration, Option<Token>)> {
        let seen = lock(&self.seen);
        let seen = seen.as_ref()?;
        // A clock that was set back has not made anything older.
        Some((now.duration_since(seen.at).abs(), token_store::find(&seen.tokens, digest).cloned()))
    }
}

/// Tokens and their scopes.
#[derive(Debug)]
pub struct Tokens {
    pub(super) core: Arc<Core>,
    /// What this process knows of the tokens.
    pub(super) known: Known,
}

impl Tokens {
    /// Tokens and their scopes, in the store that `core` has.
    pub fn new(core: Arc<Core>) -> Self {
        Self { core, known: Known::default() }
    }

    /// The token that a client shows, if it is one of this store. Where the tokens cannot be read, that is an error, but for a
    /// token that was known [a short while ago](TRUSTED_ALONE); where they are damaged, none is right.
    pub async fn find(&self, given: &str) -> Result<Option<Token>> {
        let Some(digest) = fingerprint(given) else { return Ok(None) };
        let known = self.known.find(digest, self.core.clock.now());
        match &known {
            Some((age, Some(_))) if *age < TRUSTED => return Ok(known.and_then(|(_, token)| token)),
            Some((age, None)) if *age < LOOKS_AGAIN => return Ok(None),
            _ => {}
        }
        let error = match self.known.reading.run(self.read_tokens()).await {
            Ok(()) => return Ok(self.known.find(digest, self.core.clock.now()).and_then(|(_, token)| token)),
            Err(Failure::Failed(reason)) => {
                StoreError::caused(reason.operation, &reason.key, reason.kind, Arc::clone(&reason))
            }
            Err(Failure::TimedOut) => StoreError::new("get", layout::tokens(), ErrorKind::Unavailable),
        };
        match known {
            Some((age, Some(token))) if error.kind == ErrorKind::Unavailable && age < TRUSTED_ALONE => Ok(Some(token)),
            _ => Err(error.into()),
        }
    }

    async fn read_tokens(&self) -> Result<(), StoreError> {
        let at = self.core.clock.now();
        let tokens = match within(PATIENCE, read(&self.core.primary)).await {
            Some(Ok(tokens)) => tokens,
            Some(Err(Error::Store(error))) => return Err(error),
            Some(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "no token but API_TOKEN works");
                Vec::new()
            }
            None => return Err(StoreError::new("get", layout::tokens(), ErrorKind::Unavailable)),
        };
        *lock(&self.known.seen) = Some(Seen { at, tokens });
        Ok(())
    }

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
            let document = Document { tokens };
            Ok(Change::Put(Body::from(seal::seal(&document)), outcome))
        };
        self.core.primary.update(&layout::tokens(), apply).await
    }
}
