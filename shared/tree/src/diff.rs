//! The entries in which two trees differ; pages that both have are not read.

use std::cmp::Ordering;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::node::{Leaf, Link, Node, Tree, decode};
use crate::{Reader, Schema, TreeError};

/// An entry that two trees do not share.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference<V> {
    /// Its key.
    pub key: Box<str>,
    /// The value in the first tree; `None` if it has none.
    pub before: Option<V>,
    /// The value in the second tree; `None` if it has none.
    pub after: Option<V>,
}

/// Reads the differences of two trees in the order of their keys.
pub struct Differences<S: Schema> {
    before: Side<S>,
    after: Side<S>,
}

impl<S: Schema> Reader<S> {
    /// The entries in which `after`, whose pages `theirs` reads, differs from `before`.
    pub fn differences(self: &Arc<Self>, before: &Tree<S>, theirs: &Arc<Self>, after: &Tree<S>) -> Differences<S> {
        Differences { before: Side::new(self, before), after: Side::new(theirs, after) }
    }
}

/// What of a tree has not been compared yet.
struct Side<S: Schema> {
    reader: Arc<Reader<S>>,
    /// In reverse order: the next part is the last.
    rest: Vec<Part<S>>,
}

/// A part of a tree.
enum Part<S: Schema> {
    /// All entries below a page.
    Below(Link<S>),
    /// An entry of the page that the link references.
    Entry(Box<str>, Box<RawValue>, Link<S>),
}

impl<S: Schema> Differences<S> {
    /// The next difference; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Difference<S::Value>>, TreeError> {
        loop {
            match (self.before.rest.last(), self.after.rest.last()) {
                (None, None) => return Ok(None),
                (Some(Part::Below(a)), Some(Part::Below(b))) if a == b => {
                    self.before.rest.pop();
                    self.after.rest.pop();
                }
                // The higher one first, so that equal pages meet.
                (Some(Part::Below(a)), Some(Part::Below(b))) => match a.level.cmp(&b.level) {
                    Ordering::Less => self.after.open().await?,
                    Ordering::Greater => self.before.open().await?,
                    Ordering::Equal => {
                        self.before.open().await?;
                        self.after.open().await?;
                    }
                },
                (Some(Part::Below(_)), _) => self.before.open().await?,
                (_, Some(Part::Below(_))) => self.after.open().await?,
                (before, after) => {
                    let order = match (before.and_then(Part::key), after.and_then(Part::key)) {
                        (Some(a), Some(b)) => a.cmp(b),
                        (Some(_), None) => Ordering::Less,
                        (None, _) => Ordering::Greater,
                    };
                    let before = order.is_le().then(|| self.before.rest.pop()).flatten();
                    let after = order.is_ge().then(|| self.after.rest.pop()).flatten();
                    if let Some(difference) = difference(before, after)? {
                        return Ok(Some(difference));
                    }
                }
            }
        }
    }
}

impl<S: Schema> Part<S> {
    fn key(&self) -> Option<&str> {
        match self {
            Self::Below(_) => None,
            Self::Entry(key, ..) => Some(key),
        }
    }
}

impl<S: Schema> Side<S> {
    fn new(reader: &Arc<Reader<S>>, tree: &Tree<S>) -> Self {
        Self { reader: Arc::clone(reader), rest: tree.top.clone().map(Part::Below).into_iter().collect() }
    }

    /// Replaces the next part, a page, by the parts of that page.
    async fn open(&mut self) -> Result<(), TreeError> {
        let Some(Part::Below(link)) = self.rest.pop_if(|part| matches!(part, Part::Below(_))) else { return Ok(()) };
        match &*self.reader.node(&link).await? {
            Node::Inner(children) => {
                self.rest.extend(children.iter().rev().map(|(_, child)| Part::Below(child.clone())))
            }
            Node::Leaf(entries) => {
                let entry =
                    |(key, leaf): &(Box<str>, Leaf<S>)| Part::Entry(key.clone(), leaf.json.clone(), link.clone());
                self.rest.extend(entries.iter().rev().map(entry));
            }
        }
        Ok(())
    }
}

/// The difference between two entries under one key; `None` if they are equal.
fn difference<S: Schema>(
    before: Option<Part<S>>,
    after: Option<Part<S>>,
) -> Result<Option<Difference<S::Value>>, TreeError> {
    let entry = |part| match part {
        Some(Part::Entry(key, json, link)) => Some((key, json, link)),
        Some(Part::Below(_)) | None => None,
    };
    let (before, after) = (entry(before), entry(after));
    if let (Some((_, a, _)), Some((_, b, _))) = (&before, &after)
        && a.get() == b.get()
    {
        return Ok(None);
    }
    let Some((key, ..)) = before.as_ref().or(after.as_ref()) else { return Ok(None) };
    let value = |entry: &Option<(_, Box<RawValue>, Link<S>)>| match entry {
        Some((_, json, link)) => decode::<S>(link, json).map(Some),
        None => Ok(None),
    };
    Ok(Some(Difference { key: key.clone(), before: value(&before)?, after: value(&after)? }))
}
