//! Utilities for every layer: time, sealed JSON, single flight, progress, process ids.

pub mod clock;
pub mod process;
pub mod progress;
pub mod seal;
pub mod single_flight;
