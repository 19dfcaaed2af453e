//! Counting the pictures of an animation.

use std::io;

use super::reader::BodyReader;
use super::{Fault, Format, Limits};

/// The number of frames found, and whether the file ends within one of them.
pub(super) struct Frames {
    pub(super) count: u32,
    pub(super) is_truncated: bool,
}

impl From<u32> for Frames {
    fn from(count: u32) -> Self {
        Self { count, is_truncated: false }
    }
}

/// Counts the frames of an image of this format; stops when there are more than allowed. An image without a picture is
/// damaged. Formats without frames count as one frame, and so does an animated AVIF, which is judged by its still
/// picture.
pub(super) fn count(format: Format, reader: &mut BodyReader<'_>, limits: &Limits) -> Result<Frames, Fault> {
    match format {
        Format::Png => png(reader, limits.max_frames).map(Frames::from),
        Format::Gif => gif(reader, limits),
        Format::WebP => webp(reader, limits.max_frames),
        Format::Jpeg | Format::Avif | Format::Bmp | Format::Tiff | Format::Ico | Format::Heic => Ok(1.into()),
        // A player decodes one frame at a time.
        Format::Mp4 | Format::WebM => Ok(1.into()),
    }
}

/// The number in an `acTL` chunk before the pixels, else 1; if that is more than allowed, the actual number of frames.
/// Skips the chunks instead of passing them to the `png` crate, which would hold each of them in memory.
fn png(reader: &mut BodyReader<'_>, limit: u32) -> Result<u32, Fault> {
    const SIGNATURE_AND_HEADER: u64 = 8 + 12 + 13;
    let (mut declared, mut found, mut has_pixels) = (1, 0, false);
    let mut position = SIGNATURE_AND_HEADER;
    loop {
        let [l1, l2, l3, l4, name @ ..] = match reader.bytes_at::<8>(position) {
            Err(error) if has_pixels && error.kind() == io::ErrorKind::UnexpectedEof => return Ok(found),
            head => head?,
        };
        match &name {
            b"IDAT" if declared <= limit => return Ok(declared),
            b"IDAT" => has_pixels = true,
            b"IEND" if has_pixels => return Ok(found),
            b"IEND" => return Err(NO_PICTURE),
            b"acTL" if !has_pixels => declared = u32::from_be_bytes(reader.bytes()?),
            b"fcTL" => found += 1,
            _ => {}
        }
        if found > limit {
            return Ok(found);
        }
        position += 12 + u64::from(u32::from_be_bytes([l1, l2, l3, l4]));
    }
}

/// Reads the frames' headers and skips their pixels. A frame may be larger than its screen, so each has to respect the
/// limit of pixels by itself. The `gif` crate would refuse an image without a color table, which browsers show.
fn gif(reader: &mut BodyReader<'_>, limits: &Limits) -> Result<Frames, Fault> {
    gif_start(reader)?;
    let mut frames = Frames { count: 0, is_truncated: false };
    while frames.count <= limits.max_frames {
        // Viewers ignore what follows the last valid frame, too.
        match gif_block(reader) {
            Ok(Block::Frame { size: (width, height), flags, .. }) => {
                let pixels = u64::from(width) * u64::from(height);
                if pixels > limits.max_pixels {
                    return Err(Fault::TooManyPixels(pixels));
                }
                frames.count += 1;
                skip_colours(reader, flags);
                reader.skip(1);
                match skip_sub_blocks(reader) {
                    Err(Fault::Damaged(_)) => return Ok(Frames { is_truncated: true, ..frames }),
                    skipped => skipped?,
                }
            }
            Ok(Block::Other) => {}
            Ok(Block::End) if frames.count == 0 => return Err(NO_PICTURE),
            Ok(Block::End) => break,
            Err(Fault::Damaged(_)) if frames.count > 0 => break,
            Err(fault) => return Err(fault),
        }
    }
    Ok(frames)
}

/// The size of a GIF in browsers: that of its screen, enlarged to contain the first frame.
pub(super) fn gif_size(reader: &mut BodyReader<'_>) -> Result<(u32, u32), Fault> {
    let (width, height) = gif_start(reader)?;
    loop {
        match gif_block(reader)? {
            Block::Frame { corner: (right, bottom), .. } => return Ok((width.max(right), height.max(bottom))),
            Block::Other => {}
            Block::End => return Err(NO_PICTURE),
        }
    }
}

/// Reads to the first block; returns the size of the screen.
fn gif_start(reader: &mut BodyReader<'_>) -> Result<(u32, u32), Fault> {
    let [w1, w2, h1, h2, flags, _background, _aspect] = reader.bytes_at(6)?;
    skip_colours(reader, flags);
    Ok((u16::from_le_bytes([w1, w2]).into(), u16::from_le_bytes([h1, h2]).into()))
}

const NO_PICTURE: Fault = Fault::Damaged("it holds no picture");

/// A block of a GIF.
enum Block {
    Frame {
        size: (u32, u32),
        /// Its right and lower edge on the screen.
        corner: (u32, u32),
        /// The flags of its color table, which comes next.
        flags: u8,
    },
    Other,
    End,
}

fn gif_block(reader: &mut BodyReader<'_>) -> Result<Block, Fault> {
    match reader.bytes()? {
        [b'!'] => {
            let [_label] = reader.bytes()?;
            skip_sub_blocks(reader)?;
            Ok(Block::Other)
        }
        [b','] => {
            let [x1, x2, y1, y2, w1, w2, h1, h2, flags] = reader.bytes()?;
            let number = |bytes| u32::from(u16::from_le_bytes(bytes));
            let (width, height) = (number([w1, w2]), number([h1, h2]));
            let corner = (number([x1, x2]) + width, number([y1, y2]) + height);
            Ok(Block::Frame { size: (width, height), corner, flags })
        }
        // Browsers treat anything else as the end.
        _ => Ok(Block::End),
    }
}

/// Skips a color table, if the flags indicate one.
fn skip_colours(reader: &mut BodyReader<'_>, flags: u8) {
    if flags & 0x80 != 0 {
        reader.skip(3 << ((flags & 7) + 1));
    }
}

fn skip_sub_blocks(reader: &mut BodyReader<'_>) -> Result<(), Fault> {
    loop {
        match reader.bytes()? {
            [0] => return Ok(()),
            [length] => reader.skip(length.into()),
        }
    }
}

/// Visits the chunks. The `image-webp` crate could count too, but refuses images whose header promises EXIF that is
/// missing, which every viewer opens.
fn webp(reader: &mut BodyReader<'_>, limit: u32) -> Result<Frames, Fault> {
    let (mut frames, mut position) = (Frames::from(0), 12);
    while position + 8 <= reader.size() && frames.count <= limit {
        let is_frame = matches!(&reader.bytes_at(position)?, b"VP8 " | b"VP8L" | b"ANMF");
        let length = u64::from(u32::from_le_bytes(reader.bytes()?));
        if is_frame {
            frames.count += 1;
            frames.is_truncated |= position + 8 + length > reader.size();
        }
        position += 8 + length + length % 2;
    }
    if frames.count == 0 { Err(Fault::Damaged("it holds no picture")) } else { Ok(frames) }
}
