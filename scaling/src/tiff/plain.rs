//! A TIFF as the decoder is shown it: with plain grey channels, whatever its samples mean.

use std::io::{self, Read, Seek, SeekFrom};

/// Where the first directory says what samples mean, and what it says.
#[derive(Clone, Copy)]
pub(super) struct Photometric {
    pub(super) value: u16,
    at: u64,
    is_big_endian: bool,
}

impl Photometric {
    const TAG: u16 = 262;

    /// `None` where the directory does not say it, or not as one number of 16 bits.
    pub(super) fn find(reader: &mut (impl Read + Seek)) -> io::Result<Option<Self>> {
        let mut start = Vec::new();
        reader.seek(SeekFrom::Start(0))?;
        let length = reader.by_ref().take(16).read_to_end(&mut start)?;
        start.resize(16, 0);
        let is_big_endian = start[0] == b'M';
        let number = |bytes: &[u8]| {
            let digits = bytes.iter().map(|byte| u64::from(*byte));
            if is_big_endian { digits.fold(0, |n, d| n << 8 | d) } else { digits.rev().fold(0, |n, d| n << 8 | d) }
        };
        let is_big = number(&start[2..4]) == 43;
        if length < if is_big { 16 } else { 8 } {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (directory, entry, value) = if is_big { (&start[8..16], 20, 12) } else { (&start[4..8], 12, 8) };
        let (directory, header) = (number(directory), if is_big { 8 } else { 2 });
        reader.seek(SeekFrom::Start(directory))?;
        let mut count = [0; 8];
        reader.read_exact(&mut count[..header])?;
        for index in 0..number(&count[..header]).min(u16::MAX.into()) {
            let mut bytes = [0; 20];
            reader.read_exact(&mut bytes[..entry])?;
            if number(&bytes[..2]) == u64::from(Self::TAG) {
                let is_short = number(&bytes[2..4]) == 3 && number(&bytes[4..value]) == 1;
                let at = directory + (header + value) as u64 + index * entry as u64;
                let value = number(&bytes[value..value + 2]) as u16;
                reader.seek(SeekFrom::Start(0))?;
                return Ok(is_short.then_some(Self { value, at, is_big_endian }));
            }
        }
        Ok(None)
    }
}

/// A TIFF that says that its samples are plain channels, 0 of which is black.
pub(super) struct Plain<R> {
    reader: R,
    position: u64,
    at: u64,
    told: [u8; 2],
}

impl<R: Read + Seek> Plain<R> {
    pub(super) fn new(reader: R, photometric: Photometric) -> Self {
        let told = if photometric.is_big_endian { [0, 1] } else { [1, 0] };
        Self { reader, position: 0, at: photometric.at, told }
    }
}

impl<R: Read + Seek> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        for (place, told) in (self.at..).zip(self.told) {
            let within = place.checked_sub(self.position).and_then(|offset| usize::try_from(offset).ok());
            if let Some(byte) = within.and_then(|offset| buffer[..length].get_mut(offset)) {
                *byte = told;
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
