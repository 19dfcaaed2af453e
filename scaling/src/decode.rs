//! Decoding: what an image will take, and its pixels.

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

/// What is taken besides pixels: tables, colour profiles, an encoder's buffers.
const FIXED: u64 = 8 << 20;
/// A longer colour profile is none. It may be stored compressed, so that a small file can hold one without end.
const LONGEST_PROFILE: usize = 4 << 20;
/// Scans of a JPEG beyond this many are not waited for; cameras and encoders make about ten.
const MOST_SCANS: usize = 64;

/// What a header tells.
pub(crate) struct Look {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) orientation: Orientation,
    /// What its colours are, where they are not as in sRGB.
    pub(crate) space: Option<Space>,
    alpha: bool,
    /// An animated PNG whose first frame is not the picture that comes first.
    hides_default: bool,
    /// What the decoder takes, its result included, and a profile that is none.
    decoding: u64,
}

impl Look {
    /// The size that this form has before it is turned.
    pub(crate) fn target(&self, form: Form) -> (u32, u32) {
        let lies = matches!(
            self.orientation,
            Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
        );
        let bounds = if lies { form.bounds.turned() } else { form.bounds };
        bounds.fit(self.width, self.height)
    }

    /// Whether the numbers that are stored are what is to be seen: nothing is turned, converted or left out.
    pub(crate) fn is_plain(&self) -> bool {
        self.orientation == Orientation::NoTransforms && self.space.is_none() && !self.hides_default
    }

    /// What making this form takes, out of a source of so many bytes.
    pub(crate) fn cost(&self, source: u64, form: Form) -> u64 {
        let (width, height) = self.target(form);
        let channels = if self.alpha { 4 } else { 3 };
        let pixels = |width: u32, height: u32| u64::from(width) * u64::from(height) * channels;
        // Resizing goes by rows first; turning, converting and encoding each hold another one beside their own.
        let resizing = pixels(width, self.height) + 3 * pixels(width, height);
        // libwebp makes planes of its own.
        let encoding = if form.formats.include(Format::WebP) { u64::from(width) * u64::from(height) * 8 } else { 0 };
        source + self.decoding + resizing + encoding + FIXED
    }
}

/// Looks at an image's header; `open` starts reading at its beginning.
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
        // A frame of its own beside the picture that it becomes a part of.
        Format::Gif => native,
        // Planes of brightness and colour, or what the transforms of the other kind need.
        Format::WebP => 2 * native,
        // The frame, the canvas, the canvas before it, and what is made of them.
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
        // Browsers show a WebP as it is stored, whatever its EXIF says, and a form is shown like its original.
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

/// A colour profile, and how many bytes are held for what is too long to be one.
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
    // Coefficients have 16 bits; blocks at the edges are whole.
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
    // What is cut off or slightly wrong is shown as far as it goes, as browsers do.
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

/// The decoder of a format other than JPEG and TIFF; what precedes the pixels takes no more than `most` bytes.
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
        // An icon is small as it is, and what precedes the pixels of a PNG in it would be unpacked without a limit.
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

/// What the store reports is about the bytes; everything else is about the image.
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
