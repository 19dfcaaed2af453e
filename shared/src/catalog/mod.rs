//! The catalog: which images exist, as the join of every surviving piece.
//!
//! A change is one immutable commit object, so writers never coordinate. A state is a tree of immutable pages, which a
//! [root](root::Root) names. A reader joins the root and the commits; [`compact`](Catalog::compact) moves commits into a
//! new root. Readers use the pieces in the primary; each mirror (the archive, and `uploads/.keepsake/` if `uploads/` is
//! a separate file system) holds a replica of them.
//!
//! Order of writes, and why no acknowledged change can be missed:
//! - A commit goes to the mirrors first and to the primary last. Readers only look at the primary, so a commit becomes
//!   visible in one step, and a failed one can be rolled back before any reader has seen it.
//! - A compaction writes the new pages into the primary, then the primary's root by compare-and-set. The same follows
//!   for each mirror. Only then it deletes the commits: no copy of a commit is deleted before every root contains it.
//! - A reader lists the commits after it has read the root, and then confirms that the root is still the same version: a
//!   commit that had left the listing by then was in that root.
//!
//! Architecture invariant: the catalog handles records, not image bytes; it never reads or writes `uploads/<id>`.

mod adopt;
mod archived;
mod commit;
mod compact;
mod contents;
mod error;
mod group_order;
mod join;
mod listed;
mod lists;
mod load;
mod merge;
mod metadata_file;
mod note;
mod overlay;
mod pages;
mod piece;
pub(crate) mod quarantine;
mod read;
mod rebuild;
mod record;
mod replicas;
mod root;
mod search;
mod undecided;
mod usage;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use futures::stream::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

pub use compact::Compacted;
pub use error::{CatalogError, CommitError};
pub(crate) use group_order::rank;
pub use join::{Difference, DifferenceStream};
pub(crate) use listed::uploaded_at;
pub use listed::{Position, PositionStream, QUEUED_AT_MOST};
pub use load::Loaded;
pub use metadata_file::EVERY as METADATA_FILE_EVERY;
pub use piece::{Commit, MetadataFile, Older, PieceError, decode_chunk, decode_metadata_file};
pub(crate) use record::DOCUMENTED;
pub use record::{Change, Content, Entry, Record, Stamp, Tombstone};
pub(crate) use root::EntryTree;
#[cfg(any(test, feature = "testing"))]
pub(crate) use root::Root;
pub use search::Tokens;
pub use usage::{Month, Usage, Used};
pub use view::{EntryStream, Totals, View};

use crate::base::clock::Clock;
use crate::base::single_flight::SingleFlight;
use crate::layout::{self, ImageId};
use store::sync::{self, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard, lock};
use store::{ETag, ErrorKind, Optional, PutMode, Store, StoreError};

use self::pages::LocatedPages;
use self::root::EntryReader;
#[cfg(not(any(test, feature = "testing")))]
use self::root::Root;

/// The minimum lifetime of a tombstone: as long as an older copy of the record might reappear.
pub const TOMBSTONE_AGE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// About how many bytes of pages a process keeps in memory.
const CACHED_PAGES: u64 = 24 * 1024 * 1024;

/// The catalog of one store. Shared by every request of a process; any number of processes may have one each.
#[derive(Debug)]
pub struct Catalog {
    primary: Store,
    mirrors: Vec<Store>,
    /// Whether a commit's replica is written into the archive before the commit is acknowledged. Into the other
    /// mirrors, which are beside the images, it always is.
    mirror_at_once: bool,
    clock: Clock,
    /// The pages in each location, the primary's first.
    pages: Vec<Arc<LocatedPages>>,
    readers: Vec<Arc<EntryReader>>,
    cache: RwLock<Cache>,
    /// Held while the view changes, which may have to read pages.
    joining: tokio::sync::Mutex<()>,
    refreshing: SingleFlight<CatalogError>,
    /// When the last refresh that succeeded began.
    refreshed_at: Mutex<Option<Timestamp>>,
    compacting: tokio::sync::Mutex<()>,
    /// Commits whose copy in the primary is damaged, and whether they could be read elsewhere. Unreadable ones are
    /// reported once and never compacted.
    damaged: Mutex<BTreeMap<Uuid, Readable>>,
    /// Commits of this process that are being written. Readers of a mirror must ignore these: they may be rolled back.
    in_flight: Mutex<BTreeSet<Uuid>>,
    /// Commits of this process whose outcome is unknown.
    undecided: Mutex<BTreeMap<Uuid, undecided::Undecided>>,
}

#[derive(Debug)]
struct Cache {
    view: View,
    /// The store's id, once a root has been read.
    store_id: Option<Uuid>,
    base: Base,
    /// Commits of the primary that `view` contains, with the images that each changes.
    listed: BTreeMap<Uuid, Arc<[ImageId]>>,
    /// The root of each mirror that `view` contains, and its version.
    mirrored: Vec<Option<(ETag, Arc<Root>)>>,
    /// How many uploads the root counted when this process first read it, before it read any commit.
    uploads_at_first: Option<u64>,
    /// The mirrors whose pages may be lost, whatever their roots name.
    distrusted: BTreeSet<usize>,
    /// Whether some location lacks what the others have, or has what is to be replaced.
    unsaved: bool,
    /// Names in a metadata file of the older format that are not valid file names here.
    unusable_names: Vec<String>,
    /// The metadata file of each location, the primary's first.
    files: Vec<metadata_file::FileState>,
}

/// Where a commit whose copy in the primary is damaged can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readable {
    InMirror,
    Nowhere,
    /// Perhaps later: a location with a copy could not be read at all, which may be temporary.
    NotNow,
}

/// The primary's root as last read.
#[derive(Debug, Default, Clone, PartialEq)]
enum Base {
    #[default]
    NotRead,
    Absent,
    /// It is the root of the view.
    Known(ETag),
    /// The view contains it, but has another root.
    Joined(ETag, Arc<Root>),
    /// Torn or damaged: quarantined before it is replaced.
    Damaged(ETag),
}

impl Base {
    fn etag(&self) -> Option<&ETag> {
        match self {
            Self::NotRead | Self::Absent => None,
            Self::Known(etag) | Self::Joined(etag, _) | Self::Damaged(etag) => Some(etag),
        }
    }

    /// The condition on which this root may be replaced.
    fn put_mode(&self) -> PutMode {
        self.etag().map_or(PutMode::Create, |etag| PutMode::Update(etag.clone()))
    }
}

impl Catalog {
    /// A catalog whose pieces are in `primary`, with replicas in `mirrors`, the archive first. With `mirror_at_once`, a
    /// commit is acknowledged only once the archive holds its replica, too.
    pub fn new(primary: Store, mirrors: Vec<Store>, mirror_at_once: bool, clock: Clock) -> Self {
        let locations: Vec<Store> = std::iter::once(primary.clone()).chain(mirrors.iter().cloned()).collect();
        let pages = (0..locations.len()).map(|own| {
            let others =
                locations.iter().enumerate().filter(|(place, _)| *place != own).map(|(_, store)| store.clone());
            Arc::new(LocatedPages::new(locations[own].clone(), others.collect()))
        });
        let pages: Vec<_> = pages.collect();
        let cached = |place| if place == 0 { CACHED_PAGES } else { CACHED_PAGES / 16 };
        let readers: Vec<_> = pages
            .iter()
            .enumerate()
            .map(|(place, pages)| EntryReader::new(Arc::clone(pages) as Arc<dyn tree::Pages>, cached(place)))
            .collect();
        let cache = Cache {
            view: View::at(Arc::default(), &readers[0]),
            store_id: None,
            base: Base::NotRead,
            listed: BTreeMap::new(),
            mirrored: vec![None; mirrors.len()],
            uploads_at_first: None,
            distrusted: BTreeSet::new(),
            unsaved: false,
            unusable_names: Vec::new(),
            files: vec![metadata_file::FileState::default(); pages.len()],
        };
        Self {
            primary,
            mirrors,
            mirror_at_once,
            clock,
            pages,
            readers,
            cache: RwLock::new(cache),
            joining: tokio::sync::Mutex::default(),
            refreshing: SingleFlight::default(),
            refreshed_at: Mutex::default(),
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

    /// A location by its index, its `place`: 0 is the primary, and from 1 on there are the mirrors.
    fn location(&self, place: usize) -> &Store {
        place.checked_sub(1).map_or(&self.primary, |mirror| &self.mirrors[mirror])
    }

    /// The version of a location's root, and the root with the id of its store, if it can be decoded.
    async fn root_of(&self, place: usize) -> Result<(ETag, Result<(Root, Uuid), PieceError>), StoreError> {
        let (bytes, etag) = self.location(place).read(&layout::root()).await?;
        Ok((etag, Root::decode(&bytes)))
    }

    /// The state according to the cache; call [`refresh`](Self::refresh) first to include the changes of other
    /// processes.
    pub fn view(&self) -> View {
        self.cache().view.clone()
    }

    /// Changes the view. A failure changes nothing.
    async fn change_view<T>(
        &self,
        change: impl AsyncFnOnce(&mut View) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let _joining = self.joining.lock().await;
        let mut view = self.view();
        let changed = change(&mut view).await?;
        self.cache_mut().view = view;
        Ok(changed)
    }

    /// Commits that could not be read anywhere, for health.
    pub fn unreadable(&self) -> Vec<Uuid> {
        let damaged = lock(&self.damaged);
        damaged.iter().filter(|(_, readable)| **readable != Readable::InMirror).map(|(id, _)| *id).collect()
    }

    /// How many uploads the root counted when this process first read it; zero before. Later uploads are known
    /// from commits.
    pub(crate) fn uploads_at_first(&self) -> u64 {
        self.cache().uploads_at_first.unwrap_or_default()
    }

    /// The images that these commits change, as far as the commits are in the cache. One that is not there any more is in
    /// every root.
    pub(crate) fn images_of(&self, commits: &BTreeSet<Uuid>) -> BTreeSet<ImageId> {
        let cache = self.cache();
        let images = commits.iter().filter_map(|commit| cache.listed.get(commit));
        images.flat_map(|images| images.iter().cloned()).collect()
    }

    /// How many commits of the primary wait for compaction, according to the cache.
    pub fn uncompacted(&self) -> usize {
        self.cache().listed.len()
    }

    /// Whether a compaction would change anything, according to the cache.
    pub fn needs_compaction(&self) -> bool {
        let cache = self.cache();
        cache.unsaved
            || !cache.listed.is_empty()
            || !cache.view.overlay.is_empty()
            || !matches!(cache.base, Base::Known(_))
            || self.has_absent()
    }

    fn cache(&self) -> RwLockReadGuard<'_, Cache> {
        self.cache.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache_mut(&self) -> RwLockWriteGuard<'_, Cache> {
        self.cache.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// Records that the view, whose root was `was`, gets the root `now`.
    fn note_new_root(&mut self, was: Arc<Root>, now: &Arc<Root>) {
        if let Base::Known(etag) = &self.base
            && !Arc::ptr_eq(&was, now)
        {
            self.base = Base::Joined(etag.clone(), was);
        }
    }

    /// Records the store that a location belongs to. A location without records yields to one that has some.
    fn adopt_store(&mut self, place: usize, found: Uuid, theirs: &View) -> Result<(), CatalogError> {
        let (ours, empty) = (self.view.totals().uploads(), theirs.totals().uploads() == 0);
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

async fn list_commits(location: &Store) -> Result<BTreeSet<Uuid>, StoreError> {
    location
        .list(layout::COMMITS, None)
        .try_filter_map(async |meta| Ok(layout::parse_commit(&meta.key)))
        .try_collect()
        .await
}

/// Reads a commit: `None` if it does not exist, the reason if it cannot be trusted.
async fn read_commit(location: &Store, id: Uuid) -> Result<Option<Result<Commit, PieceError>>, CatalogError> {
    let key = layout::commit(id);
    let bytes = match location.read(&key).await {
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

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
