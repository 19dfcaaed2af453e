//! [`Note`]: what is kept in memory about a page of leaves, so that lists and reports need not read it again.

use std::collections::BTreeSet;

use super::record::Entry;
use super::search::{Filter, Tokens};
use super::usage::Usage;

/// What the records of a page contain. Notes are never stored: they may change from version to version.
pub(crate) struct Note {
    filter: Filter,
    /// The groups of the records.
    groups: Box<[Box<str>]>,
    usage: Usage,
}

impl Note {
    pub(super) fn of(entries: &[Entry]) -> Self {
        let (mut tokens, mut groups, mut usage) = (Tokens::default(), BTreeSet::new(), Usage::default());
        for record in entries.iter().filter_map(Entry::live) {
            tokens.record(record);
            groups.extend(record.group().map(Box::<str>::from));
            usage.add(record);
        }
        Self { filter: Filter::of(&tokens), groups: groups.into_iter().collect(), usage }
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

    /// Memory that it occupies, approximately, in bytes.
    pub(super) fn weight(&self) -> u64 {
        let groups: usize = self.groups.iter().map(|group| group.len() + 32).sum();
        (size_of::<Self>() + groups) as u64 + self.filter.weight() + self.usage.weight()
    }
}
