//! The operating system's own file system: one system call for each method, and no logic.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{
    self, Access, AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, StatVfsMountFlags, Timespec,
    Timestamps,
};
use rustix::io;

use super::{Entries, FileSystem, Handle, Open, Result, Space, Stat};
use crate::object::Files;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const NEW: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const LOCK: OFlags = OFlags::RDWR.union(OFlags::CREATE).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The operating system's file system, below one folder.
#[derive(Debug)]
pub struct RealFolder(PathBuf);

impl RealFolder {
    /// The folder of this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

#[derive(Debug)]
struct Real(OwnedFd);

impl FileSystem for RealFolder {
    fn root(&self) -> Result<Box<dyn Handle>> {
        Ok(Box::new(Real(fs::open(&self.0, FOLDER, Mode::empty())?)))
    }
}

impl Handle for Real {
    fn open_at(&self, name: &str, how: Open) -> Result<Box<dyn Handle>> {
        let (flags, mode) = match how {
            Open::Folder => (FOLDER, 0),
            Open::Read => (READ, 0),
            Open::New => (NEW, 0o644),
            Open::Lock => (LOCK, 0o600),
        };
        Ok(Box::new(Self(fs::openat(&self.0, name, flags, Mode::from_raw_mode(mode))?)))
    }

    fn make_folder_at(&self, name: &str) -> Result<()> {
        fs::mkdirat(&self.0, name, Mode::from_raw_mode(0o755))
    }

    fn stat_at(&self, name: &str) -> Result<Stat> {
        Ok(stat(&fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    fn rename_at(&self, from: &str, to: &str) -> Result<()> {
        fs::renameat(&self.0, from, &self.0, to)
    }

    fn rename_new_at(&self, from: &str, to: &str) -> Result<()> {
        fs::renameat_with(&self.0, from, &self.0, to, RenameFlags::NOREPLACE)
    }

    fn link_at(&self, from: &str, to: &str) -> Result<()> {
        fs::linkat(&self.0, from, &self.0, to, AtFlags::empty())
    }

    fn unlink_at(&self, name: &str) -> Result<()> {
        fs::unlinkat(&self.0, name, AtFlags::empty())
    }

    fn remove_folder_at(&self, name: &str) -> Result<()> {
        fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)
    }

    fn entries(&self) -> Result<Entries<'_>> {
        let entries = Dir::read_from(&self.0)?.filter_map(|entry| match entry {
            Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => None,
            Ok(entry) => Some(Ok((OsString::from_vec(entry.file_name().to_bytes().to_vec()), entry.file_type()))),
            Err(error) => Some(Err(error)),
        });
        Ok(Box::new(entries))
    }

    fn stat(&self) -> Result<Stat> {
        Ok(stat(&fs::fstat(&self.0)?))
    }

    fn set_times(&self, accessed_ns: i128, modified_ns: i128) -> Result<()> {
        let times = Timestamps { last_access: timespec(accessed_ns), last_modification: timespec(modified_ns) };
        fs::futimens(&self.0, &times)
    }

    fn sync(&self) -> Result<()> {
        // On macOS a plain fsync leaves the bytes in the drive's cache.
        #[cfg(target_vendor = "apple")]
        return fs::fcntl_fullfsync(&self.0);
        #[cfg(not(target_vendor = "apple"))]
        fs::fsync(&self.0)
    }

    fn lock(&self, shared: bool) -> Result<()> {
        fs::flock(&self.0, if shared { FlockOperation::LockShared } else { FlockOperation::LockExclusive })
    }

    fn write(&self, bytes: &[u8]) -> Result<usize> {
        io::write(&self.0, bytes)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        io::pread(&self.0, buffer, offset)
    }

    fn space(&self) -> Result<Space> {
        let space = fs::fstatvfs(&self.0)?;
        Ok(Space {
            free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
            total_bytes: space.f_blocks.saturating_mul(space.f_frsize),
            // btrfs and FAT have no fixed number of inodes and report 0 of 0.
            files: (space.f_files > 0).then_some(Files { free: space.f_favail, total: space.f_files }),
            read_only: space.f_flag.contains(StatVfsMountFlags::RDONLY),
        })
    }

    fn may_write(&self) -> Result<()> {
        fs::accessat(&self.0, ".", Access::WRITE_OK, AtFlags::empty())
    }

    #[cfg(not(target_os = "linux"))]
    fn file_system(&self) -> Option<&'static str> {
        None
    }

    #[cfg(target_os = "linux")]
    fn file_system(&self) -> Option<&'static str> {
        // The numbers are 32 bits wide, but sign-extended on some architectures.
        Some(match fs::fstatfs(&self.0).ok()?.f_type as u32 {
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
}

#[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
fn stat(stat: &fs::Stat) -> Stat {
    Stat {
        kind: FileType::from_raw_mode(stat.st_mode),
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        links: stat.st_nlink as u64,
        size: stat.st_size as u64,
        modified_ns: stat.st_mtime as i128 * 1_000_000_000 + stat.st_mtime_nsec as i128,
        accessed_ns: stat.st_atime as i128 * 1_000_000_000 + stat.st_atime_nsec as i128,
    }
}

fn timespec(ns: i128) -> Timespec {
    Timespec { tv_sec: ns.div_euclid(1_000_000_000) as i64, tv_nsec: ns.rem_euclid(1_000_000_000) as _ }
}
