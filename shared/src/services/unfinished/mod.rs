//! Unfinished uploads: what was begun in parts or by a ticket and is no image yet, and how much of it there may be.
//!
//! Whoever may upload could otherwise fill a disk with uploads that never end, up to its reserve and for a day. So on a store
//! that knows its room, unfinished uploads may take half of it in all, and those of one client half of that. An upload counts
//! with the length that was announced for it, from its beginning. One alone is always taken, as far as there is room for it.
//!
//! Everything follows from the objects below `incoming/`, so that a process which starts counts the same.

pub(crate) mod descriptions;
pub mod resumable;
pub mod ticket;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use self::descriptions::{Begun, Ticket};
use crate::core::Core;
use crate::core::error::{Error, Result};
use crate::layout;
use store::sync::{Mutex, lock};
use store::{ETag, Key, ObjectMeta, Optional};

/// The most unfinished uploads in all, and of one client.
const MOST: [u64; 2] = [1_000, 100];
/// An upload of which nothing came for so long, and nothing is arriving, makes way where its room is needed.
const IDLE: SignedDuration = SignedDuration::from_hours(1);

/// Sums over unfinished uploads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// How many there are.
    pub uploads: u64,
    /// How many bytes of them are here.
    pub bytes: u64,
}

/// One unfinished upload.
#[derive(Debug)]
struct Upload {
    /// What is stored of it.
    objects: Vec<ObjectMeta>,
    /// When something of it last came.
    touched: Timestamp,
}

impl Upload {
    /// How many of its bytes are here; that which describes it is none of them.
    fn bytes(&self) -> u64 {
        let arrived = self.objects.iter().filter(|meta| !is_description(meta));
        arrived.map(|meta| meta.size).sum()
    }
}

/// What is known of an upload from what describes it.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    client: Option<String>,
    /// The length that it may come to.
    bytes: u64,
}

/// Marks an unfinished upload as one with a request in progress, until dropped: a part is stored at its end, and until then
/// nothing else shows that it is arriving.
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
    /// Uploads in parts and by ticket begin one after the other, so that each counts those before it.
    pub(crate) beginning: tokio::sync::Mutex<()>,
    /// What the descriptions of unfinished uploads hold, each with its version.
    claims: Mutex<HashMap<Key, (ETag, Option<Claim>)>>,
    /// How many requests bring bytes of an unfinished upload, or make images of them, by its name.
    arriving: Mutex<HashMap<Uuid, usize>>,
}

impl UnfinishedUploads {
    /// Uploads that were begun in parts or by a ticket, in the store that `core` has.
    pub fn new(core: Arc<Core>) -> Self {
        Self { core, beginning: tokio::sync::Mutex::default(), claims: Mutex::default(), arriving: Mutex::default() }
    }

    /// Marks an upload as one of which more is arriving, so that it is not idle.
    #[must_use]
    pub fn arriving(self: &Arc<Self>, id: Uuid) -> Arriving {
        *lock(&self.arriving).entry(id).or_default() += 1;
        Arriving(Arc::clone(self), id)
    }

    /// How much was begun and is not finished; on a disk. In a bucket there is no room to run out of, and counting costs.
    pub async fn sums(&self) -> Result<Option<Unfinished>> {
        if self.core.primary.free_bytes().await?.is_none() {
            return Ok(None);
        }
        let mut sums = Unfinished::default();
        for (id, upload) in self.unfinished_uploads(layout::INCOMING).await? {
            // What has ended is kept for whoever lost the answer, and takes no room.
            if self.claim(id, &upload).await?.is_some() {
                sums.uploads += 1;
                sums.bytes += upload.bytes();
            }
        }
        Ok(Some(sums))
    }

    /// Refuses to begin another upload of so many bytes where too much is unfinished already. Those of which nothing came for
    /// an hour make way. The caller holds `beginning` until the upload is stored, so that no other is begun meanwhile.
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

    /// Deletes unfinished uploads of which nothing came since `before`; returns what went. Whoever goes on with one is told
    /// that there is none, and begins anew.
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
            // The list may be old by now: a part may have come meanwhile, or all of it have ended.
            let listed = self.unfinished_uploads(layout::incoming(id).as_str()).await?.remove(&id);
            let Some(upload) = listed.filter(|upload| goes(id, upload)) else { continue };
            if self.claim(id, &upload).await?.is_none() {
                continue;
            }
            // What describes it goes first: parts that stay behind by a crash are cleared away with old tickets.
            let (descriptions, parts): (Vec<_>, Vec<_>) = upload.objects.iter().partition(|meta| is_description(meta));
            for meta in descriptions.into_iter().chain(parts) {
                self.core.primary.delete(&meta.key).await?;
            }
            cleared.uploads += 1;
            cleared.bytes += upload.bytes();
        }
        Ok(cleared)
    }

    /// Deletes unfinished uploads that are idle, because room is needed; returns whether that freed any.
    pub(crate) async fn make_room(&self) -> bool {
        match self.clear_idle().await {
            Ok(cleared) if cleared.uploads == 0 => false,
            Ok(cleared) => {
                tracing::info!(cleared.uploads, cleared.bytes, "unfinished uploads that were idle made way");
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

    /// What an upload may come to; `None` where it has ended, or its description went or is damaged, and with it every way to go
    /// on. Each version of a description is read once, because each upload that begins asks for all of them.
    async fn claim(&self, id: Uuid, upload: &Upload) -> Result<Option<Claim>> {
        let Some(meta) = upload.objects.iter().find(|meta| is_description(meta)) else { return Ok(None) };
        if let Some((etag, claim)) = lock(&self.claims).get(&meta.key)
            && *etag == meta.etag
        {
            return Ok(claim.clone());
        }
        let Some((bytes, etag)) = self.core.primary.read(&meta.key).await.intact()? else { return Ok(None) };
        let claim = if meta.key == layout::ticket(id) {
            Ticket::decode(&bytes).map(|ticket| Claim { client: ticket.client, bytes: ticket.size })
        } else {
            let begun = Begun::decode(&bytes).filter(|begun| begun.ended.is_none());
            let longest = self.core.settings.max_upload_bytes;
            begun.map(|begun| Claim { bytes: begun.length.unwrap_or(longest), client: begun.client })
        };
        lock(&self.claims).insert(meta.key.clone(), (etag, claim.clone()));
        Ok(claim)
    }
}

/// Whether an object describes an upload, and holds none of its bytes.
fn is_description(meta: &ObjectMeta) -> bool {
    meta.key.as_str().ends_with(".json")
}
