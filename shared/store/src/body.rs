//! [`Body`]: bytes to be stored, in memory or, if there are many, in an unnamed file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt};

use crate::digest::{Digest, Hasher};
use crate::sync;

/// A spool keeps up to this many bytes in memory; 64 concurrent uploads then need 16 MiB.
const SPOOL_IN_MEMORY: usize = 256 * 1024;
/// How much of a file is read at a time.
const CHUNK: usize = 64 * 1024;

/// Bytes of known length and digest that can be read any number of times, by several readers at once.
#[derive(Clone, Debug)]
pub struct Body {
    source: Source,
    size: u64,
    digest: OnceLock<Digest>,
    content_type: Option<&'static str>,
}

/// Random access to bytes from blocking code.
pub trait ReadAt: Send + Sync {
    /// Length in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset` and returns how many bytes it read; fewer than the buffer holds only at the end.
    /// Blocks if the bytes are not in memory.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

#[derive(Clone, Debug)]
enum Source {
    Memory(Bytes),
    File(Arc<File>),
}

impl Body {
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The same bytes, to be stored with a media type if the backend keeps one.
    #[must_use]
    pub fn of_type(self, content_type: &'static str) -> Self {
        Self { content_type: Some(content_type), ..self }
    }

    /// The media type to store the bytes with.
    pub fn content_type(&self) -> Option<&'static str> {
        self.content_type
    }

    /// SHA-256 of the bytes; computed at the first call if not known yet.
    pub fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| match &self.source {
            Source::Memory(bytes) => Digest::of(bytes),
            Source::File(_) => unreachable!("a spooled body is hashed as it is written"),
        })
    }

    /// The bytes themselves, if they are in memory.
    pub fn in_memory(&self) -> Option<&Bytes> {
        match &self.source {
            Source::Memory(bytes) => Some(bytes),
            Source::File(_) => None,
        }
    }

    /// See [`ReadAt::read_at`].
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.source {
            Source::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let part = &bytes[start..bytes.len().min(start.saturating_add(buffer.len()))];
                buffer[..part.len()].copy_from_slice(part);
                Ok(part.len())
            }
            Source::File(file) => {
                let mut filled = 0;
                while filled < buffer.len() {
                    match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                        Ok(0) => break,
                        Ok(n) => filled += n,
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        Err(e) => return Err(e),
                    }
                }
                Ok(filled)
            }
        }
    }

    /// Writes all bytes to `target`, returning how many there were. Blocks.
    pub fn write_to(&self, target: &mut impl Write) -> io::Result<u64> {
        if let Source::Memory(bytes) = &self.source {
            target.write_all(bytes)?;
            return Ok(bytes.len() as u64);
        }
        let (mut buffer, mut offset) = (vec![0; CHUNK], 0);
        loop {
            let n = self.read_at(offset, &mut buffer)?;
            if n == 0 {
                return Ok(offset);
            }
            target.write_all(&buffer[..n])?;
            offset += n as u64;
        }
    }

    /// The bytes from the start, in chunks; file reads happen off the async threads.
    pub fn stream(&self) -> BoxStream<'static, io::Result<Bytes>> {
        if let Source::Memory(bytes) = &self.source {
            return stream::iter([Ok(bytes.clone())]).boxed();
        }
        let body = self.clone();
        stream::try_unfold(0, move |offset| {
            let body = body.clone();
            async move {
                let read = move || {
                    let mut buffer = BytesMut::zeroed(CHUNK);
                    let n = body.read_at(offset, &mut buffer)?;
                    buffer.truncate(n);
                    Ok::<_, io::Error>(buffer.freeze())
                };
                let chunk = sync::spawn_blocking(read).await.map_err(io::Error::other)??;
                let next = offset + chunk.len() as u64;
                Ok((!chunk.is_empty()).then_some((chunk, next)))
            }
        })
        .boxed()
    }
}

impl ReadAt for Body {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Self::read_at(self, offset, buffer)
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        let size = bytes.len() as u64;
        Self { size, source: Source::Memory(bytes), digest: OnceLock::new(), content_type: None }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

/// Receives an unknown number of bytes, hashes them, and becomes a [`Body`].
///
/// Small bodies stay in memory; larger ones go to a file without a name, which the system frees when the last reader
/// drops it or the process dies.
///
/// Not `tempfile::SpooledTempFile`: it writes each chunk as it comes, and as every write to a file goes to another thread,
/// chunks of 8 KiB would take nine times as long as gathered.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    /// Up to this many bytes stay in memory.
    in_memory: usize,
    buffer: BytesMut,
    file: Option<Arc<File>>,
    written: u64,
    hasher: Hasher,
}

impl Spool {
    /// A spool that keeps large bodies in `folder`.
    pub fn new(folder: &Path) -> Self {
        let (folder, in_memory) = (folder.to_owned(), SPOOL_IN_MEMORY);
        Self { folder, in_memory, buffer: BytesMut::new(), file: None, written: 0, hasher: Hasher::default() }
    }

    /// Limits the memory of this spool to what `others`, bodies with the same lifetime, leave of the usual share. A
    /// request with many files then needs no more memory than one with a single file.
    pub fn beside<'a>(self, others: impl Iterator<Item = &'a Body>) -> Self {
        let taken: usize = others.filter_map(Body::in_memory).map(Bytes::len).sum();
        Self { in_memory: self.in_memory.saturating_sub(taken), ..self }
    }

    /// Bytes received so far.
    pub fn size(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Appends bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.buffer.extend_from_slice(bytes);
        if self.is_full() { self.flush().await } else { Ok(()) }
    }

    /// Whether what is in memory has to go to the file.
    fn is_full(&self) -> bool {
        self.buffer.len() > if self.file.is_some() { SPOOL_IN_MEMORY } else { self.in_memory }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let (file, folder, offset) = (self.file.clone(), self.folder.clone(), self.written);
        let bytes = std::mem::take(&mut self.buffer).freeze();
        self.written += bytes.len() as u64;
        let write = move || append(file, &folder, &bytes, offset);
        self.file = Some(sync::spawn_blocking(write).await.map_err(io::Error::other)??);
        Ok(())
    }

    /// Reads all of `from` and finishes the spool. Blocks.
    pub fn take_all(mut self, mut from: impl Read) -> io::Result<Body> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = match from.read(&mut chunk) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            self.hasher.update(&chunk[..n]);
            self.buffer.extend_from_slice(&chunk[..n]);
            if self.is_full() || (n == 0 && self.file.is_some()) {
                let bytes = std::mem::take(&mut self.buffer);
                self.file = Some(append(self.file.take(), &self.folder, &bytes, self.written)?);
                self.written += bytes.len() as u64;
            }
            if n == 0 {
                return Ok(self.into_body());
            }
        }
    }

    /// Finishes the spool; the bytes can now be read.
    pub async fn finish(mut self) -> io::Result<Body> {
        if self.file.is_some() && !self.buffer.is_empty() {
            self.flush().await?;
        }
        Ok(self.into_body())
    }

    fn into_body(self) -> Body {
        let size = self.size();
        let source = match self.file {
            Some(file) => Source::File(file),
            None => Source::Memory(self.buffer.freeze()),
        };
        Body { source, size, digest: OnceLock::from(self.hasher.finish()), content_type: None }
    }
}

/// Writes the next bytes of a spool to its file, which has no name and is created with the first bytes.
fn append(file: Option<Arc<File>>, folder: &Path, bytes: &[u8], offset: u64) -> io::Result<Arc<File>> {
    let file = match file {
        Some(file) => file,
        None => Arc::new(tempfile::tempfile_in(folder)?),
    };
    file.write_all_at(bytes, offset)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use futures::stream::TryStreamExt;

    use super::*;

    fn some_bytes(size: usize) -> Vec<u8> {
        (0..size).map(|n| (n % 251) as u8).collect()
    }

    /// The same bytes as bodies of every kind, spooled in chunks that match no other size here.
    async fn bodies(bytes: &[u8]) -> [Body; 3] {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path());
        for chunk in bytes.chunks(9_999) {
            spool.write(chunk).await.unwrap();
        }
        assert_eq!(spool.size(), bytes.len() as u64);
        let all_at_once = Spool::new(folder.path()).take_all(bytes).unwrap();
        [Body::from(bytes.to_vec()), spool.finish().await.unwrap(), all_at_once]
    }

    #[tokio::test]
    async fn a_body_reads_the_same_from_memory_and_from_a_file() {
        for size in [0, 1, CHUNK, SPOOL_IN_MEMORY, SPOOL_IN_MEMORY + 1, 1_000_000] {
            let bytes = some_bytes(size);
            for body in bodies(&bytes).await {
                assert_eq!((body.size(), body.digest()), (size as u64, Digest::of(&bytes)));
                let mut written = Vec::new();
                assert_eq!(body.write_to(&mut written).unwrap(), size as u64);
                assert!(written == bytes, "write_to of {size} bytes");
                // Twice and at the same time: a body is not used up, and readers do not share a position.
                let chunks = || body.stream().try_collect::<Vec<Bytes>>();
                let (first, second) = tokio::join!(chunks(), chunks());
                assert!(
                    first.unwrap().concat() == bytes && second.unwrap().concat() == bytes,
                    "stream of {size} bytes"
                );
            }
        }
    }

    #[tokio::test]
    async fn only_large_bodies_go_to_a_file() {
        let [_, small, small_at_once] = bodies(&some_bytes(SPOOL_IN_MEMORY)).await;
        let [_, large, large_at_once] = bodies(&some_bytes(SPOOL_IN_MEMORY + 1)).await;
        assert!(small.in_memory().is_some() && large.in_memory().is_none());
        assert!(small_at_once.in_memory().is_some() && large_at_once.in_memory().is_none());
    }

    #[tokio::test]
    async fn read_at_gives_what_there_is_up_to_the_end() {
        let bytes = some_bytes(600_000);
        for body in bodies(&bytes).await {
            for (offset, length) in
                [(0, 10), (CHUNK - 1, 2), (599_990, 10), (599_990, 20), (600_000, 1), (700_000, 1), (5, 0)]
            {
                let mut buffer = vec![0xff; length];
                let n = body.read_at(offset as u64, &mut buffer).unwrap();
                let expected = bytes.get(offset..600_000.min(offset + length)).unwrap_or_default();
                assert!(buffer[..n] == *expected, "{length} bytes at {offset}");
            }
        }
    }
}
