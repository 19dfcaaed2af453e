//! [`Location`]: a part of a store that may be on a separate volume.

use serde::{Deserialize, Serialize};

/// A part of a store that may be a volume.
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
    /// All locations.
    pub const ALL: [Self; 3] = [Self::Data, Self::Uploads, Self::Archive];

    /// Its name in `ACCEPT_UNMOUNTED`.
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
