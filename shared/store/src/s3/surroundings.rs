//! What is found around a process: region, endpoint and credentials, where its configuration does not say.

use std::time::Duration;

use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::meta::region::RegionProviderChain;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};

use super::{S3Options, http_client};
use crate::secret::AwsCredentials;

/// How long one attempt at a request may take, but for reading a body and for large puts, which get longer.
pub(super) const ATTEMPT: Duration = Duration::from_secs(60);
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// All that a client is made of, as far as it is found.
pub(super) async fn look(options: &S3Options) -> SdkConfig {
    #[cfg(feature = "aws-profiles")]
    if !options.environment_alone {
        return everywhere(options).await;
    }
    environment(options).await
}

/// Where all AWS tools look: the environment, a profile, a web identity, the machine's or the function's role.
#[cfg(feature = "aws-profiles")]
async fn everywhere(options: &S3Options) -> SdkConfig {
    let mut loader =
        aws_config::defaults(behaviour()).http_client(http_client()).retry_config(retries()).timeout_config(timeouts());
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    } else if options.endpoint.is_some() {
        // No machine of AWS need be asked which region it is in, which takes its time where there is none.
        let named = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
        loader = loader.region(named.or_else(super::ELSEWHERE));
    }
    if let Some(endpoint) = &options.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    loader = match &options.credentials {
        Some(own) => loader.credentials_provider(credentials(own)),
        None => loader
            .credentials_provider(super::credentials::provider())
            .identity_cache(aws_config::identity::IdentityCache::no_cache()),
    };
    loader.load().await
}

/// The environment alone. What reads profiles and asks for roles is a twentieth of a function's size.
async fn environment(options: &S3Options) -> SdkConfig {
    let credentials = match &options.credentials {
        Some(own) => SharedCredentialsProvider::new(credentials(own)),
        None => SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()),
    };
    let named = RegionProviderChain::first_try(options.region.clone().map(Region::new));
    let region = named.or_else(EnvironmentVariableRegionProvider::new()).region().await;
    let mut config = SdkConfig::builder()
        .behavior_version(behaviour())
        .http_client(http_client())
        .retry_config(retries())
        .timeout_config(timeouts())
        .region(region)
        .credentials_provider(credentials);
    config.set_endpoint_url(options.endpoint.clone());
    config.build()
}

fn behaviour() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(3)
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT).build()
}

fn credentials(own: &AwsCredentials) -> Credentials {
    let AwsCredentials { access_key_id, secret_access_key } = own;
    Credentials::new(access_key_id, secret_access_key.expose(), None, None, "keepsake")
}
