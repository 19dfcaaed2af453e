//! [`Reader`]: reading pages through a cache of bounded size.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use store::digest::Digest;

use crate::node::{Link, Node, Tree};
use crate::{Entry, Pages, Schema, TreeError};

/// Reads and writes the pages of trees of one schema, with a cache of decoded pages. A process has one of each schema.
pub struct Reader<S: Schema> {
    pub(crate) pages: Arc<dyn Pages>,
    cache: Cache<Digest, Arc<Node<S>>, ByWeight>,
    notes: Cache<Digest, Arc<S::Note>, ByNote<S>>,
}

impl<S: Schema> fmt::Debug for Reader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("cached", &self.cache.len()).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct ByWeight;
struct ByNote<S>(PhantomData<fn() -> S>);

impl<S> Clone for ByNote<S> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<S: Schema> Weighter<Digest, Arc<S::Note>> for ByNote<S> {
    fn weight(&self, _: &Digest, note: &Arc<S::Note>) -> u64 {
        S::note_weight(note)
    }
}

impl<S: Schema> Weighter<Digest, Arc<Node<S>>> for ByWeight {
    fn weight(&self, _: &Digest, node: &Arc<Node<S>>) -> u64 {
        node.weight()
    }
}

impl<S: Schema> Reader<S> {
    /// A reader of these pages, which keeps at most about `cache` bytes of decoded pages, and as many of notes.
    pub fn new(pages: Arc<dyn Pages>, cache: u64) -> Arc<Self> {
        /// The approximate memory of a page, for the initial capacity of the cache.
        const PAGE: u64 = 48 * 1024;
        let notes = Cache::with_weighter((cache / PAGE) as usize, cache, ByNote(PhantomData));
        Arc::new(Self { pages, cache: Cache::with_weighter((cache / PAGE) as usize, cache, ByWeight), notes })
    }

    /// The value under a key.
    pub async fn get(&self, tree: &Tree<S>, key: &str) -> Result<Option<Arc<S::Value>>, TreeError> {
        let Some(mut link) = tree.top.clone() else { return Ok(None) };
        loop {
            let node = self.node(&link).await?;
            match &*node {
                Node::Inner(children) => match children.get(children.partition_point(|(last, _)| **last < *key)) {
                    Some((_, child)) => link = child.clone(),
                    None => return Ok(None),
                },
                Node::Leaf(entries) => {
                    let found = entries.binary_search_by(|(name, _)| (**name).cmp(key)).ok();
                    return found.map(|at| entries[at].1.value(&link)).transpose();
                }
            }
        }
    }

    /// The entry that has `n` others before it.
    pub async fn nth(&self, tree: &Tree<S>, mut n: u64) -> Result<Option<Entry<S>>, TreeError> {
        let Some(mut link) = tree.top.clone().filter(|top| n < top.entries) else { return Ok(None) };
        loop {
            let node = self.node(&link).await?;
            match &*node {
                Node::Inner(children) => {
                    let below = children.iter().find(|(_, child)| {
                        let is_here = n < child.entries;
                        n -= if is_here { 0 } else { child.entries };
                        is_here
                    });
                    let Some((_, child)) = below else { return Ok(None) };
                    link = child.clone();
                }
                Node::Leaf(entries) => {
                    let Some((key, leaf)) = entries.get(n as usize) else { return Ok(None) };
                    return Ok(Some((key.clone(), leaf.value(&link)?)));
                }
            }
        }
    }

    /// The leaves whose entries may have keys above `after` and up to `until`. They are not read.
    pub async fn leaves(&self, tree: &Tree<S>, after: &str, until: &str) -> Result<Vec<Link<S>>, TreeError> {
        let mut links: Vec<Link<S>> = tree.top.iter().cloned().collect();
        while links.first().is_some_and(|link| link.level > 0) {
            let mut below = Vec::new();
            for link in &links {
                let node = self.node(link).await?;
                let Node::Inner(children) = &*node else { continue };
                let end = (node.count_before(until) + 1).min(children.len());
                below.extend(children[node.count_up_to(after)..end].iter().map(|(_, child)| child.clone()));
            }
            links = below;
        }
        Ok(links)
    }

    /// The bytes of a page, for a copy of it.
    pub async fn bytes(&self, page: &Digest) -> Result<Bytes, TreeError> {
        let bytes = self.pages.read(page).await?.ok_or(TreeError::Missing(*page))?;
        match Digest::of(&bytes) == *page {
            true => Ok(bytes),
            false => Err(TreeError::Damaged { page: *page, reason: "its digest is another".into() }),
        }
    }

    /// The note of a leaf. Reads the leaf if there is none in memory, and does not keep it: a search asks for many.
    pub async fn note(&self, leaf: &Link<S>) -> Result<Arc<S::Note>, TreeError> {
        let read = async {
            let node = match self.cache.get(&leaf.page) {
                Some(node) => node,
                None => self.read(leaf).await?,
            };
            let Node::Leaf(entries) = &*node else { unreachable!("only leaves have notes") };
            let values: Result<Vec<_>, _> = entries.iter().map(|(_, value)| value.decode(leaf)).collect();
            Ok(Arc::new(S::note(&values?)))
        };
        self.notes.get_or_insert_async(&leaf.page, read).await
    }

    /// Keeps a page that was just written, since its entries are the newest.
    pub(crate) fn hold(&self, page: &Digest, node: Node<S>) {
        self.cache.insert(*page, Arc::new(node));
    }

    /// A decoded page. Concurrent calls share one read.
    pub(crate) async fn node(&self, link: &Link<S>) -> Result<Arc<Node<S>>, TreeError> {
        self.cache.get_or_insert_async(&link.page, self.read(link)).await
    }

    async fn read(&self, link: &Link<S>) -> Result<Arc<Node<S>>, TreeError> {
        let bytes = self.pages.read(&link.page).await?.ok_or(TreeError::Missing(link.page))?;
        Node::decode(link, &bytes).map(Arc::new)
    }
}
