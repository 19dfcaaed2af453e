//! How a JPEG stores its pixels, according to its header.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

/// How the pixels of a JPEG are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// Row by row, all colors interleaved: only a few rows have to be in memory at a time.
    Rows,
    /// From coarse to fine: all coefficients have to be in memory.
    Progressive,
    /// Rare, and not supported by the decoder: arithmetic coding, lossless, hierarchical, more than eight bits; or
    /// silently misdecoded: one color after the other, and four inks of different density.
    Unusual,
}

/// The properties before the pixels.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) storage: Storage,
    pub(crate) width: u16,
    pub(crate) height: u16,
    pub(crate) components: u8,
    /// The first EXIF segment, from its TIFF header on. If there are more, viewers use the first.
    pub(crate) exif: Option<Vec<u8>>,
}

/// The contents of a frame header.
struct Frame {
    sequential: bool,
    unusual: bool,
    width: u16,
    height: u16,
    components: u8,
}

const EXIF: [u8; 6] = *b"Exif\0\0";

/// Reads up to the start of the pixels.
pub(crate) fn header(reader: &mut (impl BufRead + Seek)) -> io::Result<Header> {
    reader.seek(SeekFrom::Start(2))?;
    let (mut frame, mut exif) = (None, None);
    loop {
        while bytes::<1>(reader)? != [0xff] {}
        let marker = loop {
            match bytes(reader)? {
                [0xff] => {}
                [marker] => break marker,
            }
        };
        match marker {
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            0xd9 => return Err(io::ErrorKind::InvalidData.into()),
            0xda => {
                let [_, _, components] = bytes(reader)?;
                let frame: Frame = frame.ok_or(io::ErrorKind::InvalidData)?;
                let storage = match frame.sequential {
                    _ if frame.unusual => Storage::Unusual,
                    true if frame.components != components => Storage::Unusual,
                    true => Storage::Rows,
                    false => Storage::Progressive,
                };
                let Frame { width, height, components, .. } = frame;
                return Ok(Header { storage, width, height, components, exif });
            }
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let [l1, l2, precision, h1, h2, w1, w2, components] = bytes(reader)?;
                let mut read = 8;
                let mut densities = Vec::new();
                for _ in 0..components {
                    let [_, density, _] = bytes(reader)?;
                    densities.push(density);
                    read += 3;
                }
                let thinned_inks = components == 4 && densities.iter().any(|density| *density != densities[0]);
                let unusual = thinned_inks || marker > 0xc2 || precision != 8;
                let (width, height) = (u16::from_be_bytes([w1, w2]), u16::from_be_bytes([h1, h2]));
                frame = Some(Frame { sequential: marker <= 0xc1, unusual, width, height, components });
                skip(reader, u16::from_be_bytes([l1, l2]), read)?;
            }
            0xe1 if exif.is_none() => {
                let length = u16::from_be_bytes(bytes(reader)?);
                if length < 2 + EXIF.len() as u16 {
                    skip(reader, length, 2)?;
                } else if bytes(reader)? == EXIF {
                    let mut content = Vec::new();
                    reader.by_ref().take(u64::from(length) - 2 - EXIF.len() as u64).read_to_end(&mut content)?;
                    exif = Some(content);
                } else {
                    skip(reader, length, 2 + EXIF.len() as i64)?;
                }
            }
            _ => {
                let length = u16::from_be_bytes(bytes(reader)?);
                skip(reader, length, 2)?;
            }
        }
    }
}

/// The next bytes.
pub(crate) fn bytes<const N: usize>(reader: &mut impl BufRead) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn skip(reader: &mut impl Seek, length: u16, read: i64) -> io::Result<()> {
    reader.seek_relative((i64::from(length) - read).max(0))
}
