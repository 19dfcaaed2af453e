//! Keepsake's library: everything but the routes, the server and the command line.
//!
//! Each folder is a layer, which uses those before it and none after it: the crate [`store`], `base`, [`layout`],
//! [`config`], [`media`], [`catalog`], `core`, `services`, the facade [`Keepsake`], [`http`]. `.ci/layers` checks this.

mod base;
pub mod catalog;
pub mod config;
mod core;
pub mod http;
mod keepsake;
pub mod layout;
pub mod media;
mod open;
mod services;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use self::core::edit::{Any, Precondition};
pub use self::core::error::{Error, Result};
pub use self::core::settings::Settings;
pub use self::core::{Core, archive, counts};
pub use base::{clock, progress};
pub use keepsake::Keepsake;
pub use layout::file_name;
pub use open::{Meters, open, open_metered};
pub use services::unfinished::{self, resumable, ticket};
pub use services::upload::{self, links};
pub use services::{
    backup, groups, health, images, maintenance, migrate, persistence, portable, prune, recovery, replication, restore,
    storage, thumbnails, tokens, verify,
};
pub use store;
pub use store::digest;
