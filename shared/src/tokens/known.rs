//! What a process knows of the tokens, so that not every request reads them.

use jiff::{SignedDuration, Timestamp};

use super::Token;
use super::kept::{self, fingerprint};
use crate::error::{Error, Result};
use crate::keepsake::Keepsake;

/// For so long a process believes what it has read: at most so long a token works on after it was revoked.
pub const TRUSTED: SignedDuration = SignedDuration::from_secs(5);
/// So often at most it looks again for one that it does not know, which may have been made just now.
const LOOKS_AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// What a process knows of the tokens. Whoever reads them anew holds the lock, and the others wait for what they find.
#[derive(Debug, Default)]
pub(crate) struct Known(tokio::sync::Mutex<Option<Seen>>);

#[derive(Debug)]
struct Seen {
    at: Timestamp,
    tokens: Vec<Token>,
}

impl Keepsake {
    /// The token that a client shows, if it is one of this store. Where the tokens cannot be read, that is an error; where they
    /// are damaged, none is right.
    pub async fn find_token(&self, given: &str) -> Result<Option<Token>> {
        let Some(digest) = fingerprint(given) else { return Ok(None) };
        let mut known = self.tokens.0.lock().await;
        let now = self.clock.now();
        if let Some(seen) = known.as_ref() {
            // A clock that was set back has not made anything older.
            let age = now.duration_since(seen.at).abs();
            let found = kept::find(&seen.tokens, digest).filter(|_| age < TRUSTED);
            if found.is_some() || age < LOOKS_AGAIN {
                return Ok(found.cloned());
            }
        }
        *known = None;
        let tokens = match kept::read(&self.primary).await {
            Ok(tokens) => tokens,
            Err(Error::DamagedTokens) => {
                let error = &Error::DamagedTokens as &dyn std::error::Error;
                tracing::error!(error, "no token but API_TOKEN works");
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let found = kept::find(&tokens, digest).cloned();
        *known = Some(Seen { at: now, tokens });
        Ok(found)
    }
}
