//! Images and their records in the hand: taken out as plain files that any program can open, and taken in again.
//!
//! What is taken out is `uploads/<file>`, `image-metadata.json` in the documented form without anything of Keepsake's
//! own, `SHA256SUMS`, and `missing.txt` where bytes are nowhere to be found: in a zip or in a folder. Such a folder is a
//! folder of the older format, so that Keepsake can also start on it. What is taken in is such a zip or folder, one of
//! the older format from elsewhere, or plain images.
//!
//! Taking in adds and never replaces: an image that lives stays as it is, and nothing that the source holds is dropped
//! without a word. A [`Source`] is not trusted: its names lead nowhere, and it cannot make anyone read more than it says.

mod contents;
mod dates;
mod decide;
mod export;
mod group;
mod import;
mod laid;
mod names;
mod planned;
mod source;
mod source_file;
mod text;
mod text_budget;
mod verified_image;
mod zip_reader;
mod zip_writer;

pub use contents::{Exports, What};
pub use decide::{ImportPlan, Imports};
pub use export::Exported;
pub use group::GroupPlan;
pub use import::Imported;
pub use planned::ZipPlan;
pub use source::Source;

/// How far something is that takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done now.
    pub stage: Stage,
    /// Files done in this stage.
    pub done: u64,
    /// Files to do in this stage.
    pub total: u64,
    /// Length of the files done in this stage, in bytes.
    pub bytes: u64,
}

/// The parts of a long work, in their order; each counts from nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// An export reads and writes.
    Exporting,
    /// An import reads its source through, and changes nothing yet.
    Reading,
    /// An import stores replicas.
    Archiving,
    /// An import, whose records stand, stores the images.
    Storing,
}

/// To be told how far the work is, after each file. It must not block.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// Counts the files of one stage.
struct Meter<'a> {
    told: OnProgress<'a>,
    now: store::sync::Mutex<Progress>,
}

impl<'a> Meter<'a> {
    fn new(told: OnProgress<'a>, stage: Stage, total: u64) -> Self {
        let begun = Progress { stage, done: 0, total, bytes: 0 };
        told(begun);
        Self { told, now: store::sync::Mutex::new(begun) }
    }

    fn add(&self, bytes: u64) {
        let mut now = store::sync::lock(&self.now);
        now.done += 1;
        now.bytes += bytes;
        (self.told)(*now);
    }
}
