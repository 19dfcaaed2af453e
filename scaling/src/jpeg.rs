//! What the header of a JPEG tells of how its pixels are stored.

use std::io::{self, BufRead, Seek, SeekFrom};

/// How the pixels of a JPEG are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// Row by row, all colours together: only a few rows have to be held at a time.
    Rows,
    /// From coarse to fine: all coefficients have to be held.
    Progressive,
    /// One colour after the other, or four inks of different density, as hardly any program does. The decoder makes
    /// something else of it, without a word.
    Unusual,
}

/// What a frame header says.
struct Frame {
    sequential: bool,
    components: u8,
    thinned_inks: bool,
}

/// Looks where the pixels begin.
pub(crate) fn storage(reader: &mut (impl BufRead + Seek)) -> io::Result<Storage> {
    reader.seek(SeekFrom::Start(2))?;
    let mut frame: Option<Frame> = None;
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
                return Ok(match frame {
                    Some(frame) if frame.thinned_inks => Storage::Unusual,
                    Some(frame) if frame.sequential && frame.components != components => Storage::Unusual,
                    Some(frame) if frame.sequential => Storage::Rows,
                    _ => Storage::Progressive,
                });
            }
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let [l1, l2, _, _, _, _, _, components] = bytes(reader)?;
                let mut read = 8;
                let mut densities = Vec::new();
                for _ in 0..components {
                    let [_, density, _] = bytes(reader)?;
                    densities.push(density);
                    read += 3;
                }
                let thinned_inks = components == 4 && densities.iter().any(|density| *density != densities[0]);
                frame = Some(Frame { sequential: marker <= 0xc1, components, thinned_inks });
                skip(reader, u16::from_be_bytes([l1, l2]), read)?;
            }
            _ => {
                let length = u16::from_be_bytes(bytes(reader)?);
                skip(reader, length, 2)?;
            }
        }
    }
}

fn bytes<const N: usize>(reader: &mut impl BufRead) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn skip(reader: &mut impl Seek, length: u16, read: i64) -> io::Result<()> {
    reader.seek_relative((i64::from(length) - read).max(0))
}
