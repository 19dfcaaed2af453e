//! Encoding: chooses the format that suits a picture and the client.

use std::collections::HashMap;

use ::png::{BitDepth, ColorType as PngColor, Compression, Encoder as PngEncoder, Filter};
use bytes::Bytes;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use shared::media::Format;
use shared::thumbnails::{Form, Formats, Pinned, Thumbnail, Unscalable};
use webp::{PixelLayout, WebPConfig};

use crate::resize::Pixels;

/// The usual compromise: artifacts are invisible, except in text and line drawings from close up.
const JPEG_QUALITY: u8 = 82;
/// Equivalent to that in thumbnails of up to 640 pixels; where it is worse, the artifacts are still invisible on a
/// screen.
const WEBP_QUALITY: f32 = 75.0;
/// How hard libwebp compresses, from 0 to 6: its default 4 takes twice as long to save one byte in thirty.
const WEBP_METHOD: i32 = 2;
/// The maximum size of a palette.
const PALETTE: usize = 256;

/// Encodes a picture. Drawings with few colors are lossless if that is shorter, and transparent pictures always are.
pub(crate) fn encode(pixels: &Pixels, form: Form) -> Result<Thumbnail, Unscalable> {
    let is_transparent = pixels.alpha && pixels.bytes.chunks_exact(4).any(|pixel| pixel[3] != u8::MAX);
    if pixels.width > u16::MAX.into() || pixels.height > u16::MAX.into() {
        return Err(Unscalable::TooLarge);
    }
    let palette = Palette::of(pixels);
    let has_few = palette.is_some();
    let jpeg = || (Format::Jpeg, jpeg(pixels, is_transparent));
    let png = || (Format::Png, png(pixels, palette.as_ref()));
    let webp = || (Format::WebP, webp_with_loss(pixels));
    let lossless_webp = || (Format::WebP, webp_without_loss(pixels));
    let candidates = match form.formats {
        Formats::Only(Pinned::Jpeg) => vec![jpeg()],
        Formats::Only(Pinned::Png) => vec![png()],
        Formats::Common if is_transparent => vec![png()],
        Formats::Common if has_few => vec![jpeg(), png()],
        Formats::Common => vec![jpeg()],
        Formats::Only(Pinned::WebP) if is_transparent => vec![lossless_webp()],
        Formats::Only(Pinned::WebP) if has_few => vec![webp(), lossless_webp()],
        Formats::WithWebP if is_transparent && has_few => vec![lossless_webp(), png()],
        Formats::WithWebP if is_transparent => vec![lossless_webp()],
        Formats::WithWebP if has_few => vec![webp(), lossless_webp(), png()],
        Formats::Only(Pinned::WebP) | Formats::WithWebP => vec![webp()],
    };
    let made = candidates.into_iter().filter_map(|(format, bytes)| Some((format, bytes?)));
    let shortest = made.min_by_key(|(_, bytes)| bytes.len());
    // Encoding to memory, in a size that every format supports, can only fail because of the image.
    let (format, bytes) = shortest.ok_or(Unscalable::Damaged)?;
    Ok(Thumbnail { bytes: Bytes::from(bytes), format })
}

fn jpeg(pixels: &Pixels, is_transparent: bool) -> Option<Vec<u8>> {
    let mut encoded = Vec::new();
    let mut encoder = Encoder::new(&mut encoded, JPEG_QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    let color = if pixels.alpha { ColorType::Rgba } else { ColorType::Rgb };
    let (width, height) = (u16::try_from(pixels.width).ok()?, u16::try_from(pixels.height).ok()?);
    let done = if is_transparent {
        encoder.encode(&on_white(&pixels.bytes), width, height, color)
    } else {
        encoder.encode(&pixels.bytes, width, height, color)
    };
    done.ok().map(|()| encoded)
}

/// Red, green, blue and alpha, blended with white, the background of most pages.
fn on_white(bytes: &[u8]) -> Vec<u8> {
    let mut flat = bytes.to_vec();
    for pixel in flat.chunks_exact_mut(4) {
        let alpha = u32::from(pixel[3]);
        let over = |value: u8| ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        pixel.copy_from_slice(&[over(pixel[0]), over(pixel[1]), over(pixel[2]), u8::MAX]);
    }
    flat
}

fn webp_without_loss(pixels: &Pixels) -> Option<Vec<u8>> {
    let mut encoded = Vec::new();
    let color = if pixels.alpha { ExtendedColorType::Rgba8 } else { ExtendedColorType::Rgb8 };
    WebPEncoder::new_lossless(&mut encoded).write_image(&pixels.bytes, pixels.width, pixels.height, color).ok()?;
    Some(encoded)
}

fn webp_with_loss(pixels: &Pixels) -> Option<Vec<u8>> {
    let mut config = WebPConfig::new().ok()?;
    (config.quality, config.method) = (WEBP_QUALITY, WEBP_METHOD);
    let layout = if pixels.alpha { PixelLayout::Rgba } else { PixelLayout::Rgb };
    let encoder = webp::Encoder::new(&pixels.bytes, layout, pixels.width, pixels.height);
    encoder.encode_advanced(&config).ok().map(|made| made.to_vec())
}

/// The palette of a picture with few colors.
struct Palette {
    colors: Vec<[u8; 4]>,
    indexes: HashMap<[u8; 4], u8>,
}

impl Palette {
    /// `None` if there are more colors than a palette holds.
    fn of(pixels: &Pixels) -> Option<Self> {
        let mut found = HashMap::new();
        let mut last = None;
        for color in colors(pixels) {
            if last != Some(color) {
                found.insert(color, 0);
                last = Some(color);
            }
            if found.len() > PALETTE {
                return None;
            }
        }
        let mut colors: Vec<[u8; 4]> = found.into_keys().collect();
        // Colors that are not opaque come first, since a PNG stores the alpha of the first ones only; and the order is
        // deterministic.
        colors.sort_by_key(|color| (color[3], *color));
        let indexes = colors.iter().copied().zip(0..=u8::MAX).collect();
        Some(Self { colors, indexes })
    }

    /// Whether the picture has many shades of gray, which are shorter as gray values than as palette indexes.
    fn is_gray(&self) -> bool {
        self.colors.len() > 16
            && self.colors.iter().all(|[red, green, blue, alpha]| red == green && green == blue && *alpha == 255)
    }
}

fn colors(pixels: &Pixels) -> impl Iterator<Item = [u8; 4]> {
    let channels = if pixels.alpha { 4 } else { 3 };
    let color = move |pixel: &[u8]| [pixel[0], pixel[1], pixel[2], if pixels.alpha { pixel[3] } else { u8::MAX }];
    pixels.bytes.chunks_exact(channels).map(color)
}

fn png(pixels: &Pixels, palette: Option<&Palette>) -> Option<Vec<u8>> {
    let mut encoded = Vec::new();
    let mut encoder = PngEncoder::new(&mut encoded, pixels.width, pixels.height);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::High);
    encoder.set_filter(Filter::Adaptive);
    let packed;
    let data = match palette {
        Some(palette) if palette.is_gray() => {
            encoder.set_color(PngColor::Grayscale);
            packed = colors(pixels).map(|color| color[0]).collect();
            &packed
        }
        Some(palette) => {
            let (depth, bits) = match palette.colors.len() {
                0..=2 => (BitDepth::One, 1),
                3..=4 => (BitDepth::Two, 2),
                5..=16 => (BitDepth::Four, 4),
                _ => (BitDepth::Eight, 8),
            };
            encoder.set_color(PngColor::Indexed);
            encoder.set_depth(depth);
            // Palette indexes have no similarity that a filter could use.
            encoder.set_filter(Filter::NoFilter);
            encoder.set_palette(palette.colors.iter().flat_map(|color| color[..3].to_vec()).collect::<Vec<u8>>());
            let alphas: Vec<u8> =
                palette.colors.iter().map(|color| color[3]).take_while(|alpha| *alpha < u8::MAX).collect();
            if !alphas.is_empty() {
                encoder.set_trns(alphas);
            }
            packed = pack(pixels, palette, bits);
            &packed
        }
        None => {
            // Many colors take long to compress well.
            encoder.set_compression(Compression::Fast);
            encoder.set_filter(Filter::Adaptive);
            encoder.set_color(if pixels.alpha { PngColor::Rgba } else { PngColor::Rgb });
            &pixels.bytes
        }
    };
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(data).ok()?;
    writer.finish().ok()?;
    Some(encoded)
}

/// The palette indexes, with `bits` bits each; each row begins with a filter byte.
fn pack(pixels: &Pixels, palette: &Palette, bits: usize) -> Vec<u8> {
    let width = pixels.width as usize;
    let length = (width * bits).div_ceil(8);
    let mut packed = vec![0; length * pixels.height as usize];
    for (position, color) in colors(pixels).enumerate() {
        let index = palette.indexes.get(&color).copied().unwrap_or_default();
        let bit = position % width * bits;
        packed[position / width * length + bit / 8] |= index << (8 - bits - bit % 8);
    }
    packed
}
