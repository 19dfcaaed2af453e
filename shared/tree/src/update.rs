//! Changing a tree: only the pages on the paths to the changes are read and written.
//!
//! A level is an ordered list of entries, cut into pages by [`boundary`](crate::boundary). The page with a change is
//! written again from its first entry. Pages after it are written again until a new boundary is also an old one: from
//! there on, the old pages are those that would be written. The pages that went and came are the changes of the level
//! above.

use std::collections::BTreeMap;

use bytes::Bytes;
use store::digest::Digest;

use crate::boundary::{BYTES, ENTRIES, ends_run};
use crate::cursor::Level;
use crate::node::{Item, Leaf, Link, Node, Tree, encode};
use crate::{Reader, Schema, TreeError};

/// Pages stored concurrently.
const WRITES: usize = 16;

/// New values by key; `None` removes the entry.
pub type Changes<S> = BTreeMap<Box<str>, Option<<S as Schema>::Value>>;

/// The outcome of an update.
#[derive(Debug)]
pub struct Updated<S: Schema> {
    /// The changed map. All its pages are stored.
    pub tree: Tree<S>,
    /// How many pages were written.
    pub pages: u64,
    /// Their length in bytes.
    pub bytes: u64,
}

type Items<S> = BTreeMap<Box<str>, Option<Item<S>>>;
/// Pages of one level by their last keys.
type Pages<S> = BTreeMap<Box<str>, Link<S>>;

impl<S: Schema> Reader<S> {
    /// Changes entries, and stores the new pages before it returns. A failure leaves at most pages without a reference.
    pub async fn update(&self, tree: &Tree<S>, changes: &Changes<S>) -> Result<Updated<S>, TreeError> {
        let mut written = Writing { reader: self, pages: 0, bytes: 0, waiting: Vec::new() };
        let items = changes
            .iter()
            .map(|(key, value)| (key.clone(), value.as_ref().map(|value| Item::of_value(key.clone(), value))));
        let tree = written.update(tree, items.collect()).await?;
        written.store().await?;
        Ok(Updated { tree, pages: written.pages, bytes: written.bytes })
    }
}

struct Writing<'a, S: Schema> {
    reader: &'a Reader<S>,
    pages: u64,
    bytes: u64,
    /// Pages that are not stored yet.
    waiting: Vec<(Digest, Bytes)>,
}

impl<S: Schema> Writing<'_, S> {
    async fn update(&mut self, tree: &Tree<S>, mut changes: Items<S>) -> Result<Tree<S>, TreeError> {
        let height = tree.top.as_ref().map_or(0, |top| top.level);
        for level in 0..height {
            changes = items(self.rewrite(tree, level, changes).await?.into_changes());
            if changes.is_empty() {
                return Ok(tree.clone());
            }
        }
        let top = self.rewrite(tree, height, changes).await?;
        match top.is_nothing() {
            true => Ok(tree.clone()),
            false => self.top(top.after.into_iter().collect()).await,
        }
    }

    /// The tree over these pages, which are all of their level.
    async fn top(&mut self, mut links: Vec<(Box<str>, Link<S>)>) -> Result<Tree<S>, TreeError> {
        while links.len() > 1 {
            let level = links[0].1.level + 1;
            let changes = items(links.into_iter().map(|(last, link)| (last, Some(link))).collect());
            links = self.rewrite(&Tree::EMPTY, level, changes).await?.after.into_iter().collect();
        }
        let Some((_, mut top)) = links.pop() else { return Ok(Tree::EMPTY) };
        // A page with one child is needless at the top.
        while top.level > 0 {
            match &*self.reader.node(&top).await? {
                Node::Inner(children) if children.len() == 1 => top = children[0].1.clone(),
                _ => break,
            }
        }
        Ok(Tree { top: Some(top) })
    }

    /// Applies changes to the entries of one level. At the highest level, the result has all pages of the new one.
    async fn rewrite(&mut self, tree: &Tree<S>, level: u8, changes: Items<S>) -> Result<Rewritten<S>, TreeError> {
        let mut changes = changes.into_iter().peekable();
        let (mut before, mut out) =
            (BTreeMap::new(), Output { level, page: Vec::new(), length: 0, written: BTreeMap::new() });
        while let Some((first, _)) = changes.peek() {
            let mut old = Level::seek(self.reader, tree, level, first).await?;
            while let Some((last, link)) = old.page() {
                let entries = self.items(&link).await?;
                before.insert(last, link);
                old.advance().await?;
                for entry in entries {
                    while let Some((_, new)) = changes.next_if(|(key, _)| **key < *entry.key) {
                        self.push(&mut out, new).await?;
                    }
                    let changed = changes.next_if(|(key, _)| **key == *entry.key);
                    self.push(&mut out, changed.map_or(Some(entry), |(_, new)| new)).await?;
                }
                // From here on the old pages are those that would be written.
                if out.page.is_empty() {
                    break;
                }
            }
            // Behind the last page is only what is new.
            if old.page().is_none() {
                for (_, new) in changes.by_ref() {
                    self.push(&mut out, new).await?;
                }
            }
            self.write(&mut out).await?;
        }
        Ok(Rewritten { before, after: out.written })
    }

    /// The entries of a page.
    async fn items(&self, link: &Link<S>) -> Result<Vec<Item<S>>, TreeError> {
        match &*self.reader.node(link).await? {
            Node::Inner(children) => {
                Ok(children.iter().map(|(last, child)| Item::of_link(last.clone(), child)).collect())
            }
            Node::Leaf(entries) => {
                let item = |(key, leaf): &(Box<str>, Leaf<S>)| {
                    let summary = S::summary(key, &leaf.decode(link)?);
                    Ok(Item { key: key.clone(), json: leaf.json.clone(), entries: 1, summary, link: None })
                };
                entries.iter().map(item).collect()
            }
        }
    }

    /// Adds an entry to the page in progress, and writes the page if it ends there.
    async fn push(&mut self, out: &mut Output<S>, item: Option<Item<S>>) -> Result<(), TreeError> {
        let Some(item) = item else { return Ok(()) };
        out.length += item.length();
        let is_last = ends_run(out.level, &item.key) || out.length >= BYTES || out.page.len() + 1 == ENTRIES;
        out.page.push(item);
        if is_last { self.write(out).await } else { Ok(()) }
    }

    /// Stores the pages that wait.
    async fn store(&mut self) -> Result<(), TreeError> {
        let pages = std::mem::take(&mut self.waiting);
        let writes = pages.iter().map(|(page, bytes)| self.reader.pages.write(page, bytes.clone()));
        futures::future::try_join_all(writes).await?;
        Ok(())
    }

    /// Writes the page in progress, unless it is empty.
    async fn write(&mut self, out: &mut Output<S>) -> Result<(), TreeError> {
        let Some(last) = out.page.last().map(|item| item.key.clone()) else { return Ok(()) };
        let (link, bytes) = encode(out.level, &out.page);
        let node = Node::of_items(out.level, std::mem::take(&mut out.page));
        out.length = 0;
        self.pages += 1;
        self.bytes += bytes.len() as u64;
        self.waiting.push((link.page, bytes));
        self.reader.hold(&link.page, node);
        if self.waiting.len() == WRITES {
            self.store().await?;
        }
        out.written.insert(last, link);
        Ok(())
    }
}

/// The pages of one level that are being written.
struct Output<S: Schema> {
    level: u8,
    /// The page in progress, and its length in bytes of JSON.
    page: Vec<Item<S>>,
    length: usize,
    written: Pages<S>,
}

/// What an update did to the pages of one level.
struct Rewritten<S: Schema> {
    before: Pages<S>,
    after: Pages<S>,
}

impl<S: Schema> Rewritten<S> {
    fn is_nothing(&self) -> bool {
        self.before == self.after
    }

    /// The changes of the level above.
    fn into_changes(self) -> BTreeMap<Box<str>, Option<Link<S>>> {
        let Self { before, after } = self;
        let gone = before.keys().filter(|last| !after.contains_key(*last)).map(|last| (last.clone(), None));
        let gone: Vec<_> = gone.collect();
        let new = after.into_iter().filter(|(last, link)| before.get(last) != Some(link));
        new.map(|(last, link)| (last, Some(link))).chain(gone).collect()
    }
}

fn items<S: Schema>(links: BTreeMap<Box<str>, Option<Link<S>>>) -> Items<S> {
    let item = |(last, link): (Box<str>, Option<Link<S>>)| {
        let item = link.map(|link| Item::of_link(last.clone(), &link));
        (last, item)
    };
    links.into_iter().map(item).collect()
}
