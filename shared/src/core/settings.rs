//! [`Settings`]: limits and behavior, as configured.

use crate::config::Keep;

/// Limits and behavior, as configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Maximum size of an image in bytes, and of a request body without its multipart framing; a function with a lower
    /// limit for bodies still issues tickets for larger images.
    pub max_upload_bytes: u64,
    /// Maximum number of pixels and frames of an image.
    pub media: crate::media::Limits,
    /// Bytes that uploads leave free, so that deleting works on a full disk.
    pub reserve_bytes: u64,
    /// Number of uploads per automatic backup.
    pub backup_every: u64,
    /// Which automatic backups a prune keeps.
    pub keep: Keep,
    /// Whether an upload is acknowledged only after its replicas are stored.
    pub archive_sync: bool,
    /// Otherwise: how many changes may be pending replication before uploads are refused.
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
