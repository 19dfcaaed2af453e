//! [`S3Store`]: objects in a bucket of S3 or of a service that speaks its protocol.

use std::ops::Range;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};

use super::{Body, ETag, ErrorKind, Key, Object, ObjectMeta, ObjectStore, PutMode, Result, StoreError, StoreStatus};

/// Where a bucket is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Options {
    /// The bucket's name.
    pub bucket: String,
    /// The bucket's region; by default the environment's.
    pub region: Option<String>,
    /// The URL of a service other than AWS; by default the environment's.
    pub endpoint: Option<String>,
}

/// A store in one bucket.
#[derive(Debug)]
pub struct S3Store {
    bucket: String,
}

impl S3Store {
    /// Connects to a bucket.
    pub async fn connect(options: S3Options) -> Result<Self> {
        Ok(Self { bucket: options.bucket })
    }

    /// Uses an existing client.
    pub fn from_client(_client: aws_sdk_s3::Client, bucket: impl Into<String>) -> Self {
        Self { bucket: bucket.into() }
    }

    /// Probes conditional writes.
    pub async fn check_conditional_writes(&self, prefix: &Key) -> Result<()> {
        Err(StoreError::new("probe", prefix, ErrorKind::Unavailable))
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put(&self, key: &Key, _body: &Body, _mode: &PutMode) -> Result<ETag> {
        Err(StoreError::new("put", key, ErrorKind::Unavailable))
    }

    async fn get(&self, key: &Key, _range: Option<Range<u64>>) -> Result<Object> {
        Err(StoreError::new("get", key, ErrorKind::Unavailable))
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta> {
        Err(StoreError::new("head", key, ErrorKind::Unavailable))
    }

    fn list(&self, prefix: &str, _start_after: Option<&str>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::iter([Err(StoreError::new("list", prefix, ErrorKind::Unavailable))]).boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        Err(StoreError::new("delete", key, ErrorKind::Unavailable))
    }

    async fn status(&self) -> Result<StoreStatus> {
        Err(StoreError::new("status", &self.bucket, ErrorKind::Unavailable))
    }
}
