//! Verifying: what is stored is read through and compared with its digests, a slice at a time, and each copy that is not
//! what it should be is made anew from the other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::Archived;
use crate::backup::Manifest;
use crate::catalog::Chunk;
use crate::clock::millis;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::keepsake::{Keepsake, lock};
use crate::layout::{self, BackupName, ImageId};
use crate::seal::{self, UNSEALED};
use crate::store::{Body, ErrorKind, Key, ObjectMeta, Optional, PutMode, Store, StoreError};

/// Objects read through at a time.
const READS: usize = 4;
/// The slices of a schedule: with one an hour, everything is read through once in thirty days.
pub const SLICES: u32 = 720;

/// A part of all that is stored, picked by digests: the `number`th of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    number: u32,
    of: u32,
}

impl Slice {
    /// All there is.
    pub const WHOLE: Self = Self { number: 1, of: 1 };

    /// The `number`th of `of` slices, counted from 1; `None` where there is no such slice.
    pub fn new(number: u32, of: u32) -> Option<Self> {
        (1..=of).contains(&number).then_some(Self { number, of })
    }

    /// The slice whose turn it is at a moment, where each hour has one.
    pub fn of_hour(now: Timestamp) -> Self {
        let hour = now.as_second().div_euclid(3600).rem_euclid(i64::from(SLICES));
        Self { number: u32::try_from(hour).unwrap_or_default() + 1, of: SLICES }
    }

    fn takes(self, digest: &Digest) -> bool {
        let [a, b, c, d, ..] = *digest.as_bytes();
        u32::from_be_bytes([a, b, c, d]) % self.of == self.number - 1
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Slice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once('/').and_then(|(number, of)| Self::new(number.parse().ok()?, of.parse().ok()?));
        parsed.ok_or_else(|| Error::Invalid("A slice is written as 1/30: the first of thirty.".to_owned()))
    }
}

/// What a verification found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// Images whose copies were read.
    pub images: u64,
    /// Length of those images in bytes.
    pub bytes: u64,
    /// Images whose bytes in the primary were missing or not theirs, and came back from the archive.
    pub repaired: BTreeSet<ImageId>,
    /// Images whose second copy was missing or not theirs, and was made anew.
    pub copied: BTreeSet<ImageId>,
    /// Images of which one copy is missing or wrong, and which were left so because no repair was asked for.
    pub damaged: BTreeSet<ImageId>,
    /// Images whose bytes are right in neither place.
    pub lost: BTreeSet<ImageId>,
    /// Catalog chunks and manifests that were read.
    pub pieces: u64,
    /// Backups of which a part is missing or damaged, and could not be made anew.
    pub damaged_backups: BTreeSet<BackupName>,
}

impl Findings {
    /// Whether something is not as it should be and still is not.
    pub fn needs_attention(&self) -> bool {
        !(self.damaged.is_empty() && self.lost.is_empty() && self.damaged_backups.is_empty())
    }
}

/// What the last verification of each slice found; sealed JSON in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    digest: String,
    /// How many slices everything was cut into.
    of: u32,
    /// The slices that were verified, by number.
    pub slices: BTreeMap<u32, Verified>,
}

/// One slice's last verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// When it ended.
    #[serde(with = "millis")]
    pub at: Timestamp,
    /// What it found.
    pub findings: Findings,
}

impl Record {
    fn decode(bytes: &[u8]) -> Option<Self> {
        seal::check(bytes).ok()?;
        let read: Self = serde_json::from_slice(bytes).ok()?;
        Some(Self { digest: UNSEALED.to_owned(), ..read })
    }

    /// When the slice that waits longest was verified; `None` before all were.
    pub fn complete_since(&self) -> Option<Timestamp> {
        let all = self.slices.len() == self.of as usize;
        self.slices.values().map(|verified| verified.at).min().filter(|_| all)
    }
}

/// Whether an object has this digest, read through. What cannot be read is as bad as what is not there; that the store
/// does not answer is an error.
async fn has(store: &Store, key: &Key, digest: Digest) -> Result<bool, StoreError> {
    match store.hash(key).await {
        Ok((_, found)) => Ok(found == digest),
        Err(e) if matches!(e.kind, ErrorKind::NotFound | ErrorKind::Corrupt) => Ok(false),
        Err(e) => Err(e),
    }
}

/// What is wrong with an image's copies.
enum Fault {
    Primary,
    SecondCopy,
    Both,
}

impl Keepsake {
    /// Reads one slice of everything through; with `repair`, makes what is wrong anew where the other copy is right.
    pub async fn verify(&self, slice: Slice, repair: bool) -> Result<Findings> {
        self.catalog.refresh().await?;
        let images: Vec<(ImageId, Digest, u64)> = self.catalog.read(|state| {
            let live = state.live().filter_map(|(id, record)| Some((id.clone(), record.sha256?, record.size?)));
            live.filter(|(_, digest, _)| slice.takes(digest)).collect()
        });
        let mut findings = Findings::default();
        let check = async |(id, digest, size)| Ok::<_, Error>((self.look_at(&id, digest).await?, id, digest, size));
        let mut checked = stream::iter(images).map(check).buffer_unordered(READS);
        while let Some((fault, id, digest, size)) = checked.try_next().await? {
            findings.images += 1;
            findings.bytes += size;
            let Some(fault) = fault else { continue };
            // One that was deleted since is as it should be.
            if self.image(id.as_str()).await.is_ok() {
                self.settle(id, digest, &fault, repair, &mut findings).await?;
            }
        }
        self.verify_backups(slice, repair, &mut findings).await?;
        self.note_findings(slice, &findings).await?;
        Ok(findings)
    }

    async fn look_at(&self, id: &ImageId, digest: Digest) -> Result<Option<Fault>> {
        let (image, copy) = (layout::image(id), layout::archived_image(&digest));
        let both = futures::try_join!(has(&self.primary, &image, digest), has(self.archive.store(), &copy, digest))?;
        Ok(match both {
            (true, true) => None,
            (false, true) => Some(Fault::Primary),
            (true, false) => Some(Fault::SecondCopy),
            (false, false) => Some(Fault::Both),
        })
    }

    async fn settle(
        &self,
        id: ImageId,
        digest: Digest,
        fault: &Fault,
        repair: bool,
        findings: &mut Findings,
    ) -> Result<()> {
        tracing::warn!(image = %id, "a copy of an image is missing or not what it should be");
        match fault {
            Fault::Both => _ = findings.lost.insert(id),
            _ if !repair => _ = findings.damaged.insert(id),
            Fault::Primary => {
                self.repair_image(&id, digest).await?;
                findings.repaired.insert(id);
            }
            Fault::SecondCopy => {
                let (from, to) = (layout::image(&id), layout::archived_image(&digest));
                self.set_wrong_bytes_aside(self.archive.store(), &to).await?;
                self.note_write(
                    self.primary.copy_to(&from, self.archive.store(), &to, digest, None).await.map_err(Error::from),
                )?;
                findings.copied.insert(id);
            }
        }
        Ok(())
    }

    /// Puts what lies in the place of an image's bytes into quarantine, and brings them back from the archive.
    pub(crate) async fn repair_image(&self, id: &ImageId, digest: Digest) -> Result<()> {
        self.set_wrong_bytes_aside(&self.primary, &layout::image(id)).await?;
        match self.note_write(self.archive.bring_back(&self.primary, id, digest).await.map_err(Error::from))? {
            Archived::Yes => Ok(()),
            Archived::Missing => Err(Error::MissingBytes),
        }
    }

    /// Copies bytes that are about to be replaced into quarantine, as far as they can be read at all.
    async fn set_wrong_bytes_aside(&self, place: &Store, key: &Key) -> Result<(), StoreError> {
        match self.archive.quarantine(place, key).await {
            Err(e) if e.kind == ErrorKind::Corrupt => Ok(()),
            done => done,
        }
    }

    /// Reads manifests and catalog chunks through. A chunk that the present state still has can be written again.
    async fn verify_backups(&self, slice: Slice, repair: bool, findings: &mut Findings) -> Result<()> {
        let archive = self.archive.store();
        let manifests = archive.list(layout::BACKUPS, None);
        let names: Vec<BackupName> =
            manifests.try_filter_map(async |meta| Ok(layout::parse_manifest(&meta.key))).try_collect().await?;
        let mine = |name: &BackupName| slice.takes(&Digest::of(name.to_string().as_bytes()));
        let mut chunks: HashSet<Digest> = HashSet::new();
        for name in names.iter().copied().filter(mine) {
            findings.pieces += 1;
            match self.read_manifest(name).await? {
                Some(manifest) => chunks.extend(manifest.chunks.iter().map(|chunk| chunk.sha256)),
                None => _ = findings.damaged_backups.insert(name),
            }
        }
        let listed = archive.list(layout::CHUNKS, None);
        let listed: HashSet<Digest> =
            listed.try_filter_map(async |meta| Ok(layout::parse_chunk(&meta.key))).try_collect().await?;
        let to_read: Vec<Digest> = listed.iter().copied().filter(|digest| slice.takes(digest)).collect();
        let mut bad: HashSet<Digest> = chunks.difference(&listed).copied().collect();
        let read = async |digest: Digest| Ok::<_, StoreError>((digest, self.read_chunk(&digest).await?.is_some()));
        let mut read = stream::iter(to_read).map(read).buffer_unordered(READS);
        while let Some((digest, right)) = read.try_next().await? {
            findings.pieces += 1;
            if !right {
                bad.insert(digest);
            }
        }
        if bad.is_empty() {
            return Ok(());
        }
        let bad = if repair { self.rewrite_chunks(bad).await? } else { bad };
        // Which backups that concerns is only asked where something is wrong.
        for name in names {
            let hit = |manifest: &Manifest| manifest.chunks.iter().any(|c| bad.contains(&c.sha256));
            if self.read_manifest(name).await?.is_some_and(|manifest| hit(&manifest)) {
                findings.damaged_backups.insert(name);
            }
        }
        Ok(())
    }

    /// Writes chunks again that the present state has; returns those that it has not.
    async fn rewrite_chunks(&self, mut bad: HashSet<Digest>) -> Result<HashSet<Digest>> {
        let snapshot = self.catalog.read(|state| state.snapshot());
        let chunks: HashMap<Digest, Arc<Chunk>> =
            snapshot.chunks().iter().map(|chunk| (chunk.summary().digest, Arc::clone(chunk))).collect();
        for digest in bad.clone() {
            let Some(chunk) = chunks.get(&digest) else { continue };
            self.set_wrong_bytes_aside(self.archive.store(), &layout::chunk(&digest)).await?;
            let body = Body::from(chunk.encode());
            self.archive.store().put(&layout::chunk(&digest), &body, &PutMode::Overwrite).await?;
            bad.remove(&digest);
        }
        Ok(bad)
    }

    /// What verifications found so far, as far as is kept.
    pub async fn verifications(&self) -> Result<Option<Record>> {
        let kept = self.archive.store().read(&layout::verified()).await.optional()?;
        Ok(kept.and_then(|(bytes, _)| Record::decode(&bytes)))
    }

    /// Keeps what a verification found, for health. A cut into another number of slices starts anew.
    async fn note_findings(&self, slice: Slice, findings: &Findings) -> Result<()> {
        let (archive, key) = (self.archive.store(), layout::verified());
        loop {
            let (kept, mode) = match archive.read(&key).await.optional()? {
                None => (None, PutMode::Create),
                Some((bytes, etag)) => (Record::decode(&bytes), PutMode::Update(etag)),
            };
            let fresh = || Record { digest: UNSEALED.to_owned(), of: slice.of, slices: BTreeMap::new() };
            let mut record = kept.filter(|kept| kept.of == slice.of).unwrap_or_else(fresh);
            record.slices.insert(slice.number, Verified { at: self.clock.now(), findings: findings.clone() });
            match archive.put(&key, &Body::from(seal::seal(&record)), &mode).await {
                Err(e) if matches!(e.kind, ErrorKind::Changed | ErrorKind::AlreadyExists) => {}
                done => return Ok(done.map(drop)?),
            }
        }
    }

    /// Where an image's bytes lie that have its digest, read through: in the primary, else in the archive. What is wrong
    /// in the primary is noted for [`repair_suspects`](Self::repair_suspects).
    pub async fn sound_bytes(&self, id: &ImageId, digest: Digest) -> Result<(Store, ObjectMeta)> {
        let (image, copy) = (layout::image(id), layout::archived_image(&digest));
        let mut failure = None;
        for (store, key) in [(&self.primary, image), (self.archive.store(), copy)] {
            match has(store, &key, digest).await {
                Ok(true) => return Ok((store.clone(), store.head(&key).await?)),
                Ok(false) => {
                    if lock(&self.suspects).insert(id.clone()) {
                        tracing::error!(image = %id, "an image's bytes are missing or not theirs where they were read");
                        self.changed.notify_one();
                    }
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.map_or(Error::MissingBytes, Error::from))
    }

    /// Repairs the images that were found wrong when they were to be served.
    pub async fn repair_suspects(&self) -> Result<()> {
        loop {
            let Some(id) = lock(&self.suspects).first().cloned() else { return Ok(()) };
            let digest = self.catalog.read(|state| state.get(id.as_str())?.live()?.sha256);
            if let Some(digest) = digest
                && matches!(self.look_at(&id, digest).await?, Some(Fault::Primary))
            {
                self.repair_image(&id, digest).await?;
            }
            lock(&self.suspects).remove(&id);
        }
    }
}
