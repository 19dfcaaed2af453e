//! The sizes and formats of thumbnails that a request may choose.

use std::fmt;

use crate::core::error::{Error, Result};
use crate::media::Format;

/// The edge lengths of thumbnails, in pixels; a requested length is rounded up to the next one. With few sizes,
/// requests share cached thumbnails.
pub const WIDTHS: [u32; 5] = [160, 320, 640, 1280, 2560];

/// The longest edge of a thumbnail in pixels if only the other edge is limited: it bounds the encoder's work on very
/// long, narrow images.
const LONGEST: u32 = 10_240;

/// The box that a thumbnail fits into; an edge that is `None` is limited by the other one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    width: Option<u32>,
    height: Option<u32>,
}

impl Bounds {
    /// The requested bounds, each rounded up to the next of the [`WIDTHS`]; `None` if neither was requested.
    pub fn asked(width: Option<u32>, height: Option<u32>) -> Result<Option<Self>> {
        let step = |asked: u32| {
            let known = WIDTHS.into_iter().find(|step| *step >= asked).filter(|_| asked > 0);
            let refusal = || Error::Invalid(format!("w and h are numbers of pixels from 1 to {}.", WIDTHS[4]));
            known.ok_or_else(refusal)
        };
        let bounds = Self { width: width.map(step).transpose()?, height: height.map(step).transpose()? };
        Ok((bounds.width.is_some() || bounds.height.is_some()).then_some(bounds))
    }

    /// The same bounds for an image that is rotated by 90 degrees.
    #[must_use]
    pub fn turned(self) -> Self {
        Self { width: self.height, height: self.width }
    }

    /// The size of the thumbnail for an image of this width and height: the largest of its shape that fits, never
    /// enlarged.
    pub fn fit(self, width: u32, height: u32) -> (u32, u32) {
        let limit = |bound: Option<u32>, edge: u32| f64::from(bound.unwrap_or(LONGEST)) / f64::from(edge.max(1));
        let factor = limit(self.width, width).min(limit(self.height, height)).min(1.0);
        let scaled = |edge: u32| ((f64::from(edge) * factor).round() as u32).max(1);
        (scaled(width), scaled(height))
    }
}

/// The formats that a thumbnail may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Formats {
    /// JPEG, PNG or GIF, which every client shows.
    Common,
    /// Those and WebP.
    WithWebP,
    /// This one, whatever suits the image.
    Only(Pinned),
}

/// A format that a client can insist on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pinned {
    /// JPEG; transparent pixels become white.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    WebP,
}

impl Formats {
    /// Whether a thumbnail may have this format.
    pub fn include(self, format: Format) -> bool {
        match self {
            Self::Common => matches!(format, Format::Jpeg | Format::Png | Format::Gif),
            Self::WithWebP => matches!(format, Format::Jpeg | Format::Png | Format::Gif | Format::WebP),
            Self::Only(Pinned::Jpeg) => format == Format::Jpeg,
            Self::Only(Pinned::Png) => format == Format::Png,
            Self::Only(Pinned::WebP) => format == Format::WebP,
        }
    }
}

/// The bounds and formats of a thumbnail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// The box it fits into.
    pub bounds: Bounds,
    /// The formats its client accepts.
    pub formats: Formats,
}

impl fmt::Display for Form {
    /// As a part of a key: `w320-webp`, `w640h640-plain`, `h160-only-jpeg`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, edge) in [("w", self.bounds.width), ("h", self.bounds.height)] {
            if let Some(edge) = edge {
                write!(f, "{name}{edge}")?;
            }
        }
        f.write_str(match self.formats {
            Formats::Common => "-plain",
            Formats::WithWebP => "-webp",
            Formats::Only(Pinned::Jpeg) => "-only-jpeg",
            Formats::Only(Pinned::Png) => "-only-png",
            Formats::Only(Pinned::WebP) => "-only-webp",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(width: Option<u32>, height: Option<u32>) -> Bounds {
        Bounds::asked(width, height).unwrap().unwrap()
    }

    #[test]
    fn what_is_asked_for_is_raised_to_the_next_step() {
        for (asked, step) in [(1, 160), (160, 160), (161, 320), (400, 640), (2560, 2560)] {
            assert_eq!(bounds(Some(asked), None), Bounds { width: Some(step), height: None });
            assert_eq!(bounds(None, Some(asked)), Bounds { width: None, height: Some(step) });
        }
        assert_eq!(Bounds::asked(None, None).unwrap(), None);
        for asked in [0, 2561, u32::MAX] {
            assert!(Bounds::asked(Some(asked), None).is_err() && Bounds::asked(Some(1), Some(asked)).is_err());
        }
    }

    #[test]
    fn a_derivative_fits_keeps_its_shape_and_is_never_larger() {
        for (asked, image, expected) in [
            ((Some(640), None), (4000, 3000), (640, 480)),
            ((None, Some(640)), (4000, 3000), (853, 640)),
            ((Some(640), Some(160)), (4000, 3000), (213, 160)),
            ((Some(640), None), (100, 50), (100, 50)),
            ((Some(160), None), (50_000, 1), (160, 1)),
            ((Some(160), None), (1, 50_000), (1, 10_240)),
            ((Some(2560), Some(2560)), (1, 1), (1, 1)),
        ] {
            assert_eq!(bounds(asked.0, asked.1).fit(image.0, image.1), expected, "{asked:?} of {image:?}");
        }
        assert_eq!(bounds(Some(640), None).turned().fit(3000, 4000), (480, 640));
    }

    #[test]
    fn forms_have_names_that_tell_them_apart() {
        let named = |width, height, formats| Form { bounds: bounds(width, height), formats }.to_string();
        assert_eq!(named(Some(300), None, Formats::WithWebP), "w320-webp");
        assert_eq!(named(None, Some(1), Formats::Common), "h160-plain");
        assert_eq!(named(Some(640), Some(2000), Formats::WithWebP), "w640h2560-webp");
        assert_eq!(named(Some(160), None, Formats::Only(Pinned::WebP)), "w160-only-webp");
    }
}
