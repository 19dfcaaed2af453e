//! [`BodyReader`]: a body as a reader for decoders.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use store::ReadAt;

/// The size of the read-ahead; a header usually fits.
const WINDOW: usize = 8 * 1024;

/// A buffered reader over a body.
///
/// It differs from [`io::BufReader`] in two ways that decoders depend on: a seek within the window keeps the window, so
/// that visiting many small pieces does not read each byte hundreds of times, and a read is short only at the end.
pub struct BodyReader<'a> {
    body: &'a dyn ReadAt,
    position: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl<'a> BodyReader<'a> {
    /// Reads `body` from its start.
    pub fn new(body: &'a dyn ReadAt) -> Self {
        Self { body, position: 0, window: Vec::new(), window_start: 0 }
    }

    /// The current position.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Length of the whole body in bytes.
    pub(super) fn size(&self) -> u64 {
        self.body.size()
    }

    /// The `N` bytes at `offset`; reading continues after them.
    pub(super) fn bytes_at<const N: usize>(&mut self, offset: u64) -> io::Result<[u8; N]> {
        self.position = offset;
        self.bytes()
    }

    /// The next `N` bytes.
    pub(super) fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Fills `buffer` with the bytes at `offset`.
    pub(super) fn fill_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.position = offset;
        self.read_exact(buffer)
    }

    /// Sets the position, which may be beyond the end.
    pub(super) fn skip_to(&mut self, offset: u64) {
        self.position = offset;
    }

    /// Skips `count` bytes, beyond the end if necessary.
    pub(super) fn skip(&mut self, count: u64) {
        self.position = self.position.saturating_add(count);
    }
}

impl Read for BodyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let ready = self.fill_buf()?;
            if ready.is_empty() {
                break;
            }
            let n = ready.len().min(buffer.len() - filled);
            buffer[filled..filled + n].copy_from_slice(&ready[..n]);
            self.consume(n);
            filled += n;
        }
        Ok(filled)
    }
}

impl BufRead for BodyReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let window = self.window_start..self.window_start + self.window.len() as u64;
        if self.position >= self.body.size() {
            // The system refuses absurd offsets, so it is not called.
            return Ok(&[]);
        }
        if !window.contains(&self.position) {
            // A small body is read once, however often its reader seeks.
            let start = if self.body.size() <= WINDOW as u64 { 0 } else { self.position };
            self.window.resize(WINDOW, 0);
            let filled = self.body.read_at(start, &mut self.window);
            self.window.truncate(*filled.as_ref().unwrap_or(&0));
            self.window_start = start;
            filled?;
            if start + self.window.len() as u64 <= self.position {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(&self.window[(self.position - self.window_start) as usize..])
    }

    fn consume(&mut self, amount: usize) {
        self.skip(amount as u64);
    }
}

impl Seek for BodyReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.body.size().checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
