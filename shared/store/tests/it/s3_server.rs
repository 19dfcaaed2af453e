//! An S3 service in this process: s3s over files, put right where it would lie to a test. The end-to-end tests of
//! `local` use it as well.

use axum::http::StatusCode;
use std::path::PathBuf;
use std::sync::Arc;

use axum::error_handling::HandleError;
use axum::serve::ListenerExt;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::S3ServiceBuilder;
use s3s::{HttpError, S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::sync::RwLock;

pub const BUCKET: &str = "bucket";
/// A key, besides `key` with its `secret`, whose secret is a word that stands nowhere else.
#[allow(dead_code, reason = "for who looks for it where it should not be")]
pub const OTHER_KEY: (&str, &str) = ("other-key", "hush-4f6b");

/// Starts a service with one empty bucket on a port of its own; it ends with the test's runtime.
pub async fn start() -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
    let files = Arc::new(FileSystem::new(folder.path()).unwrap());
    let honest = Honest { files, folder: folder.path().to_owned(), lock: Arc::default() };
    let mut service = S3ServiceBuilder::new(honest);
    let mut keys = SimpleAuth::from_single("key", "secret");
    keys.register(OTHER_KEY.0.to_owned(), OTHER_KEY.1.into());
    service.set_auth(keys);
    let answer_error = |_: HttpError| async { StatusCode::INTERNAL_SERVER_ERROR };
    let app = axum::Router::new().fallback_service(HandleError::new(service.build(), answer_error));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    // Else each answer in two pieces waits 40 milliseconds for its first one to be acknowledged.
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (folder, endpoint)
}

/// s3s-fs, but as S3 is: conditions hold, since puts exclude each other and everything else; folders are no objects;
/// listings have etags, encode their keys when asked to, and take prefixes as they are.
struct Honest {
    files: Arc<FileSystem>,
    folder: PathBuf,
    lock: Arc<RwLock<()>>,
}

impl Honest {
    /// Whether what lies under a key is but a part of others' keys; a file may also lie where a folder would be needed.
    fn is_nothing(&self, bucket: &str, key: &str) -> bool {
        !self.folder.join(bucket).join(key).is_file()
    }
}

#[async_trait::async_trait]
impl S3 for Honest {
    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.files.head_bucket(req).await
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        if !self.folder.join(&req.input.bucket).is_dir() {
            return Err(s3_error!(NoSuchBucket));
        }
        let (files, alone) = (Arc::clone(&self.files), Arc::clone(&self.lock).write_owned().await);
        // To its end, also where the client is gone: the object and its checksum are two files.
        let put = async move {
            let _alone = alone;
            files.put_object(req).await
        };
        tokio::spawn(put).await.map_err(|_| s3_error!(InternalError))?
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let _alone = self.lock.write().await;
        self.files.copy_object(req).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let _alone = self.lock.write().await;
        if self.is_nothing(&req.input.bucket, &req.input.key) {
            return Ok(S3Response::new(DeleteObjectOutput::default()));
        }
        if let Some(condition) = &req.input.if_match {
            let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
            let head = HeadObjectInput::builder().bucket(bucket).key(key).build().unwrap();
            let etag = self.files.head_object(req.clone().map_input(|_| head)).await?.output.e_tag;
            if etag.as_ref() != condition.as_etag() {
                return Err(s3_error!(PreconditionFailed));
            }
        }
        self.files.delete_object(req).await
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let _together = self.lock.read().await;
        if self.is_nothing(&req.input.bucket, &req.input.key) {
            return Err(s3_error!(NoSuchKey));
        }
        self.files.get_object(req).await
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let _together = self.lock.read().await;
        if self.is_nothing(&req.input.bucket, &req.input.key) {
            return Err(s3_error!(NoSuchKey));
        }
        self.files.head_object(req).await
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let _together = self.lock.read().await;
        let mut listed = self.files.list_objects_v2(req.clone()).await?;
        let prefix = req.input.prefix.clone().unwrap_or_default();
        (listed.output.prefix, listed.output.start_after) = (None, None);
        let objects = listed.output.contents.get_or_insert_default();
        objects.retain(|object| object.key.as_ref().is_some_and(|key| key.starts_with(&prefix)));
        for object in objects {
            let key = object.key.take().unwrap_or_default();
            let head = HeadObjectInput::builder().bucket(req.input.bucket.clone()).key(key.clone()).build().unwrap();
            object.e_tag = self.files.head_object(req.clone().map_input(|_| head)).await?.output.e_tag;
            object.key = Some(match req.input.encoding_type {
                Some(_) => utf8_percent_encode(&key, NON_ALPHANUMERIC).to_string().replace("%20", "+"),
                None => key,
            });
        }
        Ok(listed)
    }
}
