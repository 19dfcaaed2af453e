//! What might be removed, and what is known to reference it.

use std::collections::{BTreeSet, HashSet};

use store::digest::Digest;
use store::{ETag, Key, ObjectMeta};

use crate::catalog::Snapshot;
use crate::layout;
use crate::services::backup::Manifest;

/// Something in the archive that is named by its digest.
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

/// What might go, by digest.
pub(super) struct Candidates {
    pub(super) chunks: BTreeSet<Digest>,
    pub(super) images: BTreeSet<Digest>,
}

impl Candidates {
    /// Those of what was listed.
    pub(super) fn of(candidates: &[Candidate]) -> Self {
        let those = |what| candidates.iter().filter(move |c| c.what == what).map(|candidate| candidate.digest);
        Self { chunks: those(What::Chunk).collect(), images: those(What::Image).collect() }
    }
}

/// A backup with the version of its manifest.
pub(super) type Stored = (ObjectMeta, Manifest);

/// What might go, and of which nothing was found yet that names it.
pub(super) struct Unreferenced {
    pub(super) suspects: Candidates,
    /// Chunks whose images are none of these.
    pub(super) known: HashSet<Digest>,
    /// The versions of manifests and intents that were read.
    pub(super) read: HashSet<(Key, ETag)>,
    /// The catalog as it was last looked at.
    pub(super) state: Snapshot,
}

impl Unreferenced {
    /// Nothing was looked at yet.
    pub(super) fn new(suspects: Candidates) -> Self {
        let (known, read) = Default::default();
        Self { suspects, known, read, state: Snapshot::default() }
    }

    /// Whether nothing was found that names this.
    pub(super) fn has(&self, candidate: &Candidate) -> bool {
        match candidate.what {
            What::Chunk => self.suspects.chunks.contains(&candidate.digest),
            What::Image => self.suspects.images.contains(&candidate.digest),
        }
    }

    /// Where these objects lie, images first.
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

    /// Takes out what this state of the catalog names; looks only at what has changed since the last time.
    pub(super) fn take_out_state(&mut self, state: Snapshot) {
        if !self.suspects.images.is_empty() {
            let changed: Vec<_> = state.changed_since(&self.state).cloned().collect();
            changed.iter().for_each(|chunk| self.take_out_images(chunk.contents()));
        }
        self.state = state;
    }
}

/// The backups that there are.
#[derive(Default)]
pub(super) struct ExistingBackups {
    /// The valid ones, newest first.
    pub(super) manifests: Vec<Stored>,
    /// What backups left that were cut off long ago.
    pub(super) old_intents: Vec<ObjectMeta>,
}
