//! The real binary, started, used, killed, its store damaged, and started again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod crowd;
mod damage;
mod first_day;
mod in_a_bucket;
mod photos;
mod readme;
#[path = "../../../shared/tests/conformance/s3_server.rs"]
mod s3_server;
mod server;
