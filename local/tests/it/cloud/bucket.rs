//! A bucket to work on: in a service of this process, or in LocalStack.

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use shared::clock::Clock;
use shared::layout;
use shared::store::{S3Store, Store, s3_http_client};
use shared::{Keepsake, Settings};
use tempfile::TempDir;

use crate::s3_server;

/// How to reach a bucket.
#[derive(Debug, Clone)]
pub struct Access {
    pub endpoint: String,
    pub bucket: String,
    key_id: &'static str,
    secret: &'static str,
}

impl Access {
    /// The same bucket by another way.
    pub fn through(&self, endpoint: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), ..self.clone() }
    }

    /// What a process of Keepsake needs in its environment to serve the whole bucket.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("STORE_URL", format!("s3://{}", self.bucket)),
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", self.key_id.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", self.secret.to_owned()),
        ]
    }

    /// The bucket as a store, to look at it directly.
    pub fn store(&self) -> Store {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(s3_http_client())
            .credentials_provider(Credentials::new(self.key_id, self.secret, None, None, "test"))
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.endpoint)
            .force_path_style(true);
        let client = aws_sdk_s3::Client::from_conf(config.build());
        Store::new(std::sync::Arc::new(S3Store::from_client(client, &self.bucket)), &std::env::temp_dir())
    }

    /// A process of its own on the bucket, inside this one.
    pub fn keepsake(&self) -> Keepsake {
        let primary = self.store();
        let archive = primary.below(&layout::default_archive());
        Keepsake::new(primary, archive, Vec::new(), Clock::system(), Settings::default())
    }
}

/// A bucket, and what it lies in where that is ours to remove.
pub struct Bucket {
    pub access: Access,
    /// The folder whose folder `bucket` is the bucket; none in LocalStack.
    pub folder: Option<TempDir>,
}

impl Bucket {
    /// An empty bucket in a service of this process.
    pub async fn in_process() -> Self {
        let (folder, endpoint) = s3_server::start().await;
        let access = Access { endpoint, bucket: s3_server::BUCKET.to_owned(), key_id: "key", secret: "secret" };
        Self { access, folder: Some(folder) }
    }

    /// An empty bucket in the service that `.ci/localstack run` started. It goes when that ends.
    pub async fn in_localstack(name: &str) -> Self {
        let endpoint = from_environment("KEEPSAKE_TEST_S3");
        let bucket = format!("{name}-{}", std::process::id());
        // LocalStack wants a signature of nobody who makes a bucket.
        let made = reqwest::Client::new().put(format!("{endpoint}/{bucket}")).send().await.unwrap();
        assert!(made.status().is_success(), "{}", made.text().await.unwrap());
        Self { access: Access { endpoint, bucket, key_id: "test", secret: "test" }, folder: None }
    }
}

/// What `.ci/localstack run` puts into the environment.
#[expect(clippy::disallowed_methods, reason = "only the script knows where it started LocalStack")]
pub fn from_environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this test by `.ci/localstack run`"))
}
