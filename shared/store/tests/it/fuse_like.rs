//! [`FuseLike`]: a disk that behaves like file systems that a program serves (FUSE), or like old ones.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustix::io::Errno;
use store::Files;
use store::fs::{Entries, FileSystem, Handle, Open, Result, Space, Stat};

/// How a file system differs from a local ext4.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Times are cut to a multiple of this, in nanoseconds.
    pub granule_ns: i128,
    /// Each name of a file has an inode number of its own, as on sshfs and mergerfs.
    pub inode_of_name: bool,
    /// There is no `RENAME_NOREPLACE`.
    pub no_rename_new: bool,
    /// There are no hard links.
    pub no_links: bool,
    /// A rename sets the time of modification, as on fusefat.
    pub renames_touch: bool,
    /// A file that is closed after it was read has another time of modification, as on CIFS.
    pub reads_touch: bool,
    /// Times that are set are ignored.
    pub ignores_times: bool,
    /// There are never free inodes, as on rclone mounts.
    pub counts_no_files: bool,
    /// Every file has 0 links.
    pub counts_no_links: bool,
}

impl Habits {
    /// Those of ext4.
    pub const NONE: Self = Self {
        granule_ns: 1,
        inode_of_name: false,
        no_rename_new: false,
        no_links: false,
        renames_touch: false,
        reads_touch: false,
        ignores_times: false,
        counts_no_files: false,
        counts_no_links: false,
    };

    /// Those of sshfs: seconds, an inode number for each name, and no `RENAME_NOREPLACE`.
    pub const SSHFS: Self = Self { granule_ns: 1_000_000_000, inode_of_name: true, no_rename_new: true, ..Self::NONE };
}

/// Another file system with other habits.
#[derive(Clone, Debug)]
pub struct FuseLike {
    pub inner: Arc<dyn FileSystem>,
    pub habits: Habits,
}

#[derive(Debug)]
struct Opened {
    inner: Box<dyn Handle>,
    /// The name under which it was opened.
    name: String,
    how: Open,
    habits: Habits,
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.habits.reads_touch && self.how == Open::Read {
            touch(&*self.inner).unwrap();
        }
    }
}

impl FileSystem for FuseLike {
    fn root(&self) -> Result<Box<dyn Handle>> {
        let (inner, name) = (self.inner.root()?, "/".to_owned());
        Ok(Box::new(Opened { inner, name, how: Open::Folder, habits: self.habits }))
    }
}

impl Opened {
    fn seen(&self, stat: Stat, name: &str) -> Stat {
        let cut = |ns: i128| ns.div_euclid(self.habits.granule_ns) * self.habits.granule_ns;
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Stat {
            inode: if self.habits.inode_of_name { hasher.finish() } else { stat.inode },
            links: if self.habits.counts_no_links { 0 } else { stat.links },
            modified_ns: cut(stat.modified_ns),
            accessed_ns: cut(stat.accessed_ns),
            ..stat
        }
    }

    fn renamed(&self, to: &str) -> Result<()> {
        if !self.habits.renames_touch {
            return Ok(());
        }
        touch(&*self.inner.open_at(to, Open::Read)?)
    }
}

fn touch(file: &dyn Handle) -> Result<()> {
    let stat = file.stat()?;
    file.set_times(stat.accessed_ns, stat.modified_ns + 10_000_000_000)
}

impl Handle for Opened {
    fn open_at(&self, name: &str, how: Open) -> Result<Box<dyn Handle>> {
        let (inner, name) = (self.inner.open_at(name, how)?, name.to_owned());
        Ok(Box::new(Self { inner, name, how, habits: self.habits }))
    }

    fn make_folder_at(&self, name: &str) -> Result<()> {
        self.inner.make_folder_at(name)
    }

    fn stat_at(&self, name: &str) -> Result<Stat> {
        Ok(self.seen(self.inner.stat_at(name)?, name))
    }

    fn rename_at(&self, from: &str, to: &str) -> Result<()> {
        self.inner.rename_at(from, to)?;
        self.renamed(to)
    }

    fn rename_new_at(&self, from: &str, to: &str) -> Result<()> {
        if self.habits.no_rename_new {
            return Err(Errno::INVAL);
        }
        self.inner.rename_new_at(from, to)?;
        self.renamed(to)
    }

    fn link_at(&self, from: &str, to: &str) -> Result<()> {
        if self.habits.no_links { Err(Errno::PERM) } else { self.inner.link_at(from, to) }
    }

    fn unlink_at(&self, name: &str) -> Result<()> {
        self.inner.unlink_at(name)
    }

    fn remove_folder_at(&self, name: &str) -> Result<()> {
        self.inner.remove_folder_at(name)
    }

    fn entries(&self) -> Result<Entries<'_>> {
        self.inner.entries()
    }

    fn stat(&self) -> Result<Stat> {
        Ok(self.seen(self.inner.stat()?, &self.name))
    }

    fn set_times(&self, accessed_ns: i128, modified_ns: i128) -> Result<()> {
        if self.habits.ignores_times { Ok(()) } else { self.inner.set_times(accessed_ns, modified_ns) }
    }

    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }

    fn lock(&self, shared: bool) -> Result<()> {
        self.inner.lock(shared)
    }

    fn write(&self, bytes: &[u8]) -> Result<usize> {
        self.inner.write(bytes)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn space(&self) -> Result<Space> {
        let space = self.inner.space()?;
        let none = Some(Files { free: 0, total: 1_000_000_000 });
        Ok(if self.habits.counts_no_files { Space { files: none, ..space } } else { space })
    }

    fn may_write(&self) -> Result<()> {
        self.inner.may_write()
    }

    fn file_system(&self) -> Option<&'static str> {
        Some("fuse")
    }
}
