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
    pub(super) what: What,
    pub(super) digest: Digest,
    pub(super) version: ObjectMeta,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
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
        let those = |what| candidates.iter().filter(move |c| c.what == what).map(|candidate| candidate.digest);
        Self { chunks: those(What::Chunk).collect(), images: those(What::Image).collect() }
    }
}

/// A manifest together with its object version.
pub(super) type Stored = (ObjectMeta, Manifest);

/// The candidates to which no reference has been found yet.
pub(super) struct Unreferenced {
    pub(super) suspects: Candidates,
    /// Chunks that reference no candidate image.
    pub(super) known: HashSet<Digest>,
    /// The versions of the manifests and intents that have been read.
    pub(super) read: HashSet<(Key, ETag)>,
    /// The catalog snapshot that was examined last.
    pub(super) state: Snapshot,
}

impl Unreferenced {
    /// Starts with all `suspects`; nothing has been examined yet.
    pub(super) fn new(suspects: Candidates) -> Self {
        let (known, read) = Default::default();
        Self { suspects, known, read, state: Snapshot::default() }
    }

    /// Whether no reference to this candidate has been found.
    pub(super) fn has(&self, candidate: &Candidate) -> bool {
        match candidate.what {
            What::Chunk => self.suspects.chunks.contains(&candidate.digest),
            What::Image => self.suspects.images.contains(&candidate.digest),
        }
    }

    /// The keys of these objects, images first.
    pub(super) fn objects(&self) -> impl Iterator<Item = (What, Digest, Key)> {
        let image = |digest: &Digest| (What::Image, *digest, layout::archived_image(digest));
        let chunk = |digest: &Digest| (What::Chunk, *digest, layout::chunk(digest));
        self.suspects.images.iter().map(image).chain(self.suspects.chunks.iter().map(chunk))
    }

    pub(super) fn has_read(&self, version: &ObjectMeta) -> bool {
        self.read.contains(&(version.key.clone(), version.etag.clone()))
    }

    pub(super) fn take_out_images(&mut self, named: impl IntoIterator<Item = Digest>) {
        named.into_iter().for_each(|digest| _ = self.suspects.images.remove(&digest));
    }

    /// Takes out what this catalog state references; examines only what changed since the last snapshot.
    pub(super) fn take_out_state(&mut self, state: Snapshot) {
        if !self.suspects.images.is_empty() {
            let changed: Vec<_> = state.changed_since(&self.state).cloned().collect();
            changed.iter().for_each(|chunk| self.take_out_images(chunk.contents()));
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
