//! Credentials from the sources of the AWS tools, reloaded periodically.

use std::time::{Duration, SystemTime};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::{self, future};
use aws_sdk_s3::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};
use tokio::sync::Mutex;

use super::client::http_client;

/// How long to use credentials that have no expiry time: a credentials file can change at any time.
const READ_AGAIN: Duration = Duration::from_secs(60);
/// How long before their expiry credentials are reloaded.
const EARLY: Duration = Duration::from_secs(60);

/// The sources: the environment, a profile with all that it refers to, a web identity, the role of the machine or
/// container.
///
/// The SDK's own chain reads its files once per process, and its cache keeps the result for at least 15 minutes. This
/// provider creates a new chain each minute, and replaces that cache.
#[derive(Debug, Default)]
struct ReadAgain(Mutex<Option<Read>>);

/// Credentials, when they were read, and until when they are used.
#[derive(Debug)]
struct Read {
    credentials: Credentials,
    at: SystemTime,
    until: SystemTime,
}

/// A provider of these credentials, for a client without an identity cache.
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

/// Until when credentials that were read at `now` are used.
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
