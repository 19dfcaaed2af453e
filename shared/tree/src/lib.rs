//! Immutable ordered maps, stored in pages that are named by the digest of their bytes: *prolly trees*, as in Noms and
//! Dolt.
//!
//! The boundaries of pages follow from the contents of the map alone. So equal maps have equal pages, in every process
//! and whatever the order of their changes. A change writes the pages on the paths to what changed, and shares all
//! others. A [`Tree`] is a small value: the link to its top page. Each link has a [summary](Schema::Summary) of the
//! entries below it, so that totals are known at the top, and a search skips pages.
//!
//! | Operation | Pages read |
//! |---|---|
//! | [`Reader::get`] | one for each level |
//! | [`Cursor`] | those that hold what it returns, and the path to the first |
//! | [`Reader::note`] | one, for the first note of it |
//! | [`Reader::update`] | the paths to what changes; as many are written |
//! | [`Reader::differences`] | those that the two trees do not share |
//! | [`Reader::walk`] | each page that is not known to the caller |
//!
//! Architecture invariant: this crate does not know images, commits or backups. Where pages are stored is the
//! [`Pages`] of the caller.

mod boundary;
mod cursor;
mod diff;
mod node;
mod page;
mod reach;
mod reader;
mod update;

pub use cursor::{Cursor, Direction};
pub use diff::{Difference, Differences};
pub use node::{Link, Tree};
pub use page::{Pages, TreeError};
pub use reach::LostRange;
pub use reader::Reader;
pub use update::{Changes, Updated};

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A key and its value.
pub type Entry<S> = (Box<str>, Arc<<S as Schema>::Value>);

/// What the entries of a tree are.
pub trait Schema: Send + Sync + Sized + 'static {
    /// The value under each key, stored as JSON.
    type Value: Serialize + DeserializeOwned + Send + Sync;
    /// A link's summary of all entries below it, stored as JSON. Equal entries must have equal summaries, and the order
    /// in which summaries are merged must not matter.
    type Summary: Serialize + DeserializeOwned + Default + Clone + PartialEq + std::fmt::Debug + Send + Sync;
    /// What is kept in memory about the entries of a leaf, so that a search need not read the leaf again. Never stored.
    type Note: Send + Sync;

    /// The summary of one entry.
    fn summary(key: &str, value: &Self::Value) -> Self::Summary;

    /// Adds the summary of other entries to `all`.
    fn merge(all: &mut Self::Summary, other: &Self::Summary);

    /// The note of a leaf with these values.
    fn note(values: &[Self::Value]) -> Self::Note;

    /// Memory that a note occupies, approximately, in bytes.
    fn note_weight(note: &Self::Note) -> u64;
}
