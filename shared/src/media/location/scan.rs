//! [`Scanner`]: looks at a file as its bytes pass by.

use std::io;

use memchr::memmem::Finder;

use super::patches::{Patch, Patches};
use super::png::{self, Chunk};
use super::{boxes, tiff, xmp};
use crate::store::ReadAt;

/// How much is known of what precedes a match, and of what follows it.
const BEHIND: usize = 64;
const AHEAD: usize = 2048;
/// How much is looked at at a time.
const WINDOW: usize = 64 * 1024;
/// What a file may hold of each; more has only one that is made for it, which is then looked at so far.
const MOST_HEADERS: usize = 1_000;
const MOST_PATCHES: usize = 10_000;
const MOST_CHUNKS: usize = 1_000;

/// What is looked for.
#[derive(Clone, Copy)]
enum Sign {
    /// A TIFF begins, as Exif is one.
    Tiff,
    /// A property of XMP, of one spelling or the other.
    Xmp(usize),
    /// A box of an MP4 that holds a place.
    Box,
    /// A value of an MP4 that may hold one.
    Value,
}

const EVERYWHERE: [(&[u8], Sign); 4] =
    [(b"II*\0", Sign::Tiff), (b"MM\0*", Sign::Tiff), (b":GPS", Sign::Xmp(0)), (b":Gps", Sign::Xmp(1))];
const IN_BOXES: [(&[u8], Sign); 3] = [(b"\xa9xyz", Sign::Box), (b"loci", Sign::Box), (b"data\0\0\0\x01", Sign::Value)];

/// Looks for places in a file whose bytes it is told of from the first to the last, in any pieces.
#[derive(Debug, Default)]
pub struct Scanner {
    /// The bytes from `start` on that are known.
    window: Vec<u8>,
    start: u64,
    /// Where in the window the first byte lies from which no match was looked for yet.
    next: usize,
    /// Up to where the file is settled by properties that were found, of either spelling.
    taken: [u64; 2],
    is_boxes: bool,
    /// Where the next chunk begins, if this is a PNG.
    png: Option<u64>,
    found: Found,
}

/// What a file was found to say, and what has yet to be looked at.
#[derive(Debug, Default)]
pub struct Found {
    patches: Vec<Patch>,
    /// Where TIFFs may begin.
    headers: Vec<u64>,
    /// Chunks of a PNG whose checksums may have to be mended.
    chunks: Vec<Chunk>,
    size: u64,
}

impl Scanner {
    /// Takes the next bytes.
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

    /// Looks for what begins before `upto` in the window.
    fn scan(&mut self, upto: usize) {
        if self.start == 0 && self.next == 0 {
            self.begin();
        }
        let of_boxes = if self.is_boxes { &IN_BOXES[..] } else { &[] };
        for (sign, kind) in EVERYWHERE.iter().chain(of_boxes) {
            let (finder, mut from) = (Finder::new(sign), self.next);
            let end = self.window.len().min(upto + sign.len() - 1);
            while let Some(found) = self.window.get(from..end).and_then(|rest| finder.find(rest)) {
                self.note(*kind, from + found);
                from += found + 1;
            }
        }
        self.pass_chunks(upto);
        self.next = self.next.max(upto);
    }

    fn begin(&mut self) {
        self.is_boxes = self.window.get(4..8) == Some(b"ftyp");
        self.png = self.window.starts_with(png::SIGNATURE).then_some(png::SIGNATURE.len() as u64);
        // A BigTIFF is never inside of something.
        if self.window.starts_with(b"II+\0") || self.window.starts_with(b"MM\0+") {
            self.found.headers.push(0);
        }
    }

    fn note(&mut self, kind: Sign, at: usize) {
        let offset = self.start + at as u64;
        let (from, to) = (at.saturating_sub(BEHIND), self.window.len().min(at + AHEAD));
        let (around, here, base) = (&self.window[from..to], at - from, self.start + from as u64);
        let absolute = |part: std::ops::Range<usize>| base + part.start as u64..base + part.end as u64;
        let full = self.found.patches.len() >= MOST_PATCHES;
        match kind {
            Sign::Tiff if self.found.headers.len() < MOST_HEADERS => self.found.headers.push(offset),
            Sign::Xmp(spelling) if !full && offset >= self.taken[spelling] => {
                if let Some(part) = xmp::property(around, here).map(absolute) {
                    self.taken[spelling] = part.end;
                    self.found.patches.push(Patch::fill(part, b' '));
                }
            }
            Sign::Box if !full => {
                if let Some(content) = boxes::place(around, here).map(absolute) {
                    self.found.patches.push(Patch::bytes(offset, *b"free"));
                    self.found.patches.push(Patch::fill(content, 0));
                }
            }
            Sign::Value if !full => {
                let value = boxes::value(around, here).map(absolute);
                self.found.patches.extend(value.map(|value| Patch::fill(value, b' ')));
            }
            Sign::Tiff | Sign::Xmp(_) | Sign::Box | Sign::Value => {}
        }
    }

    /// Follows the chunks of a PNG whose headers begin before `upto`.
    fn pass_chunks(&mut self, upto: usize) {
        while let Some(at) = self.png {
            let here = usize::try_from(at - self.start).unwrap_or(usize::MAX);
            if here >= upto {
                return;
            }
            let Some(chunk) = Chunk::read(at, &self.window[here..]) else {
                self.png = None;
                return;
            };
            self.png = Some(chunk.next());
            if !chunk.may_say_a_place() || self.found.chunks.len() >= MOST_CHUNKS {
                continue;
            }
            let content = self.window.get(here + png::HEADER..).unwrap_or_default();
            self.found.patches.extend(chunk.blanked(content).into_iter().flatten());
            self.found.chunks.push(chunk);
        }
    }
}

impl Found {
    /// Whether nothing was found, so that there is nothing to look at either.
    pub fn is_nothing(&self) -> bool {
        self.patches.is_empty() && self.headers.is_empty()
    }

    /// Looks at the places in the file that were led to, and mends checksums. Blocks where the bytes are not in memory.
    pub fn settle(mut self, body: &dyn ReadAt) -> io::Result<Patches> {
        self.patches.sort_by_key(|patch| patch.part.start);
        // What Exif says comes first: its directories are told from anything else with more certainty.
        let mut patches = tiff::patches(body, &self.headers)?;
        patches.extend(self.patches);
        let made = Patches::new(patches.iter().cloned(), self.size);
        for chunk in self.chunks.iter().filter(|chunk| made.touch(chunk.checked())) {
            patches.extend(chunk.mended(body, &made)?);
        }
        Ok(if self.chunks.is_empty() { made } else { Patches::new(patches, self.size) })
    }
}
