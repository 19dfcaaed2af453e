//! [`Note`]: what is kept in memory about a page of leaves, so that lists, reports and prunes need not read it
//! again.

use std::collections::BTreeSet;

use super::record::Entry;
use super::search::{Filter, Tokens};
use super::usage::Usage;
use store::digest::Digest;

/// What the records of a page contain. Notes are never stored: they may change from version to version.
pub(crate) struct Note {
    filter: Filter,
    /// The groups of the records.
    groups: Box<[Box<str>]>,
    usage: Usage,
    /// The [`prefix`]es of the contents of the records, in order.
    contents: Box<[u32]>,
}

impl Note {
    pub(super) fn of(entries: &[Entry]) -> Self {
        let (mut tokens, mut groups, mut usage) = (Tokens::default(), BTreeSet::new(), Usage::default());
        for record in entries.iter().filter_map(Entry::live) {
            tokens.record(record);
            groups.extend(record.group().map(Box::<str>::from));
            usage.add(record);
        }
        let mut contents: Box<[u32]> = entries.iter().filter_map(Entry::content_digest).map(|c| prefix(&c)).collect();
        contents.sort_unstable();
        Self { filter: Filter::of(&tokens), groups: groups.into_iter().collect(), usage, contents }
    }

    /// Whether a record of the page may have all these tokens.
    pub(super) fn may_have(&self, tokens: &Tokens) -> bool {
        self.filter.may_have(tokens)
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|group| &**group)
    }

    pub(super) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Whether a record of the page may have a content with one of these prefixes, which are in order.
    pub(super) fn has_one(&self, prefixes: &[u32]) -> bool {
        self.contents.iter().any(|content| prefixes.binary_search(content).is_ok())
    }

    /// Memory that it occupies, approximately, in bytes.
    pub(super) fn weight(&self) -> u64 {
        let groups: usize = self.groups.iter().map(|group| group.len() + 32).sum();
        (size_of::<Self>() + groups + size_of_val(&*self.contents)) as u64 + self.filter.weight() + self.usage.weight()
    }
}

/// The first bytes of a digest. Two of a million contents with the same cost a read of a page that need not be.
pub(super) fn prefix(content: &Digest) -> u32 {
    let [a, b, c, d, ..] = *content.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}
