//! Everything that the library does below HTTP, in one binary. Only `interleavings.rs` is one of its own: it needs
//! `shared` built with other locks.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod catalog_protocol;
mod crash_states;
mod domain;
mod failing_calls;
mod simulation;
mod world;
