//! [`Settings`]: limits and habits, as configured.

use crate::config::Keep;

/// Limits and habits, as configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Longest image in bytes, and longest request body but for the form around it; a function that cannot take in so
    /// much still gives out tickets for it.
    pub max_upload_bytes: u64,
    /// Most pixels and frames an image may have.
    pub media: crate::media::Limits,
    /// Bytes that uploads leave free, so that deleting works on a full disk.
    pub reserve_bytes: u64,
    /// Uploads for each automatic backup.
    pub backup_every: u64,
    /// Which automatic backups a prune keeps.
    pub keep: Keep,
    /// Whether replicas stand before an upload is acknowledged.
    pub archive_sync: bool,
    /// Where they do not: how many changes may wait for theirs before no more is taken in.
    pub behind_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_upload_bytes: 100 * 1024 * 1024,
            media: crate::media::Limits::default(),
            reserve_bytes: 64 * 1024 * 1024,
            backup_every: 10,
            keep: Keep::default(),
            archive_sync: true,
            behind_max: usize::MAX,
        }
    }
}
