//! The tree against a `BTreeMap`, on pages in memory that count what is read and written.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod memory;
mod model;
mod pages;
mod sizes;
