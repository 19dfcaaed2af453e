//! The boundary between the disk store and the operating system: the calls on an open file or folder.
//!
//! Each method is one system call of the same meaning and fails with that call's `errno`. All names are single names in
//! an open folder, and a rename never leaves its folder, so this module has no paths. [`RealFolder`] is the operating
//! system; `testing::fs` has a file system in memory that can lose power, and one whose calls fail on demand.

mod real;

use std::ffi::OsString;
use std::fmt;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::object::Files;

pub use self::real::RealFolder;

/// The result of a call: what it gives, or its `errno`.
pub type Result<T> = std::result::Result<T, Errno>;

/// The entries of a folder, in no order, without `.` and `..`.
pub type Entries<'a> = Box<dyn Iterator<Item = Result<(OsString, FileType)>> + 'a>;

/// A file system, reduced to what a store needs: its root.
pub trait FileSystem: Send + Sync + fmt::Debug {
    /// Opens the store's root, which must be a folder and not a symbolic link.
    fn root(&self) -> Result<Box<dyn Handle>>;
}

/// An open file or folder; dropping it closes it and releases its lock.
pub trait Handle: Send + Sync + fmt::Debug {
    /// `openat`: opens `name` in this folder; does not follow a symbolic link.
    fn open_at(&self, name: &str, how: Open) -> Result<Box<dyn Handle>>;

    /// `mkdirat`: creates a folder.
    fn make_folder_at(&self, name: &str) -> Result<()>;

    /// `fstatat`: describes `name`; does not follow a symbolic link.
    fn stat_at(&self, name: &str) -> Result<Stat>;

    /// `renameat`: renames `from` to `to`, replacing `to`.
    fn rename_at(&self, from: &str, to: &str) -> Result<()>;

    /// `renameat2` with `RENAME_NOREPLACE`: fails with `EEXIST` if `to` exists.
    fn rename_new_at(&self, from: &str, to: &str) -> Result<()>;

    /// `linkat`: gives a file a second name; fails with `EEXIST` if `to` exists.
    fn link_at(&self, from: &str, to: &str) -> Result<()>;

    /// `unlinkat`: removes a name of a file.
    fn unlink_at(&self, name: &str) -> Result<()>;

    /// `unlinkat` with `AT_REMOVEDIR`: removes an empty folder.
    fn remove_folder_at(&self, name: &str) -> Result<()>;

    /// Reads the names in this folder; each call starts at the first one.
    fn entries(&self) -> Result<Entries<'_>>;

    /// `fstat`: describes the open file or folder.
    fn stat(&self) -> Result<Stat>;

    /// `futimens`: sets both times, in nanoseconds since 1970.
    ///
    /// Both are required: if one is omitted, bindfs and exfat-fuse set neither, and sshfs sets the other one to now.
    fn set_times(&self, accessed_ns: i128, modified_ns: i128) -> Result<()>;

    /// `fsync`: waits until the data of this file, or the names in this folder, are durable.
    fn sync(&self) -> Result<()>;

    /// `flock`: waits for the lock of this file, shared or exclusive.
    fn lock(&self, shared: bool) -> Result<()>;

    /// `write`: appends bytes to those written before and returns how many it wrote.
    fn write(&self, bytes: &[u8]) -> Result<usize>;

    /// `pread`: reads bytes starting at `offset` and returns how many; zero only at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize>;

    /// `fstatvfs`: the space on the file system.
    fn space(&self) -> Result<Space>;

    /// `faccessat` on this folder: whether this process may create files in it.
    fn may_write(&self) -> Result<()>;

    /// The name of the file system (`ext4`, `tmpfs`, …), if known.
    fn file_system(&self) -> Option<&'static str>;
}

/// How to open a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing folder.
    Folder,
    /// An existing file, for reading; opening a pipe does not wait for a writer.
    Read,
    /// A new file, for writing.
    New,
    /// A file that only this user may read, for its lock and times; created if missing.
    Lock,
}

/// The metadata of a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its type.
    pub kind: FileType,
    /// The number of its file system.
    pub device: u64,
    /// Its inode number; that of a removed file may be reused.
    pub inode: u64,
    /// How many names it has.
    pub links: u64,
    /// Length in bytes.
    pub size: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub modified_ns: i128,
    /// When it was last read, in nanoseconds since 1970.
    pub accessed_ns: i128,
}

/// The space on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Its total size in bytes.
    pub total_bytes: u64,
    /// How many files it can hold; `None` on file systems without a fixed number of inodes.
    pub files: Option<Files>,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}
