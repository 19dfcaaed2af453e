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
