//! Images that look like photos to a decoder: every one different, in the formats that the `image` crate writes.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

/// The `n`th photo: its file name and its bytes.
pub fn photo(n: u32) -> (String, Vec<u8>) {
    let (format, extension) = match n % 5 {
        0 => (ImageFormat::Png, "png"),
        1 => (ImageFormat::Gif, "gif"),
        2 => (ImageFormat::WebP, "webp"),
        _ => (ImageFormat::Jpeg, "jpg"),
    };
    (format!("Photo {n} – été.{extension}"), encode(96 + n, 64, n, format))
}

/// A small PNG that differs for each `n`.
pub fn small(n: u32) -> Vec<u8> {
    encode(4, 4, n, ImageFormat::Png)
}

/// A PNG of some twenty kilobytes that differs for each `n`.
pub fn medium(n: u32) -> Vec<u8> {
    encode(96, 64, n, ImageFormat::Png)
}

/// An image too large to be kept in memory while it is taken in.
pub fn large(n: u32) -> Vec<u8> {
    encode(400, 256, n, ImageFormat::Bmp)
}

fn encode(width: u32, height: u32, seed: u32, format: ImageFormat) -> Vec<u8> {
    let pixel = |x: u32, y: u32| {
        let noise = (x.wrapping_mul(0x9e37_79b9) ^ y.wrapping_mul(0x85eb_ca6b) ^ seed.wrapping_mul(0xc2b2_ae35))
            .rotate_left(13);
        Rgb([noise as u8, (noise >> 8) as u8, (x + seed) as u8])
    };
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(RgbImage::from_fn(width, height, pixel)).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}
