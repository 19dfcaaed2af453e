//! [`FaultyFileSystem`]: another file system whose calls fail on demand.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::io::Errno;

use crate::disk::fs::{Entries, FileSystem, Handle, Open, Result, Space, Stat};

/// A call about to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// How many calls there were before this one.
    pub sequence: u64,
    /// The method of [`Handle`], or `root`.
    pub name: &'static str,
    /// The name passed to it, or the one under which its file or folder was opened (`/` is the root). For a rename or
    /// link, the new name.
    pub on: String,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFault {
    /// Fails with this error and has no effect.
    Fails(Errno),
    /// For a write: writes at most this many bytes. Other calls ignore it.
    Short(usize),
    /// For a sync: fails with `EIO`, and the kernel marks the data as clean. A later sync through the same handle
    /// succeeds and does nothing. Other calls ignore it.
    LosesSync,
    /// For a sync: succeeds and does nothing, and each later call, on any handle, fails with `EIO`. XFS does this with
    /// a folder if it shuts itself down in between. Other calls ignore it.
    ShutsDown,
}

impl From<Errno> for CallFault {
    fn from(errno: Errno) -> Self {
        Self::Fails(errno)
    }
}

type Plan = dyn Fn(&Call) -> Option<CallFault> + Send + Sync;

/// A wrapper around a file system that numbers every call and can make it fail.
#[derive(Clone)]
pub struct FaultyFileSystem {
    inner: Arc<dyn FileSystem>,
    control: Arc<Control>,
}

struct Control {
    plan: Box<Plan>,
    calls: AtomicU64,
    shut_down: AtomicBool,
}

struct Faulty {
    inner: Box<dyn Handle>,
    name: String,
    /// A sync failed, and its data is lost.
    lost: AtomicBool,
    control: Arc<Control>,
}

impl Control {
    /// Numbers the call and consults the plan; returns a fault that the call itself has to handle.
    fn begin(&self, name: &'static str, on: &str) -> Result<Option<CallFault>> {
        let sequence = self.calls.fetch_add(1, Ordering::SeqCst);
        if self.shut_down.load(Ordering::SeqCst) {
            return Err(Errno::IO);
        }
        match (self.plan)(&Call { sequence, name, on: on.to_owned() }) {
            Some(CallFault::Fails(errno)) => Err(errno),
            fault => Ok(fault),
        }
    }
}

impl FaultyFileSystem {
    /// A file system whose calls fail according to `plan`.
    pub fn with_plan(
        inner: Arc<dyn FileSystem>,
        plan: impl Fn(&Call) -> Option<CallFault> + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            control: Arc::new(Control {
                plan: Box::new(plan),
                calls: AtomicU64::new(0),
                shut_down: AtomicBool::new(false),
            }),
        }
    }

    /// How many calls there were, including failed ones.
    pub fn calls(&self) -> u64 {
        self.control.calls.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for FaultyFileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyFileSystem").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl FileSystem for FaultyFileSystem {
    fn root(&self) -> Result<Box<dyn Handle>> {
        self.control.begin("root", "/")?;
        Ok(Box::new(Faulty::new(self.inner.root()?, "/", &self.control)))
    }
}

impl Faulty {
    fn new(inner: Box<dyn Handle>, name: &str, control: &Arc<Control>) -> Self {
        Self { inner, name: name.to_owned(), lost: AtomicBool::new(false), control: control.clone() }
    }

    fn itself(&self, call: &'static str) -> Result<Option<CallFault>> {
        self.control.begin(call, &self.name)
    }
}

impl Handle for Faulty {
    fn open_at(&self, name: &str, how: Open) -> Result<Box<dyn Handle>> {
        self.control.begin("open_at", name)?;
        Ok(Box::new(Self::new(self.inner.open_at(name, how)?, name, &self.control)))
    }

    fn make_folder_at(&self, name: &str) -> Result<()> {
        self.control.begin("make_folder_at", name)?;
        self.inner.make_folder_at(name)
    }

    fn stat_at(&self, name: &str) -> Result<Stat> {
        self.control.begin("stat_at", name)?;
        self.inner.stat_at(name)
    }

    fn rename_at(&self, from: &str, to: &str) -> Result<()> {
        self.control.begin("rename_at", to)?;
        self.inner.rename_at(from, to)
    }

    fn rename_new_at(&self, from: &str, to: &str) -> Result<()> {
        self.control.begin("rename_new_at", to)?;
        self.inner.rename_new_at(from, to)
    }

    fn link_at(&self, from: &str, to: &str) -> Result<()> {
        self.control.begin("link_at", to)?;
        self.inner.link_at(from, to)
    }

    fn unlink_at(&self, name: &str) -> Result<()> {
        self.control.begin("unlink_at", name)?;
        self.inner.unlink_at(name)
    }

    fn remove_folder_at(&self, name: &str) -> Result<()> {
        self.control.begin("remove_folder_at", name)?;
        self.inner.remove_folder_at(name)
    }

    fn entries(&self) -> Result<Entries<'_>> {
        self.itself("entries")?;
        self.inner.entries()
    }

    fn stat(&self) -> Result<Stat> {
        self.itself("stat")?;
        self.inner.stat()
    }

    fn set_times(&self, accessed_ns: i128, modified_ns: i128) -> Result<()> {
        self.itself("set_times")?;
        self.inner.set_times(accessed_ns, modified_ns)
    }

    fn sync(&self) -> Result<()> {
        match self.itself("sync")? {
            Some(CallFault::LosesSync) => {
                self.lost.store(true, Ordering::SeqCst);
                Err(Errno::IO)
            }
            Some(CallFault::ShutsDown) => {
                self.control.shut_down.store(true, Ordering::SeqCst);
                Ok(())
            }
            _ if self.lost.load(Ordering::SeqCst) => Ok(()),
            _ => self.inner.sync(),
        }
    }

    fn lock(&self, shared: bool) -> Result<()> {
        self.itself("lock")?;
        self.inner.lock(shared)
    }

    fn write(&self, bytes: &[u8]) -> Result<usize> {
        let most = match self.itself("write")? {
            Some(CallFault::Short(most)) => bytes.len().min(most),
            _ => bytes.len(),
        };
        self.inner.write(&bytes[..most])
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.itself("read_at")?;
        self.inner.read_at(buffer, offset)
    }

    fn space(&self) -> Result<Space> {
        self.itself("space")?;
        self.inner.space()
    }

    fn may_write(&self) -> Result<()> {
        self.itself("may_write")?;
        self.inner.may_write()
    }

    fn file_system(&self) -> Option<&'static str> {
        self.inner.file_system()
    }
}
