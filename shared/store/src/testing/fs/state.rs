//! The contents of a simulated disk: nodes, and what is durable of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::disk::fs::{Result, Stat};

/// The longest name in bytes, as on the file systems of Linux.
const NAME_MAX: usize = 255;
const TOTAL_BYTES: u64 = 1 << 40;
const TOTAL_FILES: u64 = 1 << 32;
/// The inode number of the root, the lowest one.
const FIRST_INODE: u64 = 2;

/// Everything on the medium and in the kernel's memory. Nodes are identified by numbers that are never reused, unlike
/// their inode numbers.
#[derive(Clone)]
pub(super) struct State {
    pub(super) nodes: BTreeMap<u64, Arc<Node>>,
    pub(super) next_node: u64,
    pub(super) free_inodes: BTreeSet<u64>,
    pub(super) next_inode: u64,
    pub(super) used_bytes: u64,
    pub(super) capacity_bytes: u64,
    /// How many files and folders fit, the root included.
    pub(super) capacity_files: u64,
    pub(super) now_ns: i128,
}

/// A simulated disk as it was after one change.
#[derive(Clone)]
pub struct Moment {
    pub(super) call: String,
    pub(super) state: State,
}

impl std::fmt::Debug for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Moment").field(&self.call).finish()
    }
}

#[derive(Clone)]
pub(super) struct Node {
    pub(super) inode: u64,
    pub(super) links: u64,
    pub(super) modified_ns: i128,
    pub(super) accessed_ns: i128,
    pub(super) content: Content,
}

#[derive(Clone)]
pub(super) enum Content {
    File {
        bytes: Arc<Vec<u8>>,
        /// The durable bytes and modification time.
        synced: (Arc<Vec<u8>>, i128),
    },
    Folder {
        entries: BTreeMap<String, u64>,
        durable: BTreeMap<String, u64>,
        /// The changes from `durable` to `entries`; each happens completely or not at all.
        pending: Vec<Change>,
    },
}

/// Names that get another node or none, atomically.
pub(super) type Change = Vec<(String, Option<u64>)>;

pub(super) const ROOT: u64 = 0;

impl State {
    pub(super) fn new() -> Self {
        let (nodes, free_inodes) = (BTreeMap::new(), BTreeSet::new());
        let (next_node, next_inode, used_bytes, now_ns) = (ROOT, FIRST_INODE, 0, 0);
        let (capacity_bytes, capacity_files) = (TOTAL_BYTES, TOTAL_FILES);
        let mut state =
            Self { nodes, next_node, free_inodes, next_inode, used_bytes, capacity_bytes, capacity_files, now_ns };
        let root = state.make(Content::folder(BTreeMap::new()));
        state.node_mut(root).links = 1;
        state
    }

    pub(super) fn node(&self, id: u64) -> &Node {
        &self.nodes[&id]
    }

    pub(super) fn node_mut(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).map(Arc::make_mut).unwrap_or_else(|| unreachable!("an open or named node is kept"))
    }

    pub(super) fn make(&mut self, content: Content) -> u64 {
        let inode = self.free_inodes.pop_first().unwrap_or_else(|| {
            self.next_inode += 1;
            self.next_inode - 1
        });
        let (id, now) = (self.next_node, self.now_ns);
        self.next_node += 1;
        self.nodes.insert(id, Arc::new(Node { inode, links: 0, modified_ns: now, accessed_ns: now, content }));
        id
    }

    /// How many more files and folders can be created.
    pub(super) fn free_files(&self) -> u64 {
        let used = self.next_inode - FIRST_INODE - self.free_inodes.len() as u64;
        self.capacity_files.saturating_sub(used)
    }

    pub(super) fn must_have_room_for_a_file(&self) -> Result<()> {
        if self.free_files() == 0 { Err(Errno::NOSPC) } else { Ok(()) }
    }

    pub(super) fn entries(&self, folder: u64) -> Result<&BTreeMap<String, u64>> {
        match &self.node(folder).content {
            Content::Folder { entries, .. } => Ok(entries),
            Content::File { .. } => Err(Errno::NOTDIR),
        }
    }

    pub(super) fn find(&self, folder: u64, name: &str) -> Result<Option<u64>> {
        let entries = self.entries(folder)?;
        match entries.get(name) {
            // In a removed folder no name is found, not even one that is too long.
            None if self.node(folder).links > 0 && name.len() > NAME_MAX => Err(Errno::NAMETOOLONG),
            found => Ok(found.copied()),
        }
    }

    pub(super) fn existing(&self, folder: u64, name: &str) -> Result<u64> {
        self.find(folder, name)?.ok_or(Errno::NOENT)
    }

    pub(super) fn is_folder(&self, id: u64) -> bool {
        matches!(self.node(id).content, Content::Folder { .. })
    }

    pub(super) fn is_empty_folder(&self, id: u64) -> bool {
        self.entries(id).is_ok_and(BTreeMap::is_empty)
    }

    /// Checks that a name is free, in a folder that was not removed.
    pub(super) fn must_be_free(&self, folder: u64, name: &str) -> Result<()> {
        match self.find(folder, name)? {
            Some(_) => Err(Errno::EXIST),
            None if self.node(folder).links == 0 => Err(Errno::NOENT),
            None => Ok(()),
        }
    }

    /// Changes what names in a folder mean; returns the nodes that lost a name.
    pub(super) fn change(&mut self, folder: u64, change: Change) -> Vec<u64> {
        let mut unnamed = Vec::new();
        for (name, to) in &change {
            let Content::Folder { entries, .. } = &mut self.node_mut(folder).content else { return unnamed };
            let before = match to {
                Some(id) => entries.insert(name.clone(), *id),
                None => entries.remove(name),
            };
            if let Some(id) = to {
                self.node_mut(*id).links += 1;
            }
            if let Some(id) = before {
                self.node_mut(id).links -= 1;
                unnamed.push(id);
            }
        }
        if let Content::Folder { pending, .. } = &mut self.node_mut(folder).content {
            pending.push(change);
        }
        unnamed
    }

    /// Drops nodes that no name can lead to any more, not even after a crash.
    pub(super) fn forget_unreachable(&mut self, open: &BTreeMap<u64, usize>) {
        let mut kept: BTreeSet<u64> = open.keys().copied().chain([ROOT]).collect();
        for node in self.nodes.values() {
            if let Content::Folder { entries, durable, pending } = &node.content {
                kept.extend(entries.values().chain(durable.values()));
                kept.extend(pending.iter().flatten().filter_map(|(_, to)| *to));
            }
        }
        self.nodes.retain(|id, _| kept.contains(id));
    }
}

impl Content {
    /// A folder of which everything is durable.
    pub(super) fn folder(entries: BTreeMap<String, u64>) -> Self {
        Self::Folder { durable: entries.clone(), entries, pending: Vec::new() }
    }

    /// A file of which everything is durable.
    pub(super) fn file(bytes: Arc<Vec<u8>>, modified_ns: i128) -> Self {
        Self::File { bytes: bytes.clone(), synced: (bytes, modified_ns) }
    }
}

impl Node {
    pub(super) fn stat(&self) -> Stat {
        let (kind, size) = match &self.content {
            Content::File { bytes, .. } => (FileType::RegularFile, bytes.len() as u64),
            Content::Folder { .. } => (FileType::Directory, 0),
        };
        let Self { inode, links, modified_ns, accessed_ns, .. } = *self;
        Stat { kind, device: 1, inode, links, size, modified_ns, accessed_ns }
    }
}
