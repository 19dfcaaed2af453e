//! Bytes that are sent as images.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use shared::media::{Limits, MediaError, inspect};
use shared::store::{Body, ReadAt};

/// A body that counts how often it is read.
struct Counted {
    body: Body,
    reads: AtomicU64,
}

impl ReadAt for Counted {
    fn size(&self) -> u64 {
        self.body.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.body.read_at(offset, buffer)
    }
}

pub fn image(data: &[u8]) {
    let limits = Limits::default();
    let counted = Counted { body: Body::from(data.to_vec()), reads: AtomicU64::new(0) };
    let found = inspect(&counted, &limits);
    let (reads, size) = (counted.reads.into_inner(), data.len() as u64);
    assert!(reads <= 64 + size / 8, "{reads} reads of {size} bytes");
    match &found {
        Ok(media) => {
            let pixels = u64::from(media.width) * u64::from(media.height);
            assert!((1..=limits.max_pixels).contains(&pixels), "{media:?}");
            // The limit lies exactly where it is said to.
            let smaller = inspect(&counted.body, &Limits { max_pixels: pixels - 1, ..limits });
            assert!(matches!(smaller, Err(MediaError::TooManyPixels { .. })), "{smaller:?}");
            assert!(inspect(&counted.body, &Limits { max_pixels: u64::MAX, ..limits }).is_ok());
        }
        Err(MediaError::TooManyPixels { pixels, limit }) => assert!(pixels > limit),
        Err(MediaError::TooManyFrames { frames, limit }) => assert!(frames > limit),
        Err(MediaError::Read(error)) => panic!("bytes in memory can be read: {error}"),
        Err(MediaError::NotAnImage | MediaError::Undecodable { .. }) => {}
    }
    let again = inspect(&counted.body, &limits);
    assert_eq!(format!("{again:?}"), format!("{found:?}"), "it depends on more than the bytes");
}
