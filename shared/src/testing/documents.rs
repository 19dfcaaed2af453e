//! Stored documents as bytes: what the tests need to know of each kind to try its reading.

use super::START;
use crate::base::seal;
use crate::catalog::{Checkpoint, Commit, State, decode_checkpoint, decode_chunk, encode_checkpoint};
use crate::core::lease::LeaseJson;
use crate::services::backup::Manifest;
use crate::services::backup::automatic::Sequence;
use crate::services::unfinished::descriptions::Ticket;
use crate::services::verify::Record;

/// A kind of document that Keepsake stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// A checkpoint of ours.
    Checkpoint,
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
            Self::Checkpoint => match decode_checkpoint(bytes).ok()? {
                Checkpoint::Ours(state, store) => Some(encode_checkpoint(&state, store)),
                Checkpoint::Older(_) => None,
            },
            Self::Commit => Some(Commit::decode(bytes).ok()?.encode(START.parse().unwrap()).to_vec()),
            Self::Chunk => {
                let state: State = decode_chunk(bytes).ok()?.into_iter().collect();
                match state.chunks() {
                    // One without a live record is never written, and of several each would have to be told from the next.
                    [chunk] if chunk.live().next().is_some() => Some(chunk.encode()),
                    _ => None,
                }
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
