//! Tokens and their scopes.
//!
//! The tokens are stored in the primary as one sealed document, which the command line changes and every process reads.
//! They are in no backup: a restore must not bring back revoked tokens.

mod token_cache;
mod token_store;

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use token_cache::{TRUSTED, Tokens};
pub use token_store::Token;
pub(crate) use token_store::are_intact;

/// What a token allows. Each scope includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Read images and metadata.
    Read,
    /// Add images and edit their metadata.
    Upload,
    /// Everything: delete, back up, restore.
    Admin,
}

impl Scope {
    /// All of them, the smallest first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Upload, Self::Admin];

    /// The scope as it is written: `read`, `upload` or `admin`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Upload => "upload",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
