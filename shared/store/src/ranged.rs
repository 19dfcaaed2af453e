//! [`Ranged`]: random access to an object from blocking code.

use std::io;

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::body::ReadAt;
use crate::error::{Result, StoreError};
use crate::handle::Store;
use crate::key::Key;
use crate::sync::{Mutex, lock};

/// The size of the first read: most headers fit.
const FIRST_BLOCK: u64 = 64 * 1024;
/// The largest read, reached after repeated sequential reads.
const LARGEST_BLOCK: u64 = 4 * 1024 * 1024;

/// No image's header needs more; a malicious one would keep its reader busy for minutes.
const MOST_BLOCKS: u32 = 256;

/// An object of known length, read a block at a time by blocking code. The block size doubles with each sequential
/// read.
///
/// Use it off the async threads only: it blocks on the store.
#[derive(Debug)]
pub struct Ranged {
    store: Store,
    key: Key,
    size: u64,
    /// `None` if futures are polled without a runtime; then only the first block can be read.
    runtime: Option<Handle>,
    block: Mutex<Block>,
}

#[derive(Debug, Default)]
struct Block {
    start: u64,
    bytes: Bytes,
    /// How many blocks have been read, including this one.
    count: u32,
}

impl Block {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl Ranged {
    /// Opens the object under `key`, which has `size` bytes, and reads its first block. Call it on an async thread.
    pub async fn open(store: &Store, key: Key, size: u64) -> Result<Self> {
        let runtime = Handle::try_current().ok();
        let ranged = Self { store: store.clone(), key, size, runtime, block: Mutex::default() };
        let first = Block { start: 0, bytes: ranged.read(0, FIRST_BLOCK).await?, count: 1 };
        Ok(Self { block: Mutex::new(first), ..ranged })
    }

    async fn read(&self, start: u64, length: u64) -> Result<Bytes> {
        let object = self.store.get(&self.key, Some(start..start.saturating_add(length).min(self.size))).await?;
        object.bytes().await
    }
}

impl ReadAt for Ranged {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut block = lock(&self.block);
        let mut filled = 0;
        while filled < buffer.len() && offset + (filled as u64) < self.size {
            let at = offset + filled as u64;
            if !(block.start..block.end()).contains(&at) {
                let goes_on = at == block.end() && at > 0;
                let length = if goes_on { (2 * block.bytes.len() as u64).min(LARGEST_BLOCK) } else { FIRST_BLOCK };
                let runtime = self.runtime.as_ref().ok_or(io::ErrorKind::Unsupported)?;
                let bytes = runtime.block_on(self.read(at, length)).map_err(failed)?;
                if bytes.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let count = block.count + 1;
                if count > MOST_BLOCKS {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "its header is spread too widely"));
                }
                *block = Block { start: at, bytes, count };
            }
            let ready = &block.bytes[(at - block.start) as usize..];
            let n = ready.len().min(buffer.len() - filled);
            buffer[filled..filled + n].copy_from_slice(&ready[..n]);
            filled += n;
        }
        Ok(filled)
    }
}

/// Wraps a store error in an `io::Error`.
fn failed(error: StoreError) -> io::Error {
    io::Error::other(error)
}
