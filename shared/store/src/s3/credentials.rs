//! Credentials from wherever the AWS tools look for them, read again now and then.

use std::time::{Duration, SystemTime};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::{self, future};
use aws_sdk_s3::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};
use tokio::sync::Mutex;

use super::client::http_client;

/// How long credentials count that say nothing of when they expire: a file of them can change at any time.
const READ_AGAIN: Duration = Duration::from_secs(60);
/// How long before they expire others are read.
const EARLY: Duration = Duration::from_secs(60);

/// The environment, a profile with all that it may name, a web identity, the machine's or the container's role.
///
/// The SDK's own chain reads its files once in the life of a process, and its cache keeps what it found for 15 minutes at least.
/// This one makes a new chain each minute, and takes the place of that cache.
#[derive(Debug, Default)]
struct ReadAgain(Mutex<Option<Read>>);

/// Credentials, when they were read, and until when they count.
#[derive(Debug)]
struct Read {
    credentials: Credentials,
    at: SystemTime,
    until: SystemTime,
}

/// A provider of those credentials, for a client without a cache of identities.
pub(super) fn provider() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(ReadAgain::default())
}

impl ReadAgain {
    async fn provide(&self) -> provider::Result {
        let mut last = self.0.lock().await;
        let now = now();
        if let Some(read) = last.as_ref().filter(|read| (read.at..read.until).contains(&now)) {
            return Ok(read.credentials.clone());
        }
        let config = ProviderConfig::without_region().with_http_client(http_client()).load_default_region().await;
        let chain = DefaultCredentialsChain::builder().configure(config).build().await;
        let credentials = chain.provide_credentials().await?;
        *last = Some(Read { credentials: credentials.clone(), at: now, until: until(&credentials, now) });
        Ok(credentials)
    }
}

impl ProvideCredentials for ReadAgain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.provide())
    }
}

/// Until when credentials count that were read `now`.
fn until(credentials: &Credentials, now: SystemTime) -> SystemTime {
    credentials.expiry().map_or(now + READ_AGAIN, |expiry| expiry - EARLY)
}

#[expect(clippy::disallowed_methods, reason = "credentials expire by the machine's clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_count_for_a_minute_or_until_shortly_before_they_expire() {
        let now = now();
        let of = |expiry| Credentials::new("id", "secret", None, expiry, "test");
        assert_eq!(until(&of(None), now), now + READ_AGAIN);
        assert_eq!(until(&of(Some(now + READ_AGAIN * 10)), now), now + READ_AGAIN * 10 - EARLY);
    }
}
