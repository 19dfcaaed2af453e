//! [`S3Store`]: objects in a bucket of S3 or of a compatible service.
//!
//! Architecture invariant: no other module uses the AWS SDK, and within this one only `errors` interprets its errors.

mod capabilities;
mod client;
mod clock;
mod copy;
#[cfg(feature = "aws-profiles")]
mod credentials;
mod delete;
mod errors;
mod probe;
mod put;
mod read;
mod sdk_config;

pub use client::http_client;
pub use sdk_config::S3Options;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::Region;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Builder, ProvideCredentials};
use aws_sdk_s3::presigning::PresigningConfig;
use futures::stream::BoxStream;

use self::capabilities::{Capabilities, Integrity};
use self::clock::ServiceClock;
use self::errors::failure;
use crate::body::Body;
use crate::digest::Digest;
use crate::error::{ErrorKind, Result, StoreError};
use crate::key::Key;
use crate::object::{
    Address, ETag, Files, Object, ObjectMeta, ObjectStore, PutMode, ServedAs, SignedPut, StoreStatus, Terms,
};

/// The metadata field in which a put stores its random id, to tell its object from others.
const PUT_ID: &str = "put-id";

/// A store of a whole bucket; see [`Store::below`](crate::Store::below) for a part of one.
///
/// On S3 the etag depends on the bytes: putting the same bytes again does not change it. So a delete of a version first
/// compares the modification time as well; the same bytes put again within that round trip are deleted all the same.
#[derive(Clone, Debug)]
pub struct S3Store {
    client: Client,
    bucket: String,
    /// The service and the caller: stores with equal values can copy from each other.
    service: String,
    /// The URL of the service for display, `AWS` for S3 itself.
    endpoint: String,
    /// Whether the bucket is known to exist. After a 404 to a HEAD, either the object or the bucket is missing.
    seen: Arc<AtomicBool>,
    /// The capabilities of the service, as found by the last probe.
    capabilities: Arc<Mutex<Capabilities>>,
    /// The service's clock.
    clock: ServiceClock,
}

impl S3Store {
    /// Creates a client for a bucket. Region and credentials must be found ([`ErrorKind::Refused`] otherwise), but no
    /// request is sent to the bucket yet.
    pub async fn connect(options: S3Options) -> Result<Self> {
        let identity = options.credentials.as_ref().map(|own| own.access_key_id.clone()).unwrap_or_default();
        let shared = sdk_config::look(&options).await;
        let mut config = Builder::from(&shared);
        if let Some(endpoint) = shared.endpoint_url() {
            // Other services seldom have one host name per bucket.
            let region = shared.region().cloned().unwrap_or(sdk_config::ELSEWHERE);
            // The SDK appends the bucket directly to the endpoint's path.
            let endpoint = format!("{}/", endpoint.trim_end_matches('/'));
            config = config.endpoint_url(endpoint).force_path_style(true).region(region);
        } else if shared.region().is_none() {
            let reason = "no region is given, neither with the bucket nor by AWS_REGION nor by a profile";
            return Err(StoreError::caused("open", options.bucket, ErrorKind::Refused, reason));
        }
        // Requested here, while the operator is watching. A later failure to renew them is an ordinary outage.
        if let Some(credentials) = shared.credentials_provider() {
            let found = credentials.provide_credentials().await;
            found.map_err(|e| errors::without_credentials(&options.bucket, e))?;
        }
        let config = config.build();
        let endpoint = shared.endpoint_url().unwrap_or("AWS").to_owned();
        let region = config.region().map(Region::as_ref).unwrap_or_default();
        // A caller that may write one bucket need not be allowed to read the other, and a region only serves its own
        // buckets.
        let service = format!("{endpoint} {region} {identity}");
        Ok(Self { service, endpoint, ..Self::from_client(Client::from_conf(config), options.bucket) })
    }

    /// Uses an existing client, for a service that it shares with no other store.
    pub fn from_client(client: Client, bucket: impl Into<String>) -> Self {
        let bucket = bucket.into();
        let service = format!("the client of {bucket}");
        let clock = ServiceClock::default();
        let client = Client::from_conf(client.config().to_builder().interceptor(clock.clone()).build());
        Self {
            client,
            endpoint: service.clone(),
            service,
            bucket,
            seen: Arc::default(),
            capabilities: Arc::default(),
            clock,
        }
    }

    /// The expiry of a URL signed now, by the service's clock.
    fn expiry(&self, key: &Key, valid_for: Duration) -> Result<PresigningConfig> {
        let config = PresigningConfig::builder().start_time(self.clock.now()).expires_in(valid_for).build();
        config.map_err(|e| StoreError::caused("sign", key, ErrorKind::Refused, e))
    }

    fn capabilities(&self) -> Capabilities {
        *self.capabilities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_capabilities(&self, found: Capabilities) {
        *self.capabilities.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// The same store, with capabilities that are only being tried.
    fn trial(&self, tried: Capabilities) -> Self {
        Self { capabilities: Arc::new(Mutex::new(tried)), ..self.clone() }
    }

    /// Requests the bucket itself; `Ok` if it exists and may be read.
    async fn check_bucket(&self, bucket: &str, operation: &'static str, key: &str) -> Result<()> {
        let request = self.client.head_bucket().bucket(bucket);
        request.send().await.map_err(|e| failure(operation, key, e))?;
        self.seen.fetch_or(bucket == self.bucket, Ordering::Relaxed);
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put(&self, key: &Key, body: &Body, mode: &PutMode) -> Result<ETag> {
        self.put_object(key, body, mode).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Object> {
        self.get_object(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta> {
        Ok(self.describe("head", key).await?.meta)
    }

    fn list(&self, prefix: &str, start_after: Option<&str>) -> BoxStream<'static, Result<ObjectMeta>> {
        read::list(self.clone(), prefix.to_owned(), start_after.map(str::to_owned))
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        match self.client.delete_object().bucket(&self.bucket).key(key.as_str()).send().await {
            Ok(_) => Ok(()),
            // Sent by some compatible services, not by S3 itself.
            Err(e) if errors::kind(&e) == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(failure("delete", key, e)),
        }
    }

    async fn delete_version(&self, version: &ObjectMeta) -> Result<()> {
        self.delete_object_version(version).await
    }

    async fn stored_digest(&self, key: &Key) -> Result<Option<(ObjectMeta, Digest)>> {
        let found = self.describe("verify", key).await?;
        // A service that does not verify checksums may store the one it received instead of computing it.
        let trusted = self.capabilities().integrity == Integrity::Sha256;
        Ok(found.digest.filter(|_| trusted).map(|digest| (found.meta, digest)))
    }

    fn address(&self, key: &Key) -> Option<Address> {
        Some(Address { service: self.service.clone(), bucket: self.bucket.clone(), key: key.clone() })
    }

    async fn copy_from(
        &self,
        from: &Address,
        to: &Key,
        digest: Digest,
        content_type: Option<&str>,
    ) -> Result<Option<ETag>> {
        if from.service == self.service { self.copy_object(from, to, digest, content_type).await } else { Ok(None) }
    }

    async fn signed_url(&self, key: &Key, served: ServedAs<'_>, valid_for: Duration) -> Result<Option<String>> {
        let request = self.client.get_object().bucket(&self.bucket).key(key.as_str());
        let request = request
            .response_content_type(served.content_type)
            .set_response_content_disposition(served.disposition.map(str::to_owned));
        let signed = request.presigned(self.expiry(key, valid_for)?).await.map_err(|e| failure("sign", key, e))?;
        Ok(Some(signed.uri().to_owned()))
    }

    async fn signed_put(&self, key: &Key, terms: &Terms, valid_for: Duration) -> Result<Option<SignedPut>> {
        let request = self.client.put_object().bucket(&self.bucket).key(key.as_str()).if_none_match("*");
        let request = request
            .content_length(i64::try_from(terms.size).unwrap_or(i64::MAX))
            .content_type(&terms.content_type)
            .checksum_sha256(terms.digest.to_base64());
        let signed = request.presigned(self.expiry(key, valid_for)?).await.map_err(|e| failure("sign", key, e))?;
        let headers = signed.headers().map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        Ok(Some(SignedPut { url: signed.uri().to_owned(), headers }))
    }

    async fn check_conditional_writes(&self, scratch: &Key) -> Result<()> {
        self.probe(scratch).await
    }

    async fn check_conditional_deletes(&self, scratch: &Key) -> Result<bool> {
        self.probe_deletes(scratch).await
    }

    async fn status(&self) -> Result<StoreStatus> {
        self.check_bucket(&self.bucket, "status", &self.bucket).await?;
        let (integrity, clock_ahead_seconds) = (Some(self.capabilities().summary()), self.clock.ahead_seconds());
        Ok(StoreStatus { kind: "s3", integrity, clock_ahead_seconds, ..StoreStatus::default() })
    }

    async fn free_bytes(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    async fn files(&self) -> Result<Option<Files>> {
        Ok(None)
    }
}
