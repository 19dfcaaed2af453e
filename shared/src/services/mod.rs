//! Keepsake's services, a module for each capability.

pub mod backup;
pub mod gps;
pub mod groups;
pub mod health;
pub mod images;
pub mod maintenance;
pub mod migrate;
pub mod persistence;
pub mod portable;
pub mod prune;
pub mod recovery;
pub mod replication;
pub mod restore;
pub mod room;
pub mod storage;
pub mod thumbnails;
pub mod tokens;
pub mod unfinished;
pub mod upload;
pub mod verify;
