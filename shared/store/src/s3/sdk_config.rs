//! What is found around a process: region, endpoint and credentials, where its configuration does not say.

use std::time::Duration;

use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::meta::region::RegionProviderChain;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};

use super::client::http_client;
use crate::secret::AwsCredentials;

/// The region of a service that is not AWS, where none is named: they mind its name little.
pub(super) const ELSEWHERE: Region = Region::from_static("us-east-1");
/// Where a bucket is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Options {
    /// The bucket's name.
    pub bucket: String,
    /// The bucket's region; by default the one that the environment or, without an endpoint, the profile names.
    pub region: Option<String>,
    /// The URL of a service other than AWS; by default the one that the profile names.
    pub endpoint: Option<String>,
    /// What to identify with; by default what is found where the AWS tools look: the environment, a profile, a web
    /// identity, the machine's or the function's role.
    pub credentials: Option<AwsCredentials>,
    /// Whether nothing but the environment is looked at, which on Lambda says everything. Without the feature
    /// `aws-profiles` nothing else ever is.
    pub environment_alone: bool,
}

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
