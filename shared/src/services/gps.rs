//! Images as they are served where nobody is to learn where they were taken.

use crate::services::images::bytes::{ImageBytes, read_through};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;

use crate::catalog::Record;
use crate::core::blocking;
use crate::core::error::Result;
use crate::layout::ImageId;
use crate::media::MediaError;
use crate::media::location::{self, Found, Patches, Scanner};
use store::digest::Digest;
use store::sync::{Mutex, lock};
use store::{Body, ObjectMeta, Ranged, Store};

/// Of so many images it is kept in memory what they say: a few megabytes.
const MOST_KNOWN: usize = 10_000;
/// What says more than this, in bytes, is looked at anew each time.
const MOST_KEPT: usize = 4_096;

/// What an image says of where it was taken.
#[derive(Debug)]
pub struct Places {
    /// What to send in the place of what says it.
    pub patches: Patches,
    /// Where the image's bytes lie, if they were read through to find it; then they are the right ones.
    pub sound: Option<(Store, ObjectMeta)>,
}

/// GPS positions in images.
#[derive(Debug)]
pub struct GpsPositions {
    bytes: Arc<ImageBytes>,
    /// Positions in images that were scanned before, by the digests of the images.
    known: Mutex<HashMap<Digest, Patches>>,
}

impl GpsPositions {
    /// GPS positions in images, in images whose bytes are found by `bytes`.
    pub fn new(bytes: Arc<ImageBytes>) -> Self {
        Self { bytes, known: Mutex::default() }
    }

    /// What an image says of where it was taken. Its bytes are read through, and compared with its digest, unless that was
    /// done before.
    pub async fn find(&self, id: &ImageId, record: &Record) -> Result<Places> {
        let known = |digest: Digest| lock(&self.known).get(&digest).cloned();
        if let Some(patches) = record.sha256.and_then(known) {
            return Ok(Places { patches, sound: None });
        }
        let mut scanner = Scanner::default();
        let (store, meta) = match record.sha256 {
            Some(digest) => self.bytes.verified_seen_by(&mut scanner, id, digest).await?,
            None => {
                let (store, meta) = self.bytes.locate(id, record).await?;
                let (meta, _) = read_through(&store, &meta.key, &mut scanner).await?;
                (store, meta)
            }
        };
        let patches = settle(scanner.finish(), &store, &meta).await?;
        if let Some(digest) = record.sha256.filter(|_| patches.weight() <= MOST_KEPT) {
            let mut known = lock(&self.known);
            if known.len() >= MOST_KNOWN {
                known.clear();
            }
            known.insert(digest, patches.clone());
        }
        Ok(Places { patches, sound: Some((store, meta)) })
    }
}

/// What these bytes say.
pub(crate) async fn places_in(bytes: Bytes) -> Result<Patches> {
    Ok(blocking(move || location::find(&Body::from(bytes))).await?.map_err(MediaError::Read)?)
}

/// Looks at what was found in an object.
async fn settle(found: Found, store: &Store, meta: &ObjectMeta) -> Result<Patches> {
    if found.is_nothing() {
        return Ok(Patches::default());
    }
    let body = Ranged::open(store, meta.key.clone(), meta.size).await?;
    Ok(blocking(move || found.settle(&body)).await?.map_err(MediaError::Read)?)
}
