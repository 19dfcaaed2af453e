//! The possible states of a simulated disk after it lost power.
//!
//! The model is meant to be no kinder than POSIX on any file system that may hold a store:
//!
//! - What was synced is there. Of the rest, each part may have reached the medium or not, in any order.
//! - A file may have the bytes it had when it was last synced, those it had at the crash, half of the latter, or its
//!   new length filled with zeros; its times are those of its last sync.
//! - Each creation, removal or rename of a name may have happened or not, independently of earlier and later ones, also
//!   in the same folder. Only a rename is one change: both of its names are as before it or both as after it.
//! - Syncing a file makes none of its names durable. Syncing a folder makes its names durable, but not its own name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::simulated::SimulatedDisk;
use super::state::{Content, Moment, Node, ROOT, State};

/// More outcomes of one crash than this mean that a sync is missing.
const MOST_OUTCOMES: usize = 10_000;

/// The contents of the nodes that were not synced.
type Outcome = BTreeMap<u64, Content>;

impl Moment {
    /// The change that led here.
    pub fn call(&self) -> &str {
        &self.call
    }

    /// Everything that is visible: the bytes of each file by its path, and of each folder `None`.
    pub fn tree(&self) -> BTreeMap<String, Option<Arc<Vec<u8>>>> {
        let mut tree = BTreeMap::new();
        walk(&self.state, ROOT, "", &mut tree);
        tree
    }

    /// Another disk with the same contents, all of them synced.
    pub fn copy(&self) -> SimulatedDisk {
        let current = |node: &Node| match &node.content {
            Content::File { bytes, .. } => Content::file(bytes.clone(), node.modified_ns),
            Content::Folder { entries, .. } => Content::folder(entries.clone()),
        };
        let outcome = self.state.nodes.iter().map(|(id, node)| (*id, current(node))).collect();
        SimulatedDisk::with_state(self.survive(&outcome))
    }

    /// The disk after a crash at this moment that kept only what was synced.
    pub fn least(&self) -> SimulatedDisk {
        let synced = |node: &Node| match &node.content {
            Content::File { synced: (bytes, modified_ns), .. } => Content::file(bytes.clone(), *modified_ns),
            Content::Folder { durable, .. } => Content::folder(durable.clone()),
        };
        let outcome = self.state.nodes.iter().map(|(id, node)| (*id, synced(node))).collect();
        SimulatedDisk::with_state(self.survive(&outcome))
    }

    /// Every possible disk after a crash at this moment.
    ///
    /// # Panics
    ///
    /// If there are more than ten thousand.
    pub fn crashes(&self) -> Vec<SimulatedDisk> {
        let mut outcomes = vec![Outcome::new()];
        for id in self.reachable() {
            let node = &self.state.nodes[&id];
            let choices = choices(node);
            assert!(outcomes.len() * choices.len() <= MOST_OUTCOMES, "too much is unsynced after: {}", self.call);
            let with = |outcome: &Outcome, choice: &Content| {
                let mut outcome = outcome.clone();
                outcome.insert(id, choice.clone());
                outcome
            };
            outcomes = outcomes.iter().flat_map(|outcome| choices.iter().map(move |c| with(outcome, c))).collect();
        }
        outcomes.iter().map(|outcome| SimulatedDisk::with_state(self.survive(outcome))).collect()
    }

    /// The nodes that any name that may exist leads to.
    fn reachable(&self) -> BTreeSet<u64> {
        let (mut reachable, mut next) = (BTreeSet::new(), vec![ROOT]);
        while let Some(id) = next.pop() {
            if !reachable.insert(id) {
                continue;
            }
            if let Content::Folder { durable, pending, .. } = &self.state.nodes[&id].content {
                next.extend(durable.values());
                next.extend(pending.iter().flatten().filter_map(|(_, to)| *to));
            }
        }
        reachable
    }

    /// The disk after a reboot, without the nodes that have no name.
    fn survive(&self, outcome: &Outcome) -> State {
        let mut state = State {
            nodes: BTreeMap::new(),
            next_node: self.state.next_node,
            free_inodes: BTreeSet::new(),
            next_inode: self.state.next_inode,
            used_bytes: 0,
            capacity_bytes: self.state.capacity_bytes,
            capacity_files: self.state.capacity_files,
            now_ns: self.state.now_ns,
        };
        let mut links: BTreeMap<u64, u64> = BTreeMap::new();
        let mut next = vec![ROOT];
        while let Some(id) = next.pop() {
            let count = links.entry(id).or_default();
            *count += 1;
            if *count > 1 {
                continue;
            }
            let content = outcome[&id].clone();
            let mut node = Node { content, ..Node::clone(&self.state.nodes[&id]) };
            match &node.content {
                Content::Folder { entries, .. } => next.extend(entries.values()),
                Content::File { bytes, synced } => {
                    state.used_bytes += bytes.len() as u64;
                    node.modified_ns = synced.1;
                }
            }
            state.nodes.insert(id, Arc::new(node));
        }
        let mut used = BTreeSet::new();
        for (id, node) in &mut state.nodes {
            let node = Arc::make_mut(node);
            node.links = links[id];
            if !used.insert(node.inode) {
                // Its number was reused after a removal that the crash undid.
                node.inode = state.next_inode;
                state.next_inode += 1;
                used.insert(node.inode);
            }
        }
        state.free_inodes = (2..state.next_inode).filter(|inode| !used.contains(inode)).collect();
        state
    }
}

/// The possible contents of a node after a crash.
fn choices(node: &Node) -> Vec<Content> {
    match &node.content {
        Content::File { bytes, synced: (synced, modified_ns) } => {
            let mut choices = BTreeSet::from([synced.clone()]);
            if bytes != synced {
                let (torn, zeros) = (bytes[..bytes.len() / 2].to_vec(), vec![0; bytes.len()]);
                choices.extend([bytes.clone(), Arc::new(torn), Arc::new(zeros)]);
            }
            choices.into_iter().map(|bytes| Content::file(bytes, *modified_ns)).collect()
        }
        Content::Folder { durable, pending, .. } => {
            let mut choices = BTreeSet::from([durable.clone()]);
            for change in pending {
                let after = |names: &BTreeMap<String, u64>| {
                    let mut names = names.clone();
                    for (name, to) in change {
                        match to {
                            Some(id) => names.insert(name.clone(), *id),
                            None => names.remove(name),
                        };
                    }
                    names
                };
                choices.extend(choices.iter().map(after).collect::<Vec<_>>());
                assert!(choices.len() <= MOST_OUTCOMES, "too many unsynced names");
            }
            choices.into_iter().map(Content::folder).collect()
        }
    }
}

fn walk(state: &State, folder: u64, path: &str, tree: &mut BTreeMap<String, Option<Arc<Vec<u8>>>>) {
    let Content::Folder { entries, .. } = &state.nodes[&folder].content else { return };
    for (name, id) in entries {
        let path = format!("{path}{name}");
        match &state.nodes[id].content {
            Content::File { bytes, .. } => _ = tree.insert(path, Some(bytes.clone())),
            Content::Folder { .. } => {
                walk(state, *id, &format!("{path}/"), tree);
                tree.insert(path, None);
            }
        }
    }
}
