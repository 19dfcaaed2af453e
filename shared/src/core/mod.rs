//! What every service has: the stores, the catalog, the clock, the settings.

pub mod archive;
pub mod counts;
pub mod error;
pub mod lease;
