//! Presents a TIFF to the decoder as one page of plain gray channels, whatever its samples mean and whatever follows
//! it.

use std::io::{self, Read, Seek, SeekFrom};

const BITS_PER_SAMPLE: u16 = 258;
const PHOTOMETRIC: u16 = 262;
const SAMPLES_PER_PIXEL: u16 = 277;

const SHORT: u64 = 3;

/// The first directory: the meaning of its samples, and the bytes that are replaced for the decoder.
pub(super) struct Directory {
    pub(super) photometric: u16,
    replacements: Vec<(u64, Vec<u8>)>,
}

impl Directory {
    /// `None` if the directory does not define the meaning of samples as one number of 16 bits.
    pub(super) fn read(reader: &mut (impl Read + Seek)) -> io::Result<Option<Self>> {
        let mut start = Vec::new();
        reader.seek(SeekFrom::Start(0))?;
        let length = reader.by_ref().take(16).read_to_end(&mut start)?;
        start.resize(16, 0);
        let layout = Layout { is_big_endian: start[0] == b'M' };
        let is_big = layout.number(&start[2..4]) == 43;
        if length < if is_big { 16 } else { 8 } {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (directory, head, word) = if is_big { (&start[8..16], 8, 8) } else { (&start[4..8], 2, 4) };
        let (directory, value) = (layout.number(directory), 4 + word);
        reader.seek(SeekFrom::Start(directory))?;
        let mut count = [0; 8];
        reader.read_exact(&mut count[..head])?;
        let count = layout.number(&count[..head]);
        // No program writes that many, and the decoder accepts no more than its limit.
        if count > u16::MAX.into() {
            return Ok(None);
        }
        let (mut photometric, mut depths, mut samples) = (None, None, 1);
        let mut at = directory + head as u64;
        for _ in 0..count {
            let mut entry = [0; 20];
            let entry = &mut entry[..value + word];
            reader.read_exact(entry)?;
            let (kind, length) = (layout.number(&entry[2..4]), layout.number(&entry[4..value]));
            let (first, value_at) = (layout.number(&entry[value..value + 2]) as u16, at + value as u64);
            match layout.number(&entry[..2]) as u16 {
                PHOTOMETRIC if photometric.is_none() => {
                    photometric = Some(((kind, length) == (SHORT, 1)).then_some((first, value_at)));
                }
                BITS_PER_SAMPLE if kind == SHORT && depths.is_none() => {
                    depths = Some((at + 4, length, entry[value..].to_vec()));
                }
                SAMPLES_PER_PIXEL => samples = first,
                _ => {}
            }
            at += entry.len() as u64;
        }
        let Some((photometric, photometric_at)) = photometric.flatten() else { return Ok(None) };
        // 1 means plain gray channels, with 0 as black. The link to the next page is cleared, because the decoder would
        // refuse a page that links to itself.
        let mut replacements = vec![(photometric_at, layout.bytes(1, 2)), (at, vec![0; word])];
        if let Some((at, length, values)) = depths.filter(|(_, length, _)| *length > samples.into()) {
            let mut depths = vec![0; 2 * usize::from(samples)];
            if length.saturating_mul(2) > word as u64 {
                reader.seek(SeekFrom::Start(layout.number(&values)))?;
                reader.read_exact(&mut depths)?;
            } else {
                depths.copy_from_slice(&values[..2 * usize::from(samples)]);
            }
            // The decoder refuses depths of more samples than a pixel has, which other programs ignore. A single depth
            // applies to all samples.
            if let Some(first) = depths.get(..2).filter(|first| depths.chunks_exact(2).all(|depth| depth == *first)) {
                replacements.push((at, [&layout.bytes(1, word)[..], first, &vec![0; word - 2]].concat()));
            }
        }
        reader.seek(SeekFrom::Start(0))?;
        Ok(Some(Self { photometric, replacements }))
    }
}

/// The encoding of numbers.
#[derive(Clone, Copy)]
struct Layout {
    is_big_endian: bool,
}

impl Layout {
    fn number(self, bytes: &[u8]) -> u64 {
        let digits = bytes.iter().map(|byte| u64::from(*byte));
        if self.is_big_endian { digits.fold(0, |n, d| n << 8 | d) } else { digits.rev().fold(0, |n, d| n << 8 | d) }
    }

    fn bytes(self, number: u64, length: usize) -> Vec<u8> {
        let mut bytes = number.to_le_bytes()[..length].to_vec();
        if self.is_big_endian {
            bytes.reverse();
        }
        bytes
    }
}

/// A TIFF whose first directory is replaced for the decoder.
pub(super) struct Plain<R> {
    reader: R,
    position: u64,
    replacements: Vec<(u64, Vec<u8>)>,
}

impl<R: Read + Seek> Plain<R> {
    pub(super) fn new(reader: R, directory: Directory) -> Self {
        Self { reader, position: 0, replacements: directory.replacements }
    }
}

impl<R: Read + Seek> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        let replacements = self.replacements.iter().flat_map(|(at, bytes)| (*at..).zip(bytes));
        for (offset, replacement) in replacements {
            let within = offset.checked_sub(self.position).and_then(|offset| usize::try_from(offset).ok());
            if let Some(byte) = within.and_then(|offset| buffer[..length].get_mut(offset)) {
                *byte = *replacement;
            }
        }
        self.position += length as u64;
        Ok(length)
    }
}

impl<R: Read + Seek> Seek for Plain<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = self.reader.seek(to)?;
        Ok(self.position)
    }
}
