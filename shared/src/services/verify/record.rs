//! The unresolved findings of past verifications, kept for the health report.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Findings, SLICES, Slice};
use crate::base::clock::millis;
use crate::layout::{BackupName, ImageId};
use store::digest::Digest;

/// The findings of past verifications; sealed JSON in the archive.
///
/// A finding stays until a verification, of any slice, reads the same object again and finds it repaired.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// When each of the [`SLICES`] was last verified, by slice number.
    slices: BTreeMap<u32, Moment>,
    /// When everything was last verified in one run.
    whole: Option<Moment>,
    /// Images with one damaged copy, with their expected digests.
    pub damaged: BTreeMap<ImageId, Digest>,
    /// Images without an intact copy, with their expected digests.
    pub lost: BTreeMap<ImageId, Digest>,
    /// Damaged replicas of deleted images.
    pub lost_copies: BTreeSet<Digest>,
    /// Backups with a damaged part.
    pub damaged_backups: BTreeSet<BackupName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Moment(#[serde(with = "millis")] Timestamp);

impl Record {
    /// Adds the findings of a verification of `slice`. Earlier findings are cleared only if it `saw_all` of the slice.
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
        // A repaired image is intact, even if the verification was incomplete.
        let repaired = |id: &ImageId| findings.repaired.contains(id) || findings.copied.contains(id);
        self.damaged.retain(|id, _| !repaired(id));
        self.lost.retain(|id, _| !repaired(id));
        self.damaged.extend(findings.wrong.iter().filter(|(id, _)| findings.damaged.contains(*id)).map(owned));
        self.lost.extend(findings.wrong.iter().filter(|(id, _)| findings.lost.contains(*id)).map(owned));
        self.lost_copies.extend(&findings.lost_copies);
        // The parts of a backup are spread over all slices, so only a verification of everything clears it.
        if verified == Some(Slice::WHOLE) {
            self.damaged_backups.clear();
        }
        self.damaged_backups.extend(&findings.damaged_backups);
    }

    /// Whether nothing has been verified yet.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The slice that was verified longest ago.
    pub fn next_slice(&self) -> Slice {
        let waiting = (1..=SLICES).find(|number| !self.slices.contains_key(number));
        let oldest = self.slices.iter().min_by_key(|(_, at)| **at).map(|(number, _)| *number);
        Slice { number: waiting.or(oldest).unwrap_or(1), of: SLICES }
    }

    /// Since when every object has been verified at least once; `None` while some never was.
    pub fn complete_since(&self) -> Option<Timestamp> {
        let all = self.slices.len() == SLICES as usize;
        let by_slices = self.slices.values().min().filter(|_| all);
        by_slices.copied().max(self.whole).map(|moment| moment.0)
    }
}

fn owned((id, digest): (&ImageId, &Digest)) -> (ImageId, Digest) {
    (id.clone(), *digest)
}
