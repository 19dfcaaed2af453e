//! The real binary, started, used, killed, its store damaged, and started again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod archive_elsewhere;
mod archives_elsewhere;
#[path = "../../../shared/store/tests/it/cloudinary_server.rs"]
mod cloudinary_server;
mod crowd;
mod damage;
mod door;
mod first_day;
mod in_a_bucket;
mod logs;
mod metrics;
mod persistence;
#[allow(dead_code, reason = "some of it is for the soak")]
mod photos;
mod readme;
#[cfg(target_os = "linux")]
mod rude_clients;
#[path = "../../../shared/store/tests/it/s3_server.rs"]
mod s3_server;
mod server;
