//! The candidates for removal, and the references known so far.

use std::collections::{BTreeSet, HashSet};

use crate::layout;
use crate::services::backup::Manifest;
use store::digest::Digest;
use store::{ETag, Key, ObjectMeta};

/// A content-addressed object.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) kind: ObjectKind,
    pub(super) digest: Digest,
    /// Which location it is in: 0 is the primary, 1 the archive, 2 the mirror in `uploads/`.
    pub(super) place: usize,
    pub(super) version: ObjectMeta,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectKind {
    /// A page of the catalog, in any location.
    Page,
    /// A chunk of a backup of format 1, in the archive.
    Chunk,
    /// A replica of an image, in the archive.
    Image,
}

/// A manifest together with its object version.
pub(super) type Stored = (ObjectMeta, Manifest);

/// The candidates to which no reference has been found yet.
#[derive(Default)]
pub(super) struct Unreferenced {
    /// Images without a known reference.
    pub(super) images: BTreeSet<Digest>,
    /// Pages and chunks that are referenced.
    pub(super) referenced: HashSet<Digest>,
    /// Pages and chunks whose live entries have been compared with the candidates.
    pub(super) compared: HashSet<Digest>,
    /// Pages of which all entries have been, deleted ones included.
    pub(super) compared_with_deleted: HashSet<Digest>,
    /// The versions of the manifests and intents that have been read.
    pub(super) read: HashSet<(Key, ETag)>,
}

impl Unreferenced {
    /// Whether no reference to this candidate has been found.
    pub(super) fn has(&self, candidate: &Candidate) -> bool {
        match candidate.kind {
            ObjectKind::Page | ObjectKind::Chunk => !self.referenced.contains(&candidate.digest),
            ObjectKind::Image => self.images.contains(&candidate.digest),
        }
    }

    pub(super) fn has_read(&self, version: &ObjectMeta) -> bool {
        self.read.contains(&(version.key.clone(), version.etag.clone()))
    }

    pub(super) fn remove_images(&mut self, named: impl IntoIterator<Item = Digest>) {
        named.into_iter().for_each(|digest| _ = self.images.remove(&digest));
    }
}

/// Which kind of object has this key, and its digest.
pub(super) fn part_of_catalog(key: &Key) -> Option<(ObjectKind, Digest)> {
    let page = layout::parse_page(key).map(|digest| (ObjectKind::Page, digest));
    page.or_else(|| layout::parse_chunk(key).map(|digest| (ObjectKind::Chunk, digest)))
}

/// The existing backups.
#[derive(Default)]
pub(super) struct ExistingBackups {
    /// The valid ones, newest first.
    pub(super) manifests: Vec<Stored>,
    /// Intents of backups that were interrupted long ago.
    pub(super) old_intents: Vec<ObjectMeta>,
}
