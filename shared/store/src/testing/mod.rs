//! Stores for tests: one in memory, one that fails on demand, and a simulated disk that can lose power.

mod fault;
pub mod fs;
mod memory;

pub use fault::{Fault, FaultStore, Operation};
pub use memory::MemoryStore;
