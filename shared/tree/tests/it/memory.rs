//! Pages in memory, and the schema of the tests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::StoreError;
use store::digest::Digest;
use tree::{Cursor, Direction, Pages, Reader, Schema, Tree, TreeError};

/// Entries that are numbers; a summary has their sum.
#[derive(Debug)]
pub struct Numbers;

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    pub sum: u64,
    pub odd: u64,
}

impl Schema for Numbers {
    type Value = u64;
    type Summary = Sum;
    type Note = u64;

    fn summary(_: &str, value: &u64) -> Sum {
        Sum { sum: *value, odd: value % 2 }
    }

    fn merge(all: &mut Sum, other: &Sum) {
        all.sum += other.sum;
        all.odd += other.odd;
    }

    fn note(values: &[u64]) -> u64 {
        values.iter().sum()
    }

    fn note_weight(_: &u64) -> u64 {
        8
    }
}

/// Pages in memory.
#[derive(Debug, Default)]
pub struct Memory {
    pages: Mutex<BTreeMap<Digest, Bytes>>,
    reads: AtomicU64,
}

impl Memory {
    pub fn pages(&self) -> BTreeMap<Digest, Bytes> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn change(&self, change: impl FnOnce(&mut BTreeMap<Digest, Bytes>)) {
        change(&mut self.pages.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// How many pages were read since the last call.
    pub fn take_reads(&self) -> u64 {
        self.reads.swap(0, Ordering::Relaxed)
    }
}

#[async_trait]
impl Pages for Memory {
    async fn read(&self, page: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(self.pages().get(page).cloned())
    }

    async fn write(&self, page: &Digest, bytes: Bytes) -> Result<(), StoreError> {
        self.change(|pages| _ = pages.insert(*page, bytes));
        Ok(())
    }
}

pub type Model = BTreeMap<Box<str>, u64>;

/// A reader of these pages that has read none of them.
pub fn reader(memory: &Arc<Memory>) -> Arc<Reader<Numbers>> {
    Reader::new(Arc::clone(memory) as Arc<dyn Pages>, 16 << 20)
}

/// A tree of these entries.
pub async fn tree_of(reader: &Reader<Numbers>, model: &Model) -> Tree<Numbers> {
    let changes = model.iter().map(|(key, value)| (key.clone(), Some(*value))).collect();
    reader.update(&Tree::EMPTY, &changes).await.unwrap().tree
}

/// Everything that a cursor returns.
pub async fn collect(
    reader: &Arc<Reader<Numbers>>,
    tree: &Tree<Numbers>,
    direction: Direction,
    after: Option<&str>,
) -> Result<Vec<(Box<str>, u64)>, TreeError> {
    let mut cursor = Cursor::new(reader, tree, direction, after);
    let mut all = Vec::new();
    while let Some(entry) = cursor.next(|_| true).await? {
        all.push((entry.0, *entry.1));
    }
    Ok(all)
}
