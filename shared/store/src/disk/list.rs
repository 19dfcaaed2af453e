//! Walking the folder: listings in key order, and the sweep of unfinished files.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use rustix::fs::FileType;
use rustix::io::Errno;
use uuid::Uuid;

use super::blocking;
use super::fs::{Handle, Stat};
use super::path::{At, Disk, LOCK, meta, step};
use crate::error::{ErrorKind, Result};
use crate::key::Key;
use crate::object::ObjectMeta;

/// How many files one blocking job looks at.
const PAGE: usize = 1_000;

/// The most names of a folder that are in memory, about 15 MB. A folder with more is read again for each further part, of
/// at least three quarters as many.
const HELD: usize = 200_000;

/// A listing in progress; it holds one open folder per level.
struct Walk {
    disk: Arc<Disk>,
    prefix: String,
    start_after: Option<String>,
    /// How many names of a folder may be in memory at a time.
    held: usize,
    begun: bool,
    levels: Vec<Level>,
    /// How many entries were skipped because they are not objects: invalid keys, links, pipes.
    left_out: u64,
}

struct Level {
    folder: Box<dyn Handle>,
    /// The prefix of the keys in this folder: empty, or a path that ends in `/`.
    path: String,
    names: Names,
}

/// Names in a folder, in one allocation: a part of them, in key order, if there are more than [`HELD`]. A folder's name
/// ends in `/`, which sorts it in key order: `a.txt` comes before `a/b`, although `a` comes before `a.txt`.
struct Names {
    /// Each name and a NUL, which no name contains.
    text: String,
    /// Where the remaining names start in the text; once sorted, the next one is the last.
    starts: Vec<usize>,
    /// The first name of the part; it need not exist.
    from: String,
    /// The first name of the next part.
    until: Option<String>,
    /// The most names of a part.
    held: usize,
}

impl Names {
    fn part(from: &str, held: usize) -> Self {
        Self { text: String::new(), starts: Vec::new(), from: from.to_owned(), until: None, held }
    }

    /// Whether a file or folder of this name may belong to the part.
    fn may_have(&self, name: &str) -> bool {
        // "a/" comes after "a.txt", although "a" comes before it.
        (name >= &*self.from || self.from.starts_with(name)) && self.until.as_deref().is_none_or(|until| name < until)
    }

    fn push(&mut self, name: &str, suffix: &str) {
        let start = self.text.len();
        self.text.extend([name, suffix]);
        let pushed = &self.text[start..];
        if *pushed < *self.from || self.until.as_deref().is_some_and(|until| pushed >= until) {
            self.text.truncate(start);
            return;
        }
        self.text.push('\0');
        self.starts.push(start);
        if self.starts.len() > self.held {
            self.leave_the_last();
        }
    }

    /// Leaves a quarter of the names, the last ones, to the next part.
    fn leave_the_last(&mut self) {
        let kept = (self.starts.len() * 3 / 4).max(1);
        let text = self.text.as_bytes();
        self.starts.select_nth_unstable_by(kept, |a, b| text[*a..].cmp(&text[*b..]));
        self.until = Some(name_at(&self.text, self.starts[kept]).to_owned());
        self.starts.truncate(kept);
        // In place, since a copy would be most of the memory of a listing.
        self.starts.sort_unstable();
        let mut text = std::mem::take(&mut self.text).into_bytes();
        let mut end = 0;
        for start in &mut self.starts {
            let length = text[*start..].iter().position(|byte| *byte == 0).map_or(0, |length| length + 1);
            text.copy_within(*start..*start + length, end);
            *start = end;
            end += length;
        }
        text.truncate(end);
        self.text = String::from_utf8(text).unwrap_or_else(|_| unreachable!("whole names were moved"));
    }

    /// The NUL behind a name sorts it before all that begin with it.
    fn sort(&mut self) {
        let text = self.text.as_bytes();
        self.starts.sort_unstable_by(|a, b| text[*b..].cmp(&text[*a..]));
    }

    fn next(&mut self) -> Option<String> {
        self.starts.pop().map(|start| name_at(&self.text, start).to_owned())
    }
}

fn name_at(text: &str, start: usize) -> &str {
    text[start..].split('\0').next().unwrap_or_default()
}

pub(super) fn list(disk: Arc<Disk>, prefix: &str, start_after: Option<&str>) -> BoxStream<'static, Result<ObjectMeta>> {
    in_parts(disk, prefix, start_after, HELD)
}

fn in_parts(
    disk: Arc<Disk>,
    prefix: &str,
    start_after: Option<&str>,
    held: usize,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let (prefix, start_after) = (prefix.to_owned(), start_after.map(str::to_owned));
    let walk = Walk { disk, prefix, start_after, held, begun: false, levels: Vec::new(), left_out: 0 };
    let pages = stream::try_unfold(walk, |mut walk| async {
        let prefix = walk.prefix.clone();
        let (page, walk) = blocking("list", &prefix, move || Ok((walk.next_page()?, walk))).await?;
        Ok((!page.is_empty()).then_some((stream::iter(page), walk)))
    });
    pages.try_flatten().boxed()
}

impl Walk {
    /// The next objects, with an error in place of each folder that cannot be read; empty only at the end.
    fn next_page(&mut self) -> Result<Vec<Result<ObjectMeta>>> {
        let prefix = self.prefix.clone();
        let at = At { operation: "list", key: &prefix };
        if !self.begun {
            self.begun = true;
            self.begin(at)?;
        }
        let mut page = Vec::new();
        while page.len() < PAGE {
            let Some(level) = self.levels.last_mut() else { break };
            let Some(name) = level.names.next() else {
                if let Some(Level { folder, path, names: Names { until: Some(from), .. } }) = self.levels.pop() {
                    let at = At { operation: "list", key: &path };
                    self.push_from(at, folder, path.clone(), from)?;
                }
                continue;
            };
            let path = format!("{}{name}", level.path);
            if let Some(segment) = name.strip_suffix('/') {
                let at = At { operation: "list", key: &path };
                let entered = match enter(at, &*level.folder, segment) {
                    Ok(Some(folder)) => self.push(at, folder, path.clone()),
                    entered => entered.map(drop),
                };
                match entered {
                    Err(e) if e.kind == ErrorKind::Refused => page.push(Err(e)),
                    entered => entered?,
                }
            } else if let Some(stat) = file(at, &*level.folder, &name)? {
                match Key::new(path) {
                    Ok(key) => page.push(Ok(meta(key, &stat))),
                    Err(_) => self.left_out += 1,
                }
            }
        }
        if page.is_empty() && self.left_out > 0 {
            tracing::warn!(prefix, count = self.left_out, "left out of a listing what cannot be an object");
        }
        Ok(page)
    }

    /// Opens the one folder that contains all keys with the prefix.
    fn begin(&mut self, at: At<'_>) -> Result<()> {
        let Some((path, _)) = at.key.rsplit_once('/') else {
            return self.push(at, self.disk.root(at)?, String::new());
        };
        if Key::new(path).is_err() {
            // No key starts like this, but a store that lost its root must still report that.
            return self.disk.root(at).map(drop);
        }
        match self.disk.descend(at, path.split('/'))? {
            Some(folder) => self.push(at, folder, format!("{path}/")),
            None => Ok(()),
        }
    }

    /// Enters a folder.
    fn push(&mut self, at: At<'_>, folder: Box<dyn Handle>, path: String) -> Result<()> {
        self.push_from(at, folder, path, String::new())
    }

    /// Enters a folder at a name in it.
    ///
    /// On some file systems (tmpfs is one) a file that replaces another moves to the end of its folder, so a concurrent
    /// read of the names can miss it. A read therefore counts only if no file was replaced meanwhile; after two failed
    /// attempts, the third excludes writers.
    fn push_from(&mut self, at: At<'_>, folder: Box<dyn Handle>, path: String, from: String) -> Result<()> {
        // The access time of the lock file is the stamp of the last file that replaced another.
        let replaced = |lock: Option<Box<dyn Handle>>| match lock {
            Some(lock) => lock.stat().map(|stat| Some(stat.accessed_ns)).map_err(|e| at.io(e)),
            None => Ok(None),
        };
        let mut tries = 0;
        let (mut names, left_out) = loop {
            tries += 1;
            let lock = self.disk.lock_shared(at)?;
            if tries > 2 {
                break self.read_names(at, &*folder, &path, &from)?;
            }
            let before = replaced(lock)?;
            let read = self.read_names(at, &*folder, &path, &from)?;
            // A writer that is replacing a file has updated the time by the time it releases the lock.
            if replaced(self.disk.lock_shared(at)?)? == before {
                break read;
            }
        };
        names.sort();
        self.left_out += if from.is_empty() { left_out } else { 0 };
        self.levels.push(Level { folder, path, names });
        Ok(())
    }

    /// The names in a folder that the listing can need, and how many entries cannot be objects.
    fn read_names(&self, at: At<'_>, folder: &dyn Handle, path: &str, from: &str) -> Result<(Names, u64)> {
        let (mut names, mut left_out) = (Names::part(from, self.held), 0);
        for entry in folder.entries().map_err(|e| at.io(e))? {
            let (name, kind) = entry.map_err(|e| at.io(e))?;
            let Ok(name) = name.into_string() else {
                left_out += 1;
                continue;
            };
            if name == LOCK || name.starts_with(Key::RESERVED_PREFIX) {
                continue;
            }
            // The first part looks at all of them, and counts what cannot be an object.
            if !from.is_empty() && !names.may_have(&name) {
                continue;
            }
            match kind_of(at, folder, &name, kind)? {
                Some(FileType::Directory) if self.wants(&format!("{path}{name}/"), true) => {
                    names.push(&name, "/");
                }
                Some(FileType::RegularFile) if self.wants(&format!("{path}{name}"), false) => {
                    names.push(&name, "");
                }
                Some(FileType::Directory | FileType::RegularFile) | None => {}
                Some(_) => left_out += 1,
            }
        }
        Ok((names, left_out))
    }

    /// Whether the listing includes this file, or can include files of this folder.
    fn wants(&self, path: &str, is_folder: bool) -> bool {
        (path.starts_with(&self.prefix) || (is_folder && self.prefix.starts_with(path)))
            && match self.start_after.as_deref() {
                Some(after) => path > after || (is_folder && after.starts_with(path)),
                None => true,
            }
    }
}

/// The type of a directory entry; some file systems do not report it with the name. `None` if it is gone.
fn kind_of(at: At<'_>, folder: &dyn Handle, name: &str, kind: FileType) -> Result<Option<FileType>> {
    if kind != FileType::Unknown {
        return Ok(Some(kind));
    }
    match folder.stat_at(name) {
        Ok(stat) => Ok(Some(stat.kind)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(at.io(e)),
    }
}

/// The metadata of the file `name`; `None` if it is gone or no longer a file.
fn file(at: At<'_>, folder: &dyn Handle, name: &str) -> Result<Option<Stat>> {
    match folder.stat_at(name) {
        Ok(stat) => Ok((stat.kind == FileType::RegularFile).then_some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(at.io(e)),
    }
}

/// Opens a folder that the walk found; `None` if it is gone.
fn enter(at: At<'_>, folder: &dyn Handle, name: &str) -> Result<Option<Box<dyn Handle>>> {
    match step(at, folder, name) {
        // Every new ext4 volume has a `lost+found` that only root may read, and it contains no objects. Any other
        // folder that cannot be read may contain objects, and a listing without them would be wrong.
        Err(e) if e.kind == ErrorKind::Refused && name == "lost+found" => Ok(None),
        folder => folder,
    }
}

impl Disk {
    /// Removes unfinished files that were last written before `before`; returns how many it removed.
    pub(super) fn sweep(&self, before: Timestamp) -> Result<u64> {
        let at = At { operation: "sweep", key: "" };
        let (mut folders, mut swept) = (vec![self.root(at)?], 0);
        while let Some(folder) = folders.pop() {
            let entries = match folder.entries() {
                Err(Errno::ACCESS | Errno::PERM) => continue,
                entries => entries.map_err(|e| at.io(e))?,
            };
            for entry in entries {
                let (name, kind) = entry.map_err(|e| at.io(e))?;
                let Some(name) = name.to_str() else { continue };
                match kind_of(at, &*folder, name, kind)? {
                    // Files in a folder that cannot be read stay; the sweep continues with other folders.
                    Some(FileType::Directory) => match enter(at, &*folder, name) {
                        Err(e) if e.kind == ErrorKind::Refused => {}
                        entered => folders.extend(entered?),
                    },
                    Some(FileType::RegularFile) if is_temp(name) => {
                        let Some(stat) = file(at, &*folder, name)? else { continue };
                        if stat.modified_ns >= before.as_nanosecond() {
                            continue;
                        }
                        match folder.unlink_at(name) {
                            Ok(()) => swept += 1,
                            Err(Errno::NOENT) => {}
                            Err(e) => return Err(at.io(e)),
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(swept)
    }
}

/// Whether a put created this name: other programs have files with similar names.
fn is_temp(name: &str) -> bool {
    name.strip_prefix(Key::RESERVED_PREFIX).is_some_and(|id| Uuid::try_parse(id).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DiskStore;

    #[tokio::test]
    async fn listing_in_parts_has_every_file_once_and_in_order() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["", "a/", "a/b/", "m/", "z/"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
            for file in 0..23 {
                let name = format!("{folder}{}{}.txt", ["a", "m", "y"][file % 3], file * 7919 % 31);
                std::fs::write(root.path().join(name), "").unwrap();
            }
        }
        let disk = DiskStore::open(root.path()).unwrap().disk;
        for (prefix, after) in
            [("", None), ("a/", None), ("a/b/m", None), ("", Some("a/b/m1.txt")), ("", Some("m12.txt"))]
        {
            let whole = in_parts(Arc::clone(&disk), prefix, after, HELD);
            let whole: Vec<ObjectMeta> = whole.try_collect().await.unwrap();
            assert!(whole.is_sorted_by(|a, b| a.key < b.key) && !whole.is_empty());
            for held in [1, 2, 3, 10, 26, 27, 28] {
                let parts = in_parts(Arc::clone(&disk), prefix, after, held);
                let parts: Vec<ObjectMeta> = parts.try_collect().await.unwrap();
                assert_eq!(parts, whole, "{held} names at a time, {prefix:?} after {after:?}");
            }
        }
    }
}
