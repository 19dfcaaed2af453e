//! The real binary, started, used, killed, its store damaged, and started again.

mod archive_outage;
mod archive_services;
mod crowd;
mod damage;
mod door;
mod first_day;
mod in_a_bucket;
mod logs;
mod metrics;
mod persistence;
mod readme;
#[cfg(target_os = "linux")]
mod rude_clients;
