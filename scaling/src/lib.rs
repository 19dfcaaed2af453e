//! [`Engine`]: makes thumbnails of images.
//!
//! Decoded in Rust throughout: JPEG, PNG, GIF, WebP, BMP and TIFF; of an animation the first frame. Who takes WebP gets
//! that, by libwebp where it is opaque; others get a JPEG, or a PNG of what is not. What is transparent loses nothing.
//! Colours are converted to sRGB where a profile says that they are others.
//!
//! Architecture invariant: nothing here knows of stores, requests or other images. What an image takes is told before it
//! is taken ([`Scaler::cost`]), and never exceeded: decoders are refused what was not foreseen.

mod bmp;
mod color;
mod decode;
mod encode;
mod jpeg;
mod original;
mod png;
mod resize;
mod tiff;

use bytes::Bytes;
use shared::media::{BodyReader, Format};
use shared::store::{Body, ReadAt};
use shared::thumbnails::{Form, Scaler, Thumbnail, Unscalable};

/// Every thumbnail has another entity tag and another place in the cache once this is raised.
const VERSION: u32 = 3;

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
        // The header was read from the store; these bytes are known to be the right ones.
        let look = decode::look(&|| BodyReader::new(&body), format)?;
        if look.cost(body.size(), form) > most {
            return Err(Unscalable::TooLarge);
        }
        let pixels = decode::pixels(source, format, &look, most)?;
        let (width, height) = look.target(form);
        let is_as_stored = (width, height) == (pixels.width, pixels.height) && look.is_plain();
        let small = resize::resize(pixels, width, height)?;
        let small = color::to_srgb(small, look.space.as_ref());
        let made = encode::encode(&resize::turn(small, look.orientation), form)?;
        // What is as small as it can be, is not made longer.
        let can_be_sent = made.bytes.len() >= source.len() && is_as_stored && form.formats.include(format);
        if can_be_sent && original::is_bare(source, format) {
            return Ok(Thumbnail { bytes: source.clone(), format });
        }
        Ok(made)
    }
}
