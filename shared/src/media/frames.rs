//! How many pictures an animation has.

use std::io::{self, Seek};
use std::num::NonZeroU64;

use super::reader::BodyReader;
use super::{Fault, Format, Limits};

/// Memory that the GIF decoder may take for metadata before the first frame: 4 MiB.
const GIF_MEMORY: NonZeroU64 = NonZeroU64::MIN.saturating_add((4 << 20) - 1);

/// Counts the frames of an image of this format; stops when there are more than allowed. An image without a picture is
/// damaged. Formats without frames have one, and so has an animated AVIF, which is judged by its still picture.
pub(super) fn count(format: Format, reader: &mut BodyReader<'_>, limits: &Limits) -> Result<u32, Fault> {
    match format {
        Format::Png => png(reader),
        Format::Gif => gif(reader, limits),
        Format::WebP => webp(reader, limits.max_frames),
        Format::Jpeg | Format::Avif | Format::Bmp | Format::Tiff | Format::Ico | Format::Heic => Ok(1),
        // A player shows them one by one.
        Format::Mp4 | Format::WebM => Ok(1),
    }
}

/// What an `acTL` chunk before the pixels declares, else 1. The chunks are passed over rather than given to the `png`
/// crate, which would hold each of them in memory.
fn png(reader: &mut BodyReader<'_>) -> Result<u32, Fault> {
    const SIGNATURE_AND_HEADER: u64 = 8 + 12 + 13;
    let mut frames = 1;
    let mut position = SIGNATURE_AND_HEADER;
    loop {
        let length = u32::from_be_bytes(reader.bytes_at(position)?);
        match &reader.bytes()? {
            b"IDAT" => return Ok(frames),
            b"IEND" => return Err(Fault::Damaged("it holds no picture")),
            b"acTL" => frames = u32::from_be_bytes(reader.bytes()?),
            _ => {}
        }
        position += 12 + u64::from(length);
    }
}

/// Reads the frames' headers and passes over their pixels. A frame may be larger than the screen it is shown on, so each
/// has to keep to the limit of pixels by itself.
fn gif(reader: &mut BodyReader<'_>, limits: &Limits) -> Result<u32, Fault> {
    reader.rewind()?;
    let mut options = gif::DecodeOptions::new();
    options.skip_frame_decoding(true);
    options.allow_unknown_blocks(true);
    options.set_memory_limit(gif::MemoryLimit::Bytes(GIF_MEMORY));
    let fault = |error| match error {
        gif::DecodingError::Io(error) => error.into(),
        gif::DecodingError::UnexpectedEof => io::Error::from(io::ErrorKind::UnexpectedEof).into(),
        _ => Fault::Damaged("its header is damaged"),
    };
    let mut decoder = options.read_info(reader).map_err(fault)?;
    let mut frames = 0;
    while frames <= limits.max_frames {
        match decoder.next_frame_info() {
            Ok(Some(frame)) => {
                let pixels = u64::from(frame.width) * u64::from(frame.height);
                if pixels > limits.max_pixels {
                    return Err(Fault::TooManyPixels(pixels));
                }
                frames += 1;
            }
            Ok(None) if frames == 0 => return Err(Fault::Damaged("it holds no picture")),
            Ok(None) => return Ok(frames),
            Err(error) => match fault(error) {
                // What follows the last good frame is ignored by viewers too.
                Fault::Damaged(_) if frames > 0 => return Ok(frames),
                fault => return Err(fault),
            },
        }
    }
    Ok(frames)
}

/// Walks over the chunks. The `image-webp` crate could count too, but refuses images whose header promises EXIF that is
/// not there, which every viewer opens.
fn webp(reader: &mut BodyReader<'_>, limit: u32) -> Result<u32, Fault> {
    let (mut frames, mut position) = (0, 12);
    while position + 8 <= reader.size() && frames <= limit {
        if matches!(&reader.bytes_at(position)?, b"VP8 " | b"VP8L" | b"ANMF") {
            frames += 1;
        }
        let length = u64::from(u32::from_le_bytes(reader.bytes()?));
        position += 8 + length + length % 2;
    }
    if frames == 0 { Err(Fault::Damaged("it holds no picture")) } else { Ok(frames) }
}
