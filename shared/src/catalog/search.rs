//! Which pages a filter of a list may skip: each page that was read whole has a note, a Bloom filter of what its records
//! contain. Notes are in memory alone; without one, a page is read.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, LazyLock};

use super::record::Record;

/// Words of 64 bits in a filter: a kibibyte for the one or two thousand trigrams of a page.
const WORDS: usize = 128;

/// What all records that a list takes have in common, as hashes.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Vec<u64>);

impl Tokens {
    /// Records of this category.
    pub fn category(&mut self, category: &str) {
        self.0.push(hash(b'c', category.as_bytes()));
    }

    /// Records of this type.
    pub fn kind(&mut self, kind: &str) {
        self.0.push(hash(b't', kind.as_bytes()));
    }

    /// Records in whose text this word in lower case occurs.
    pub fn word(&mut self, word: &str) {
        self.0.extend(word.as_bytes().windows(3).map(|trigram| hash(b'w', trigram)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a page with this note may have a record with all of this.
    pub(super) fn may_be_in(&self, note: &[u64]) -> bool {
        self.0.iter().all(|token| bits(*token).all(|(word, bit)| note.get(word).is_none_or(|word| word & bit != 0)))
    }
}

/// The note of a page while it is read.
#[derive(Clone)]
pub(super) struct Note(Vec<u64>);

impl Default for Note {
    fn default() -> Self {
        Self(vec![0; WORDS])
    }
}

impl Note {
    /// Adds all that a filter may ask of a record that leads a list. A list takes a group for any of its images, of
    /// which only the newest is here, so that a page with a group is always read.
    pub(super) fn add_leader(&mut self, record: &Record) {
        match record.group() {
            Some(_) => self.0.fill(u64::MAX),
            None => self.add(record),
        }
    }

    /// Adds all that a filter may ask of a record.
    pub(super) fn add(&mut self, record: &Record) {
        let mut tokens = Tokens::default();
        record.category.iter().for_each(|category| tokens.category(category));
        record.kind.iter().for_each(|kind| tokens.kind(kind));
        record.searched_text().for_each(|text| tokens.word(&text));
        for token in tokens.0 {
            bits(token).for_each(|(word, bit)| self.0[word] |= bit);
        }
    }

    pub(super) fn finish(self) -> Arc<[u64]> {
        self.0.into()
    }
}

/// Three bits of a filter, each as a word and a mask.
fn bits(token: u64) -> impl Iterator<Item = (usize, u64)> {
    [0, 20, 40].into_iter().map(move |shift| {
        let bit = (token >> shift) as usize % (WORDS * 64);
        (bit / 64, 1 << (bit % 64))
    })
}

/// Notes are never stored, so that the hash may differ between processes.
fn hash(kind: u8, bytes: &[u8]) -> u64 {
    static STATE: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let mut hasher = STATE.build_hasher();
    hasher.write_u8(kind);
    hasher.write(bytes);
    hasher.finish()
}
