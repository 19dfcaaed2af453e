//! Keepsake's library: everything but the routes.
//!
//! Direction of knowledge: `main` → router → this crate's domain modules → [`store`]. Only [`http`] and the routers know
//! status codes; only `store::s3` knows the AWS SDK; only [`config`] reads the environment; only [`clock`] reads the
//! clock and makes identifiers.

pub mod clock;
pub mod config;
pub mod digest;
pub mod media;
pub mod store;
pub mod telemetry;
