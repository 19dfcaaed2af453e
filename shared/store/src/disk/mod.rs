//! [`DiskStore`]: objects as files below a folder.
//!
//! A key is the path of its file. An object is published by renaming a finished, synced file, so that a reader that
//! opens the name sees all of it. The comparison of versions and the change that depends on it happen under one
//! advisory lock for the whole store, which is never held while bytes are written or synced.
//!
//! Every system call goes through [`fs`], so that tests can run the store on a disk that loses power or fails.
//!
//! Architecture invariants: this module follows no symbolic link below the root, and no other module handles paths.
//! Everything that blocks runs off the async threads, one job per operation, which runs to its end even if the caller
//! no longer waits.

pub mod fs;
mod list;
mod path;
mod publish;
mod read;
mod root;
mod status;
mod trial;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;

use self::fs::{FileSystem, RealFolder};
use self::path::{At, Disk};
use crate::body::Body;
use crate::error::{ErrorKind, Result, StoreError};
use crate::key::Key;
use crate::object::{ETag, Object, ObjectMeta, ObjectStore, PutMode, StoreStatus};
use crate::sync;

/// A store of files below one folder, which other processes may use at the same time.
///
/// An etag is derived from the file's size and modification time, so that a manual change is a new version too. Empty
/// folders may stay behind after deletes. The names `.tmp-…` and `.keepsake.lock` are reserved. Two stores of which one
/// root contains the other do not exclude each other's updates.
#[derive(Clone, Debug)]
pub struct DiskStore {
    disk: Arc<Disk>,
}

impl DiskStore {
    /// Opens the store in the folder `root`, which may be a symbolic link and is created if missing.
    ///
    /// From then on `root` must stay on the same file system: a store whose volume was unmounted is
    /// [`ErrorKind::Unavailable`], not empty. Blocks briefly.
    pub fn open(root: &Path) -> Result<Self> {
        let shown = root.display().to_string();
        let files = root::make(root).map_err(|e| At { operation: "open", key: &shown }.io(e))?;
        Self::open_on(Arc::new(RealFolder::new(files)), &shown)
    }

    /// Opens the store in the root of another file system; errors show it as `shown`.
    pub fn open_on(files: Arc<dyn FileSystem>, shown: &str) -> Result<Self> {
        Ok(Self { disk: Arc::new(Disk::open(files, shown)?) })
    }

    /// The number of the file system that holds the root.
    pub fn device(&self) -> u64 {
        self.disk.device
    }

    /// The number of the file system that holds a folder below the root; `None` if the folder does not exist or cannot
    /// be opened. Blocks briefly.
    pub fn device_of(&self, folder: &Key) -> Option<u64> {
        let at = At { operation: "open", key: folder.as_str() };
        let folder = self.disk.descend(at, folder.segments()).ok()??;
        folder.stat().ok().map(|stat| stat.device)
    }

    /// Runs the blocking half of an operation on one key.
    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &Key,
        work: impl FnOnce(&Disk, &Key) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (disk, owned) = (self.disk.clone(), key.clone());
        blocking(operation, key.as_str(), move || work(&disk, &owned)).await
    }
}

#[async_trait]
impl ObjectStore for DiskStore {
    async fn put(&self, key: &Key, body: &Body, mode: &PutMode) -> Result<ETag> {
        let (body, mode) = (body.clone(), mode.clone());
        self.run("put", key, move |disk, key| disk.put(key, &body, &mode)).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Object> {
        self.run("get", key, move |disk, key| disk.get(key, range)).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta> {
        self.run("head", key, Disk::head).await
    }

    fn list(&self, prefix: &str, start_after: Option<&str>) -> BoxStream<'static, Result<ObjectMeta>> {
        list::list(self.disk.clone(), prefix, start_after)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.run("delete", key, |disk, key| disk.delete(key, None)).await
    }

    async fn delete_version(&self, version: &ObjectMeta) -> Result<()> {
        let etag = version.etag.clone();
        self.run("delete", &version.key, move |disk, key| disk.delete(key, Some(&etag))).await
    }

    fn is_disk(&self) -> bool {
        true
    }

    async fn status(&self) -> Result<StoreStatus> {
        let disk = self.disk.clone();
        blocking("status", "", move || disk.status()).await
    }

    async fn check_conditional_writes(&self, scratch: &Key) -> Result<()> {
        self.run("probe", scratch, |disk, key| disk.try_out(key)).await
    }

    async fn sweep_unfinished(&self, before: Timestamp) -> Result<u64> {
        let disk = self.disk.clone();
        blocking("sweep", "", move || disk.sweep(before)).await
    }
}

/// Runs `work` off the async threads. It runs to its end even if the caller no longer waits.
async fn blocking<T: Send + 'static>(
    operation: &'static str,
    key: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match sync::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(StoreError::caused(operation, key, ErrorKind::Unavailable, e)),
    }
}
