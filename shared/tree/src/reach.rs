//! Which pages a tree references, for a prune and for replication.

use std::collections::HashSet;

use store::digest::Digest;

use crate::node::{Link, Node, Tree};
use crate::{Reader, Schema, TreeError};

/// Keys after the first, up to and including the second; without one, there is no limit on that side.
pub type LostRange = (Option<Box<str>>, Option<Box<str>>);

impl<S: Schema> Reader<S> {
    /// The pages of `after` that `before`, whose pages `theirs` reads, does not have. Reads the pages above them only.
    pub async fn pages_beyond(
        &self,
        after: &Tree<S>,
        theirs: &Self,
        before: &Tree<S>,
    ) -> Result<Vec<Digest>, TreeError> {
        let (mut new, mut old): (Vec<Link<S>>, Vec<Link<S>>) =
            (after.top.clone().into_iter().collect(), before.top.clone().into_iter().collect());
        let mut beyond = Vec::new();
        while let Some(level) = new.iter().map(|link| link.level).max() {
            // The old tree may be higher; and a page that both have has the same pages below.
            while old.iter().any(|link| link.level > level) {
                old = theirs.children(old, level + 1).await?;
            }
            let has = |links: &[Link<S>]| links.iter().map(|link| link.page).collect::<HashSet<Digest>>();
            let (has_old, has_new) = (has(&old), has(&new));
            new.retain(|link| !has_old.contains(&link.page));
            old.retain(|link| !has_new.contains(&link.page));
            beyond.extend(new.iter().map(|link| link.page));
            if level == 0 {
                break;
            }
            new = self.children(new, level).await?;
        }
        Ok(beyond)
    }

    /// These links, with those at or above `level` replaced by what is below them.
    async fn children(&self, links: Vec<Link<S>>, level: u8) -> Result<Vec<Link<S>>, TreeError> {
        let mut below = Vec::new();
        for link in links {
            match &*self.node(&link).await? {
                Node::Inner(children) if link.level >= level => {
                    below.extend(children.iter().map(|(_, child)| child.clone()));
                }
                Node::Inner(_) | Node::Leaf(_) => below.push(link),
            }
        }
        Ok(below)
    }

    /// Adds the pages of a tree to `known`. Reads only pages that are not known, and no leaves.
    pub async fn reach(&self, tree: &Tree<S>, known: &mut HashSet<Digest>) -> Result<(), TreeError> {
        let mut rest: Vec<_> = tree.top.clone().into_iter().collect();
        while let Some(link) = rest.pop() {
            if known.insert(link.page)
                && link.level > 0
                && let Node::Inner(children) = &*self.node(&link).await?
            {
                rest.extend(children.iter().map(|(_, child)| child.clone()));
            }
        }
        Ok(())
    }

    /// Visits the entries of a tree on pages that can be read. Returns the ranges of keys of the pages that cannot: after
    /// the first key, if there is one, up to and including the second.
    pub async fn salvage(
        &self,
        tree: &Tree<S>,
        mut each: impl FnMut(&str, S::Value),
    ) -> Result<Vec<LostRange>, TreeError> {
        let mut rest: Vec<(LostRange, Link<S>)> = tree.top.clone().into_iter().map(|top| ((None, None), top)).collect();
        let mut lost = Vec::new();
        while let Some((range, link)) = rest.pop() {
            match self.node(&link).await {
                Ok(node) => match &*node {
                    Node::Inner(children) => {
                        let mut after = range.0;
                        for (last, child) in children {
                            rest.push(((after.replace(last.clone()), Some(last.clone())), child.clone()));
                        }
                    }
                    Node::Leaf(entries) => {
                        for (key, leaf) in entries {
                            each(key, leaf.decode(&link)?);
                        }
                    }
                },
                Err(TreeError::Missing(_) | TreeError::Damaged { .. }) => lost.push(range),
                Err(error) => return Err(error),
            }
        }
        Ok(lost)
    }

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
                    for (key, leaf) in entries {
                        each(key, leaf.decode(&link)?);
                    }
                }
            }
        }
        Ok(())
    }
}
