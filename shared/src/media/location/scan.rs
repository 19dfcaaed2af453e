//! [`Scanner`]: examines a file as its bytes stream through.

use std::io;
use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, Input, MatchKind};

use super::patches::{Patch, Patches};
use super::png::{self, Chunk};
use super::{boxes, flir, json, texts, tiff, xmp};
use store::{Body, ReadAt};

/// How many bytes before and after a match are available.
const BEHIND: usize = 512;
const AHEAD: usize = 4096;
/// How many bytes are examined at a time.
const WINDOW: usize = 64 * 1024;
/// Limits for each kind. Only a hostile file contains more, and those are ignored.
const MOST_HEADERS: usize = 1_000;
const MOST_PATCHES: usize = 10_000;
const MOST_CHUNKS: usize = 1_000;
const MOST_NAMES: usize = 100_000;

/// The patterns to find.
#[derive(Clone, Copy)]
enum Sign {
    /// The start of a TIFF, such as Exif.
    Tiff,
    /// Part of a field name in XML or JSON that may be a position.
    Name,
    /// The first box of an MP4, which may also follow a JPEG.
    Boxes,
    /// A box of an MP4 that contains a position.
    Box,
    /// A value of an MP4 that may contain one.
    Value,
    /// The start of a PNG.
    Png,
    /// A segment of a thermal camera.
    Flir,
    /// The letters between the flag and the numbers of a thermal camera's position.
    FlirPosition,
}

const SIGNS: [(&[u8], Sign); 27] = [
    (b"II*\0", Sign::Tiff),
    (b"MM\0*", Sign::Tiff),
    (b":GPS", Sign::Name),
    (b":Gps", Sign::Name),
    (b":gps", Sign::Name),
    (b"\"GPS", Sign::Name),
    (b"\"gps", Sign::Name),
    (b"atitude", Sign::Name),
    (b"ongitude", Sign::Name),
    (b"ongtitude", Sign::Name),
    (b":lat", Sign::Name),
    (b":lon", Sign::Name),
    (b":lng", Sign::Name),
    (b":alt", Sign::Name),
    (b":point", Sign::Name),
    (b"oordinates", Sign::Name),
    (b"footprintWKT", Sign::Name),
    (b"ftyp", Sign::Boxes),
    (b"\xa9xyz", Sign::Box),
    (b"loci", Sign::Box),
    (b"data\0\0\0\x01", Sign::Value),
    (png::SIGNATURE, Sign::Png),
    (b"FLIR\0", Sign::Flir),
    (b"N\0E\0", Sign::FlirPosition),
    (b"N\0W\0", Sign::FlirPosition),
    (b"S\0E\0", Sign::FlirPosition),
    (b"S\0W\0", Sign::FlirPosition),
];
const LONGEST_SIGN: usize = 12;

static FINDER: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let signs = SIGNS.iter().map(|(sign, _)| sign);
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostFirst)
        .build(signs)
        .unwrap_or_else(|error| unreachable!("a few short signs fit: {error}"))
});

/// Finds positions in a file whose bytes are passed in order, in pieces of any size.
#[derive(Debug, Default)]
pub struct Scanner {
    /// The available bytes, starting at `start`.
    window: Vec<u8>,
    start: u64,
    /// The offset in the window from which to look for matches.
    next: usize,
    /// The end of the last field found: nothing before it is examined again.
    taken: u64,
    /// The end of the last JSON member that was removed with the comma after it.
    after_member: Option<u64>,
    /// How many names were examined.
    names: usize,
    is_boxes: bool,
    is_flir: bool,
    /// Whether texts of PNGs are decompressed. They are not inside a decompressed text.
    is_inside: bool,
    /// The offset of the next chunk, inside a PNG.
    png: Option<u64>,
    found: Found,
}

/// The findings in a file, and what remains to be examined.
#[derive(Debug, Default)]
pub struct Found {
    patches: Vec<Patch>,
    /// Possible offsets of TIFFs.
    headers: Vec<u64>,
    /// Chunks of PNGs that may be patched, and then need new checksums.
    chunks: Vec<Chunk>,
    size: u64,
}

impl Scanner {
    /// A scanner for what was decompressed from a file.
    pub(super) fn inside() -> Self {
        Self { is_inside: true, ..Self::default() }
    }

    /// Examines the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(WINDOW) {
            self.window.extend_from_slice(piece);
            if self.window.len() < WINDOW {
                continue;
            }
            self.scan(self.window.len() - AHEAD);
            let gone = self.next.saturating_sub(BEHIND);
            self.window.drain(..gone);
            self.start += gone as u64;
            self.next -= gone;
        }
    }

    /// Ends the file.
    pub fn finish(mut self) -> Found {
        self.scan(self.window.len());
        self.found.size = self.start + self.window.len() as u64;
        self.found
    }

    /// Looks for matches that begin before `upto` in the window.
    fn scan(&mut self, upto: usize) {
        // A BigTIFF is never embedded.
        if self.start == 0 && self.next == 0 && matches!(self.window.get(..4), Some(b"II+\0" | b"MM\0+")) {
            self.found.headers.push(0);
        }
        let (finder, mut from) = (&*FINDER, self.next);
        let end = self.window.len().min(upto + LONGEST_SIGN - 1);
        while let Some(found) = finder.find(Input::new(&self.window).range(from.min(end)..end)) {
            if found.start() >= upto {
                break;
            }
            let (_, kind) = SIGNS[found.pattern().as_usize()];
            self.note(kind, found.start());
            from = found.start() + 1;
        }
        self.pass_chunks(upto);
        self.next = self.next.max(upto);
    }

    fn note(&mut self, kind: Sign, at: usize) {
        let offset = self.start + at as u64;
        let (from, to) = (at.saturating_sub(BEHIND), self.window.len().min(at + AHEAD));
        let (around, here, base) = (&self.window[from..to], at - from, self.start + from as u64);
        let absolute = |part: Range<usize>| base + part.start as u64..base + part.end as u64;
        let full = self.found.patches.len() >= MOST_PATCHES;
        match kind {
            Sign::Tiff if self.found.headers.len() < MOST_HEADERS => self.found.headers.push(offset),
            Sign::Name if !full && offset >= self.taken && self.names < MOST_NAMES => {
                // The name itself begins after the quote.
                self.note_name(at + usize::from(around[here] == b'"'));
            }
            Sign::Boxes => self.is_boxes |= boxes::is_first(around, here),
            Sign::Box if !full && self.is_boxes => {
                if let Some(content) = boxes::position(around, here).map(absolute) {
                    self.found.patches.push(Patch::bytes(offset, *b"free"));
                    self.found.patches.push(Patch::fill(content, 0));
                }
            }
            Sign::Value if !full && self.is_boxes => {
                let value = boxes::value(around, here).map(absolute);
                self.found.patches.extend(value.map(|value| Patch::fill(value, b' ')));
            }
            Sign::Png if !self.is_inside => {
                self.pass_chunks(at);
                if self.png.is_none() {
                    self.png = Some(offset + png::SIGNATURE.len() as u64);
                }
            }
            Sign::Flir => self.is_flir = true,
            Sign::FlirPosition if !full && self.is_flir => {
                let record = flir::record(around, here).map(absolute);
                self.found.patches.extend(record.map(|record| Patch::fill(record, 0)));
            }
            _ => {}
        }
    }

    /// Examines the field name that contains `at`.
    fn note_name(&mut self, at: usize) {
        self.names += 1;
        let (from, to) = (at.saturating_sub(BEHIND), self.window.len().min(at + AHEAD));
        let (around, base) = (&self.window[from..to], self.start + from as u64);
        let after = self.after_member.and_then(|end| usize::try_from(end.checked_sub(base)?).ok());
        let part = match xmp::property(around, at - from) {
            Some(part) => part,
            None => {
                let Some(member) = json::member(around, at - from, after) else { return };
                self.after_member = member.took_next_comma.then_some(base + member.part.end as u64);
                member.part
            }
        };
        self.taken = base + part.end as u64;
        self.found.patches.push(Patch::fill(base + part.start as u64..self.taken, b' '));
    }

    /// Follows the chunks of a PNG whose headers begin before `upto`.
    fn pass_chunks(&mut self, upto: usize) {
        while let Some(at) = self.png {
            let here = usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX);
            if here >= upto {
                return;
            }
            let Some(chunk) = Chunk::read(at, &self.window[here..]) else {
                self.png = None;
                return;
            };
            self.png = Some(chunk.next());
            if chunk.may_be_patched() && self.found.chunks.len() < MOST_CHUNKS {
                self.found.chunks.push(chunk);
            }
        }
    }
}

impl Found {
    /// Whether nothing was found, so that nothing remains to be examined.
    pub fn is_nothing(&self) -> bool {
        self.patches.is_empty() && self.headers.is_empty() && !self.chunks.iter().any(Chunk::is_to_be_read)
    }

    /// Examines the targets of offsets in the file, and corrects checksums. Blocks if the bytes are not in memory.
    pub fn resolve(mut self, body: &dyn ReadAt) -> io::Result<Patches> {
        self.patches.sort_by_key(|patch| patch.part.start);
        // Decompressed texts come first, since compressed bytes may look like anything; then Exif, whose directories
        // are recognized with more certainty than names.
        let mut patches = texts::patches(body, &self.chunks, scan_inside)?;
        patches.extend(tiff::patches(body, &self.headers)?);
        patches.extend(self.patches);
        let made = Patches::new(patches.iter().cloned(), self.size);
        for chunk in self.chunks.iter().filter(|chunk| made.touch(chunk.checked())) {
            patches.extend(chunk.mended(body, &made)?);
        }
        Ok(if self.chunks.is_empty() { made } else { Patches::new(patches, self.size) })
    }
}

/// The patches for the content of a text in a PNG.
pub(super) fn scan_inside(bytes: &[u8], body: &Body) -> io::Result<Patches> {
    let mut scanner = Scanner::inside();
    scanner.update(bytes);
    scanner.finish().resolve(body)
}
