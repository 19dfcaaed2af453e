//! Decoding: the memory that an image needs, and its pixels.

use std::io::{BufRead, Cursor, Seek, SeekFrom};

use bytes::Bytes;
use image::codecs::png::PngDecoder;
use image::codecs::{bmp, gif, webp};
use image::metadata::Orientation;
use image::{AnimationDecoder, ColorType, DynamicImage, ImageDecoder, ImageError, ImageResult};
use shared::media::Format;
use shared::store::StoreError;
use shared::thumbnails::{Form, Unscalable};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::bmp::Plain;
use crate::color::Space;
use crate::jpeg::{self, Storage};
use crate::resize::Pixels;
use crate::{png, tiff};

/// Memory for everything besides pixels: tables, color profiles, an encoder's buffers.
const FIXED: u64 = 8 << 20;
/// A longer color profile is ignored. It may be stored compressed, so a small file can contain a huge one.
const LONGEST_PROFILE: usize = 4 << 20;
/// More scans of a JPEG than this are not decoded; cameras and encoders make about ten.
const MOST_SCANS: usize = 64;

/// The contents of a header.
pub(crate) struct Look {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) orientation: Orientation,
    /// The color space, if it is not sRGB.
    pub(crate) space: Option<Space>,
    alpha: bool,
    /// Whether it is an animated PNG whose default picture is not its first frame.
    hides_default: bool,
    /// The memory for the decoder, including its result and an oversized profile.
    decoding: u64,
}

impl Look {
    /// The size of this thumbnail before rotation.
    pub(crate) fn target(&self, form: Form) -> (u32, u32) {
        let lies = matches!(
            self.orientation,
            Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
        );
        let bounds = if lies { form.bounds.turned() } else { form.bounds };
        bounds.fit(self.width, self.height)
    }

    /// Whether the stored values are displayed unchanged: not rotated, converted or hidden.
    pub(crate) fn is_plain(&self) -> bool {
        self.orientation == Orientation::NoTransforms && self.space.is_none() && !self.hides_default
    }

    /// The memory that this thumbnail needs, for a source of `source` bytes.
    pub(crate) fn cost(&self, source: u64, form: Form) -> u64 {
        let (width, height) = self.target(form);
        let channels = if self.alpha { 4 } else { 3 };
        let pixels = |width: u32, height: u32| u64::from(width) * u64::from(height) * channels;
        // Resizing processes rows first; rotating, converting and encoding each need a second copy.
        let resizing = pixels(width, self.height) + 3 * pixels(width, height);
        // libwebp allocates its own planes.
        let encoding = if form.formats.include(Format::WebP) { u64::from(width) * u64::from(height) * 8 } else { 0 };
        source + self.decoding + resizing + encoding + FIXED
    }
}

/// Reads an image's header; `open` starts reading at its beginning.
pub(crate) fn look<R: BufRead + Seek>(open: &dyn Fn() -> R, format: Format) -> Result<Look, Unscalable> {
    match format {
        Format::Jpeg => return look_at_jpeg(open),
        Format::Tiff => return look_at_tiff(open),
        _ => {}
    }
    let png = match format {
        Format::Png => png::header(&mut open()).map_err(|error| refusal(ImageError::IoError(error)))?,
        _ => png::Header::default(),
    };
    let mut decoder = decoder(open(), format, LONGEST_PROFILE as u64)?.map_err(refusal)?;
    let (width, height) = decoder.dimensions();
    let (color, native) = (decoder.color_type(), decoder.total_bytes());
    let pixels = u64::from(width) * u64::from(height);
    let ours = pixels * if color.has_alpha() { 4 } else { 3 };
    let converting = if matches!(color, ColorType::Rgb8 | ColorType::Rgba8) { 0 } else { ours };
    let working = match format {
        // One frame in addition to the picture it is drawn on.
        Format::Gif => native,
        // Luma and chroma planes, or the data of the lossless transforms.
        Format::WebP => 2 * native,
        // The frame, the canvas, the previous canvas, and the result.
        Format::Png if png.hides_default => pixels * 16,
        _ => 0,
    };
    let (profile, too_long) = profile_of(decoder.icc_profile().ok().flatten());
    let space = if png.is_coded {
        None
    } else {
        profile.map(|icc| if color.has_color() { Space::Icc(icc) } else { Space::Gray(icc) })
    };
    let orientation = match format {
        // Browsers ignore the EXIF orientation of a WebP, and a thumbnail is displayed like its original.
        Format::WebP => Orientation::NoTransforms,
        _ => decoder.orientation().unwrap_or(Orientation::NoTransforms),
    };
    Ok(Look {
        width,
        height,
        orientation,
        space: space.or(png.space),
        alpha: color.has_alpha() || png.hides_default,
        hides_default: png.hides_default,
        decoding: native.saturating_add(converting).saturating_add(working).saturating_add(too_long),
    })
}

/// A color profile, and the memory of one that is too long.
fn profile_of(found: Option<Vec<u8>>) -> (Option<Vec<u8>>, u64) {
    match found {
        Some(profile) if profile.len() > LONGEST_PROFILE => (None, profile.len() as u64),
        found => (found, 0),
    }
}

fn look_at_jpeg<R: BufRead + Seek>(open: &dyn Fn() -> R) -> Result<Look, Unscalable> {
    let header = jpeg::header(&mut open()).map_err(|error| refusal(ImageError::IoError(error)))?;
    if header.storage == Storage::Unusual {
        return Err(Unscalable::Kind);
    }
    let mut decoder = JpegDecoder::new_with_options(open(), jpeg_options());
    decoder.decode_headers().map_err(|_| Unscalable::Damaged)?;
    let info = decoder.info().ok_or(Unscalable::Damaged)?;
    let pixels = u64::from(info.width) * u64::from(info.height);
    // Coefficients have 16 bits; blocks at the edges are complete.
    let progressive = header.storage == Storage::Progressive;
    let held = if progressive { pixels * 2 * u64::from(info.components) * 5 / 4 } else { 0 };
    let orientation = header.exif.and_then(|exif| Orientation::from_exif_chunk(&exif));
    let (profile, too_long) = profile_of(decoder.icc_profile());
    Ok(Look {
        width: info.width.into(),
        height: info.height.into(),
        orientation: orientation.unwrap_or(Orientation::NoTransforms),
        space: profile.map(|icc| if info.components == 1 { Space::Gray(icc) } else { Space::Icc(icc) }),
        alpha: false,
        hides_default: false,
        decoding: pixels * 3 + held + too_long,
    })
}

fn look_at_tiff<R: BufRead + Seek>(open: &dyn Fn() -> R) -> Result<Look, Unscalable> {
    let length = open().seek(SeekFrom::End(0)).map_err(|error| refusal(ImageError::IoError(error)))?;
    let mut header = tiff::look(open())?;
    let (profile, too_long) = profile_of(header.profile.take());
    let space = profile.and_then(|icc| match () {
        () if header.is_gray() => Some(Space::Gray(icc)),
        () if header.is_rgb() => Some(Space::Icc(icc)),
        () => None,
    });
    Ok(Look {
        width: header.width,
        height: header.height,
        orientation: header.orientation,
        space,
        alpha: header.has_alpha(),
        hides_default: false,
        decoding: header.decoding(length).saturating_add(too_long),
    })
}

fn jpeg_options() -> DecoderOptions {
    // Truncated or slightly damaged images are shown as far as possible, as in browsers.
    DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_max_scans(MOST_SCANS)
        .jpeg_set_out_colorspace(ColorSpace::RGB)
}

fn limits(most: u64) -> image::Limits {
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(most);
    limits
}

/// The decoder of a format other than JPEG and TIFF; the data before the pixels takes no more than `most` bytes.
fn decoder<'a, R: BufRead + Seek + 'a>(
    reader: R,
    format: Format,
    most: u64,
) -> Result<ImageResult<Box<dyn ImageDecoder + 'a>>, Unscalable> {
    fn boxed<'a>(decoder: ImageResult<impl ImageDecoder + 'a>) -> ImageResult<Box<dyn ImageDecoder + 'a>> {
        Ok(Box::new(decoder?))
    }
    Ok(match format {
        Format::Png => boxed(PngDecoder::with_limits(reader, limits(most))),
        Format::Gif => boxed(gif::GifDecoder::new(reader)),
        Format::WebP => boxed(webp::WebPDecoder::new(reader)),
        Format::Bmp => boxed(Plain::new(reader).map_err(ImageError::IoError).and_then(bmp::BmpDecoder::new)),
        // An icon is already small, and the data before the pixels of a PNG in it would be decompressed without a
        // limit.
        _ => return Err(Unscalable::Format(format)),
    })
}

/// Decodes a whole image; its decoder gets no more than `most` bytes.
pub(crate) fn pixels(source: &Bytes, format: Format, look: &Look, most: u64) -> Result<Pixels, Unscalable> {
    let (width, height) = (look.width, look.height);
    if format == Format::Jpeg {
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&source[..]), jpeg_options());
        let bytes = decoder.decode().map_err(|_| Unscalable::Damaged)?;
        let whole = bytes.len() as u64 == u64::from(width) * u64::from(height) * 3;
        return if whole { Ok(Pixels { width, height, alpha: false, bytes }) } else { Err(Unscalable::Damaged) };
    }
    if format == Format::Tiff {
        return tiff::pixels(source, most);
    }
    if look.hides_default {
        let decoder = PngDecoder::with_limits(Cursor::new(&source[..]), limits(most)).map_err(refusal)?;
        let first = decoder.apng().map_err(refusal)?.into_frames().next().ok_or(Unscalable::Damaged)?;
        let first = first.map_err(refusal)?.into_buffer();
        return Ok(Pixels { width: first.width(), height: first.height(), alpha: true, bytes: first.into_raw() });
    }
    let mut decoder = decoder(Cursor::new(&source[..]), format, most)?.map_err(refusal)?;
    decoder.set_limits(limits(most)).map_err(refusal)?;
    let image = DynamicImage::from_decoder(decoder).map_err(refusal)?;
    let (width, height, alpha) = (image.width(), image.height(), image.color().has_alpha());
    let bytes = if alpha { image.into_rgba8().into_raw() } else { image.into_rgb8().into_raw() };
    Ok(Pixels { width, height, alpha, bytes })
}

/// A store error is about reading the bytes; every other error is about the image.
fn refusal(error: ImageError) -> Unscalable {
    match error {
        ImageError::IoError(error) if error.get_ref().is_some_and(|inner| inner.is::<StoreError>()) => {
            Unscalable::Read(error)
        }
        ImageError::Limits(_) => Unscalable::TooLarge,
        ImageError::Unsupported(_) => Unscalable::Kind,
        _ => Unscalable::Damaged,
    }
}
