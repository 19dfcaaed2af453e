//! Unfinished uploads: uploads that were begun in parts or by a ticket and are not images yet, and the limits on them.
//!
//! Without limits, any client that may upload could fill a disk, up to its reserve and for a day, with uploads that
//! never end. So on a store that reports its free space, unfinished uploads may take half of it in total, and those of
//! one client half of that. An upload counts with its announced length from the beginning. A single upload is always
//! accepted if there is space for it.
//!
//! All counts derive from the objects below `incoming/`, so a restarted process counts the same.

pub(crate) mod descriptions;
pub mod resumable;
pub mod ticket;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use self::descriptions::{Begun, Ticket};
use crate::base::seal;
use crate::core::Core;
use crate::core::error::{Error, Result};
use crate::layout;
use store::sync::{Mutex, lock};
use store::{ETag, Key, ObjectMeta, Optional};

/// The most unfinished uploads in total, and of one client.
const MOST: [u64; 2] = [1_000, 100];
/// An upload that has received nothing for this long, and has no request in progress, may be deleted to free its space.
const IDLE: SignedDuration = SignedDuration::from_hours(1);

/// Sums over unfinished uploads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// How many there are.
    pub uploads: u64,
    /// How many of their bytes are stored.
    pub bytes: u64,
}

/// One unfinished upload.
#[derive(Debug)]
struct Upload {
    /// Its stored objects.
    objects: Vec<ObjectMeta>,
    /// When one of them was last written.
    touched: Timestamp,
}

impl Upload {
    /// How many of its bytes are stored, without its description.
    fn bytes(&self) -> u64 {
        let arrived = self.objects.iter().filter(|meta| !is_description(meta));
        arrived.map(|meta| meta.size).sum()
    }
}

/// What an upload's description contains.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    client: Option<String>,
    /// The length that the upload may reach, in bytes.
    bytes: u64,
}

/// Marks an unfinished upload as having a request in progress, until dropped: a part is stored only at its end, and
/// until then nothing else shows that it is arriving.
#[derive(Debug)]
pub struct Arriving(Arc<UnfinishedUploads>, Uuid);

impl Drop for Arriving {
    fn drop(&mut self) {
        let mut arriving = lock(&self.0.arriving);
        if let Some(requests) = arriving.get_mut(&self.1) {
            *requests -= 1;
            if *requests == 0 {
                arriving.remove(&self.1);
            }
        }
    }
}

/// Uploads that were begun in parts or by a ticket.
#[derive(Debug)]
pub struct UnfinishedUploads {
    core: Arc<Core>,
    /// Uploads in parts and by ticket begin one after another, so that each counts those before it.
    pub(crate) beginning: tokio::sync::Mutex<()>,
    /// The cached descriptions of unfinished uploads, each with its version.
    claims: Mutex<HashMap<Key, (ETag, Option<Claim>)>>,
    /// How many requests deliver bytes of an unfinished upload, or make images of it, by upload id.
    arriving: Mutex<HashMap<Uuid, usize>>,
}

impl UnfinishedUploads {
    /// Unfinished uploads for the stores of `core`.
    pub fn new(core: Arc<Core>) -> Self {
        Self { core, beginning: tokio::sync::Mutex::default(), claims: Mutex::default(), arriving: Mutex::default() }
    }

    /// Marks an upload as having a request in progress, so that it is not idle.
    #[must_use]
    pub fn arriving(self: &Arc<Self>, id: Uuid) -> Arriving {
        *lock(&self.arriving).entry(id).or_default() += 1;
        Arriving(Arc::clone(self), id)
    }

    /// Sums over the unfinished uploads on a disk. A bucket has no space to run out of, and counting there costs
    /// requests.
    pub async fn sums(&self) -> Result<Option<Unfinished>> {
        if self.core.primary.free_bytes().await?.is_none() {
            return Ok(None);
        }
        let mut sums = Unfinished::default();
        for (id, upload) in self.unfinished_uploads(layout::INCOMING).await? {
            // An upload that has ended is kept for a client that lost the answer, and does not count.
            if self.claim(id, &upload).await?.is_some() {
                sums.uploads += 1;
                sums.bytes += upload.bytes();
            }
        }
        Ok(Some(sums))
    }

    /// Refuses to begin another upload of this size if too much is unfinished already. Uploads that have been idle for
    /// an hour are deleted first. The caller holds `beginning` until the upload is stored, so that no other upload
    /// begins meanwhile.
    pub(crate) async fn check(&self, client: Option<&str>, bytes: u64) -> Result<()> {
        if !self.is_too_much_unfinished(client, bytes).await? {
            return Ok(());
        }
        let cleared = self.clear_idle().await?;
        if cleared.uploads > 0 && !self.is_too_much_unfinished(client, bytes).await? {
            return Ok(());
        }
        Err(Error::TooMuchUnfinished)
    }

    async fn is_too_much_unfinished(&self, client: Option<&str>, bytes: u64) -> Result<bool> {
        let Some(free) = self.core.primary.free_bytes().await? else { return Ok(false) };
        let (mut all, mut own, mut here) = (Vec::new(), Vec::new(), 0);
        for (id, upload) in self.unfinished_uploads(layout::INCOMING).await? {
            let Some(claim) = self.claim(id, &upload).await? else { continue };
            here += upload.bytes();
            all.push(claim.bytes);
            if client.is_some() && claim.client.as_deref() == client {
                own.push(claim.bytes);
            }
        }
        let room = free.saturating_sub(self.core.settings.reserve_bytes).saturating_add(here);
        let limits = [room / 2, room / 4];
        let too_much = |claims: &[u64], most: u64, limit: u64| {
            let claimed = claims.iter().fold(bytes, |sum, claim| sum.saturating_add(*claim));
            !claims.is_empty() && (claims.len() as u64 >= most || claimed > limit)
        };
        Ok(too_much(&all, MOST[0], limits[0]) || too_much(&own, MOST[1], limits[1]))
    }

    /// Deletes unfinished uploads that have received nothing since `before`; returns the deleted amount. A client that
    /// continues one of them gets a not-found error, and begins again.
    pub async fn clear_untouched(&self, before: Timestamp) -> Result<Unfinished> {
        self.clear(|_, upload| upload.touched <= before).await
    }

    async fn clear_idle(&self) -> Result<Unfinished> {
        let before = self.core.clock.now() - IDLE;
        self.clear(|id, upload| upload.touched <= before && !lock(&self.arriving).contains_key(&id)).await
    }

    async fn clear(&self, goes: impl Fn(Uuid, &Upload) -> bool + Send + Sync) -> Result<Unfinished> {
        let mut cleared = Unfinished::default();
        for (id, upload) in self.unfinished_uploads(layout::INCOMING).await? {
            if !goes(id, &upload) || self.claim(id, &upload).await?.is_none() {
                continue;
            }
            // The listing may be outdated: a part may have arrived meanwhile, or the upload may have ended.
            let listed = self.unfinished_uploads(layout::incoming(id).as_str()).await?.remove(&id);
            let Some(upload) = listed.filter(|upload| goes(id, upload)) else { continue };
            if self.claim(id, &upload).await?.is_none() {
                continue;
            }
            // The description is deleted first: parts that remain after a crash are cleared with old tickets.
            let (descriptions, parts): (Vec<_>, Vec<_>) = upload.objects.iter().partition(|meta| is_description(meta));
            for meta in descriptions.into_iter().chain(parts) {
                self.core.primary.delete(&meta.key).await?;
            }
            cleared.uploads += 1;
            cleared.bytes += upload.bytes();
        }
        Ok(cleared)
    }

    /// Deletes idle unfinished uploads to free space; returns whether that freed any.
    pub(crate) async fn make_room(&self) -> bool {
        match self.clear_idle().await {
            Ok(cleared) if cleared.uploads == 0 => false,
            Ok(cleared) => {
                tracing::info!(cleared.uploads, cleared.bytes, "idle unfinished uploads were deleted to free space");
                cleared.bytes > 0
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "unfinished uploads that are idle could not be deleted");
                false
            }
        }
    }

    async fn unfinished_uploads(&self, prefix: &str) -> Result<HashMap<Uuid, Upload>> {
        let mut uploads: HashMap<Uuid, Upload> = HashMap::new();
        let mut listed = self.core.primary.list(prefix, None);
        while let Some(meta) = listed.try_next().await? {
            let name = meta.key.as_str().strip_prefix(layout::INCOMING).unwrap_or_default();
            let id = name.split('.').next().and_then(|id| id.parse().ok());
            let Some(id) = id else { continue };
            let upload = uploads.entry(id).or_insert(Upload { objects: Vec::new(), touched: meta.modified });
            upload.touched = upload.touched.max(meta.modified);
            upload.objects.push(meta);
        }
        if prefix == layout::INCOMING {
            let there: HashSet<_> = uploads.values().flat_map(|upload| &upload.objects).map(|meta| &meta.key).collect();
            lock(&self.claims).retain(|key, _| there.contains(key));
        }
        Ok(uploads)
    }

    /// The length that an upload may reach; `None` if it has ended, or cannot continue because its description is
    /// missing or damaged. Each version of a description is read only once, since each new upload needs all of them.
    async fn claim(&self, id: Uuid, upload: &Upload) -> Result<Option<Claim>> {
        let Some(meta) = upload.objects.iter().find(|meta| is_description(meta)) else { return Ok(None) };
        if let Some((etag, claim)) = lock(&self.claims).get(&meta.key)
            && *etag == meta.etag
        {
            return Ok(claim.clone());
        }
        let Some((bytes, etag)) = self.core.primary.read(&meta.key).await.intact()? else { return Ok(None) };
        let claim = if meta.key == layout::ticket(id) {
            seal::open::<Ticket>(&bytes).map(|ticket| Claim { client: ticket.client, bytes: ticket.size })
        } else {
            let begun = seal::open::<Begun>(&bytes).filter(|begun| begun.ended.is_none());
            let longest = self.core.settings.max_upload_bytes;
            begun.map(|begun| Claim { bytes: begun.length.unwrap_or(longest), client: begun.client })
        };
        lock(&self.claims).insert(meta.key.clone(), (etag, claim.clone()));
        Ok(claim)
    }
}

/// Whether an object is the description of an upload, and holds none of its bytes.
fn is_description(meta: &ObjectMeta) -> bool {
    meta.key.as_str().ends_with(".json")
}
