//! Stored documents as bytes: what the tests need to know of each kind to try its reading.

use super::START;
use crate::base::seal;
use crate::catalog::{Commit, MetadataFile, Root, decode_chunk, decode_metadata_file};
use crate::core::lease::LeaseJson;
use crate::services::backup::Manifest;
use crate::services::backup::automatic::Sequence;
use crate::services::unfinished::descriptions::Ticket;
use crate::services::verify::Record;

/// A kind of document that Keepsake stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// A root.
    Root,
    /// A metadata file of ours.
    MetadataFile,
    /// A commit.
    Commit,
    /// A catalog chunk of a backup; its name is its digest.
    Chunk,
    /// A backup's manifest.
    Manifest,
    /// Which automatic backups are due.
    Sequence,
    /// What verifications found.
    Verified,
    /// A ticket.
    Ticket,
    /// The lease of a running restore; it carries no digest.
    Lease,
}

impl Document {
    /// Whether it carries the digest of its own bytes.
    pub fn is_sealed(self) -> bool {
        !matches!(self, Self::Chunk | Self::Lease)
    }

    /// Reads a document of this kind and writes what was read; `None` where it is not taken for one.
    pub fn rewritten(self, bytes: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Root => Root::decode(bytes).ok().map(|(root, store)| root.encode(store)),
            Self::MetadataFile => match decode_metadata_file(bytes).ok()? {
                MetadataFile::Ours(ours) => Some(ours.encode()),
                MetadataFile::Older(_) => None,
            },
            Self::Commit => Some(Commit::decode(bytes).ok()?.encode(START.parse().unwrap()).to_vec()),
            Self::Chunk => {
                let entries: std::collections::BTreeMap<_, _> = decode_chunk(bytes).ok()?.into_iter().collect();
                // One without a live record was never written.
                entries.values().any(|entry| entry.live().is_some()).then(|| serde_json::to_vec(&entries).unwrap())
            }
            Self::Manifest => Some(seal::seal(&Manifest::decode(bytes).ok()?)),
            Self::Sequence => Some(seal::seal(&seal::open::<Sequence>(bytes)?)),
            Self::Verified => Some(seal::seal(&seal::open::<Record>(bytes)?)),
            Self::Ticket => Some(seal::seal(&seal::open::<Ticket>(bytes)?)),
            Self::Lease => Some(serde_json::to_vec(&serde_json::from_slice::<LeaseJson>(bytes).ok()?).unwrap()),
        }
    }
}

/// The same document with the digest that seals it, where it has room for one.
pub fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    seal::write_digest(&mut sealed);
    sealed
}
