//! The catalog: which images exist, as the join of every surviving piece.
//!
//! A change is one immutable commit object, so writers never coordinate. A reader joins the checkpoint and the commits;
//! [`compact`](Catalog::compact) moves commits into the checkpoint. Readers use the pieces in the primary; each mirror
//! (the archive, and `uploads/.keepsake/` if `uploads/` is a separate file system) holds a replica of them.
//!
//! Order of writes, and why no acknowledged change can be missed:
//! - A commit goes to the mirrors first and to the primary last. Readers only look at the primary, so a commit becomes
//!   visible in one step, and a failed one can be rolled back before any reader has seen it.
//! - A compaction writes the primary's checkpoint by compare-and-set, joins it into each mirror's by compare-and-set,
//!   and only then deletes the commits: no copy of a commit is deleted before every checkpoint contains it.
//! - A reader lists the commits after it has read the checkpoint, and then confirms that the checkpoint is still the
//!   same version: a commit that had left the listing by then was in that checkpoint.
//!
//! Architecture invariant: the catalog handles records, not image bytes; it never reads or writes `uploads/<id>`.

mod adopt;
mod commit;
mod compact;
mod error;
pub(crate) mod gc_hints;
mod group_order;
mod listed;
mod load;
mod piece;
pub(crate) mod quarantine;
mod read;
mod record;
mod state;
mod undecided;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use futures::stream::TryStreamExt;
use jiff::SignedDuration;
use uuid::Uuid;

pub use compact::Compacted;
pub use error::{CatalogError, CommitError};
pub(crate) use group_order::{rank, title_of};
pub(crate) use listed::uploaded_at;
pub use listed::{Position, QUEUED_AT_MOST};
pub use load::Loaded;
#[cfg(any(test, feature = "testing"))]
pub(crate) use piece::encode_checkpoint;
pub use piece::{Checkpoint, Commit, Older, PieceError, decode_checkpoint, decode_chunk};
pub use record::{Change, Content, Entry, Record, Stamp, Tombstone};
pub use state::{Chunk, ChunkSummary, Snapshot, State, Totals};

use crate::base::clock::Clock;
use crate::base::single_flight::SingleFlight;
use crate::layout::{self, ImageId};
use store::digest::Digest;
use store::sync::{self, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard, lock};
use store::{ETag, ErrorKind, Optional, PutMode, Store, StoreError};

/// The minimum lifetime of a tombstone: as long as an older copy of the record might reappear.
pub const TOMBSTONE_AGE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The catalog of one store. Shared by every request of a process; any number of processes may have one each.
#[derive(Debug)]
pub struct Catalog {
    primary: Store,
    mirrors: Vec<Store>,
    /// Whether a commit's replica is written into the archive before the commit is acknowledged. Into the other
    /// mirrors, which are beside the images, it always is.
    mirror_at_once: bool,
    clock: Clock,
    cache: RwLock<Cache>,
    refreshing: SingleFlight<CatalogError>,
    compacting: tokio::sync::Mutex<()>,
    /// Commits whose copy in the primary is damaged, and whether they could be read elsewhere. Unreadable ones are
    /// reported once and never compacted.
    damaged: Mutex<BTreeMap<Uuid, Readable>>,
    /// Commits of this process that are being written. Readers of a mirror must ignore these: they may be rolled back.
    in_flight: Mutex<BTreeSet<Uuid>>,
    /// Commits of this process whose outcome is unknown.
    undecided: Mutex<BTreeMap<Uuid, undecided::Undecided>>,
}

#[derive(Debug, Default)]
struct Cache {
    state: State,
    /// The store's id, once a checkpoint has been read.
    store_id: Option<Uuid>,
    base: Base,
    /// Commits of the primary that `state` contains.
    listed: BTreeSet<Uuid>,
    /// The version of each mirror's checkpoint that `state` contains.
    mirror_tags: Vec<Option<ETag>>,
    /// How many uploads the checkpoint counted when this process first read it, before it read any commit.
    uploads_at_first: Option<u64>,
    /// Whether `state` contains anything that neither the checkpoint nor a commit does.
    unsaved: bool,
    /// Names in a checkpoint of the older format that are not valid file names here.
    unusable_names: Vec<String>,
}

/// Where a commit whose copy in the primary is damaged can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readable {
    InMirror,
    Nowhere,
    /// Perhaps later: a location with a copy could not be read at all, which may be temporary.
    NotNow,
}

/// The primary's checkpoint as last read.
#[derive(Debug, Default, Clone, PartialEq)]
enum Base {
    #[default]
    NotRead,
    Absent,
    /// The state contains all of it; the digest of its bytes.
    Known(ETag, Digest),
    /// Torn, damaged or of the older format: quarantined before it is replaced.
    Replaceable(ETag),
}

impl Base {
    fn etag(&self) -> Option<&ETag> {
        match self {
            Self::NotRead | Self::Absent => None,
            Self::Known(etag, _) | Self::Replaceable(etag) => Some(etag),
        }
    }

    /// The condition on which this checkpoint may be replaced.
    fn put_mode(&self) -> PutMode {
        self.etag().map_or(PutMode::Create, |etag| PutMode::Update(etag.clone()))
    }
}

impl Catalog {
    /// A catalog whose pieces are in `primary`, with replicas in `mirrors`, the archive first. With `mirror_at_once`, a
    /// commit is acknowledged only once the archive holds its replica, too.
    pub fn new(primary: Store, mirrors: Vec<Store>, mirror_at_once: bool, clock: Clock) -> Self {
        let cache = Cache { mirror_tags: vec![None; mirrors.len()], ..Cache::default() };
        Self {
            primary,
            mirrors,
            mirror_at_once,
            clock,
            cache: RwLock::new(cache),
            refreshing: SingleFlight::default(),
            compacting: tokio::sync::Mutex::default(),
            damaged: Mutex::default(),
            in_flight: Mutex::default(),
            undecided: Mutex::default(),
        }
    }

    /// The locations of replicas of the pieces, the archive first.
    pub(crate) fn mirrors(&self) -> &[Store] {
        &self.mirrors
    }

    /// Reads from the cache; call [`refresh`](Self::refresh) first to include the changes of other processes.
    pub fn read<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        f(&self.cache().state)
    }

    /// Commits that could not be read anywhere, for health.
    pub fn unreadable(&self) -> Vec<Uuid> {
        let damaged = lock(&self.damaged);
        damaged.iter().filter(|(_, readable)| **readable != Readable::InMirror).map(|(id, _)| *id).collect()
    }

    /// How many uploads the checkpoint counted when this process first read it; zero before. Later uploads are known
    /// from commits.
    pub(crate) fn uploads_at_first(&self) -> u64 {
        self.cache().uploads_at_first.unwrap_or_default()
    }

    /// The live images whose current state was made by one of these commits, according to the cache.
    pub(crate) fn made_by(&self, commits: &BTreeSet<Uuid>) -> Vec<(ImageId, Uuid, Digest)> {
        let cache = self.cache();
        let made = cache.state.iter().filter(|(_, entry)| commits.contains(&entry.stamp.commit));
        made.filter_map(|(id, entry)| Some((id.clone(), entry.stamp.commit, entry.live()?.sha256?))).collect()
    }

    /// How many commits of the primary wait for compaction, according to the cache.
    pub fn uncompacted(&self) -> usize {
        self.cache().listed.len()
    }

    /// Whether a compaction would change anything, according to the cache.
    pub fn needs_compaction(&self) -> bool {
        let cache = self.cache();
        cache.unsaved || !cache.listed.is_empty() || !matches!(cache.base, Base::Known(..)) || self.has_absent()
    }

    fn cache(&self) -> RwLockReadGuard<'_, Cache> {
        self.cache.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache_mut(&self) -> RwLockWriteGuard<'_, Cache> {
        self.cache.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn hold(&mut self, commit: &Commit) {
        for (name, entry) in &commit.entries {
            self.state.join(name, entry);
        }
        self.listed.insert(commit.id);
    }

    /// Forgets what was read, but keeps the store's id and the first count of uploads.
    fn start_again(&mut self) {
        self.state = State::default();
        self.listed.clear();
        self.mirror_tags.fill(None);
        self.unsaved = false;
    }

    /// Joins a checkpoint of the older format; returns whether that changed the state.
    fn join_older(&mut self, older: Older) -> bool {
        let before = self.state.totals();
        for (id, entry) in &older.records {
            self.state.join(id, entry);
        }
        self.unusable_names.extend(older.unusable.into_iter().map(|(name, _)| name));
        let changed = before != self.state.totals();
        self.unsaved |= changed;
        changed
    }

    /// Records the store that a location belongs to. A location without records yields to one that has some.
    fn adopt_store(&mut self, place: usize, found: Uuid, theirs: &Snapshot) -> Result<(), CatalogError> {
        let (ours, empty) = (self.state.totals().uploads(), theirs.totals().uploads() == 0);
        match self.store_id {
            Some(expected) if expected != found && ours > 0 && !empty => {
                Err(CatalogError::ForeignStore { place, found, expected })
            }
            Some(expected) if expected != found => {
                self.store_id = Some(if empty { expected } else { found });
                self.unsaved = true;
                Ok(())
            }
            _ => {
                self.store_id = Some(found);
                Ok(())
            }
        }
    }
}

async fn list_commits(place: &Store) -> Result<BTreeSet<Uuid>, StoreError> {
    place
        .list(layout::COMMITS, None)
        .try_filter_map(async |meta| Ok(layout::parse_commit(&meta.key)))
        .try_collect()
        .await
}

/// Reads a commit: `None` if it does not exist, the reason if it cannot be trusted.
async fn read_commit(place: &Store, id: Uuid) -> Result<Option<Result<Commit, PieceError>>, CatalogError> {
    let key = layout::commit(id);
    let bytes = match place.read(&key).await {
        Err(e) if e.kind == ErrorKind::Corrupt => return Ok(Some(Err(PieceError::Unreadable(e)))),
        read => match read.optional()? {
            Some((bytes, _)) => bytes,
            None => return Ok(None),
        },
    };
    match offload(bytes.len(), move || Commit::decode(&bytes)).await {
        Err(source @ PieceError::Newer(_)) => Err(CatalogError::Piece { key, source }),
        decoded => Ok(Some(decoded)),
    }
}

/// Runs work whose cost grows with `size` bytes off the async threads if `size` is large.
async fn offload<T: Send + 'static>(size: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    const SMALL: usize = 256 * 1024;
    if size <= SMALL {
        return work();
    }
    match sync::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
