//! Pixels, and what is done with them between decoding and encoding.

use fast_image_resize::images::Image;
use fast_image_resize::{MulDiv, PixelType, ResizeOptions, Resizer};
use image::metadata::Orientation;
use image::{DynamicImage, RgbImage, RgbaImage};
use moxcms::{ColorProfile, DataColorSpace, Layout, TransformOptions};
use shared::derivative::Unscalable;

/// A picture with eight bits a channel: red, green, blue and, where it has `alpha`, how opaque it is.
pub(crate) struct Pixels {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) alpha: bool,
    pub(crate) bytes: Vec<u8>,
}

/// Makes a picture smaller. What is transparent lends no colour to what is beside it.
pub(crate) fn resize(pixels: Pixels, width: u32, height: u32) -> Result<Pixels, Unscalable> {
    if (width, height) == (pixels.width, pixels.height) {
        return Ok(pixels);
    }
    let kind = if pixels.alpha { PixelType::U8x4 } else { PixelType::U8x3 };
    let mut large = Image::from_vec_u8(pixels.width, pixels.height, pixels.bytes, kind).map_err(impossible)?;
    let mut small = Image::new(width, height, kind);
    let alpha = MulDiv::new();
    if pixels.alpha {
        // In place: the resizer itself would make a copy of the whole for it.
        alpha.multiply_alpha_inplace(&mut large).map_err(impossible)?;
    }
    Resizer::new().resize(&large, &mut small, &ResizeOptions::new().use_alpha(false)).map_err(impossible)?;
    if pixels.alpha {
        alpha.divide_alpha_inplace(&mut small).map_err(impossible)?;
    }
    Ok(Pixels { width, height, alpha: pixels.alpha, bytes: small.into_vec() })
}

/// Only pictures without pixels, or with too few of them for their size, fail; decoders give neither.
fn impossible<E>(_: E) -> Unscalable {
    Unscalable::Damaged
}

/// Converts colours to sRGB, which is what a picture without a profile is taken to have. A profile that cannot be used is
/// none, and so is one of another kind than red, green and blue: those colours were converted when they were decoded.
pub(crate) fn to_srgb(mut pixels: Pixels, profile: Option<&[u8]>) -> Pixels {
    let converted = profile.and_then(|profile| {
        let profile = ColorProfile::new_from_slice(profile).ok().filter(|p| p.color_space == DataColorSpace::Rgb)?;
        let layout = if pixels.alpha { Layout::Rgba } else { Layout::Rgb };
        let srgb = ColorProfile::new_srgb();
        let transform = profile.create_transform_8bit(layout, &srgb, layout, TransformOptions::default()).ok()?;
        let mut converted = vec![0; pixels.bytes.len()];
        transform.transform(&pixels.bytes, &mut converted).ok()?;
        Some(converted)
    });
    if let Some(converted) = converted {
        pixels.bytes = converted;
    }
    pixels
}

/// Turns a picture as its camera was held.
pub(crate) fn turn(pixels: Pixels, orientation: Orientation) -> Pixels {
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
