//! Bytes that may say where they were taken.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use shared::media::location::{Scanner, find};
use shared::store::{Body, ReadAt};

/// A body that counts the bytes that are read of it.
struct Counted {
    body: Body,
    bytes: AtomicU64,
}

impl ReadAt for Counted {
    fn size(&self) -> u64 {
        self.body.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.body.read_at(offset, buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// The first byte says in which pieces the rest comes.
pub fn location(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else { return };
    let counted = Counted { body: Body::from(data.to_vec()), bytes: AtomicU64::new(0) };
    let found = find(&counted).expect("bytes in memory can be read");
    let (read, size) = (counted.bytes.into_inner(), data.len() as u64);
    // Once from end to end, once more for texts and once for checksums, and a bounded part for directories.
    assert!(read <= 3 * size + (5 << 20), "{read} of {size}");

    let parts: Vec<_> = found.parts().collect();
    assert!(parts.iter().all(|part| part.start < part.end && part.end <= size), "{parts:?}");
    assert!(parts.windows(2).all(|pair| pair[0].end <= pair[1].start), "{parts:?}");
    assert_eq!(found.is_empty(), parts.is_empty());

    let mut scanner = Scanner::default();
    data.chunks(1 + usize::from(*piece)).for_each(|piece| scanner.update(piece));
    let in_pieces = scanner.finish().resolve(&counted.body).expect("bytes in memory can be read");
    assert_eq!(in_pieces, found);

    // What is sent as a whole is what is sent in parts, and is as long.
    let mut whole = data.to_vec();
    found.apply(0, &mut whole);
    let mut at = 0;
    for part in data.chunks(1 + usize::from(*piece)) {
        assert_eq!(found.applied(at, part.to_vec().into()), whole[at as usize..][..part.len()]);
        at += part.len() as u64;
    }
}
