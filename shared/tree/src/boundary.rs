//! Where a page ends. The result must never change: it decides which pages equal maps share.
//!
//! A page ends at a key whose hash says so, one in [`RUN`]; or when it has [`ENTRIES`] entries or [`BYTES`] bytes of
//! JSON. The limits alone would move every boundary behind an insertion. With the hash alone, lengths would be
//! random: with one key in 128, one page in fifty has more than 500 entries.

/// After how many entries, on average, the hash of a key ends a page.
const RUN: u64 = 512;
/// The most entries of a page.
pub(crate) const ENTRIES: usize = 128;
/// A page ends with the entry that brings it to this length in bytes of JSON.
pub(crate) const BYTES: usize = 64 * 1024;

/// Whether a page of this level always ends with this key: FNV-1a over the level and the key, finished as MurmurHash3
/// is. FNV alone hardly mixes the last bytes, in which names that begin with a time differ.
pub(crate) fn ends_run(level: u8, key: &str) -> bool {
    let bytes = std::iter::once(level).chain(key.bytes());
    let fnv = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let mix = |h: u64, factor: u64| (h ^ (h >> 33)).wrapping_mul(factor);
    let hash = mix(mix(fnv, 0xff51_afd7_ed55_8ccd), 0xc4ce_b9fe_1a85_ec53);
    (hash >> 33).is_multiple_of(RUN)
}
