//! Pixels, and their processing between decoding and encoding.

use fast_image_resize::images::Image;
use fast_image_resize::{MulDiv, PixelType, ResizeOptions, Resizer};
use image::metadata::Orientation;
use image::{DynamicImage, RgbImage, RgbaImage};
use shared::thumbnails::Unscalable;

/// A picture with eight bits per channel: red, green, blue and, with `alpha`, opacity.
pub(crate) struct Pixels {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) alpha: bool,
    pub(crate) bytes: Vec<u8>,
}

/// Shrinks a picture. Transparent pixels do not affect the colors of their neighbors.
pub(crate) fn resize(pixels: Pixels, width: u32, height: u32) -> Result<Pixels, Unscalable> {
    if (width, height) == (pixels.width, pixels.height) {
        return Ok(pixels);
    }
    let kind = if pixels.alpha { PixelType::U8x4 } else { PixelType::U8x3 };
    let mut large = Image::from_vec_u8(pixels.width, pixels.height, pixels.bytes, kind).map_err(impossible)?;
    let mut small = Image::new(width, height, kind);
    let alpha = MulDiv::new();
    if pixels.alpha {
        // In place: the resizer itself would copy all pixels for this.
        alpha.multiply_alpha_inplace(&mut large).map_err(impossible)?;
    }
    Resizer::new().resize(&large, &mut small, &ResizeOptions::new().use_alpha(false)).map_err(impossible)?;
    if pixels.alpha {
        alpha.divide_alpha_inplace(&mut small).map_err(impossible)?;
    }
    Ok(Pixels { width, height, alpha: pixels.alpha, bytes: small.into_vec() })
}

/// Shrinks the `used` part, from the upper left, of a plane of this size.
pub(crate) fn plane(
    bytes: Vec<u8>,
    (width, height): (u32, u32),
    used: (f64, f64),
    target: (u32, u32),
) -> Option<Vec<u8>> {
    let large = Image::from_vec_u8(width, height, bytes, PixelType::U8).ok()?;
    let mut small = Image::new(target.0, target.1, PixelType::U8);
    let options = ResizeOptions::new().use_alpha(false).crop(0.0, 0.0, used.0, used.1);
    Resizer::new().resize(&large, &mut small, &options).ok()?;
    Some(small.into_vec())
}

/// Only pictures without pixels, or with too few of them for their size, fail; decoders return neither.
fn impossible<E>(_: E) -> Unscalable {
    Unscalable::Damaged
}

/// Rotates a picture according to its orientation.
pub(crate) fn rotate(pixels: Pixels, orientation: Orientation) -> Pixels {
    if orientation == Orientation::NoTransforms {
        return pixels;
    }
    let Pixels { width, height, alpha, bytes } = pixels;
    let image = if alpha {
        RgbaImage::from_raw(width, height, bytes).map(DynamicImage::ImageRgba8)
    } else {
        RgbImage::from_raw(width, height, bytes).map(DynamicImage::ImageRgb8)
    };
    let mut image = image.unwrap_or_default();
    image.apply_orientation(orientation);
    Pixels { width: image.width(), height: image.height(), alpha, bytes: image.into_bytes() }
}
