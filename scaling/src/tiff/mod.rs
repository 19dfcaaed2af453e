//! TIFF: strips or tiles of samples, which have many possible meanings.
//!
//! The crate `tiff` decompresses samples of nearly every kind, but interprets few of them, and some wrongly. So it gets
//! every image as one page of plain gray channels ([`Plain`]), and the samples are interpreted here, strip by strip.

mod plain;

use std::io::{Cursor, Read, Seek};

use bytes::Bytes;
use image::metadata::Orientation;
use shared::store::StoreError;
use shared::thumbnails::Unscalable;
use tiff::decoder::{ChunkType, Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{TiffError, TiffResult};

use self::plain::{Directory, Plain};
use crate::color;
use crate::jpeg::{self, Storage};
use crate::resize::Pixels;

/// Values of the compression tag.
const UNCOMPRESSED: u16 = 1;
const JPEG: u16 = 7;

/// The meaning of a pixel's samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colors {
    White0,
    Black0,
    Rgb,
    Palette,
    Cmyk,
    YCbCr,
    /// CIE L*a*b*; with `offset`, a and b are stored as numbers from 0 to 255 that stand for -128 to 127.
    Lab {
        offset: bool,
    },
}

impl Colors {
    fn channels(self) -> usize {
        match self {
            Self::White0 | Self::Black0 | Self::Palette => 1,
            Self::Rgb | Self::YCbCr | Self::Lab { .. } => 3,
            Self::Cmyk => 4,
        }
    }
}

/// The meaning of a pixel's alpha sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alpha {
    None,
    Straight,
    /// Colors are stored multiplied by it.
    Premultiplied,
}

/// The properties in the first directory.
pub(crate) struct Header {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) orientation: Orientation,
    pub(crate) profile: Option<Vec<u8>>,
    colors: Colors,
    alpha: Alpha,
    palette: Vec<[u8; 3]>,
    bits: u32,
    samples: usize,
    is_planar: bool,
    /// Whether the bits of each byte are stored in reverse order.
    is_reversed: bool,
    is_jpeg: bool,
    /// Width and height of a strip or tile.
    chunk: (u32, u32),
}

impl Header {
    /// Whether it is a grayscale picture, to which a gray profile applies.
    pub(crate) fn is_gray(&self) -> bool {
        matches!(self.colors, Colors::White0 | Colors::Black0)
    }

    /// Whether an RGB profile applies to its samples.
    pub(crate) fn is_rgb(&self) -> bool {
        matches!(self.colors, Colors::Rgb | Colors::Palette | Colors::YCbCr)
    }

    pub(crate) fn has_alpha(&self) -> bool {
        self.alpha != Alpha::None
    }

    /// The memory for decoding, in bytes: the picture, a row, and a strip or tile twice, with all samples; plus a copy
    /// of the `source` if that can be one JPEG.
    pub(crate) fn decoding(&self, source: u64) -> u64 {
        let channels = if self.has_alpha() { 4 } else { 3 };
        let picture = u64::from(self.width) * u64::from(self.height) * channels;
        let row = u64::from(self.chunk.0).saturating_mul(self.samples as u64);
        // Each plane has rows of whole bytes.
        let stored = row.saturating_mul(self.bits.into()).div_ceil(8).saturating_add(self.samples as u64);
        let chunks = stored.saturating_mul(self.chunk.1.into()).saturating_mul(2);
        picture.saturating_add(row).saturating_add(chunks).saturating_add(if self.is_jpeg { source } else { 0 })
    }
}

/// Reads the first directory.
pub(crate) fn look<R: Read + Seek>(reader: R) -> Result<Header, Unscalable> {
    let (mut decoder, photometric) = plain(reader)?;
    header(&mut decoder, photometric)
}

/// The decoder of the first image, presented as plain channels, and the meaning of its samples.
fn plain<R: Read + Seek>(mut reader: R) -> Result<(Decoder<Plain<R>>, u16), Unscalable> {
    let directory = Directory::read(&mut reader).map_err(|error| refusal(error.into()))?.ok_or(Unscalable::Kind)?;
    let photometric = directory.photometric;
    Ok((Decoder::new(Plain::new(reader, directory)).map_err(refusal)?, photometric))
}

fn header<R: Read + Seek>(decoder: &mut Decoder<R>, photometric: u16) -> Result<Header, Unscalable> {
    let (width, height) = decoder.dimensions().map_err(refusal)?;
    let mut number = |tag, default| decoder.find_tag_unsigned::<u16>(tag).map(|found| found.unwrap_or(default));
    let read = |number: TiffResult<u16>| number.map_err(refusal);
    let samples = usize::from(read(number(Tag::SamplesPerPixel, 1))?);
    let compression = read(number(Tag::Compression, UNCOMPRESSED))?;
    let is_planar = read(number(Tag::PlanarConfiguration, 1))? == 2;
    let fill_order = read(number(Tag::FillOrder, 1))?;
    let ink_set = read(number(Tag::Unknown(332), 1))?;
    let orientation = read(number(Tag::Orientation, 1))?;
    let mut numbers = |tag| decoder.find_tag_unsigned_vec::<u16>(tag).map(Option::unwrap_or_default).map_err(refusal);
    let (depths, formats) = (numbers(Tag::BitsPerSample)?, numbers(Tag::SampleFormat)?);
    let (extra, subsampling, map) =
        (numbers(Tag::ExtraSamples)?, numbers(Tag::ChromaSubsampling)?, numbers(Tag::ColorMap)?);
    let bits = depths.first().copied().unwrap_or(1);
    let is_float = formats.first() == Some(&3);

    let colors = match photometric {
        0 => Colors::White0,
        1 => Colors::Black0,
        2 => Colors::Rgb,
        3 => Colors::Palette,
        5 if ink_set == 1 => Colors::Cmyk,
        6 if compression == JPEG || subsampling == [1, 1] => Colors::YCbCr,
        8 => Colors::Lab { offset: false },
        9 => Colors::Lab { offset: true },
        _ => return Err(Unscalable::Kind),
    };
    let is_known_depth = match bits {
        1 | 2 | 4 | 8 | 16 | 32 => true,
        64 => is_float,
        _ => false,
    };
    let is_indexed_or_lab = matches!(colors, Colors::Palette | Colors::Lab { .. });
    let is_known = is_known_depth
        // Programs disagree about the brightness of signed integers.
        && formats.first().is_none_or(|format| matches!(format, 1 | 3))
        && (!is_indexed_or_lab || (!is_float && bits <= 8) || (colors != Colors::Palette && bits == 16 && !is_float))
        && (!matches!(colors, Colors::Lab { .. }) || bits >= 8)
        // Reversed bits would have to be put in order before decompression, which is not implemented.
        && (fill_order != 2 || compression == JPEG || (compression == UNCOMPRESSED && !is_float));
    if !is_known {
        return Err(Unscalable::Kind);
    }
    if samples < colors.channels() {
        return Err(Unscalable::Damaged);
    }
    let alpha = match extra.first() {
        Some(1) => Alpha::Premultiplied,
        Some(2) => Alpha::Straight,
        // As programs read a picture with a fourth sample of unspecified meaning.
        None if colors == Colors::Rgb && samples == 4 => Alpha::Straight,
        _ => Alpha::None,
    };
    let alpha = if samples > colors.channels() { alpha } else { Alpha::None };
    let palette = if colors == Colors::Palette { palette(&map, bits)? } else { Vec::new() };
    let chunk = decoder.chunk_dimensions();
    let is_strip = decoder.get_chunk_type() == ChunkType::Strip;
    Ok(Header {
        width,
        height,
        orientation: Orientation::from_exif(orientation.min(255) as u8).unwrap_or(Orientation::NoTransforms),
        profile: decoder.get_tag_u8_vec(Tag::IccProfile).ok(),
        colors,
        alpha,
        palette,
        bits: bits.into(),
        samples,
        is_planar,
        is_reversed: fill_order == 2 && compression == UNCOMPRESSED,
        is_jpeg: compression == JPEG,
        chunk: if is_strip { (width, chunk.1.min(height)) } else { chunk },
    })
}

/// The colors of a palette: all reds, all greens, all blues, of 16 bits each.
fn palette(map: &[u16], bits: u16) -> Result<Vec<[u8; 3]>, Unscalable> {
    let colors = 1_usize << bits;
    if map.len() < 3 * colors {
        return Err(Unscalable::Damaged);
    }
    // Some programs wrote eight bits; no real 16-bit palette is that dark throughout.
    let shift = if map.iter().all(|value| *value < 256) { 0 } else { 8 };
    Ok((0..colors).map(|n| [n, colors + n, 2 * colors + n].map(|at| (map[at] >> shift) as u8)).collect())
}

/// Decodes the first image of a TIFF; the decoder gets no more than `most` bytes.
pub(crate) fn pixels(source: &Bytes, most: u64) -> Result<Pixels, Unscalable> {
    let (mut decoder, photometric) = plain(Cursor::new(&source[..]))?;
    let header = header(&mut decoder, photometric)?;
    if header.is_jpeg {
        check_jpegs(source, &mut decoder, &header)?;
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut limits = Limits::default();
    (limits.decoding_buffer_size, limits.intermediate_buffer_size) = (most, most);
    let mut decoder = decoder.with_limits(limits);

    let (width, height) = (header.width as usize, header.height as usize);
    let (across, down) = match decoder.get_chunk_type() {
        ChunkType::Strip => (1, header.height.div_ceil(header.chunk.1)),
        ChunkType::Tile => (header.width.div_ceil(header.chunk.0), header.height.div_ceil(header.chunk.1)),
    };
    let channels = if header.has_alpha() { 4 } else { 3 };
    let mut bytes = vec![0; width * height * channels];
    let mut samples = vec![0; header.chunk.0 as usize * header.samples];
    for chunk in 0..across * down {
        let planes = if header.is_planar { header.colors.channels() as u32 + u32::from(header.has_alpha()) } else { 1 };
        let stored = (0..planes).map(|plane| decoder.read_chunk(plane * across * down + chunk));
        let stored = stored.collect::<TiffResult<Vec<_>>>().map_err(refusal)?;
        let (left, top) = (chunk % across * header.chunk.0, chunk / across * header.chunk.1);
        let wide = header.chunk.0.min(header.width - left) as usize;
        let high = header.chunk.1.min(header.height - top) as usize;
        for row in 0..high {
            let per_plane = if header.is_planar { 1 } else { header.samples };
            for (plane, stored) in stored.iter().enumerate() {
                let into = samples.iter_mut().skip(plane).step_by(if header.is_planar { header.samples } else { 1 });
                unpack(stored, &header, (row, wide * per_plane), into)?;
            }
            let begin = ((top as usize + row) * width + left as usize) * channels;
            convert(&header, &samples[..wide * header.samples], &mut bytes[begin..begin + wide * channels]);
        }
    }
    Ok(Pixels { width: header.width, height: header.height, alpha: header.has_alpha(), bytes })
}

/// Refuses a strip or tile that would be decoded to more than its size: a JPEG in one contains its own dimensions.
fn check_jpegs<R: Read + Seek>(source: &Bytes, decoder: &mut Decoder<R>, header: &Header) -> Result<(), Unscalable> {
    let (offsets, lengths) = match decoder.get_chunk_type() {
        ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
        ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
    };
    let offsets = decoder.get_tag_u64_vec(offsets).map_err(refusal)?;
    let lengths = decoder.get_tag_u64_vec(lengths).map_err(refusal)?;
    let components = if header.is_planar { 1 } else { header.samples };
    for (offset, length) in offsets.into_iter().zip(lengths) {
        let range = usize::try_from(offset).ok().zip(usize::try_from(offset.saturating_add(length)).ok());
        let jpeg = range.and_then(|(begin, end)| source.get(begin..end)).ok_or(Unscalable::Damaged)?;
        let found = jpeg::header(&mut Cursor::new(jpeg)).map_err(|_| Unscalable::Damaged)?;
        if found.storage != Storage::Rows || usize::from(found.components) != components {
            return Err(Unscalable::Kind);
        }
        if u32::from(found.width) != header.chunk.0 || u32::from(found.height) > header.chunk.1.saturating_add(15) {
            return Err(Unscalable::Damaged);
        }
    }
    Ok(())
}

/// Converts `count` samples of a row to eight bits each; palette indexes stay unchanged.
fn unpack<'a>(
    stored: &DecodingResult,
    header: &Header,
    (row, count): (usize, usize),
    into: impl Iterator<Item = &'a mut u8>,
) -> Result<(), Unscalable> {
    fn each<'a, T: Copy>(
        stored: &[T],
        (row, count): (usize, usize),
        into: impl Iterator<Item = &'a mut u8>,
        reduce: impl Fn(T) -> u8,
    ) -> Result<(), Unscalable> {
        let row = stored.get(row * count..(row + 1) * count).ok_or(Unscalable::Damaged)?;
        into.zip(row).for_each(|(into, sample)| *into = reduce(*sample));
        Ok(())
    }
    // Stored as 0 to 1; values beyond are clamped to black or white.
    let unit = |value: f64| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
    let order = |byte: u8| if header.is_reversed { byte.reverse_bits() } else { byte };
    let at = (row, count);
    match stored {
        DecodingResult::U8(stored) if header.bits == 8 => each(stored, at, into, order),
        DecodingResult::U8(stored) => {
            let (bits, length) = (header.bits as usize, (count * header.bits as usize).div_ceil(8));
            let row = stored.get(row * length..(row + 1) * length).ok_or(Unscalable::Damaged)?;
            let most = (1_u8 << bits) - 1;
            for (number, into) in into.take(count).enumerate() {
                let bit = number * bits;
                let value = (order(row[bit / 8]) >> (8 - bits - bit % 8)) & most;
                *into = if header.colors == Colors::Palette { value } else { value * (255 / most) };
            }
            Ok(())
        }
        DecodingResult::U16(stored) => {
            let order = |value: u16| u16::from_ne_bytes(value.to_ne_bytes().map(order));
            // The upper byte of a Lab sample is its value with eight bits.
            let is_lab = matches!(header.colors, Colors::Lab { .. });
            let reduce =
                |value| if is_lab { (value >> 8) as u8 } else { ((u32::from(value) * 255 + 32_767) / 65_535) as u8 };
            each(stored, at, into, |value| reduce(order(value)))
        }
        DecodingResult::U32(stored) => {
            each(stored, at, into, |value| (u32::from_ne_bytes(value.to_ne_bytes().map(order)) >> 24) as u8)
        }
        DecodingResult::F16(stored) => each(stored, at, into, |value| unit(value.to_f64())),
        DecodingResult::F32(stored) => each(stored, at, into, |value| unit(value.into())),
        DecodingResult::F64(stored) => each(stored, at, into, unit),
        _ => Err(Unscalable::Kind),
    }
}

/// Converts the samples of a row to red, green, blue and alpha.
fn convert(header: &Header, samples: &[u8], into: &mut [u8]) {
    let (colors, channels) = (header.colors, header.colors.channels());
    let out = if header.has_alpha() { 4 } else { 3 };
    for (pixel, into) in samples.chunks_exact(header.samples).zip(into.chunks_exact_mut(out)) {
        let mut rgb = match colors {
            Colors::White0 => [255 - pixel[0]; 3],
            Colors::Black0 => [pixel[0]; 3],
            Colors::Rgb => [pixel[0], pixel[1], pixel[2]],
            Colors::Palette => header.palette.get(usize::from(pixel[0])).copied().unwrap_or_default(),
            Colors::Cmyk => color::cmyk([pixel[0], pixel[1], pixel[2], pixel[3]]),
            Colors::YCbCr => color::ycbcr([pixel[0], pixel[1], pixel[2]]),
            Colors::Lab { offset: true } => {
                color::lab(pixel[0], pixel[1].wrapping_sub(128) as i8, pixel[2].wrapping_sub(128) as i8)
            }
            Colors::Lab { offset: false } => color::lab(pixel[0], pixel[1] as i8, pixel[2] as i8),
        };
        if header.alpha == Alpha::Premultiplied {
            let alpha = u32::from(pixel[channels]);
            let straight =
                |value: u8| (u32::from(value) * 255 + alpha / 2).checked_div(alpha).unwrap_or(0).min(255) as u8;
            rgb = rgb.map(straight);
        }
        into[..3].copy_from_slice(&rgb);
        if let Some(into) = into.get_mut(3) {
            *into = pixel[channels];
        }
    }
}

/// A store error is about reading the bytes, and a feature that the decoder lacks is not damage.
fn refusal(error: TiffError) -> Unscalable {
    match error {
        TiffError::IoError(error) if error.get_ref().is_some_and(|inner| inner.is::<StoreError>()) => {
            Unscalable::Read(error)
        }
        TiffError::LimitsExceeded => Unscalable::TooLarge,
        TiffError::UnsupportedError(_) => Unscalable::Kind,
        _ => Unscalable::Damaged,
    }
}
