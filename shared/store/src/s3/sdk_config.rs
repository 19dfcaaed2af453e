//! Region, endpoint and credentials from the environment, if the configuration does not contain them.

use std::time::Duration;

use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::meta::region::RegionProviderChain;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};

use super::client::http_client;
use crate::secret::AwsCredentials;

/// The default region for services other than AWS, most of which ignore it.
pub(super) const ELSEWHERE: Region = Region::from_static("us-east-1");
/// Where a bucket is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Options {
    /// The bucket's name.
    pub bucket: String,
    /// The bucket's region; by default from the environment or, without an endpoint, from the profile.
    pub region: Option<String>,
    /// The URL of a service other than AWS; by default from the profile.
    pub endpoint: Option<String>,
    /// The credentials; by default those that the AWS tools find: the environment, a profile, a web identity, the role
    /// of the machine or function.
    pub credentials: Option<AwsCredentials>,
    /// Whether to use only the environment, which on Lambda is complete. Without the feature `aws-profiles` this is
    /// always the case.
    pub environment_alone: bool,
}

/// Timeout of one attempt at a request. Reading a body and large puts get longer.
pub(super) const ATTEMPT: Duration = Duration::from_secs(60);
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// Collects what a client needs, as far as it is found.
pub(super) async fn look(options: &S3Options) -> SdkConfig {
    #[cfg(feature = "aws-profiles")]
    if !options.environment_alone {
        return everywhere(options).await;
    }
    environment(options).await
}

/// Uses the sources of all AWS tools: the environment, a profile, a web identity, the role of the machine or function.
#[cfg(feature = "aws-profiles")]
async fn everywhere(options: &S3Options) -> SdkConfig {
    let mut loader =
        aws_config::defaults(behaviour()).http_client(http_client()).retry_config(retries()).timeout_config(timeouts());
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    } else if options.endpoint.is_some() {
        // Do not query the instance metadata for the region, which is slow outside AWS.
        let named = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
        loader = loader.region(named.or_else(ELSEWHERE));
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

/// Uses only the environment. The code for profiles and roles is a twentieth of a function's size.
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
