//! The images that are uploaded: few, so that the same content comes again and again.

use std::io::Cursor;
use std::sync::OnceLock;

use bytes::Bytes;
use image::{ImageFormat, RgbImage};

use shared::digest::Digest;

/// One of them.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) bytes: Bytes,
    pub(crate) digest: Digest,
}

const IMAGES: usize = 40;

fn all() -> &'static [Image] {
    static ALL: OnceLock<Vec<Image>> = OnceLock::new();
    ALL.get_or_init(|| {
        let make = |n: usize| {
            let mut bytes = Cursor::new(Vec::new());
            let picture = RgbImage::from_pixel(3, 2, image::Rgb([n as u8, 7, 9]));
            picture.write_to(&mut bytes, ImageFormat::Png).expect("memory takes all");
            let bytes = Bytes::from(bytes.into_inner());
            Image { digest: Digest::of(&bytes), bytes }
        };
        (0..IMAGES).map(make).collect()
    })
}

/// The `n`th, whatever `n` is.
pub(crate) fn image(n: usize) -> &'static Image {
    &all()[n % IMAGES]
}

/// The one with this digest.
pub(crate) fn bytes_of(digest: &Digest) -> Option<&'static Bytes> {
    all().iter().find(|image| image.digest == *digest).map(|image| &image.bytes)
}
