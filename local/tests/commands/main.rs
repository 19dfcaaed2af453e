//! The command line of the real binary: on an empty store, on a filled one, beside a running server, and without rights.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod each;
mod help;
mod migrating;
#[path = "../end_to_end/photos.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod photos;
mod run;
#[path = "../../../shared/store/tests/it/s3_server.rs"]
mod s3_server;
#[path = "../end_to_end/server.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod server;
mod tokens;
