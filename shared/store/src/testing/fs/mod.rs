//! File systems for tests: a disk in memory that can lose power, and calls that fail on demand.

mod crash;
mod fault;
mod simulated;
mod state;

pub use fault::{Call, CallFault, FaultyFileSystem};
pub use simulated::SimulatedDisk;
pub use state::Moment;
