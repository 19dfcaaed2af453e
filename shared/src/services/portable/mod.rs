//! Export and import: images and their records as plain files that any program can open.
//!
//! An export consists of `uploads/<file>`, `image-metadata.json` in the documented form without anything of Keepsake's
//! own, `SHA256SUMS`, and `missing.txt` if images have no intact copy: in a zip or in a folder. Such a folder has the
//! older format, so Keepsake can also start on it. An import reads such a zip or folder, one of the older format from
//! elsewhere, or plain images.
//!
//! An import adds and never replaces: a live image stays as it is, and everything in the source that is not imported is
//! reported. A [`Source`] is not trusted: its names lead nowhere, and no more of it is read than it declares.

mod contents;
mod dates;
mod decide;
mod export;
mod group;
mod import;
mod names;
mod planned;
mod source;
mod source_file;
mod source_layout;
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

/// The progress of a long operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The present stage.
    pub stage: Stage,
    /// Files done in this stage.
    pub done: u64,
    /// Files to do in this stage.
    pub total: u64,
    /// Length of the files done in this stage, in bytes.
    pub bytes: u64,
}

/// The stages of a long operation, in order; each counts from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// An export reads and writes.
    Exporting,
    /// An import reads its source in full, and changes nothing yet.
    Reading,
    /// An import stores replicas.
    Archiving,
    /// An import, whose records are committed, stores the images.
    Storing,
}

/// Receives the progress after each file. It must not block.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// Counts the files of one stage.
struct Meter<'a> {
    on_progress: OnProgress<'a>,
    now: store::sync::Mutex<Progress>,
}

impl<'a> Meter<'a> {
    fn new(on_progress: OnProgress<'a>, stage: Stage, total: u64) -> Self {
        let begun = Progress { stage, done: 0, total, bytes: 0 };
        on_progress(begun);
        Self { on_progress, now: store::sync::Mutex::new(begun) }
    }

    fn add(&self, bytes: u64) {
        let mut now = store::sync::lock(&self.now);
        now.done += 1;
        now.bytes += bytes;
        (self.on_progress)(*now);
    }
}
