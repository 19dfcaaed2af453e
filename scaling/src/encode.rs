//! Encoding.

use bytes::Bytes;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use shared::derivative::{Derivative, Form, Unscalable};
use shared::media::Format;

use crate::resize::Pixels;

/// The usual compromise: what is lost is not seen, but for text and line drawings from close up.
const QUALITY: u8 = 82;

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
    } else {
        let mut encoder = Encoder::new(&mut encoded, QUALITY);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        let color = if alpha { ColorType::Rgba } else { ColorType::Rgb };
        let edges = (u16::try_from(width), u16::try_from(height));
        let (Ok(width), Ok(height)) = edges else { return Err(Unscalable::TooLarge) };
        (Format::Jpeg, encoder.encode(&bytes, width, height, color).is_ok())
    };
    // Into memory, and of a size that every format has: nothing is left that could fail but the image.
    if done { Ok(Derivative { bytes: Bytes::from(encoded), format }) } else { Err(Unscalable::Damaged) }
}
