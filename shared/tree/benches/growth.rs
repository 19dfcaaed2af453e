//! What a tree costs at 1,000 to 1,000,000 entries of the size of an image's record, with pages in memory:
//! `cargo bench --package tree`, or with `-- 1000 100000` the sizes given.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::StoreError;
use store::digest::Digest;
use tree::{Changes, Cursor, Direction, Pages, Reader, Schema, Tree};

/// Entries changed at once while a tree is built.
const BATCH: u64 = 10_000;
/// Decoded pages kept.
const CACHE: u64 = 16 << 20;

struct Images;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    category: String,
    description: String,
    upload_date: String,
    original_name: String,
    content_type: String,
    size: u64,
    width: u64,
    height: u64,
    sha256: Digest,
    version: u64,
    commit: String,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Totals {
    bytes: u64,
}

impl Schema for Images {
    type Value = Record;
    type Summary = Totals;
    type Note = ();

    fn summary(_: &str, record: &Record) -> Totals {
        Totals { bytes: record.size }
    }

    fn merge(all: &mut Totals, other: &Totals) {
        all.bytes += other.bytes;
    }

    fn note(_: &[Record]) {}

    fn note_weight((): &()) -> u64 {
        0
    }
}

#[derive(Default)]
struct Memory {
    pages: Mutex<HashMap<Digest, Bytes>>,
    reads: AtomicU64,
    bytes: AtomicU64,
}

#[async_trait]
impl Pages for Memory {
    async fn read(&self, page: &Digest) -> Result<Option<Bytes>, StoreError> {
        let found = self.pages.lock().unwrap_or_else(PoisonError::into_inner).get(page).cloned();
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(found.as_ref().map_or(0, |bytes| bytes.len() as u64), Ordering::Relaxed);
        Ok(found)
    }

    async fn write(&self, page: &Digest, bytes: Bytes) -> Result<(), StoreError> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).insert(*page, bytes);
        Ok(())
    }
}

impl Memory {
    fn length(&self, page: &Digest) -> usize {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).get(page).map_or(0, Bytes::len)
    }

    fn take(&self) -> (u64, u64) {
        (self.reads.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed))
    }
}

fn key(n: u64) -> Box<str> {
    let digest = Digest::of(&n.to_le_bytes()).to_string();
    format!("{:013}-{}.jpg", 1_700_000_000_000 + n * 4_000, &digest[..16]).into()
}

fn record(n: u64) -> Record {
    let [digest, commit] = [n, n << 32].map(|n| Digest::of(&n.to_be_bytes()));
    let commit = commit.to_string();
    Record {
        category: "holiday".into(),
        description: if n.is_multiple_of(2) { String::new() } else { format!("picture {} of the lake", n % 97) },
        upload_date: format!("2026-{:02}-{:02}T{:02}:00:00.{:03}Z", n / 28 % 12 + 1, n % 28 + 1, n % 24, n % 1000),
        original_name: format!("IMG_{n:04}.jpg"),
        content_type: "image/jpeg".into(),
        size: 2_000_000 + n % 1_000_000,
        width: 4032,
        height: 3024,
        sha256: digest,
        version: 1,
        commit: format!(
            "{}-{}-{}-{}-{}",
            &commit[..8],
            &commit[8..12],
            &commit[12..16],
            &commit[16..20],
            &commit[20..32]
        ),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sizes: Vec<u64> = std::env::args().skip(1).filter_map(|size| size.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1_000, 100_000, 1_000_000] } else { sizes };
    println!(
        "| Entries | Levels | Pages | Bytes an entry | One more | One edited | Lookup, cold | Lookup, 16 MiB cache | 50 last, cold | All |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for size in sizes {
        measure(size).await?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a bench takes the time")]
async fn measure(size: u64) -> Result<(), Box<dyn std::error::Error>> {
    let memory = Arc::new(Memory::default());
    let reader = || Reader::<Images>::new(Arc::clone(&memory) as Arc<dyn Pages>, CACHE);
    let warm = reader();
    let (mut tree, mut n) = (Tree::EMPTY, 0);
    while n < size {
        let end = (n + BATCH).min(size);
        let changes: Changes<Images> = (n..end).map(|n| (key(n), Some(record(n)))).collect();
        tree = warm.update(&tree, &changes).await?.tree;
        n = end;
    }
    let mut own = std::collections::HashSet::new();
    let started = Instant::now();
    let mut entries = 0_u64;
    reader().walk(&tree, |page| own.insert(*page), |_, _| entries += 1).await?;
    let all = started.elapsed();
    assert_eq!(entries, size);
    let bytes: usize = own.iter().map(|page| memory.length(page)).sum();

    let (mut more, mut edited) = ((0, 0), (0, 0));
    for i in 0..64 {
        let updated = warm.update(&tree, &[(key(size + i), Some(record(size + i)))].into()).await?;
        more = (more.0 + updated.pages, more.1 + updated.bytes);
        let at = i * 7_919 % size;
        let changed = Record { version: 2, ..record(at) };
        let updated = warm.update(&tree, &[(key(at), Some(changed))].into()).await?;
        edited = (edited.0 + updated.pages, edited.1 + updated.bytes);
    }

    memory.take();
    let cold = reader();
    cold.get(&tree, &key(size / 2)).await?;
    let lookup = memory.take();
    let started = Instant::now();
    for i in 0..1_000 {
        warm.get(&tree, &key(i * 7_919 % size)).await?;
    }
    let random = started.elapsed() / 1_000;
    memory.take();
    let cold = reader();
    let mut last = Cursor::new(&cold, &tree, Direction::Backward, None);
    for _ in 0..50 {
        last.next(|_| true).await?;
    }
    let list = memory.take();
    println!(
        "| {size} | {} | {} | {} | {:.1} pages, {} B | {:.1} pages, {} B | {} pages, {} B | {random:.0?} | {} pages, {} B | {all:.1?} |",
        tree.top().map_or(0, |top| top.level + 1),
        own.len(),
        bytes as u64 / size,
        more.0 as f64 / 64.0,
        more.1 / 64,
        edited.0 as f64 / 64.0,
        edited.1 / 64,
        lookup.0,
        lookup.1,
        list.0,
        list.1,
    );
    Ok(())
}
