//! What a PNG says before its pixels and `image` does not pass on: what its numbers mean, and which picture is shown.

use std::io::{self, BufRead, Seek, SeekFrom};

use crate::color::{Gamma, Space};

/// No PNG has as many chunks before its pixels; whoever made one that has wants to be read for long.
const MOST_CHUNKS: usize = 10_000;

/// What stands before the pixels.
#[derive(Debug, Default)]
pub(crate) struct Header {
    /// What the chunks `cICP`, `sRGB`, `gAMA` and `cHRM` say, where that is more than that it is like sRGB.
    pub(crate) space: Option<Space>,
    /// What they say comes before a colour profile.
    pub(crate) is_coded: bool,
    /// It is an animation, and the picture that programs without animations show is no part of it.
    pub(crate) hides_default: bool,
}

/// Reads the chunks that precede the pixels.
pub(crate) fn header(reader: &mut (impl BufRead + Seek)) -> io::Result<Header> {
    reader.seek(SeekFrom::Start(8))?;
    let (mut animated, mut first_is_default, mut is_srgb) = (false, false, false);
    let (mut code, mut gamma, mut chromaticities) = (None, None, None);
    for _ in 0..MOST_CHUNKS {
        let [a, b, c, d, name @ ..] = bytes::<8>(reader)?;
        let length = u32::from_be_bytes([a, b, c, d]);
        let mut read = 0;
        match (&name, length) {
            (b"IDAT", _) => break,
            (b"acTL", _) => animated = true,
            (b"fcTL", _) => first_is_default = true,
            (b"sRGB", _) => is_srgb = true,
            (b"cICP", 4) => (code, read) = (Some(bytes::<4>(reader)?), 4),
            (b"gAMA", 4) => (gamma, read) = (Some(u32::from_be_bytes(bytes(reader)?)), 4),
            (b"cHRM", 32) => (chromaticities, read) = (Some(bytes::<32>(reader)?), 32),
            _ => {}
        }
        // Its checksum too.
        reader.seek_relative(i64::from(length) + 4 - read)?;
    }
    let space = match code {
        Some([primaries, transfer, 0, 1]) => Space::coded(primaries, transfer),
        _ if is_srgb => None,
        _ => gamma.and_then(|gamma| {
            let chromaticities = chromaticities.map(|bytes| {
                let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
                std::array::from_fn(|index| number(4 * index) as f32 / 100_000.0)
            });
            Gamma::new(gamma as f32 / 100_000.0, chromaticities).map(Space::Gamma)
        }),
    };
    Ok(Header { space, is_coded: matches!(code, Some([_, _, 0, 1])), hides_default: animated && !first_is_default })
}

fn bytes<const N: usize>(reader: &mut impl BufRead) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}
