//! Uploads, backups, restores and recovery on stores in memory that fail where a test wants them to.

mod backups;
mod beside_listings;
mod conditional;
mod failures;
mod links;
mod lost_pages;
mod maintenance;
mod migrate;
mod migrate_cut_off;
mod older;
mod outcome_unknown;
mod persistence;
mod portable;
mod prune;
mod prune_by_schedule;
mod prune_held_back;
mod prune_histories;
mod prune_races;
mod recovery;
mod replication;
mod replication_blocked;
mod restore_lease;
mod restore_room;
mod restores;
mod take_over;
mod tickets;
mod tokens;
mod two_disks;
mod unreadable;
mod verify;

use crate::world::{World, png, seen, upload, upload_all};
