//! [`Patches`]: replacements for parts of a file that is sent.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{Stream, TryStreamExt};

/// More than any normal file needs; further positions in a hostile one are sent unchanged.
const MOST: usize = 10_000;

/// Replacement bytes, each at its offset. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patches(Arc<[Patch]>);

/// A replacement for one part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Patch {
    pub(super) part: Range<u64>,
    pub(super) with: With,
}

/// The contents of a replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum With {
    /// This byte, repeated.
    Fill(u8),
    /// These bytes, as many as the part has.
    Bytes(Box<[u8]>),
}

impl Patch {
    pub(super) fn fill(part: Range<u64>, byte: u8) -> Self {
        Self { part, with: With::Fill(byte) }
    }

    pub(super) fn bytes(at: u64, bytes: impl Into<Box<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self { part: at..at.saturating_add(bytes.len() as u64), with: With::Bytes(bytes) }
    }
}

impl Patches {
    /// Patches for a file of `size` bytes. Of two that overlap, the one that comes first in `patches` is applied.
    pub(super) fn new(patches: impl IntoIterator<Item = Patch>, size: u64) -> Self {
        let mut made = std::collections::BTreeMap::<u64, Patch>::new();
        for mut patch in patches {
            if matches!(patch.with, With::Fill(_)) {
                patch.part.end = patch.part.end.min(size);
            }
            let Range { start, end } = patch.part;
            let before = made.range(..end).next_back().is_none_or(|(_, other)| other.part.end <= start);
            if start < end && end <= size && before && made.len() < MOST {
                made.insert(start, patch);
            }
        }
        Self(made.into_values().collect())
    }

    /// Whether there is nothing to remove: the file contains no position.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parts of the file that differ, in order and without overlaps.
    pub fn parts(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|patch| patch.part.clone())
    }

    /// Their approximate size in memory, in bytes.
    pub(crate) fn weight(&self) -> usize {
        let own = |patch: &Patch| match &patch.with {
            With::Fill(_) => 0,
            With::Bytes(bytes) => bytes.len(),
        };
        self.0.iter().map(|patch| size_of::<Patch>() + own(patch)).sum()
    }

    /// The patches that overlap this part.
    fn within(&self, part: &Range<u64>) -> &[Patch] {
        let first = self.0.partition_point(|patch| patch.part.end <= part.start);
        let end = self.0.partition_point(|patch| patch.part.start < part.end);
        self.0.get(first..end).unwrap_or_default()
    }

    /// Whether any byte of this part is another.
    pub(super) fn touch(&self, part: Range<u64>) -> bool {
        !self.within(&part).is_empty()
    }

    /// Patches `bytes`, which lie in the file from `at` on.
    pub fn apply(&self, at: u64, bytes: &mut [u8]) {
        let end = at + bytes.len() as u64;
        for patch in self.within(&(at..end)) {
            let (from, to) = (patch.part.start.max(at), patch.part.end.min(end));
            let target = &mut bytes[(from - at) as usize..(to - at) as usize];
            match &patch.with {
                With::Fill(byte) => target.fill(*byte),
                With::Bytes(bytes) => {
                    target.copy_from_slice(&bytes[(from - patch.part.start) as usize..][..target.len()])
                }
            }
        }
    }

    /// The same for bytes that others may hold as well.
    pub fn applied(&self, at: u64, bytes: Bytes) -> Bytes {
        if !self.touch(at..at + bytes.len() as u64) {
            return bytes;
        }
        let mut bytes = BytesMut::from(bytes);
        self.apply(at, &mut bytes);
        bytes.freeze()
    }

    /// A file's bytes from `at` on, patched as they come.
    pub fn over<E>(
        self,
        mut at: u64,
        bytes: impl Stream<Item = Result<Bytes, E>>,
    ) -> impl Stream<Item = Result<Bytes, E>> {
        bytes.map_ok(move |chunk| {
            let start = at;
            at += chunk.len() as u64;
            self.applied(start, chunk)
        })
    }
}
