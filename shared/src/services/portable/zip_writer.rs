//! [`ZipWriter`]: writes a zip with stored entries, from front to back.
//!
//! Sizes and checksums are known before an entry begins, so every local header is complete: no entry needs a data
//! descriptor, which some programs cannot read after stored bytes. The structures for more than 4 GiB and 65,535
//! entries (zip64) are written only if they are needed. The directory comes last, so a truncated zip is invalid.
//!
//! The writer of the crate `zip` (9.8) puts a data descriptor behind every streamed entry, blocks a thread while a client
//! reads slowly, and cannot compute a length without the bytes.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::io::{self, AsyncWrite, AsyncWriteExt};

const LOCAL_HEADER: u32 = 0x0403_4b50;
const DIRECTORY_HEADER: u32 = 0x0201_4b50;
const DIRECTORY_END: u32 = 0x0605_4b50;
const DIRECTORY_END_64: u32 = 0x0606_4b50;
const DIRECTORY_LOCATOR_64: u32 = 0x0706_4b50;
/// The value of a four-byte field whose actual value is in the zip64 field.
const IN_ZIP64: u32 = u32::MAX;
const ZIP64_FIELD: u16 = 1;
/// Names are UTF-8.
const UTF8: u16 = 1 << 11;
/// What a reader must support: folders, or zip64 as well.
const VERSION: u16 = 20;
const VERSION_64: u16 = 45;
/// Made on Unix, so that the attributes below are a Unix file mode.
const MADE_BY: u16 = 3 << 8 | VERSION_64;
/// A file that its owner can write and everyone can read.
const ATTRIBUTES: u32 = 0o100_644 << 16;

/// Writes a zip. Memory grows by the directory alone: some hundred bytes for each entry.
pub(super) struct ZipWriter<W> {
    out: W,
    written: u64,
    directory: Vec<u8>,
    entries: u64,
    moment: u32,
    /// Remaining bytes of the current entry.
    awaited: u64,
}

impl<W: AsyncWrite + Unpin> ZipWriter<W> {
    /// A zip whose entries all carry this moment.
    pub(super) fn new(out: W, moment: Timestamp) -> Self {
        Self { out, written: 0, directory: Vec::new(), entries: 0, moment: dos(moment), awaited: 0 }
    }

    /// Begins an entry of `size` bytes with this CRC-32; exactly that many bytes must be written next.
    pub(super) async fn begin(&mut self, name: &str, size: u64, crc: u32) -> io::Result<()> {
        self.check_complete()?;
        let name_length = u16::try_from(name.len()).map_err(io::Error::other)?;
        let (offset, wide) = (self.written, size >= u64::from(IN_ZIP64));
        let short = |value: u64| u32::try_from(value).unwrap_or(IN_ZIP64);
        let both = |version: u16, header: &mut Vec<u8>, extra: u16| {
            [version, UTF8, 0].iter().for_each(|value| header.extend(value.to_le_bytes()));
            [self.moment, crc].iter().for_each(|value| header.extend(value.to_le_bytes()));
            let sizes = if wide { IN_ZIP64 } else { short(size) };
            [sizes, sizes].iter().for_each(|value| header.extend(value.to_le_bytes()));
            [name_length, extra].iter().for_each(|value| header.extend(value.to_le_bytes()));
        };

        let mut extra = Vec::new();
        if wide {
            extra.extend([ZIP64_FIELD.to_le_bytes(), 16_u16.to_le_bytes()].concat());
            extra.extend([size.to_le_bytes(), size.to_le_bytes()].concat());
        }
        let version = if wide { VERSION_64 } else { VERSION };
        let mut header = LOCAL_HEADER.to_le_bytes().to_vec();
        both(version, &mut header, extra.len() as u16);
        header.extend(name.as_bytes());
        header.extend(&extra);

        let far = offset >= u64::from(IN_ZIP64);
        let mut fields: Vec<u8> = Vec::new();
        if wide {
            fields.extend([size.to_le_bytes(), size.to_le_bytes()].concat());
        }
        if far {
            fields.extend(offset.to_le_bytes());
        }
        let mut extra = Vec::new();
        if !fields.is_empty() {
            extra.extend([ZIP64_FIELD.to_le_bytes(), (fields.len() as u16).to_le_bytes()].concat());
            extra.extend(fields);
        }
        let version = if wide || far { VERSION_64 } else { VERSION };
        let mut entry = DIRECTORY_HEADER.to_le_bytes().to_vec();
        entry.extend(MADE_BY.to_le_bytes());
        both(version, &mut entry, extra.len() as u16);
        // No comment, the first disk, no internal attributes.
        entry.extend([0; 6]);
        entry.extend(ATTRIBUTES.to_le_bytes());
        entry.extend(if far { IN_ZIP64 } else { short(offset) }.to_le_bytes());
        entry.extend(name.as_bytes());
        entry.extend(extra);
        self.directory.extend(entry);
        self.entries += 1;
        self.put(&header).await?;
        self.awaited = size;
        Ok(())
    }

    /// Writes the next bytes of the current entry.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let left = self.awaited.checked_sub(bytes.len() as u64);
        self.awaited = left.ok_or_else(|| io::Error::other("an entry is longer than was announced"))?;
        self.put(bytes).await
    }

    /// Counts the bytes of the current entry as written, to compute the length of a zip.
    pub(super) fn pass_over(&mut self) {
        self.written += std::mem::take(&mut self.awaited);
    }

    /// Writes the directory, which completes the zip; returns its length in bytes.
    pub(super) async fn finish(mut self) -> io::Result<u64> {
        self.check_complete()?;
        let (start, length, entries) = (self.written, self.directory.len() as u64, self.entries);
        let mut end = std::mem::take(&mut self.directory);
        let limit = u64::from(IN_ZIP64);
        if start >= limit || length >= limit || entries >= u64::from(u16::MAX) {
            let at = start + length;
            end.extend(DIRECTORY_END_64.to_le_bytes());
            // The length of the rest of this record.
            end.extend(44_u64.to_le_bytes());
            end.extend([MADE_BY.to_le_bytes(), VERSION_64.to_le_bytes()].concat());
            end.extend([0; 8]);
            [entries, entries, length, start].iter().for_each(|value| end.extend(value.to_le_bytes()));
            end.extend(DIRECTORY_LOCATOR_64.to_le_bytes());
            end.extend(0_u32.to_le_bytes());
            end.extend(at.to_le_bytes());
            end.extend(1_u32.to_le_bytes());
        }
        let entries = u16::try_from(entries).unwrap_or(u16::MAX);
        end.extend(DIRECTORY_END.to_le_bytes());
        end.extend([0; 4]);
        end.extend([entries.to_le_bytes(), entries.to_le_bytes()].concat());
        [length, start].iter().for_each(|v| end.extend(u32::try_from(*v).unwrap_or(IN_ZIP64).to_le_bytes()));
        end.extend([0; 2]);
        self.put(&end).await?;
        self.out.shutdown().await?;
        Ok(self.written)
    }

    async fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes).await?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn check_complete(&self) -> io::Result<()> {
        if self.awaited == 0 { Ok(()) } else { Err(io::Error::other("an entry is shorter than was announced")) }
    }
}

/// A moment in the format of zips: date and time of day in UTC, to two seconds, from 1980 to 2107.
fn dos(moment: Timestamp) -> u32 {
    let civil = TimeZone::UTC.to_datetime(moment);
    let year = civil.year().clamp(1980, 2107) - 1980;
    let date = (year as u32) << 9 | (civil.month() as u32) << 5 | civil.day() as u32;
    let time = (civil.hour() as u32) << 11 | (civil.minute() as u32) << 5 | (civil.second() as u32 / 2);
    date << 16 | time
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read, Seek, SeekFrom};
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;

    /// Counts the bytes that it is given and keeps only the first and the last, so it holds zips of any size.
    #[derive(Default)]
    struct Ends {
        length: u64,
        tail: Vec<u8>,
    }

    impl AsyncWrite for Ends {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.length += bytes.len() as u64;
            self.tail.extend(bytes);
            let surplus = self.tail.len().saturating_sub(4096);
            self.tail.drain(..surplus);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A zip on a medium that keeps only the end; everything before it reads as zeros.
    struct Sparse {
        ends: Ends,
        at: u64,
    }

    impl Read for Sparse {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let left = (self.ends.length - self.at.min(self.ends.length)).min(buffer.len() as u64) as usize;
            let kept_from = self.ends.length - self.ends.tail.len() as u64;
            for byte in &mut buffer[..left] {
                let kept = self.at.checked_sub(kept_from);
                *byte = kept.map_or(0, |at| self.ends.tail[at as usize]);
                self.at += 1;
            }
            Ok(left)
        }
    }

    impl Seek for Sparse {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.at = match to {
                SeekFrom::Start(at) => at,
                SeekFrom::End(by) => self.ends.length.saturating_add_signed(by),
                SeekFrom::Current(by) => self.at.saturating_add_signed(by),
            };
            Ok(self.at)
        }
    }

    fn moment() -> Timestamp {
        "2026-11-20T08:09:11Z".parse().unwrap()
    }

    #[tokio::test]
    async fn what_is_written_reads_back_with_names_moments_and_modes() {
        let mut bytes = Vec::new();
        let mut zip = ZipWriter::new(&mut bytes, moment());
        for (name, content) in [("uploads/Ünï (1).jpg", &b"bytes"[..]), ("empty", b"")] {
            zip.begin(name, content.len() as u64, crc32fast::hash(content)).await.unwrap();
            zip.write(content).await.unwrap();
        }
        zip.finish().await.unwrap();
        let mut read = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let mut entry = read.by_index(0).unwrap();
        assert_eq!((&*entry.name().unwrap(), entry.unix_mode()), ("uploads/Ünï (1).jpg", Some(0o100_644)));
        let time = entry.last_modified().unwrap();
        assert_eq!((time.year(), time.month(), time.day()), (2026, 11, 20));
        assert_eq!((time.hour(), time.minute(), time.second()), (8, 9, 10));
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        assert_eq!(content, "bytes");
        drop(entry);
        assert_eq!((read.len(), read.by_name("empty").unwrap().size()), (2, 0));
        assert!(!read.has_overlapping_entries().unwrap());
    }

    #[tokio::test]
    async fn a_length_is_known_without_the_bytes() {
        let mut bytes = Vec::new();
        let (mut zip, mut measured) = (ZipWriter::new(&mut bytes, moment()), ZipWriter::new(io::sink(), moment()));
        for name in ["a", "uploads/\u{fc}.jpg"] {
            zip.begin(name, 5, 7).await.unwrap();
            zip.write(b"bytes").await.unwrap();
            measured.begin(name, 5, 0).await.unwrap();
            measured.pass_over();
        }
        let written = zip.finish().await.unwrap();
        assert_eq!((measured.finish().await.unwrap(), bytes.len() as u64), (written, written));
    }

    #[tokio::test]
    async fn an_entry_of_another_length_than_announced_is_an_error() {
        let mut zip = ZipWriter::new(Vec::new(), moment());
        zip.begin("a", 2, 0).await.unwrap();
        assert!(zip.write(b"abc").await.is_err());
        zip.write(b"a").await.unwrap();
        assert!(zip.begin("b", 0, 0).await.is_err() && zip.finish().await.is_err());
    }

    #[tokio::test]
    async fn beyond_four_gibibytes_it_is_zip64() {
        let (mut ends, piece) = (Ends::default(), vec![0; 1 << 20]);
        let size = (1_u64 << 32) + (1 << 20);
        let mut zip = ZipWriter::new(&mut ends, moment());
        zip.begin("large", size, 7).await.unwrap();
        for _ in 0..size >> 20 {
            zip.write(&piece).await.unwrap();
        }
        zip.begin("behind", 3, crc32fast::hash(b"end")).await.unwrap();
        zip.write(b"end").await.unwrap();
        zip.finish().await.unwrap();
        let mut read = zip::ZipArchive::new(Sparse { ends, at: 0 }).unwrap();
        assert_eq!(read.metadata().entry(0).unwrap().size(), size);
        let mut content = String::new();
        read.by_name("behind").unwrap().read_to_string(&mut content).unwrap();
        assert_eq!(content, "end");
    }

    #[tokio::test]
    async fn beyond_sixty_five_thousand_entries_it_is_zip64() {
        let mut bytes = Vec::new();
        let mut zip = ZipWriter::new(&mut bytes, moment());
        for n in 0..70_000 {
            zip.begin(&n.to_string(), 0, 0).await.unwrap();
        }
        zip.finish().await.unwrap();
        assert_eq!(zip::ZipArchive::new(Cursor::new(bytes)).unwrap().len(), 70_000);
    }
}
