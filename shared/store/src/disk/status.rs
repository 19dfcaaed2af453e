//! The state of the disk, as reported by the file system.

use super::path::{At, Disk};
use crate::error::Result;
use crate::object::StoreStatus;

impl Disk {
    pub(super) fn status(&self) -> Result<StoreStatus> {
        let at = At { operation: "status", key: "" };
        let root = self.root(at)?;
        let space = root.space().map_err(|e| at.io(e))?;
        let read_only = if space.read_only {
            Some("The store's folder lies on a file system that is mounted read-only.")
        } else if root.may_write().is_err() {
            Some("This process may not write in the store's folder.")
        } else {
            None
        };
        Ok(StoreStatus {
            read_only: read_only.map(str::to_owned),
            free_bytes: Some(space.free_bytes),
            total_bytes: Some(space.total_bytes),
            integrity: None,
            clock_ahead_seconds: None,
            files: self.count_files(&space),
            kind: "disk",
            file_system: root.file_system().map(str::to_owned),
        })
    }
}
