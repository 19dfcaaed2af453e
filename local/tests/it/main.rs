//! The server, the command line and the functions as their users run them: the real binaries, and the files of the
//! project that have to agree with them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod cargo_lambda;
mod clients;
mod cloud;
#[path = "../../../shared/store/tests/it/cloudinary_server.rs"]
mod cloudinary_server;
mod commands;
mod corpus;
mod end_to_end;
#[cfg(target_os = "linux")]
mod hosts;
mod model;
mod photos;
#[path = "../../../shared/store/tests/it/s3_server.rs"]
mod s3_server;
mod security;
mod server;
mod soak;
mod template;
