//! What the records of a list have in common, and which pages cannot have such a record.

use std::hash::{DefaultHasher, Hasher};

use super::record::Record;

/// The most words of 64 bits in a filter: a kibibyte for the one or two thousand trigrams of a page.
const WORDS: usize = 128;

/// What all records that a list takes have in common, as hashes.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Vec<u64>);

impl Tokens {
    /// Records of this category; empty for those without one.
    pub fn category(&mut self, category: &str) {
        self.0.push(hash(b'c', category));
    }

    /// Records of this type.
    pub fn kind(&mut self, kind: &str) {
        self.0.push(hash(b't', kind));
    }

    /// Records in whose text this word in lower case occurs.
    pub fn word(&mut self, word: &str) {
        self.0.extend(word.as_bytes().windows(3).map(hash_of_trigram));
    }

    /// All that a list may ask of this record.
    pub(super) fn record(&mut self, record: &Record) {
        self.category(record.category.as_deref().unwrap_or_default());
        record.kind.iter().for_each(|kind| self.kind(kind));
        record.searched_text().for_each(|text| self.word(&text));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A Bloom filter of tokens. The number of its words is a power of two.
pub(super) struct Filter(Box<[u64]>);

impl Filter {
    pub(super) fn of(tokens: &Tokens) -> Self {
        let mut words = vec![0; WORDS];
        for token in &tokens.0 {
            bits(*token, WORDS).for_each(|(word, bit)| words[word] |= bit);
        }
        // A quarter of the bits rules out nearly all: one token in 64 is in it by chance.
        while words.len() > 1 && words.iter().map(|word| word.count_ones() as usize).sum::<usize>() < words.len() * 8 {
            let upper = words.split_off(words.len() / 2);
            words.iter_mut().zip(upper).for_each(|(word, upper)| *word |= upper);
        }
        Self(words.into())
    }

    /// Whether all these tokens may be among those of the filter.
    pub(super) fn may_have(&self, tokens: &Tokens) -> bool {
        tokens.0.iter().all(|token| bits(*token, self.0.len()).all(|(word, bit)| self.0[word] & bit != 0))
    }

    pub(super) fn weight(&self) -> u64 {
        size_of_val(&*self.0) as u64
    }
}

/// Three bits of a filter of so many words, each as a word and a mask.
fn bits(token: u64, words: usize) -> impl Iterator<Item = (usize, u64)> {
    [16, 32, 48].into_iter().map(move |shift| {
        let bit = (token >> shift) as usize % (words * 64);
        (bit / 64, 1 << (bit % 64))
    })
}

fn hash(kind: u8, text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u8(kind);
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// By multiplication, since there are thousands in a page: the upper bits of the product depend on all bits.
fn hash_of_trigram(trigram: &[u8]) -> u64 {
    let number = trigram.iter().fold(1, |number, byte| (number << 8) | u64::from(*byte));
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
