//! `image-metadata.json`: every record, for people and for the older format's readers; written from the tree.
//!
//! A start does not need the file. It is one more replica of the records, up to the moment at which it was written. A
//! small one is written at each compaction, a large one at most every [`EVERY`], and at a stop.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use super::piece::{FORMAT, MetadataFile, Older, Ours, PieceError, decode_metadata_file};
use super::record::InFull;
use super::root::Root;
use super::view::View;
use super::{Base, Catalog, CatalogError, offload};
use crate::base::seal;
use crate::layout::{self, ImageId, RESERVED_NAME};
use store::{Body, Contention, ETag, ErrorKind, Optional, PutMode, Spool, StoreError};

/// Up to this many entries, about four megabytes, the file is written at each compaction.
const FEW: u64 = 8_000;
/// How often a larger file is written while there are changes.
pub const EVERY: SignedDuration = SignedDuration::from_mins(10);
/// The marker of the tree is within this many bytes of the start.
const HEAD: u64 = 512;

/// What this process knows of a location's metadata file.
#[derive(Clone, Debug, Default)]
pub(super) struct FileState {
    /// The file as it was last written or joined.
    known: Option<KnownFile>,
    /// When it was last written, or this process first found it outdated.
    since: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct KnownFile {
    etag: ETag,
    /// The tree that it was written from.
    tree: Option<String>,
    /// Whether it is quarantined before it is replaced: it is damaged, or of the older format.
    is_odd: bool,
}

/// What was found where a metadata file is to be.
pub(super) enum Found {
    /// There is no file.
    Nothing,
    /// A file whose version is known now, and which has nothing new.
    Known,
    /// Likewise, but the view lacked something that is in it.
    More,
    /// A file that its store cannot read.
    Unreadable(StoreError),
}

/// The name of a state in its metadata file.
fn marker(root: &Root) -> String {
    root.names.top().map_or_else(|| "empty".to_owned(), |top| top.page.to_string())
}

impl Catalog {
    /// Whether the metadata file of some location is not that of the present root.
    pub fn has_outdated_files(&self) -> bool {
        (0..self.pages.len()).any(|place| self.is_outdated(place))
    }

    fn is_outdated(&self, place: usize) -> bool {
        let cache = self.cache();
        cache.files[place].known.as_ref().is_none_or(|known| known.tree != Some(marker(&cache.view.root)))
    }

    /// Whether the metadata file of a location is to be written at the next compaction.
    pub(super) fn is_file_due(&self, place: usize) -> bool {
        if !self.is_outdated(place) {
            return false;
        }
        let (now, is_small) = (self.clock.now(), self.is_small());
        let since = *self.cache_mut().files[place].since.get_or_insert(now);
        is_small || now.duration_since(since).abs() >= EVERY
    }

    /// Whether the catalog is so small that its metadata file is written at each compaction.
    pub fn is_small(&self) -> bool {
        self.cache().view.root.names.entries() <= FEW
    }

    /// Writes the metadata file of every location whose file is not that of the present root.
    pub async fn write_files(&self) -> Result<(), CatalogError> {
        let _turn = self.compacting.lock().await;
        let (view, store) = {
            let cache = self.cache();
            (cache.view.without_overlay(), cache.store_id)
        };
        let mut file = None;
        let Some(store) = store.filter(|_| matches!(self.cache().base, Base::Known(_))) else { return Ok(()) };
        for place in 0..self.pages.len() {
            self.write_file(place, &view, store, &mut file).await?;
        }
        Ok(())
    }

    /// Writes the metadata file of a location, unless it is that of this root already, or has something that the root
    /// lacks: that is in the view now, and the next compaction writes it, before it replaces the file.
    ///
    /// Returns false in the last case.
    pub(super) async fn write_file(
        &self,
        place: usize,
        state: &View,
        store: Uuid,
        file: &mut Option<Body>,
    ) -> Result<bool, CatalogError> {
        let (location, key) = (self.location(place), layout::metadata_file());
        let mut contention = Contention::new(&key);
        let tree = marker(&state.root);
        loop {
            let known = self.cache().files[place].known.clone();
            let mode = match known {
                Some(known) if known.tree.as_ref() == Some(&tree) => return Ok(true),
                Some(known) => {
                    if known.is_odd {
                        self.set_aside(location, &key).await?;
                    }
                    PutMode::Update(known.etag)
                }
                None => match self.join_file(place).await? {
                    Found::More => return Ok(false),
                    Found::Known | Found::Unreadable(_) => continue,
                    Found::Nothing => PutMode::Create,
                },
            };
            let body = match file {
                Some(body) => body,
                None => file.insert(encode(state, store, || self.primary.spool()).await?),
            };
            match location.put(&key, body, &mode).await {
                Ok(etag) => {
                    let known = Some(KnownFile { etag, tree: Some(tree), is_odd: false });
                    let since = Some(self.clock.now());
                    self.cache_mut().files[place] = FileState { known, since };
                    return Ok(true);
                }
                Err(e) if e.is_lost_race() => {
                    self.note_file(place, None);
                    contention.lost().await?;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn note_file(&self, place: usize, known: Option<KnownFile>) {
        self.cache_mut().files[place].known = known;
    }

    /// Joins what a location's metadata file may have that no root has: an edit by hand of the older format, or the
    /// changes of an older Keepsake. Writes nothing: whatever else it is, is quarantined before it is replaced.
    pub(super) async fn join_file(&self, place: usize) -> Result<Found, CatalogError> {
        self.join_file_if(place, |tree, body| tree.is_none() || seal::check_body(body).is_err()).await
    }

    /// Joins a location's metadata file as a replica of the records: no root there can be read. A file that cannot be
    /// read is an error: it may become readable again, and must not be replaced.
    pub(super) async fn join_replica(&self, place: usize) -> Result<(), CatalogError> {
        match self.join_file_if(place, |_, _| true).await? {
            Found::Unreadable(error) => Err(error.into()),
            Found::Nothing | Found::Known | Found::More => Ok(()),
        }
    }

    /// Joins a location's metadata file if it is `wanted`, given the tree that it claims to be written from.
    async fn join_file_if(
        &self,
        place: usize,
        wanted: impl Fn(Option<&str>, &Body) -> bool,
    ) -> Result<Found, CatalogError> {
        let (location, key) = (self.location(place), layout::metadata_file());
        let Some(meta) = location.head(&key).await.optional()? else {
            self.note_file(place, None);
            return Ok(Found::Nothing);
        };
        let body = match location.fetch(&key).await {
            Err(error) if error.kind == ErrorKind::Corrupt => {
                tracing::error!(place, reason = %error, "a metadata file cannot be read");
                self.note_file(place, Some(KnownFile { etag: meta.etag, tree: None, is_odd: false }));
                return Ok(Found::Unreadable(error));
            }
            read => match read.optional()? {
                Some(body) => body,
                None => return Ok(Found::Nothing),
            },
        };
        let tree = head_of(&body).and_then(|head| marker_in(&head));
        let (mut known, mut changed) = (KnownFile { etag: meta.etag, tree, is_odd: false }, false);
        if wanted(known.tree.as_deref(), &body) {
            (known.tree, changed) = self.join_whole(place, &body).await?;
            known.is_odd = known.tree.is_none();
        }
        self.note_file(place, Some(known));
        Ok(if changed { Found::More } else { Found::Known })
    }

    /// Like [`join_file`](Self::join_file) for a start, which reads the file only if it is not one of ours.
    pub(super) async fn look_at_file(&self, place: usize) -> Result<(), CatalogError> {
        let object = match self.location(place).get(&layout::metadata_file(), Some(0..HEAD)).await {
            Err(error) if error.kind == ErrorKind::Corrupt => return Ok(()),
            read => read.optional()?,
        };
        let Some(object) = object else { return Ok(()) };
        let head = object.bytes().await?;
        // Whether it was edited since shows before it is written again.
        match marker_in(&head) {
            Some(_) => Ok(()),
            None => self.join_file(place).await.map(drop),
        }
    }

    /// Reads a location's metadata file. A damaged one is replaced by the next compaction.
    /// Returns whether there is one.
    pub(crate) async fn verify_file(&self, place: usize) -> Result<bool, CatalogError> {
        Ok(!matches!(self.join_file(place).await?, Found::Nothing))
    }

    /// Joins a whole file, whatever it is; returns the tree that it was written from, and whether it had anything that
    /// the view lacked.
    async fn join_whole(&self, place: usize, body: &Body) -> Result<(Option<String>, bool), CatalogError> {
        let bytes = whole(body)?;
        match offload(bytes.len(), move || decode_metadata_file(&bytes)).await {
            Ok(MetadataFile::Ours(ours)) => {
                let tree = ours.tree.clone();
                Ok((tree, self.join_ours(place, ours).await?))
            }
            Ok(MetadataFile::Older(older)) => Ok((None, self.join_older(older).await?)),
            Err(source @ PieceError::Newer(_)) => Err(CatalogError::Piece { key: layout::metadata_file(), source }),
            Err(reason) => {
                tracing::error!(place, %reason, "a metadata file is damaged");
                Ok((None, false))
            }
        }
    }

    async fn join_ours(&self, place: usize, ours: Ours) -> Result<bool, CatalogError> {
        let theirs = View::of(ours.entries);
        self.cache_mut().adopt_store(place, ours.store, &theirs)?;
        let changed = self
            .change_view(async |view| {
                let mut changed = view.join_all(&theirs).await?;
                if ours.dropped_tombstones > view.root.dropped_tombstones {
                    let was = Arc::clone(&view.root);
                    let root = Arc::make_mut(&mut view.root);
                    root.dropped_tombstones = ours.dropped_tombstones;
                    root.dropped_version = root.dropped_version.max(ours.dropped_version);
                    self.cache_mut().note_new_root(was, &view.root);
                    changed = true;
                }
                Ok(changed)
            })
            .await?;
        self.cache_mut().unsaved |= changed;
        Ok(changed)
    }

    async fn join_older(&self, older: Older) -> Result<bool, CatalogError> {
        let theirs = View::of(older.records);
        let changed = self.change_view(async |view| view.join_all(&theirs).await).await?;
        let mut cache = self.cache_mut();
        cache.unsaved |= changed;
        cache.unusable_names.extend(older.unusable.into_iter().map(|(name, _)| name));
        Ok(changed)
    }
}

/// The first bytes of a file.
fn head_of(body: &Body) -> Option<Vec<u8>> {
    let mut head = vec![0; HEAD.min(body.size()) as usize];
    let read = body.read_at(0, &mut head).ok()?;
    head.truncate(read);
    Some(head)
}

pub(super) fn whole(body: &Body) -> Result<Bytes, StoreError> {
    if let Some(bytes) = body.in_memory() {
        return Ok(bytes.clone());
    }
    let mut bytes = Vec::with_capacity(body.size() as usize);
    let read = body.write_to(&mut bytes);
    read.map_err(|e| StoreError::caused("read", layout::metadata_file(), ErrorKind::Unavailable, e))?;
    Ok(bytes.into())
}

/// The tree that a metadata file was written from, according to its first bytes.
fn marker_in(head: &[u8]) -> Option<String> {
    const FIELD: &str = r#""tree": ""#;
    let head = String::from_utf8_lossy(head);
    let (_, rest) = head.split_once(RESERVED_NAME)?;
    // Whatever follows the tombstones may be a record.
    let own = rest.split_once("\"tombstones\"").map_or(rest, |(own, _)| own);
    let (_, tree) = own.split_once(FIELD)?;
    tree.split_once('"').map(|(tree, _)| tree.to_owned())
}

/// The metadata file of a state: one JSON object keyed by file name, with [`RESERVED_NAME`] first.
pub(crate) async fn encode(view: &View, store: Uuid, spool: impl Fn() -> Spool) -> Result<Body, CatalogError> {
    let failed = |e| StoreError::caused("write", layout::metadata_file(), ErrorKind::Unavailable, e);
    let mut text = spool();
    let root = &view.root;
    let own = format!(
        "{{\n  \"{RESERVED_NAME}\": {{\n    \"digest\": \"{}\",\n    \"format\": {FORMAT},\n    \"store\": \"{store}\",\n    \
         \"tree\": \"{}\",\n    \"droppedTombstones\": {},\n    \"droppedVersion\": {},\n    \"tombstones\": {{",
        seal::UNSEALED,
        marker(root),
        root.dropped_tombstones,
        root.dropped_version
    );
    text.write(own.as_bytes()).await.map_err(failed)?;
    let mut deleted = view.by_name(|sums| sums.deleted > 0);
    let mut any = false;
    while let Some((id, entry)) = deleted.try_next().await? {
        if entry.tombstone().is_some() {
            text.write(member(&id, &*entry, 6, any).as_bytes()).await.map_err(failed)?;
            any = true;
        }
    }
    text.write(if any { b"\n    }\n  }" } else { b"}\n  }" }).await.map_err(failed)?;
    let mut live = view.live();
    while let Some((id, entry)) = live.try_next().await? {
        text.write(member(&id, &InFull(&entry), 2, true).as_bytes()).await.map_err(failed)?;
    }
    text.write(b"\n}\n").await.map_err(failed)?;
    let unsealed = text.finish().await.map_err(failed)?;
    Ok(seal::seal_body(&unsealed, spool()).await.map_err(failed)?)
}

/// A member of a JSON object, on lines of its own.
fn member(id: &ImageId, entry: &impl Serialize, indent: usize, is_next: bool) -> String {
    let written = "entries serialise";
    let name = serde_json::to_string(id.as_str()).unwrap_or_else(|e| unreachable!("{written}: {e}"));
    let text = serde_json::to_string_pretty(entry).unwrap_or_else(|e| unreachable!("{written}: {e}"));
    let margin = format!("\n{:indent$}", "");
    format!("{}{margin}{name}: {}", if is_next { "," } else { "" }, text.replace('\n', &margin))
}

#[cfg(any(test, feature = "testing"))]
impl Ours {
    /// The file with these contents.
    pub fn encode(&self) -> Vec<u8> {
        use futures::FutureExt;

        let mut view = View::of(self.entries.iter().cloned());
        let root = Arc::make_mut(&mut view.root);
        (root.dropped_tombstones, root.dropped_version) = (self.dropped_tombstones, self.dropped_version);
        let body = encode(&view, self.store, || Spool::new(std::path::Path::new("/"))).now_or_never();
        let body = body.and_then(Result::ok).unwrap_or_else(|| unreachable!("tests have few entries"));
        whole(&body).unwrap_or_default().to_vec()
    }
}
