//! What verifications have found and not seen put right, kept for health.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Findings, SLICES, Slice};
use crate::base::clock::millis;
use crate::base::seal;
use crate::layout::{BackupName, ImageId};
use store::digest::Digest;

/// What verifications found; sealed JSON in the archive.
///
/// What is wrong stays in it until a verification that looked at the same things again, whatever its slice, finds it put
/// right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// When each of the [`SLICES`] was last verified, by its number.
    slices: BTreeMap<u32, Moment>,
    /// When everything was last verified at once.
    whole: Option<Moment>,
    /// Images of which one copy is wrong, by the digest they should have.
    pub damaged: BTreeMap<ImageId, Digest>,
    /// Images right in no place.
    pub lost: BTreeMap<ImageId, Digest>,
    /// Second copies of images that were deleted, which are wrong.
    pub lost_copies: BTreeSet<Digest>,
    /// Backups of which a part is wrong.
    pub damaged_backups: BTreeSet<BackupName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Moment(#[serde(with = "millis")] Timestamp);

impl Record {
    pub(super) fn new() -> Self {
        Self {
            slices: BTreeMap::new(),
            whole: None,
            damaged: BTreeMap::new(),
            lost: BTreeMap::new(),
            lost_copies: BTreeSet::new(),
            damaged_backups: BTreeSet::new(),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        seal::seal(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        seal::open(bytes)
    }

    /// Takes in what a verification of `slice` found; one that did not see all of it takes nothing back.
    pub(super) fn note(&mut self, slice: Slice, findings: &Findings, now: Timestamp, saw_all: bool) {
        let verified = saw_all.then_some(slice);
        if verified == Some(Slice::WHOLE) {
            self.whole = Some(Moment(now));
        } else if verified.is_some_and(|slice| slice.of == SLICES) {
            self.slices.insert(slice.number, Moment(now));
        }
        let seen = |digest: &Digest| verified.is_some_and(|slice| slice.takes(digest));
        self.damaged.retain(|_, digest| !seen(digest));
        self.lost.retain(|_, digest| !seen(digest));
        self.lost_copies.retain(|digest| !seen(digest));
        // What was repaired is right, whatever else was seen.
        let repaired = |id: &ImageId| findings.repaired.contains(id) || findings.copied.contains(id);
        self.damaged.retain(|id, _| !repaired(id));
        self.lost.retain(|id, _| !repaired(id));
        self.damaged.extend(findings.wrong.iter().filter(|(id, _)| findings.damaged.contains(*id)).map(owned));
        self.lost.extend(findings.wrong.iter().filter(|(id, _)| findings.lost.contains(*id)).map(owned));
        self.lost_copies.extend(&findings.lost_copies);
        // A backup is damaged by parts of any slice, so only a look at everything clears it.
        if verified == Some(Slice::WHOLE) {
            self.damaged_backups.clear();
        }
        self.damaged_backups.extend(&findings.damaged_backups);
    }

    /// Whether nothing has been verified yet.
    pub fn is_empty(&self) -> bool {
        *self == Self::new()
    }

    /// The slice that waits longest.
    pub fn next_slice(&self) -> Slice {
        let waiting = (1..=SLICES).find(|number| !self.slices.contains_key(number));
        let oldest = self.slices.iter().min_by_key(|(_, at)| **at).map(|(number, _)| *number);
        Slice { number: waiting.or(oldest).unwrap_or(1), of: SLICES }
    }

    /// Since when everything has been verified at least once; `None` while something never was.
    pub fn complete_since(&self) -> Option<Timestamp> {
        let all = self.slices.len() == SLICES as usize;
        let by_slices = self.slices.values().min().filter(|_| all);
        by_slices.copied().max(self.whole).map(|moment| moment.0)
    }
}

fn owned((id, digest): (&ImageId, &Digest)) -> (ImageId, Digest) {
    (id.clone(), *digest)
}
