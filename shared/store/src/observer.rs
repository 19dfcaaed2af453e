//! [`Observer`]: sees the bytes of an object while they are read.

use bytes::BytesMut;

/// Observes bytes while they are read.
pub trait Observer: Send {
    /// Announces `size` bytes, from the first one. Bytes seen before belong to a damaged copy.
    fn begin(&mut self, size: u64);

    /// Receives the next bytes.
    fn see(&mut self, chunk: &[u8]);
}

/// Ignores all bytes.
impl Observer for () {
    fn begin(&mut self, _size: u64) {}

    fn see(&mut self, _chunk: &[u8]) {}
}

/// Collects all bytes.
impl Observer for BytesMut {
    fn begin(&mut self, size: u64) {
        *self = Self::with_capacity(size as usize);
    }

    fn see(&mut self, chunk: &[u8]) {
        self.extend_from_slice(chunk);
    }
}
