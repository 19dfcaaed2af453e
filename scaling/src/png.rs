//! The properties before a PNG's pixels that `image` does not report: its color space, and which picture is displayed.

use std::io::{self, BufRead, Seek, SeekFrom};

use crate::color::{Gamma, Space};
use crate::jpeg::bytes;

/// No normal PNG has as many chunks before its pixels; a hostile one would keep its reader busy.
const MOST_CHUNKS: usize = 10_000;

/// The properties before the pixels.
#[derive(Debug, Default)]
pub(crate) struct Header {
    /// The color space in `cICP`, `sRGB`, `gAMA` and `cHRM`, if it differs from sRGB.
    pub(crate) space: Option<Space>,
    /// Whether these take precedence over a color profile.
    pub(crate) is_coded: bool,
    /// Whether it is an animation that does not include the picture for programs without animations.
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
        // Includes its checksum.
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
