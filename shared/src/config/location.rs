//! [`Location`]: a part of a store that may lie on a volume of its own.

use serde::{Deserialize, Serialize};

/// A place that may be a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Location {
    /// The primary.
    Data,
    /// `uploads/` in it.
    Uploads,
    /// The archive.
    Archive,
}

impl Location {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Data, Self::Uploads, Self::Archive];

    /// Its name, as `ACCEPT_UNMOUNTED` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Uploads => "uploads",
            Self::Archive => "archive",
        }
    }

    /// Its name at the start of a sentence.
    pub fn title(self) -> &'static str {
        match self {
            Self::Data => "The data folder",
            Self::Uploads => "uploads/",
            Self::Archive => "The archive",
        }
    }
}
