//! The seam between the disk store and the system: what can be asked of an open file or folder.
//!
//! Each method is one system call of the same meaning and fails with that call's `errno`. All names are single names in
//! an open folder, and a rename never leaves its folder, so nothing here knows a path. [`RealFolder`] is the operating
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

/// What a folder holds, in no order, without `.` and `..`.
pub type Entries<'a> = Box<dyn Iterator<Item = Result<(OsString, FileType)>> + 'a>;

/// A file system, as far as a store needs one: the way to its root.
pub trait FileSystem: Send + Sync + fmt::Debug {
    /// Opens the store's root, which must be a folder and no symbolic link.
    fn root(&self) -> Result<Box<dyn Handle>>;
}

/// An open file or folder; it is closed, and its lock given up, when it is dropped.
pub trait Handle: Send + Sync + fmt::Debug {
    /// `openat`: opens `name` of this folder, never what a symbolic link leads to.
    fn open_at(&self, name: &str, how: Open) -> Result<Box<dyn Handle>>;

    /// `mkdirat`: makes a folder.
    fn make_folder_at(&self, name: &str) -> Result<()>;

    /// `fstatat`: describes what bears the name, a symbolic link itself.
    fn stat_at(&self, name: &str) -> Result<Stat>;

    /// `renameat`: gives what bears one name another, replacing what bore it.
    fn rename_at(&self, from: &str, to: &str) -> Result<()>;

    /// `renameat2` with `RENAME_NOREPLACE`: the same, but `EEXIST` where the other name is taken.
    fn rename_new_at(&self, from: &str, to: &str) -> Result<()>;

    /// `linkat`: gives a file a second name, `EEXIST` where that is taken.
    fn link_at(&self, from: &str, to: &str) -> Result<()>;

    /// `unlinkat`: takes a name from a file.
    fn unlink_at(&self, name: &str) -> Result<()>;

    /// `unlinkat` with `AT_REMOVEDIR`: removes an empty folder.
    fn remove_folder_at(&self, name: &str) -> Result<()>;

    /// Reads the names in this folder, from the first one at each call.
    fn entries(&self) -> Result<Entries<'_>>;

    /// `fstat`: describes what is open.
    fn stat(&self) -> Result<Stat>;

    /// `futimens`: sets both times, in nanoseconds since 1970.
    ///
    /// A time cannot be left out: bindfs and exfat-fuse then set neither, and sshfs sets the other one to now.
    fn set_times(&self, accessed_ns: i128, modified_ns: i128) -> Result<()>;

    /// `fsync`: waits until the medium has what was written to this file, or the names in this folder.
    fn sync(&self) -> Result<()>;

    /// `flock`: waits for the lock of this file, shared or alone.
    fn lock(&self, shared: bool) -> Result<()>;

    /// `write`: writes some bytes behind those written before and returns how many.
    fn write(&self, bytes: &[u8]) -> Result<usize>;

    /// `pread`: reads some bytes from `offset` on and returns how many, none only at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize>;

    /// `fstatvfs`: the room on the file system.
    fn space(&self) -> Result<Space>;

    /// `faccessat` of this folder: whether this process may make files here.
    fn may_write(&self) -> Result<()>;

    /// The file system's name (`ext4`, `tmpfs`, …), where it is known.
    fn file_system(&self) -> Option<&'static str>;
}

/// How something is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// A folder that is there.
    Folder,
    /// Something that is there, for reading; should it be a pipe, without waiting for a writer.
    Read,
    /// A file that nobody had before, for writing.
    New,
    /// A file that only this user may read, for its lock and times; made where it is missing.
    Lock,
}

/// What is known of a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What kind of thing it is.
    pub kind: FileType,
    /// The number of the file system that it lies on.
    pub device: u64,
    /// Its number there; that of a removed file may come again.
    pub inode: u64,
    /// How many names it has.
    pub links: u64,
    /// Length in bytes.
    pub size: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub modified_ns: i128,
    /// When it was last read, likewise.
    pub accessed_ns: i128,
}

/// The room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Bytes that it holds in all.
    pub total_bytes: u64,
    /// The files that it can hold; `None` on file systems without a fixed number of inodes.
    pub files: Option<Files>,
    /// Whether it takes no writes.
    pub read_only: bool,
}
