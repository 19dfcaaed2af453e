//! Reading entries in order, and the pages of a level in order.

use std::ops::Range;
use std::sync::Arc;

use crate::node::{Link, Node, Tree};
use crate::{Entry, Reader, Schema, TreeError};

/// The order in which a [`Cursor`] returns entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// By ascending keys.
    Forward,
    /// By descending keys.
    Backward,
}

/// Reads the entries of a tree in order, page by page.
pub struct Cursor<S: Schema> {
    reader: Arc<Reader<S>>,
    direction: Direction,
    /// Only entries beyond this key, in the direction, are returned.
    after: Option<Box<str>>,
    /// The top page, if it has not been read yet.
    top: Option<Link<S>>,
    path: Vec<Frame<S>>,
}

/// A page on the path, and its entries that were not visited yet.
struct Frame<S: Schema> {
    link: Link<S>,
    node: Arc<Node<S>>,
    rest: Range<usize>,
}

impl<S: Schema> Cursor<S> {
    /// A cursor before the first entry, or right after the key `after`, which need not exist.
    pub fn new(reader: &Arc<Reader<S>>, tree: &Tree<S>, direction: Direction, after: Option<&str>) -> Self {
        Self {
            reader: Arc::clone(reader),
            direction,
            after: after.map(Into::into),
            top: tree.top.clone(),
            path: Vec::new(),
        }
    }

    /// The next entry below links that are `wanted`; pages below others are not read.
    pub async fn next(&mut self, wanted: impl Fn(&Link<S>) -> bool) -> Result<Option<Entry<S>>, TreeError> {
        loop {
            if let Some(entry) = self.next_here()? {
                return Ok(Some(entry));
            }
            match self.next_leaf(&wanted).await? {
                Some(leaf) => self.enter(leaf).await?,
                None => return Ok(None),
            }
        }
    }

    /// The next entry of the leaf that was [entered](Self::enter) last; `None` behind its last one.
    pub fn next_here(&mut self) -> Result<Option<Entry<S>>, TreeError> {
        let Some(Frame { link, node, rest }) = self.path.last_mut() else { return Ok(None) };
        let Node::Leaf(entries) = &**node else { return Ok(None) };
        let Some(at) = self.direction.next(rest) else { return Ok(None) };
        let (key, leaf) = &entries[at];
        Ok(Some((key.clone(), leaf.value(link)?)))
    }

    /// The next leaf below links that are `wanted`, and wanted itself. It is not read, unless it is
    /// [entered](Self::enter).
    pub async fn next_leaf(&mut self, mut wanted: impl FnMut(&Link<S>) -> bool) -> Result<Option<Link<S>>, TreeError> {
        let mut found = self.top.take();
        loop {
            match found.take().filter(&mut wanted) {
                Some(leaf) if leaf.level == 0 => return Ok(Some(leaf)),
                Some(inner) => self.enter(inner).await?,
                None => {}
            }
            let Some(frame) = self.path.last_mut() else { return Ok(None) };
            if let Node::Inner(children) = &*frame.node
                && let Some(at) = self.direction.next(&mut frame.rest)
            {
                found = Some(children[at].1.clone());
            } else {
                self.path.pop();
            }
        }
    }

    /// Reads a leaf that [`next_leaf`](Self::next_leaf) has just returned, for [`next_here`](Self::next_here).
    pub async fn enter(&mut self, link: Link<S>) -> Result<(), TreeError> {
        let node = self.reader.node(&link).await?;
        let rest = match (self.direction, self.after.as_deref(), &*node) {
            (_, None, node) => 0..node.len(),
            (Direction::Forward, Some(after), node) => node.count_up_to(after)..node.len(),
            (Direction::Backward, Some(after), Node::Leaf(_)) => 0..node.count_before(after),
            // The first child that ends at the key or beyond may begin before it.
            (Direction::Backward, Some(after), Node::Inner(_)) => 0..(node.count_before(after) + 1).min(node.len()),
        };
        self.path.push(Frame { link, node, rest });
        Ok(())
    }
}

impl Direction {
    fn next(self, rest: &mut Range<usize>) -> Option<usize> {
        match self {
            Self::Forward => rest.next(),
            Self::Backward => rest.next_back(),
        }
    }
}

/// A position among the pages of one level.
pub(crate) struct Level<'a, S: Schema> {
    reader: &'a Reader<S>,
    level: u8,
    /// The pages above, from the top, each with the index of the child that the path takes.
    path: Vec<(Arc<Node<S>>, usize)>,
    /// The page of the position and the last key below it; none behind the last page.
    page: Option<(Box<str>, Link<S>)>,
}

impl<'a, S: Schema> Level<'a, S> {
    /// The first page of `level` whose last key is not below `key`; the last page if there is none.
    pub(crate) async fn seek(reader: &'a Reader<S>, tree: &Tree<S>, level: u8, key: &str) -> Result<Self, TreeError> {
        let mut found = Self { reader, level, path: Vec::new(), page: None };
        let Some(top) = tree.top.clone().filter(|top| top.level >= level) else { return Ok(found) };
        let last = reader.node(&top).await?.last_key().into();
        found.page = Some((last, top));
        found.descend(|node| node.count_before(key).min(node.len() - 1)).await?;
        Ok(found)
    }

    /// The page, with the last key below it; `None` behind the last page.
    pub(crate) fn page(&self) -> Option<(Box<str>, Link<S>)> {
        self.page.clone()
    }

    /// Moves to the next page.
    pub(crate) async fn advance(&mut self) -> Result<(), TreeError> {
        self.page = None;
        while let Some((node, at)) = self.path.last_mut() {
            *at += 1;
            if let Node::Inner(children) = &**node
                && let Some((last, child)) = children.get(*at)
            {
                self.page = Some((last.clone(), child.clone()));
                return self.descend(|_| 0).await;
            }
            self.path.pop();
        }
        Ok(())
    }

    /// Moves down from the page to the level, by the child that `choose` returns for each page.
    async fn descend(&mut self, choose: impl Fn(&Node<S>) -> usize) -> Result<(), TreeError> {
        while let Some((_, link)) = self.page.as_ref().filter(|(_, link)| link.level > self.level) {
            let node = self.reader.node(link).await?;
            let at = choose(&node);
            if let Node::Inner(children) = &*node {
                self.page = children.get(at).cloned();
                self.path.push((node, at));
            }
        }
        Ok(())
    }
}
