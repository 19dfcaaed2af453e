//! Encoding.

use bytes::Bytes;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use shared::derivative::{Derivative, Form, Unscalable};
use shared::media::Format;
use webp::{PixelLayout, WebPConfig};

use crate::resize::Pixels;

/// The usual compromise: what is lost is not seen, but for text and line drawings from close up.
const JPEG_QUALITY: u8 = 82;
/// As good as that in forms of up to 640 pixels, and where it is worse, still better than what can be told on a screen.
const WEBP_QUALITY: f32 = 75.0;
/// How long libwebp looks for ways to be shorter, of 0 to 6: its usual 4 takes twice as long for one byte in thirty.
const WEBP_METHOD: i32 = 2;

/// Encodes a picture, in a format that suits it and its reader.
pub(crate) fn encode(pixels: Pixels, form: Form) -> Result<Derivative, Unscalable> {
    let Pixels { width, height, alpha, bytes } = pixels;
    let transparent = alpha && bytes.chunks_exact(4).any(|pixel| pixel[3] != u8::MAX);
    let mut encoded = Vec::new();
    let (format, done) = if transparent && form.webp {
        let encoder = WebPEncoder::new_lossless(&mut encoded);
        (Format::WebP, encoder.encode(&bytes, width, height, ExtendedColorType::Rgba8).is_ok())
    } else if transparent {
        let encoder = PngEncoder::new(&mut encoded);
        (Format::Png, encoder.write_image(&bytes, width, height, ExtendedColorType::Rgba8).is_ok())
    } else if form.webp {
        let layout = if alpha { PixelLayout::Rgba } else { PixelLayout::Rgb };
        (Format::WebP, encode_webp(&webp::Encoder::new(&bytes, layout, width, height), &mut encoded))
    } else {
        let mut encoder = Encoder::new(&mut encoded, JPEG_QUALITY);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        let color = if alpha { ColorType::Rgba } else { ColorType::Rgb };
        let edges = (u16::try_from(width), u16::try_from(height));
        let (Ok(width), Ok(height)) = edges else { return Err(Unscalable::TooLarge) };
        (Format::Jpeg, encoder.encode(&bytes, width, height, color).is_ok())
    };
    // Into memory, and of a size that every format has: nothing is left that could fail but the image.
    if done { Ok(Derivative { bytes: Bytes::from(encoded), format }) } else { Err(Unscalable::Damaged) }
}

/// Appends a WebP with loss; false where libwebp could not make it.
fn encode_webp(encoder: &webp::Encoder<'_>, encoded: &mut Vec<u8>) -> bool {
    let Ok(mut config) = WebPConfig::new() else { return false };
    (config.quality, config.method) = (WEBP_QUALITY, WEBP_METHOD);
    encoder.encode_advanced(&config).map(|made| encoded.extend_from_slice(&made)).is_ok()
}
