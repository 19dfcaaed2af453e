//! A process's cache of the tokens, so that not every request reads them.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Scope;
use super::token_store::{self, Document, LONGEST_NAME, PREFIX, Token, decode, fingerprint, read};
use crate::base::seal;
use crate::base::single_flight::{Failure, PATIENCE, SingleFlight, within};
use crate::core::Core;
use crate::core::error::{Error, Result};
use crate::layout;
use store::digest::Digest;
use store::sync::{Mutex, lock};
use store::{Body, Change, ErrorKind, Found, StoreError};

/// How long a process relies on cached tokens: a revoked token works at most this much longer, if the store answers.
pub const TRUSTED: SignedDuration = SignedDuration::from_secs(5);
/// How long it relies on them if the store does not answer.
pub const TRUSTED_ALONE: SignedDuration = SignedDuration::from_mins(15);
/// The minimum interval between reads for an unknown token, which may have been issued just now.
const LOOKS_AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// Tokens and their scopes.
#[derive(Debug)]
pub struct Tokens {
    core: Arc<Core>,
    /// The tokens that this process has cached, and when. The lock is never held during a request to the store.
    cached: Mutex<Option<(Timestamp, Vec<Token>)>>,
    reading: SingleFlight<StoreError>,
}

impl Tokens {
    /// Tokens for the stores of `core`.
    pub fn new(core: Arc<Core>) -> Self {
        Self { core, cached: Mutex::default(), reading: SingleFlight::default() }
    }

    /// The age of the cached tokens, and the one with this digest; `None` if nothing is cached.
    fn find_cached(&self, digest: Digest) -> Option<(SignedDuration, Option<Token>)> {
        let cached = lock(&self.cached);
        let (at, tokens) = cached.as_ref()?;
        // A clock that was set back has not made anything older.
        Some((self.core.clock.now().duration_since(*at).abs(), token_store::find(tokens, digest).cloned()))
    }

    /// The token that a client presents, if this store has it. If the tokens cannot be read, that is an error, except
    /// for a token that was cached [a short while ago](TRUSTED_ALONE); if they are damaged, no token is valid.
    pub async fn find(&self, given: &str) -> Result<Option<Token>> {
        let Some(digest) = fingerprint(given) else { return Ok(None) };
        let known = self.find_cached(digest);
        match &known {
            Some((age, Some(_))) if *age < TRUSTED => return Ok(known.and_then(|(_, token)| token)),
            Some((age, None)) if *age < LOOKS_AGAIN => return Ok(None),
            _ => {}
        }
        let error = match self.reading.run(self.read_tokens()).await {
            Ok(()) => return Ok(self.find_cached(digest).and_then(|(_, token)| token)),
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
        *lock(&self.cached) = Some((at, tokens));
        Ok(())
    }

    /// Issues a token and returns it with its secret, which is stored nowhere else. It works at once, in a running
    /// server within a second.
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

    /// The existing tokens, the oldest first.
    pub async fn list(&self) -> Result<Vec<Token>> {
        read(&self.core.primary).await
    }

    /// Revokes the token with this name or id, and returns it. A running server may accept it for
    /// [`TRUSTED`](super::TRUSTED) longer, and for 15 minutes if the store does not answer it.
    pub async fn revoke(&self, which: &str) -> Result<Token> {
        self.change_tokens(|tokens| {
            let at = tokens.iter().position(|token| token.name == which || token.id.to_string() == which);
            at.map(|at| tokens.remove(at)).ok_or_else(|| Error::NoSuchToken(which.to_owned()))
        })
        .await
    }

    /// Changes the tokens by compare-and-set, so that of two concurrent changes neither is lost.
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
