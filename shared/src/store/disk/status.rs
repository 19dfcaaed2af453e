//! What the file system says of itself.

use rustix::fs::{Access, AtFlags, StatVfsMountFlags, accessat, fstatvfs};

use super::path::{At, Disk};
use crate::store::{Result, StoreStatus};

impl Disk {
    pub(super) fn status(&self) -> Result<StoreStatus> {
        let at = At { operation: "status", key: "" };
        let root = self.root(at)?;
        let space = fstatvfs(&root).map_err(|e| at.io(e))?;
        let read_only = if space.f_flag.contains(StatVfsMountFlags::RDONLY) {
            Some("The store's folder lies on a file system that is mounted read-only.")
        } else if accessat(&root, ".", Access::WRITE_OK, AtFlags::empty()).is_err() {
            Some("This process may not write in the store's folder.")
        } else {
            None
        };
        Ok(StoreStatus {
            read_only: read_only.map(str::to_owned),
            free_bytes: Some(space.f_bavail.saturating_mul(space.f_frsize)),
            total_bytes: Some(space.f_blocks.saturating_mul(space.f_frsize)),
            kind: "disk",
            file_system: file_system(&root).map(str::to_owned),
        })
    }
}

/// The name of a file system, from the number that `statfs(2)` gives.
#[cfg(target_os = "linux")]
fn file_system(folder: impl std::os::fd::AsFd) -> Option<&'static str> {
    // The numbers are 32 bits wide, but sign-extended on some architectures.
    Some(match rustix::fs::fstatfs(folder).ok()?.f_type as u32 {
        0x0000_ef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0xca45_1a4e => "bcachefs",
        0xf2f5_2010 => "f2fs",
        0x2fc1_2fc1 => "zfs",
        0x794c_7630 => "overlay",
        0x0102_1994 => "tmpfs",
        0x8584_58f6 => "ramfs",
        0x0000_6969 => "nfs",
        0xff53_4d42 | 0xfe53_4d42 => "cifs",
        0x00c3_6400 => "ceph",
        0x0102_1997 => "9p",
        0x6573_5546 => "fuse",
        0x0000_4d44 => "vfat",
        0x2011_bab0 => "exfat",
        0x7371_7368 => "squashfs",
        _ => return None,
    })
}

#[cfg(not(target_os = "linux"))]
fn file_system(_folder: impl std::os::fd::AsFd) -> Option<&'static str> {
    None
}
