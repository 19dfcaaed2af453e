//! Credentials from wherever the AWS tools look for them, read again now and then.

use std::time::{Duration, SystemTime};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};

use super::http_client;

/// How long credentials count that say nothing of when they expire: a file of them can change at any time.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// The environment, a profile with all that it may name, a web identity, the machine's or the container's role.
///
/// The SDK's own chain reads its files once in the life of a process. This one makes a new chain whenever the SDK asks,
/// which it does shortly before credentials expire.
#[derive(Debug)]
struct ReadAgain;

/// A provider of those credentials.
pub(super) fn provider() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(ReadAgain)
}

impl ProvideCredentials for ReadAgain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let config = ProviderConfig::without_region().with_http_client(http_client()).load_default_region().await;
            let chain = DefaultCredentialsChain::builder().configure(config).build().await;
            Ok(expiring(chain.provide_credentials().await?, now() + READ_AGAIN))
        })
    }
}

/// The same credentials, which expire at `by` where they do not say when themselves.
fn expiring(found: Credentials, by: SystemTime) -> Credentials {
    if found.expiry().is_some() {
        return found;
    }
    let token = found.session_token().map(str::to_owned);
    Credentials::new(found.access_key_id(), found.secret_access_key(), token, Some(by), "keepsake")
}

#[expect(clippy::disallowed_methods, reason = "the SDK compares it with the machine's clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_expire_when_they_say_or_soon() {
        let (soon, later) = (now() + READ_AGAIN, now() + READ_AGAIN * 10);
        let of = |expiry| Credentials::new("id", "secret", Some("token".to_owned()), expiry, "test");
        let found = expiring(of(None), soon);
        assert_eq!((found.expiry(), found.session_token()), (Some(soon), Some("token")));
        assert_eq!(expiring(of(Some(later)), soon).expiry(), Some(later));
    }
}
