//! The real binary, started, used, killed, its store damaged, and started again.

mod crowd;
mod damage;
mod first_day;
mod photos;
mod server;
