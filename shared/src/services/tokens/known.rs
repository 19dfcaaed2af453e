//! What a process knows of the tokens, so that not every request reads them.

use crate::core::Core;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Token;
use super::kept::{self, fingerprint};
use crate::base::single_flight::{Failure, PATIENCE, SingleFlight, within};
use crate::core::error::{Error, Result};
use crate::digest::Digest;

use crate::layout;
use crate::store::{ErrorKind, StoreError};
use crate::sync::{Mutex, lock};

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
        Some((now.duration_since(seen.at).abs(), kept::find(&seen.tokens, digest).cloned()))
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
        let tokens = match within(PATIENCE, kept::read(&self.core.primary)).await {
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
}
