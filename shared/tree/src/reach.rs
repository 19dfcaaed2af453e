//! Which pages a tree references, for a prune and for replication.

use store::digest::Digest;

use crate::node::{Node, Tree};
use crate::reader::decode;
use crate::{Reader, Schema, TreeError};

impl<S: Schema> Reader<S> {
    /// Visits the pages of a tree, those above first. `enter` decides for each page whether it is read; if not, nothing
    /// below it is visited. `each` gets the entries of the leaves that were read.
    pub async fn walk(
        &self,
        tree: &Tree<S>,
        mut enter: impl FnMut(&Digest) -> bool,
        mut each: impl FnMut(&str, S::Value),
    ) -> Result<(), TreeError> {
        let mut rest: Vec<_> = tree.top.clone().into_iter().collect();
        while let Some(link) = rest.pop() {
            if !enter(&link.page) {
                continue;
            }
            match &*self.node(&link).await? {
                Node::Inner(children) => rest.extend(children.iter().rev().map(|(_, child)| child.clone())),
                Node::Leaf(entries) => {
                    for (key, json) in entries {
                        each(key, decode::<S>(&link, json.get())?);
                    }
                }
            }
        }
        Ok(())
    }
}
