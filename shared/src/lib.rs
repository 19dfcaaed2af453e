//! Keepsake's library: everything but the routes.
//!
//! Direction of knowledge: `main` → router → this crate's domain modules → [`store`]. Only [`http`] and the routers know
//! status codes; only `store::s3` knows the AWS SDK; only [`config`] reads the environment; only [`clock`] reads the
//! clock and makes identifiers.

pub mod archive;
pub mod backup;
pub mod catalog;
pub mod clock;
pub mod config;
pub mod derivative;
pub mod digest;
mod error;
pub mod file_name;
pub mod groups;
pub mod health;
pub mod http;
pub mod images;
mod keepsake;
pub mod layout;
mod lease;
mod leftovers;
pub mod links;
pub mod maintenance;
pub mod media;
pub mod metrics;
pub mod migrate;
mod open;
pub mod persistence;
mod places;
pub mod portable;
pub mod progress;
pub mod prune;
pub mod recovery;
pub mod restore;
pub mod resumable;
mod seal;
pub mod second_copies;
mod single_flight;
pub mod storage;
pub mod store;
mod sync;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod ticket;
pub mod tokens;
pub mod unfinished;
pub mod upload;
pub mod verify;

pub use error::{Error, Result};
pub use keepsake::{Keepsake, Settings};
pub use open::{Meters, open, open_metered};
pub use places::Places;
