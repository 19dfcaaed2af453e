//! [`Reader`]: reading pages through a cache of bounded size.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use store::digest::Digest;

use crate::node::{Link, Node, Tree};
use crate::{Pages, Schema, TreeError};

/// Reads and writes the pages of trees of one schema, with a cache of decoded pages. A process has one of each schema.
pub struct Reader<S: Schema> {
    pub(crate) pages: Arc<dyn Pages>,
    cache: Cache<Digest, Arc<Node<S>>, ByWeight>,
}

#[derive(Clone)]
struct ByWeight;

impl<S: Schema> Weighter<Digest, Arc<Node<S>>> for ByWeight {
    fn weight(&self, _: &Digest, node: &Arc<Node<S>>) -> u64 {
        node.weight()
    }
}

impl<S: Schema> Reader<S> {
    /// A reader of these pages, which keeps at most about `cache` bytes of decoded pages.
    pub fn new(pages: Arc<dyn Pages>, cache: u64) -> Self {
        /// The approximate memory of a page, for the initial capacity of the cache.
        const PAGE: u64 = 48 * 1024;
        Self { pages, cache: Cache::with_weighter((cache / PAGE) as usize, cache, ByWeight) }
    }

    /// The value under a key.
    pub async fn get(&self, tree: &Tree<S>, key: &str) -> Result<Option<S::Value>, TreeError> {
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
                    return found.map(|at| decode::<S>(&link, entries[at].1.get())).transpose();
                }
            }
        }
    }

    /// A decoded page. Concurrent calls share one read.
    pub(crate) async fn node(&self, link: &Link<S>) -> Result<Arc<Node<S>>, TreeError> {
        let read = async {
            let bytes = self.pages.read(&link.page).await?.ok_or(TreeError::Missing(link.page))?;
            Node::decode(link, &bytes).map(Arc::new)
        };
        self.cache.get_or_insert_async(&link.page, read).await
    }
}

/// Decodes a value of a leaf.
pub(crate) fn decode<S: Schema>(link: &Link<S>, json: &str) -> Result<S::Value, TreeError> {
    serde_json::from_str(json).map_err(|e| TreeError::Damaged { page: link.page, reason: e.to_string() })
}
