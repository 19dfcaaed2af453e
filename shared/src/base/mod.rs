//! What every layer may use: time, sealed documents, shared work, the names of files and of processes.

pub mod clock;
pub mod process;
pub mod progress;
pub mod seal;
pub mod single_flight;
