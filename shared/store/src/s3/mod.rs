//! [`S3Store`]: objects in a bucket of S3 or of a service that speaks its protocol.
//!
//! Architecture invariant: no other module knows the AWS SDK, and within this one only `errors` knows which of its
//! errors means what.

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
/// The metadata under which a put leaves its own random name, so that it can tell its object from another's.
const PUT_ID: &str = "put-id";

/// A store in one bucket, whole; see [`Store::below`](crate::Store::below) for a part of it.
///
/// On S3 an etag follows from the bytes: to put the same bytes again does not change it. So a version that is to be
/// deleted is told by its time as well, a moment before: the same bytes put again within that round trip go all the same.
#[derive(Clone, Debug)]
pub struct S3Store {
    client: Client,
    bucket: String,
    /// Which service, as which caller: what stores have to share so that one can copy from the other.
    service: String,
    /// The URL of the service as people know it, `AWS` where it is S3 itself.
    endpoint: String,
    /// Whether the bucket is known to exist. A 404 to a HEAD does not say whether the object or the bucket is missing.
    seen: Arc<AtomicBool>,
    /// What the service does, as the last probe found it.
    capabilities: Arc<Mutex<Capabilities>>,
    /// What its clock says.
    clock: ServiceClock,
}

impl S3Store {
    /// Makes a client for a bucket. Region and credentials must be found ([`ErrorKind::Refused`] otherwise), but no
    /// request is sent to the bucket yet.
    pub async fn connect(options: S3Options) -> Result<Self> {
        let identity = options.credentials.as_ref().map(|own| own.access_key_id.clone()).unwrap_or_default();
        let shared = sdk_config::look(&options).await;
        let mut config = Builder::from(&shared);
        if let Some(endpoint) = shared.endpoint_url() {
            // Other services are seldom reachable under one host name per bucket.
            let region = shared.region().cloned().unwrap_or(sdk_config::ELSEWHERE);
            // The SDK puts the bucket right behind the endpoint's path.
            let endpoint = format!("{}/", endpoint.trim_end_matches('/'));
            config = config.endpoint_url(endpoint).force_path_style(true).region(region);
        } else if shared.region().is_none() {
            let reason = "no region is given, neither with the bucket nor by AWS_REGION nor by a profile";
            return Err(StoreError::caused("open", options.bucket, ErrorKind::Refused, reason));
        }
        // Asked for here, where a person looks on. Later a failure to renew them is an outage like others.
        if let Some(credentials) = shared.credentials_provider() {
            let found = credentials.provide_credentials().await;
            found.map_err(|e| errors::without_credentials(&options.bucket, e))?;
        }
        let config = config.build();
        let endpoint = shared.endpoint_url().unwrap_or("AWS").to_owned();
        let region = config.region().map(Region::as_ref).unwrap_or_default();
        // Who may write one bucket need not be allowed to read the other, and a region answers for its own buckets alone.
        let service = format!("{endpoint} {region} {identity}");
        Ok(Self { service, endpoint, ..Self::from_client(Client::from_conf(config), options.bucket) })
    }

    /// Uses a client as it is, for a service that no other store is taken to share.
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

    /// From now on, by the clock of whoever will judge it.
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

    /// The same store, whose puts go by what is only tried.
    fn trial(&self, tried: Capabilities) -> Self {
        Self { capabilities: Arc::new(Mutex::new(tried)), ..self.clone() }
    }

    /// Asks for a bucket itself; `Ok` when it is there and may be read.
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
            // Not S3 itself, but some that speak its protocol.
            Err(e) if errors::kind(&e) == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(failure("delete", key, e)),
        }
    }

    async fn delete_version(&self, version: &ObjectMeta) -> Result<()> {
        self.delete_object_version(version).await
    }

    async fn stored_digest(&self, key: &Key) -> Result<Option<(ObjectMeta, Digest)>> {
        let found = self.describe("verify", key).await?;
        // Where the service compares none, it may keep what it was told rather than what it has.
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
        let (integrity, clock_ahead_seconds) = (Some(self.capabilities().told()), self.clock.ahead_seconds());
        Ok(StoreStatus { kind: "s3", integrity, clock_ahead_seconds, ..StoreStatus::default() })
    }

    async fn free_bytes(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    async fn files(&self) -> Result<Option<Files>> {
        Ok(None)
    }
}
