//! The candidates for removal, and the references known so far.

use std::collections::{BTreeSet, HashSet};

use crate::catalog::Snapshot;
use crate::layout;
use crate::services::backup::Manifest;
use store::digest::Digest;
use store::{ETag, Key, ObjectMeta};

/// A content-addressed object in the archive.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) kind: ObjectKind,
    pub(super) digest: Digest,
    pub(super) version: ObjectMeta,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectKind {
    Chunk,
    Image,
}

/// Candidates for removal, by digest.
pub(super) struct Candidates {
    pub(super) chunks: BTreeSet<Digest>,
    pub(super) images: BTreeSet<Digest>,
}

impl Candidates {
    /// The digests of the listed candidates.
    pub(super) fn of(candidates: &[Candidate]) -> Self {
        let those = |kind| candidates.iter().filter(move |c| c.kind == kind).map(|candidate| candidate.digest);
        Self { chunks: those(ObjectKind::Chunk).collect(), images: those(ObjectKind::Image).collect() }
    }
}

/// A manifest together with its object version.
pub(super) type Stored = (ObjectMeta, Manifest);

/// The candidates to which no reference has been found yet.
pub(super) struct Unreferenced {
    pub(super) candidates: Candidates,
    /// Chunks that reference no candidate image.
    pub(super) known: HashSet<Digest>,
    /// The versions of the manifests and intents that have been read.
    pub(super) read: HashSet<(Key, ETag)>,
    /// The catalog snapshot that was examined last.
    pub(super) state: Snapshot,
}

impl Unreferenced {
    /// Starts with all `candidates`; nothing has been examined yet.
    pub(super) fn new(candidates: Candidates) -> Self {
        let (known, read) = Default::default();
        Self { candidates, known, read, state: Snapshot::default() }
    }

    /// Whether no reference to this candidate has been found.
    pub(super) fn has(&self, candidate: &Candidate) -> bool {
        match candidate.kind {
            ObjectKind::Chunk => self.candidates.chunks.contains(&candidate.digest),
            ObjectKind::Image => self.candidates.images.contains(&candidate.digest),
        }
    }

    /// The keys of these objects, images first.
    pub(super) fn objects(&self) -> impl Iterator<Item = (ObjectKind, Digest, Key)> {
        let image = |digest: &Digest| (ObjectKind::Image, *digest, layout::archived_image(digest));
        let chunk = |digest: &Digest| (ObjectKind::Chunk, *digest, layout::chunk(digest));
        self.candidates.images.iter().map(image).chain(self.candidates.chunks.iter().map(chunk))
    }

    pub(super) fn has_read(&self, version: &ObjectMeta) -> bool {
        self.read.contains(&(version.key.clone(), version.etag.clone()))
    }

    pub(super) fn remove_images(&mut self, named: impl IntoIterator<Item = Digest>) {
        named.into_iter().for_each(|digest| _ = self.candidates.images.remove(&digest));
    }

    /// Takes out what this catalog state references; examines only what changed since the last snapshot.
    pub(super) fn remove_referenced_by_state(&mut self, state: Snapshot) {
        if !self.candidates.images.is_empty() {
            let changed: Vec<_> = state.changed_since(&self.state).cloned().collect();
            changed.iter().for_each(|chunk| self.remove_images(chunk.contents()));
        }
        self.state = state;
    }
}

/// The existing backups.
#[derive(Default)]
pub(super) struct ExistingBackups {
    /// The valid ones, newest first.
    pub(super) manifests: Vec<Stored>,
    /// Intents of backups that were interrupted long ago.
    pub(super) old_intents: Vec<ObjectMeta>,
}
