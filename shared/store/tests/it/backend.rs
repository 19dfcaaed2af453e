//! The stores that the contract is tried on, each empty and alone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use store::testing::fs::SimulatedDisk;
use store::testing::{FaultStore, MemoryStore};
use store::{Body, DiskStore, ErrorKind, Key, Meter, ObjectStore, PutMode, S3Store, Store};
use tempfile::TempDir;

#[cfg(feature = "cloudinary")]
use crate::cloudinary_server;
use crate::fuse_like::{FuseLike, Habits};
use crate::s3_server;

/// A store and what has to live as long as it does.
pub struct Backend {
    pub store: Store,
    /// How many bytes an object has at least.
    pub smallest: u64,
    /// Whether conditions hold among the callers of one process alone.
    pub of_one_process: bool,
    reopen: Box<dyn Fn() -> Arc<dyn ObjectStore> + Send + Sync>,
    folder: TempDir,
}

impl Backend {
    pub fn new(folder: TempDir, reopen: impl Fn() -> Arc<dyn ObjectStore> + Send + Sync + 'static) -> Self {
        let store = Store::new(reopen(), folder.path());
        Self { store, smallest: 0, of_one_process: false, reopen: Box::new(reopen), folder }
    }

    /// Where the backend keeps what it keeps.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The same objects, seen by a store that knows nothing of the first one.
    pub fn reopened(&self) -> Store {
        Store::new((self.reopen)(), self.folder.path())
    }
}

pub async fn memory() -> Backend {
    let store = Arc::new(MemoryStore::new());
    Backend::new(TempDir::new().unwrap(), move || store.clone())
}

pub async fn faulty_memory() -> Backend {
    let store = Arc::new(MemoryStore::new());
    Backend::new(TempDir::new().unwrap(), move || Arc::new(FaultStore::new(store.clone())))
}

/// A store whose operations are measured, on a disk.
pub async fn metered_disk() -> Backend {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("store");
    let backend = Backend::new(folder, move || Arc::new(DiskStore::open(&root).unwrap()));
    Backend { store: backend.store.clone().metered(Arc::new(Unheeded)), ..backend }
}

#[derive(Debug)]
struct Unheeded;

impl Meter for Unheeded {
    fn note(&self, _operation: &'static str, _failure: Option<ErrorKind>, _took: Duration) {}
}

pub async fn disk() -> Backend {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("store");
    Backend::new(folder, move || Arc::new(DiskStore::open(&root).unwrap()))
}

pub async fn simulated_disk() -> Backend {
    let disk = SimulatedDisk::new();
    Backend::new(TempDir::new().unwrap(), move || Arc::new(DiskStore::open_on(Arc::new(disk.clone()), "/").unwrap()))
}

/// A disk that behaves as sshfs does.
pub async fn fuse_like_disk() -> Backend {
    let disk = FuseLike { inner: Arc::new(SimulatedDisk::new()), habits: Habits::SSHFS };
    Backend::new(TempDir::new().unwrap(), move || Arc::new(DiskStore::open_on(Arc::new(disk.clone()), "/").unwrap()))
}

pub async fn s3() -> Backend {
    let (folder, endpoint) = s3_server::start().await;
    Backend::new(folder, move || Arc::new(client(&endpoint, s3_server::BUCKET)))
}

/// Cloudinary takes no empty file, and nothing that is archived is one.
#[cfg(feature = "cloudinary")]
pub async fn cloudinary() -> Backend {
    let server = cloudinary_server::start().await;
    let backend = Backend::new(TempDir::new().unwrap(), move || Arc::new(cloudinary_store(&server)));
    Backend { smallest: 1, of_one_process: true, ..backend }
}

/// A store on a Cloudinary of this process; further tries come at once.
#[cfg(feature = "cloudinary")]
pub fn cloudinary_store(server: &cloudinary_server::Fake) -> store::CloudinaryStore {
    let options = store::CloudinaryOptions {
        cloud: cloudinary_server::CLOUD.to_owned(),
        key: cloudinary_server::KEY.to_owned(),
        secret: store::Secret::new(cloudinary_server::SECRET),
        folder: "keepsake".to_owned(),
        endpoint: Some(server.endpoint()),
        first_wait: Duration::from_millis(1),
        ..store::CloudinaryOptions::new("images/")
    };
    store::CloudinaryStore::connect(options).unwrap()
}

pub fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

/// Puts `bytes` under `name`, whatever is there.
pub async fn put(store: &Store, name: &str, bytes: &[u8]) -> store::ETag {
    store.put(&key(name), &Body::from(bytes.to_vec()), &PutMode::Overwrite).await.unwrap()
}

/// The bytes under `name`.
pub async fn read(store: &Store, name: &str) -> Vec<u8> {
    store.read(&key(name)).await.unwrap().0.to_vec()
}

/// A store on a service of this process. Retries come at once, since nothing is gained by waiting here, and out of a
/// budget of its own: by default all clients of a process share one.
pub fn client(endpoint: &str, bucket: &str) -> S3Store {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(store::s3_http_client())
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .retry_partition(RetryPartition::custom("one test").build())
        .retry_config(RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(1)));
    S3Store::from_client(aws_sdk_s3::Client::from_conf(config.build()), bucket)
}
