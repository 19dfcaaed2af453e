//! What backups and the catalog name, and what is old enough to be removed.

use std::collections::HashSet;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::{Candidate, SAFE_AGE, What};
use crate::backup::{Intent, Kind, Manifest};
use crate::digest::Digest;
use crate::error::Result;
use crate::keepsake::{Keepsake, blocking};
use crate::layout::{self, BackupName};
use crate::store::{ETag, ErrorKind, Key, ObjectMeta, Optional, StoreError};

/// Manifests and chunks read at a time.
const FETCHES: usize = 16;

const UNREADABLE_CATALOG: &str = "A part of the catalog cannot be read, so that what it names is not known.";
const EMPTY_CATALOG: &str = "The catalog knows of no image, which may mean that it was lost.";
const DAMAGED_COMMIT: &str = "A damaged commit lies in the quarantine; remove it there once it is of no use any more.";
const DAMAGED_BACKUP: &str =
    "A part of a backup is damaged, so that what it names is not known; repair it by a verification, or delete it.";

/// A backup with the version of its manifest.
pub(super) type Stored = (ObjectMeta, Manifest);

/// What backups and the catalog name.
#[derive(Default)]
pub(super) struct Named {
    /// Chunks of backups, whose images are in `images`.
    chunks: HashSet<Digest>,
    /// Chunks of the state as it is, whose images are in `images` without a look at what lies in the archive.
    present: HashSet<Digest>,
    /// Chunks of backups that are being made.
    intended: HashSet<Digest>,
    images: HashSet<Digest>,
    /// The versions of manifests and intents that were read.
    read: HashSet<(Key, ETag)>,
}

impl Named {
    fn has_read(&self, version: &ObjectMeta) -> bool {
        self.read.contains(&(version.key.clone(), version.etag.clone()))
    }

    pub(super) fn names(&self, candidate: &Candidate) -> bool {
        match candidate.what {
            What::Chunk => self.chunks.contains(&candidate.digest) || self.intended.contains(&candidate.digest),
            What::Image => self.images.contains(&candidate.digest),
        }
    }
}

/// The backups that there are.
#[derive(Default)]
pub(super) struct Standing {
    /// The valid ones, newest first.
    pub(super) manifests: Vec<Stored>,
    /// What backups left that were cut off long ago.
    pub(super) old_intents: Vec<ObjectMeta>,
}

impl Keepsake {
    fn safe_before(&self) -> Timestamp {
        self.clock.now() - SAFE_AGE
    }

    /// The chunks and images in the archive that are old enough to be removed.
    pub(super) async fn old_objects(&self) -> Result<Vec<Candidate>, StoreError> {
        let (archive, before) = (self.archive.store(), self.safe_before());
        let kinds = [
            (layout::CHUNKS, What::Chunk, layout::parse_chunk as fn(&Key) -> Option<Digest>),
            (layout::ARCHIVED_IMAGES, What::Image, layout::parse_archived_image),
        ];
        let mut old = Vec::new();
        for (prefix, what, parse) in kinds {
            let mut listed = archive.list(prefix, None);
            while let Some(version) = listed.try_next().await? {
                if version.modified < before
                    && let Some(digest) = parse(&version.key)
                {
                    old.push(Candidate { what, digest, version });
                }
            }
        }
        Ok(old)
    }

    /// The backups that there are; one that is not valid is found by [`read_names`](Self::read_names).
    pub(super) async fn standing_backups(&self) -> Result<Standing, StoreError> {
        let listed: Vec<ObjectMeta> = self.archive.store().list(layout::BACKUPS, None).try_collect().await?;
        let before = self.safe_before();
        let (intents, manifests): (Vec<_>, Vec<_>) = listed.into_iter().partition(|meta| layout::is_intent(&meta.key));
        let old_intents = intents.into_iter().filter(|meta| meta.modified < before).collect();
        let read = async |meta: ObjectMeta| {
            let Some(name) = layout::parse_manifest(&meta.key) else { return Ok(None) };
            Ok::<_, StoreError>(self.read_manifest(name).await?.map(|manifest| (meta, manifest)))
        };
        let mut standing = Standing { old_intents, ..Standing::default() };
        let mut read = stream::iter(manifests).map(read).buffered(FETCHES);
        while let Some(found) = read.try_next().await? {
            standing.manifests.extend(found);
        }
        standing.manifests.reverse();
        Ok(standing)
    }

    async fn present_manifest(&self, name: BackupName) -> Result<Present, StoreError> {
        Ok(match self.read_manifest(name).await? {
            Some(manifest) => Present::Valid(manifest),
            None if self.archive.store().head(&layout::manifest(name)).await.optional()?.is_none() => Present::Gone,
            None => Present::Damaged,
        })
    }

    /// Splits backups, newest first, into those that stay and those that go.
    pub(super) fn thin_out(&self, backups: Vec<Stored>) -> (Vec<Stored>, Vec<Stored>) {
        let before = self.safe_before();
        let by_itself = |manifest: &Manifest| manifest.kind != Kind::Manual;
        let automatic = backups.iter().filter(|(_, manifest)| by_itself(manifest)).map(|(_, manifest)| manifest.name);
        let kept = self.settings.keep.of(&automatic.collect::<Vec<_>>());
        backups.into_iter().partition(|(version, manifest)| {
            let old = version.modified < before && manifest.name.moment() < before;
            !(by_itself(manifest) && old && !kept.contains(&manifest.name))
        })
    }

    /// Takes in what the catalog, the backups that stay and those being made name; the reason where not all of it can be
    /// read.
    pub(super) async fn read_names(
        &self,
        stay: &[Stored],
        go: &[Stored],
        named: &mut Named,
    ) -> Result<Option<&'static str>> {
        let Some(images) = self.catalog.named_anywhere().await? else { return Ok(Some(UNREADABLE_CATALOG)) };
        if self.catalog.read(|state| state.totals().uploads()) == 0 {
            return Ok(Some(EMPTY_CATALOG));
        }
        named.images = images;
        self.know_present_chunks(named).await?;
        let mut quarantined = self.archive.store().list(layout::QUARANTINE, None);
        while let Some(meta) = quarantined.try_next().await? {
            if layout::parse_quarantined_commit(&meta.key).is_some() {
                return Ok(Some(DAMAGED_COMMIT));
            }
        }
        for (version, manifest) in stay {
            if !self.take_in(version, manifest, named).await? {
                return Ok(Some(DAMAGED_BACKUP));
            }
        }
        let going: HashSet<BackupName> = go.iter().map(|(_, manifest)| manifest.name).collect();
        Ok(self.read_new_backups(&going, named).await?)
    }

    /// Most chunks of most backups are those of the state as it is, and what they name needs no reading: so a prune reads as
    /// many as have changed since the oldest backup, and not all there are.
    async fn know_present_chunks(&self, named: &mut Named) -> Result<()> {
        let snapshot = self.catalog.read(|state| state.snapshot());
        named.images.extend(snapshot.iter().filter_map(|(_, entry)| entry.content_digest()));
        let digests = move || snapshot.chunks().iter().map(|chunk| chunk.summary().digest).collect();
        named.present = blocking(digests).await?;
        Ok(())
    }

    /// Takes in what names these candidates now; the reason where that cannot be told.
    pub(super) async fn look_again(&self, candidates: &[Candidate], named: &mut Named) -> Result<Option<&'static str>> {
        if let Some(reason) = self.read_new_backups(&HashSet::new(), named).await? {
            return Ok(Some(reason));
        }
        self.catalog.refresh().await?;
        if !self.catalog.unreadable().is_empty() {
            return Ok(Some(UNREADABLE_CATALOG));
        }
        let mine: HashSet<Digest> = candidates.iter().map(|candidate| candidate.digest).collect();
        self.catalog.read(|state| {
            let contents = state.iter().filter_map(|(_, entry)| entry.content_digest());
            named.images.extend(contents.filter(|digest| mine.contains(digest)));
        });
        Ok(None)
    }

    /// Takes in what was not read yet: backups, but for those `going`, and those being made.
    async fn read_new_backups(
        &self,
        going: &HashSet<BackupName>,
        named: &mut Named,
    ) -> Result<Option<&'static str>, StoreError> {
        let (archive, before) = (self.archive.store(), self.safe_before());
        'listing: loop {
            let listed: Vec<ObjectMeta> = archive.list(layout::BACKUPS, None).try_collect().await?;
            for meta in listed {
                if named.has_read(&meta) {
                    continue;
                }
                if let Some(name) = layout::parse_manifest(&meta.key).filter(|name| !going.contains(name)) {
                    let read = match self.present_manifest(name).await? {
                        Present::Valid(manifest) => self.take_in(&meta, &manifest, named).await?,
                        Present::Damaged => false,
                        Present::Gone => true,
                    };
                    if !read {
                        return Ok(Some(DAMAGED_BACKUP));
                    }
                } else if layout::is_intent(&meta.key) && meta.modified >= before {
                    // Where it is gone, its manifest may stand since this listing was taken.
                    let Some((bytes, _)) = archive.read(&meta.key).await.optional()? else { continue 'listing };
                    let Some(intent) = Intent::decode(&bytes) else { return Ok(Some(DAMAGED_BACKUP)) };
                    named.intended.extend(intent.chunks);
                    named.read.insert((meta.key.clone(), meta.etag.clone()));
                }
            }
            return Ok(None);
        }
    }

    /// Deletes this version of an object; returns false where it has been put anew or is gone.
    pub(super) async fn delete_if_same(&self, version: &ObjectMeta) -> Result<bool, StoreError> {
        match self.archive.store().delete_version(version).await {
            Err(e) if e.kind == ErrorKind::Changed => Ok(false),
            deleted => deleted.map(|()| true),
        }
    }

    /// Takes in what this backup names; returns false where a part of it cannot be read.
    async fn take_in(&self, version: &ObjectMeta, manifest: &Manifest, named: &mut Named) -> Result<bool, StoreError> {
        let new: Vec<Digest> =
            manifest.chunks.iter().map(|chunk| chunk.sha256).filter(|digest| named.chunks.insert(*digest)).collect();
        let new = new.into_iter().filter(|digest| !named.present.contains(digest)).collect::<Vec<_>>();
        let read = async |digest: Digest| self.read_chunk(&digest).await;
        let mut chunks = stream::iter(new).map(read).buffered(FETCHES);
        while let Some(chunk) = chunks.try_next().await? {
            let Some(entries) = chunk else { return Ok(false) };
            named.images.extend(entries.iter().filter_map(|(_, entry)| entry.content_digest()));
        }
        named.read.insert((version.key.clone(), version.etag.clone()));
        Ok(true)
    }
}

enum Present {
    Valid(Manifest),
    Damaged,
    Gone,
}
