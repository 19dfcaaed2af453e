//! [`SimulatedDisk`]: a file system in memory that tracks what would survive a loss of power.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rustix::io::Errno;

use super::state::{Change, Content, Moment, ROOT, State};
use crate::disk::fs::{Entries, FileSystem, Handle, Open, Result, Space, Stat};
use crate::object::Files;

/// A file system in memory: files, folders, hard links, locks and times, with the errors of Linux.
///
/// What was not synced may or may not be there after a crash; [`Moment::crashes`] lists every outcome. Inode numbers
/// are reused at once, and the clock only moves with [`set_now`](Self::set_now). Clones are the same file system.
/// Locking waits while the lock is held; without a tokio runtime on the thread, no other task could release it, so the
/// wait panics.
#[derive(Clone)]
pub struct SimulatedDisk {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Mutex<Inner>,
    unlocked: Condvar,
}

struct Inner {
    state: State,
    /// How many handles are open of each node.
    open: BTreeMap<u64, usize>,
    locks: Vec<Lock>,
    handles: u64,
    read_only: bool,
    /// The moments after each change, while they are recorded.
    recorded: Option<Vec<Moment>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Lock {
    node: u64,
    handle: u64,
    shared: bool,
}

impl Inner {
    /// Frees the space of a node that has neither a name nor a handle.
    fn free_if_unused(&mut self, id: u64) {
        let node = self.state.node(id);
        if node.links > 0 || self.open.contains_key(&id) {
            return;
        }
        let (inode, bytes) = match &node.content {
            Content::File { bytes, .. } => (node.inode, bytes.len() as u64),
            Content::Folder { .. } => (node.inode, 0),
        };
        self.state.used_bytes -= bytes;
        self.state.free_inodes.insert(inode);
    }

    fn change(&mut self, folder: u64, change: Change) {
        for id in self.state.change(folder, change) {
            self.free_if_unused(id);
        }
    }

    fn takes_writes(&self) -> Result<()> {
        if self.read_only { Err(Errno::ROFS) } else { Ok(()) }
    }

    fn changed(&mut self, call: impl FnOnce() -> String) {
        let state = &self.state;
        if let Some(recorded) = &mut self.recorded {
            recorded.push(Moment { call: call(), state: state.clone() });
        }
    }
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::with_state(State::new())
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedDisk").finish_non_exhaustive()
    }
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn with_state(state: State) -> Self {
        let (open, locks) = (BTreeMap::new(), Vec::new());
        let inner = Mutex::new(Inner { state, open, locks, handles: 0, read_only: false, recorded: None });
        Self { shared: Arc::new(Shared { inner, unlocked: Condvar::new() }) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the modification time of later writes; until then it is 1970.
    pub fn set_now(&self, now: Timestamp) {
        self.inner().state.now_ns = now.as_nanosecond();
    }

    /// Sets the capacity of the disk in bytes.
    pub fn set_capacity(&self, bytes: u64) {
        self.inner().state.capacity_bytes = bytes;
    }

    /// Sets how many files and folders fit on the disk.
    pub fn set_file_capacity(&self, files: u64) {
        self.inner().state.capacity_files = files;
    }

    /// Makes the disk read-only, or writable again.
    pub fn set_read_only(&self, read_only: bool) {
        self.inner().read_only = read_only;
    }

    /// How many files and folders are open.
    pub fn open_handles(&self) -> usize {
        self.inner().open.values().sum()
    }

    /// The disk as it is now.
    pub fn moment(&self) -> Moment {
        Moment { call: "now".to_owned(), state: self.inner().state.clone() }
    }

    /// Records every change from now on.
    pub fn record(&self) {
        self.inner().recorded = Some(Vec::new());
    }

    /// The moments after each change since [`record`](Self::record) or the last call of this.
    pub fn recorded(&self) -> Vec<Moment> {
        self.inner().recorded.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn open(&self, inner: &mut Inner, node: u64, how: Open) -> Box<dyn Handle> {
        *inner.open.entry(node).or_default() += 1;
        inner.handles += 1;
        Box::new(Simulated { disk: self.clone(), node, handle: inner.handles, how, written: AtomicUsize::new(0) })
    }
}

impl FileSystem for SimulatedDisk {
    fn root(&self) -> Result<Box<dyn Handle>> {
        Ok(self.open(&mut self.inner(), ROOT, Open::Folder))
    }
}

#[derive(Debug)]
struct Simulated {
    disk: SimulatedDisk,
    node: u64,
    handle: u64,
    how: Open,
    /// How many bytes were written through this handle: the offset of the next write.
    written: AtomicUsize,
}

impl Drop for Simulated {
    fn drop(&mut self) {
        let mut inner = self.disk.inner();
        inner.locks.retain(|lock| lock.handle != self.handle);
        if let Some(count) = inner.open.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                inner.open.remove(&self.node);
                inner.free_if_unused(self.node);
            }
        }
        self.disk.shared.unlocked.notify_all();
    }
}

impl Simulated {
    /// Changes names in this folder, if `plan` finds that it is possible.
    fn change_names(&self, call: String, plan: impl FnOnce(&mut State) -> Result<Change>) -> Result<()> {
        let mut inner = self.disk.inner();
        inner.takes_writes()?;
        let change = plan(&mut inner.state)?;
        inner.change(self.node, change);
        inner.changed(|| call);
        Ok(())
    }
}

impl Handle for Simulated {
    fn open_at(&self, name: &str, how: Open) -> Result<Box<dyn Handle>> {
        let mut inner = self.disk.inner();
        let found = inner.state.find(self.node, name)?;
        let makes = match (how, found) {
            (Open::New, _) | (Open::Lock, None) => true,
            (_, None) => return Err(Errno::NOENT),
            (Open::Folder, Some(id)) if !inner.state.is_folder(id) => return Err(Errno::NOTDIR),
            (Open::Lock, Some(id)) if inner.state.is_folder(id) => return Err(Errno::ISDIR),
            (_, Some(_)) => false,
        };
        if makes || how == Open::Lock {
            inner.takes_writes()?;
        }
        let Some(id) = found.filter(|_| !makes) else {
            inner.state.must_be_free(self.node, name)?;
            inner.state.must_have_room_for_a_file()?;
            let now = inner.state.now_ns;
            let id = inner.state.make(Content::file(Arc::default(), now));
            let handle = self.disk.open(&mut inner, id, how);
            inner.change(self.node, vec![(name.to_owned(), Some(id))]);
            inner.changed(|| format!("make file {name}"));
            return Ok(handle);
        };
        Ok(self.disk.open(&mut inner, id, how))
    }

    fn make_folder_at(&self, name: &str) -> Result<()> {
        self.change_names(format!("make folder {name}"), |state| {
            state.must_be_free(self.node, name)?;
            state.must_have_room_for_a_file()?;
            Ok(vec![(name.to_owned(), Some(state.make(Content::folder(BTreeMap::new()))))])
        })
    }

    fn stat_at(&self, name: &str) -> Result<Stat> {
        let inner = self.disk.inner();
        Ok(inner.state.node(inner.state.existing(self.node, name)?).stat())
    }

    fn rename_at(&self, from: &str, to: &str) -> Result<()> {
        let mut inner = self.disk.inner();
        inner.takes_writes()?;
        let (state, id) = (&inner.state, inner.state.existing(self.node, from)?);
        if let Some(other) = state.find(self.node, to)? {
            if other == id {
                return Ok(());
            }
            match (state.is_folder(id), state.is_folder(other)) {
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) if !state.is_empty_folder(other) => return Err(Errno::NOTEMPTY),
                _ => {}
            }
        }
        inner.change(self.node, vec![(from.to_owned(), None), (to.to_owned(), Some(id))]);
        inner.changed(|| format!("rename {from} to {to}"));
        Ok(())
    }

    fn rename_new_at(&self, from: &str, to: &str) -> Result<()> {
        self.change_names(format!("rename {from} to {to}"), |state| {
            let id = state.existing(self.node, from)?;
            state.must_be_free(self.node, to)?;
            Ok(vec![(from.to_owned(), None), (to.to_owned(), Some(id))])
        })
    }

    fn link_at(&self, from: &str, to: &str) -> Result<()> {
        self.change_names(format!("link {from} to {to}"), |state| {
            let id = state.existing(self.node, from)?;
            state.must_be_free(self.node, to)?;
            if state.is_folder(id) { Err(Errno::PERM) } else { Ok(vec![(to.to_owned(), Some(id))]) }
        })
    }

    fn unlink_at(&self, name: &str) -> Result<()> {
        self.change_names(format!("unlink {name}"), |state| {
            let id = state.existing(self.node, name)?;
            if state.is_folder(id) { Err(Errno::ISDIR) } else { Ok(vec![(name.to_owned(), None)]) }
        })
    }

    fn remove_folder_at(&self, name: &str) -> Result<()> {
        self.change_names(format!("remove folder {name}"), |state| {
            let id = state.existing(self.node, name)?;
            if state.entries(id)?.is_empty() { Ok(vec![(name.to_owned(), None)]) } else { Err(Errno::NOTEMPTY) }
        })
    }

    fn entries(&self) -> Result<Entries<'_>> {
        let inner = self.disk.inner();
        let kind = |id: &u64| inner.state.node(*id).stat().kind;
        let entries = inner.state.entries(self.node)?;
        let entries: Vec<_> = entries.iter().map(|(name, id)| Ok((OsString::from(name), kind(id)))).collect();
        Ok(Box::new(entries.into_iter()))
    }

    fn stat(&self) -> Result<Stat> {
        Ok(self.disk.inner().state.node(self.node).stat())
    }

    fn set_times(&self, accessed_ns: i128, modified_ns: i128) -> Result<()> {
        let mut inner = self.disk.inner();
        inner.takes_writes()?;
        let node = inner.state.node_mut(self.node);
        (node.accessed_ns, node.modified_ns) = (accessed_ns, modified_ns);
        inner.changed(|| "set times".to_owned());
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let mut inner = self.disk.inner();
        let inner = &mut *inner;
        let node = inner.state.node_mut(self.node);
        match &mut node.content {
            Content::File { bytes, synced } => *synced = (bytes.clone(), node.modified_ns),
            Content::Folder { entries, durable, pending } => {
                durable.clone_from(entries);
                pending.clear();
                inner.state.forget_unreachable(&inner.open);
            }
        }
        inner.changed(|| "sync".to_owned());
        Ok(())
    }

    fn lock(&self, shared: bool) -> Result<()> {
        let mut inner = self.disk.inner();
        // Converting a lock releases the old one first.
        inner.locks.retain(|lock| lock.handle != self.handle);
        self.disk.shared.unlocked.notify_all();
        while inner.locks.iter().any(|lock| lock.node == self.node && !(lock.shared && shared)) {
            assert!(tokio::runtime::Handle::try_current().is_ok(), "a lock is held that nobody here can give up");
            inner = self.disk.shared.unlocked.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.locks.push(Lock { node: self.node, handle: self.handle, shared });
        Ok(())
    }

    fn write(&self, new: &[u8]) -> Result<usize> {
        let mut inner = self.disk.inner();
        if !matches!(self.how, Open::New | Open::Lock) {
            return Err(Errno::BADF);
        }
        inner.takes_writes()?;
        let state = &mut inner.state;
        let room = state.capacity_bytes.saturating_sub(state.used_bytes);
        let length = new.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        if length == 0 && !new.is_empty() {
            return Err(Errno::NOSPC);
        }
        let (start, now) = (self.written.fetch_add(length, Ordering::SeqCst), state.now_ns);
        let node = state.node_mut(self.node);
        node.modified_ns = now;
        if let Content::File { bytes, .. } = &mut node.content {
            let (before, bytes) = (bytes.len(), Arc::make_mut(bytes));
            bytes.resize(before.max(start + length), 0);
            bytes[start..start + length].copy_from_slice(&new[..length]);
            let grown = bytes.len() - before;
            state.used_bytes += grown as u64;
        }
        inner.changed(|| format!("write {length} bytes"));
        Ok(length)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        if self.how == Open::New {
            return Err(Errno::BADF);
        }
        let inner = self.disk.inner();
        let Content::File { bytes, .. } = &inner.state.node(self.node).content else { return Err(Errno::ISDIR) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let part = &bytes[start..bytes.len().min(start.saturating_add(buffer.len()))];
        buffer[..part.len()].copy_from_slice(part);
        Ok(part.len())
    }

    fn space(&self) -> Result<Space> {
        let inner = self.disk.inner();
        let total_bytes = inner.state.capacity_bytes;
        let free_bytes = total_bytes.saturating_sub(inner.state.used_bytes);
        let files = Some(Files { free: inner.state.free_files(), total: inner.state.capacity_files });
        Ok(Space { free_bytes, total_bytes, files, read_only: inner.read_only })
    }

    fn may_write(&self) -> Result<()> {
        self.disk.inner().takes_writes()
    }

    fn file_system(&self) -> Option<&'static str> {
        None
    }
}
