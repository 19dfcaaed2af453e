//! Removes GPS positions from images as they are served.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::catalog::Record;
use crate::core::blocking;
use crate::core::error::Result;
use crate::layout::ImageId;
use crate::media::MediaError;
use crate::media::location::{self, Found, Patches, Scanner};
use crate::services::images::bytes::ImageBytes;
use store::digest::Digest;
use store::sync::{Mutex, lock};
use store::{Body, ObjectMeta, Ranged, Store};

/// The number of images whose scan results are cached: a few megabytes.
const CACHE_CAPACITY: usize = 10_000;
/// Larger scan results, in bytes, are not cached.
const MAX_CACHED_BYTES: usize = 4_096;

/// GPS positions in images.
#[derive(Debug)]
pub struct GpsPositions {
    bytes: Arc<ImageBytes>,
    /// Positions in images that were scanned before, by image digest.
    known: Mutex<HashMap<Digest, Patches>>,
}

impl GpsPositions {
    /// GPS positions in images whose bytes are found by `bytes`.
    pub fn new(bytes: Arc<ImageBytes>) -> Self {
        Self { bytes, known: Mutex::default() }
    }

    /// The replacements that remove the GPS positions from an image. Its bytes are read in full and compared with its
    /// digest, unless they were scanned before.
    pub async fn find(&self, id: &ImageId, record: &Record) -> Result<Patches> {
        let known = |digest: Digest| lock(&self.known).get(&digest).cloned();
        if let Some(patches) = record.sha256.and_then(known) {
            return Ok(patches);
        }
        let mut scanner = Scanner::default();
        let (store, meta) = match record.sha256 {
            Some(digest) => self.bytes.verified_seen_by(&mut scanner, id, digest).await?,
            None => {
                let (store, meta) = self.bytes.locate(id, record).await?;
                let (meta, _) = store.inspect_seen_by(&mut scanner, &meta.key).await?;
                (store, meta)
            }
        };
        let patches = resolve(scanner.finish(), &store, &meta).await?;
        if let Some(digest) = record.sha256.filter(|_| patches.weight() <= MAX_CACHED_BYTES) {
            let mut known = lock(&self.known);
            if known.len() >= CACHE_CAPACITY {
                known.clear();
            }
            known.insert(digest, patches.clone());
        }
        Ok(patches)
    }
}

/// The GPS positions in these bytes.
pub(crate) async fn gps_in(bytes: Bytes) -> Result<Patches> {
    Ok(blocking(move || location::find(&Body::from(bytes))).await?.map_err(MediaError::Read)?)
}

/// Resolves what was found in an object.
async fn resolve(found: Found, store: &Store, meta: &ObjectMeta) -> Result<Patches> {
    if found.is_nothing() {
        return Ok(Patches::default());
    }
    let body = Ranged::open(store, meta.key.clone(), meta.size).await?;
    Ok(blocking(move || found.resolve(&body)).await?.map_err(MediaError::Read)?)
}
