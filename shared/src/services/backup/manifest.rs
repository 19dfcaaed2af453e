//! [`Manifest`]: the contents of a backup.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::clock::millis;
use crate::base::seal;
use crate::catalog::{EntryTree, View};
use crate::layout::{BackupName, ImageId};
use store::digest::Digest;

/// A backup as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: BackupName,
    /// When it was made.
    pub created: Timestamp,
    /// When its manifest was last written, by the archive's clock.
    pub modified: Timestamp,
    /// How many images it references.
    pub images: u64,
    /// Length of those images in bytes.
    pub bytes: u64,
    /// Why it was made.
    pub kind: Kind,
    /// When its objects were last read back and verified.
    pub verified_at: Timestamp,
}

/// The version of the manifest format. Before version 2, manifests listed chunks.
const FORMAT: u32 = 2;

/// Why a backup was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = BackupKind)]
pub enum Kind {
    /// Automatically, after a number of uploads.
    Auto,
    /// On request.
    Manual,
    /// Before a restore or after a recovery, so that it can be undone.
    Safety,
}

/// The contents of a backup; sealed JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    format: u32,
    /// The backup's name.
    pub name: BackupName,
    /// When it was made.
    #[serde(with = "millis")]
    pub created: Timestamp,
    /// Why it was made.
    pub kind: Kind,
    /// The number of the automatic backup, counted from the first; none for other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// How many images it references.
    pub images: u64,
    /// Length of those images in bytes.
    pub bytes: u64,
    /// When its objects were last read back and verified.
    #[serde(with = "millis")]
    pub verified_at: Timestamp,
    /// Images with a record in it whose bytes were in neither the primary nor the archive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<ImageId>,
    /// The tree of all entries, deleted ones included; none in format 1.
    #[serde(default)]
    entries: EntryTree,
    /// In format 1, its catalog chunks, sorted by the names in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<ChunkRef>,
}

/// A manifest's reference to a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChunkRef {
    /// Digest of its bytes, which is also its name.
    pub sha256: Digest,
    /// Records in it.
    pub images: u64,
}

impl Manifest {
    /// A manifest of a state whose pages are all stored.
    pub(super) fn new(
        name: BackupName,
        kind: Kind,
        sequence: Option<u64>,
        state: &View,
        missing: Vec<ImageId>,
        (created, verified_at): (Timestamp, Timestamp),
    ) -> Self {
        let totals = state.totals();
        Self {
            format: FORMAT,
            name,
            created,
            kind,
            sequence,
            images: totals.live,
            bytes: totals.bytes,
            verified_at,
            missing,
            entries: state.names().clone(),
            chunks: Vec::new(),
        }
    }

    /// The tree of all entries; `None` in format 1.
    pub(crate) fn entries(&self) -> Option<&EntryTree> {
        (self.format > 1).then_some(&self.entries)
    }

    /// Decodes a manifest; the reason if it is damaged or invalid.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        seal::check(bytes).map_err(|_| "its digest does not match")?;
        let manifest: Self = serde_json::from_slice(bytes).map_err(|_| "it cannot be read")?;
        if manifest.format > FORMAT {
            return Err("it was written by a newer version");
        }
        Ok(manifest)
    }

    /// The top page of the tree of its entries; none if it has no entries, or is of format 1.
    pub fn page(&self) -> Option<Digest> {
        Some(self.entries.top()?.page)
    }

    /// Whether it lists chunks instead of a tree.
    pub fn is_of_chunks(&self) -> bool {
        self.format == 1
    }

    /// The backup as listed.
    pub(super) fn listed(&self, modified: Timestamp) -> Listed {
        Listed {
            name: self.name,
            created: self.created,
            modified,
            images: self.images,
            bytes: self.bytes,
            kind: self.kind,
            verified_at: self.verified_at,
        }
    }
}

/// The tree that a backup in progress will reference; sealed JSON.
///
/// It is written before the backup looks for a base. So a backup that finds its base deleted does not rely on it, and a
/// process that deletes the base later finds the intent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// The entries of the backup.
    pub(crate) entries: EntryTree,
}
