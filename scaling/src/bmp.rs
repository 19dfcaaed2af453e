//! [`Plain`]: makes the `image` crate read BMPs with headers that only browsers support.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

/// The header of the file, before that of the picture.
const FILE_HEADER: usize = 14;
/// The header of the picture as Windows writes it without masks.
const INFO_HEADER: usize = 40;

const BITFIELDS: u32 = 3;
const ALPHA_BITFIELDS: u32 = 6;

/// A BMP whose headers are replaced by ones that the decoder supports. Handles OS/2's second header in all its lengths,
/// masks with alpha, palettes that are too large, and a wrong number of planes. All bytes after the headers are
/// unchanged.
pub(crate) struct Plain<R> {
    headers: Vec<u8>,
    /// How many bytes of the file the new headers replace.
    replaced: u64,
    inner: R,
    position: u64,
}

impl<R: BufRead + Seek> Plain<R> {
    /// The BMP in `inner`, from its beginning. Unknown headers stay unchanged.
    pub(crate) fn new(mut inner: R) -> io::Result<Self> {
        let mut start = [0; FILE_HEADER + 4];
        inner.read_exact(&mut start)?;
        let size = number(&start, FILE_HEADER) as usize;
        let (headers, replaced) = match size {
            16..=64 | 108 | 124 => {
                let mut info = vec![0; size];
                info[..4].copy_from_slice(&start[FILE_HEADER..]);
                inner.read_exact(&mut info[4..])?;
                (plain(&start[..FILE_HEADER], info), (FILE_HEADER + size) as u64)
            }
            _ => (Vec::new(), 0),
        };
        inner.seek(SeekFrom::Start(replaced))?;
        Ok(Self { headers, replaced, inner, position: 0 })
    }
}

/// The replacement for these headers.
fn plain(file: &[u8], mut info: Vec<u8>) -> Vec<u8> {
    let before = info.len();
    // OS/2's header begins with the same fields, and omitted ones are zero.
    if !matches!(before, INFO_HEADER | 52 | 56 | 108 | 124) {
        info.resize(INFO_HEADER, 0);
        put(&mut info, 0, INFO_HEADER as u32);
    }
    if number(&info, 16) == ALPHA_BITFIELDS {
        put(&mut info, 16, BITFIELDS);
        if info.len() == INFO_HEADER {
            // The masks that follow become part of a longer header.
            put(&mut info, 0, 56);
        }
    }
    let depth = u16::from_le_bytes([info[14], info[15]]);
    if matches!(before, 108 | 124) && (depth, number(&info, 16)) == (32, 0) && number(&info, 52) != 0 {
        // An alpha mask counts here, even if the colors need no masks.
        put(&mut info, 16, BITFIELDS);
        for (at, mask) in [(40, 0x00ff_0000), (44, 0x0000_ff00), (48, 0x0000_00ff)] {
            put(&mut info, at, mask);
        }
    }
    info[12..14].copy_from_slice(&1_u16.to_le_bytes());
    if depth <= 8 && number(&info, 32) > 1 << depth {
        put(&mut info, 32, 0);
    }
    let mut headers = [file, &info].concat();
    let pixels = number(file, 10).wrapping_sub(before as u32).wrapping_add(info.len() as u32);
    put(&mut headers, 10, pixels);
    headers
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

impl<R: BufRead> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let length = ready.len().min(buffer.len());
        buffer[..length].copy_from_slice(&ready[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl<R: BufRead> BufRead for Plain<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.headers.get(self.position as usize..) {
            Some(rest) if !rest.is_empty() => Ok(rest),
            _ => self.inner.fill_buf(),
        }
    }

    fn consume(&mut self, amount: usize) {
        if self.position >= self.headers.len() as u64 {
            self.inner.consume(amount);
        }
        self.position += amount as u64;
    }
}

impl<R: Seek> Seek for Plain<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let length = self.headers.len() as u64;
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(_) => (self.inner.seek(to)? + length).checked_sub(self.replaced),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        self.inner.seek(SeekFrom::Start(self.position.saturating_sub(length) + self.replaced))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

    use std::io::Cursor;

    use image::DynamicImage;
    use image::codecs::bmp::BmpDecoder;

    use super::*;

    /// A BMP of 2 × 1 pixels with this picture header, tables and pixels.
    fn bmp(info: &[u8], tables: &[u8], pixels: &[u8]) -> Vec<u8> {
        let start = (FILE_HEADER + info.len() + tables.len()) as u32;
        let length = start + pixels.len() as u32;
        [b"BM", &length.to_le_bytes()[..], &[0; 4], &start.to_le_bytes(), info, tables, pixels].concat()
    }

    /// A header of the picture, truncated to `size` or padded with zeros.
    fn info(size: usize, planes: u8, depth: u8, compression: u8, colours: u32) -> Vec<u8> {
        let fields = [2, 0, 0, 0, 1, 0, 0, 0, planes, 0, depth, 0, compression, 0, 0, 0];
        let mut info = [&(size as u32).to_le_bytes()[..], &fields, &[0; 12], &colours.to_le_bytes()].concat();
        info.resize(size, 0);
        info
    }

    fn decoded(bytes: &[u8]) -> DynamicImage {
        DynamicImage::from_decoder(BmpDecoder::new(Plain::new(Cursor::new(bytes)).unwrap()).unwrap()).unwrap()
    }

    /// Blue, green, red and padding for each: yellow and violet, and zeros up to 256 colors.
    fn palette() -> Vec<u8> {
        let mut palette = vec![0, 255, 255, 0, 255, 0, 128, 0];
        palette.resize(1024, 0);
        palette
    }

    const COLOURS: [u8; 6] = [255, 255, 0, 128, 0, 255];

    #[test]
    fn headers_of_os_2_are_read_in_all_their_lengths() {
        for size in [16, 20, 24, 28, 32, 36, 40, 42, 44, 46, 48, 60, 64] {
            let image = decoded(&bmp(&info(size, 1, 8, 0, 0), &palette(), &[0, 1, 0, 0]));
            assert_eq!(image.into_rgb8().into_raw(), COLOURS, "a header of {size} bytes");
        }
    }

    #[test]
    fn a_mask_of_alpha_behind_a_short_header_is_read() {
        let masks = [0x0000_00ff_u32, 0x0000_ff00, 0x00ff_0000, 0xff00_0000].map(u32::to_le_bytes).concat();
        let pixels = [255, 255, 0, 64, 128, 0, 255, 255];
        for size in [40, 56, 124] {
            let mut header = info(size, 1, 32, 6, 0);
            let behind = if size == 40 { &masks[..] } else { &[] };
            if size > 40 {
                header[40..56].copy_from_slice(&masks);
            }
            let image = decoded(&bmp(&header, behind, &pixels));
            assert_eq!(image.into_rgba8().into_raw(), pixels, "a header of {size} bytes");
        }
    }

    #[test]
    fn a_mask_of_alpha_counts_without_masks_of_colours() {
        let pixels = [255, 0, 0, 64, 0, 128, 0, 255];
        for size in [108, 124] {
            let mut header = info(size, 1, 32, 0, 0);
            assert!(!decoded(&bmp(&header, &[], &pixels)).color().has_alpha());
            header[55] = 0xff;
            let image = decoded(&bmp(&header, &[], &pixels));
            assert_eq!(image.into_rgba8().into_raw(), [0, 0, 255, 64, 0, 128, 0, 255], "a header of {size} bytes");
        }
    }

    #[test]
    fn more_colours_than_there_can_be_and_no_plane_are_forgiven() {
        for (planes, colours) in [(0, 0), (1, 300), (1, u32::MAX), (7, 257)] {
            let image = decoded(&bmp(&info(40, planes, 8, 0, colours), &palette(), &[0, 1, 0, 0]));
            assert_eq!(image.into_rgb8().into_raw(), COLOURS, "{planes} planes, {colours} colours");
        }
    }

    #[test]
    fn a_usual_bmp_is_read_and_sought_in_as_it_is() {
        let mut bytes = Cursor::new(Vec::new());
        let picture = image::RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, 7]));
        DynamicImage::from(picture.clone()).write_to(&mut bytes, image::ImageFormat::Bmp).unwrap();
        let bytes = bytes.into_inner();
        assert_eq!(decoded(&bytes).into_rgb8(), picture);
        let mut plain = Plain::new(Cursor::new(&bytes)).unwrap();
        for to in
            [SeekFrom::Start(3), SeekFrom::Current(20), SeekFrom::Current(30), SeekFrom::End(-9), SeekFrom::Start(0)]
        {
            let (mut here, mut there) = ([0; 8], [0; 8]);
            let position = plain.seek(to).unwrap();
            plain.read_exact(&mut here).unwrap();
            let mut file = Cursor::new(&bytes);
            file.seek(SeekFrom::Start(position)).unwrap();
            file.read_exact(&mut there).unwrap();
            assert_eq!(here, there, "{to:?}");
        }
    }
}
