//! [`Engine`]: makes thumbnails of images.
//!
//! All decoders are in Rust: JPEG, PNG, GIF, WebP, BMP and TIFF; of an animation the first frame. Clients that accept
//! WebP get WebP, encoded by libwebp if the image is opaque; others get a JPEG, or a PNG if it is not opaque.
//! Transparent images are lossless. Colors are converted to sRGB if a profile requires it.
//!
//! Architecture invariant: this crate has no access to stores, requests or other images. The memory for an image is
//! reported before it is allocated ([`Scaler::cost`]), and never exceeded: decoders are refused any more.

mod bmp;
mod color;
mod decode;
mod encode;
mod jpeg;
mod original;
mod png;
mod reduced;
mod resize;
mod tiff;

use bytes::Bytes;
use shared::media::{BodyReader, Format};
use shared::store::{Body, ReadAt};
use shared::thumbnails::{Form, Scaler, Thumbnail, Unscalable};

/// Incrementing it changes the entity tag and the cache key of every thumbnail.
const VERSION: u32 = 4;

/// The scaler of the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Engine;

impl Scaler for Engine {
    fn version(&self) -> u32 {
        VERSION
    }

    fn cost(&self, source: &dyn ReadAt, format: Format, form: Form) -> Result<u64, Unscalable> {
        Ok(decode::look(&|| BodyReader::new(source), format)?.cost(source.size(), form))
    }

    fn scale(&self, source: &Bytes, format: Format, form: Form, most: u64) -> Result<Thumbnail, Unscalable> {
        let body = Body::from(source.clone());
        // The header was read from the store; these bytes are verified.
        let look = decode::look(&|| BodyReader::new(&body), format)?;
        if look.cost(body.size(), form) > most {
            return Err(Unscalable::TooLarge);
        }
        let (width, height) = look.target(form);
        let is_as_stored = (width, height) == (look.width, look.height) && look.is_plain();
        let reduced = (format == Format::Jpeg)
            .then(|| reduced::pixels(source, (look.width, look.height), (width, height)))
            .flatten();
        let small = match reduced {
            Some(small) => small,
            None => resize::resize(decode::pixels(source, format, &look, most)?, width, height)?,
        };
        let small = color::to_srgb(small, look.space.as_ref());
        let made = encode::encode(&resize::rotate(small, look.orientation), form)?;
        // An image that is already small enough must not get longer.
        let can_be_sent = made.bytes.len() >= source.len() && is_as_stored && form.formats.include(format);
        if can_be_sent && original::is_bare(source, format) {
            return Ok(Thumbnail { bytes: source.clone(), format });
        }
        Ok(made)
    }
}
