//! Detects the format and the size of an image from its bytes, and whether it is accepted.
//!
//! A file's name and declared type are ignored. Only headers are read, never pixels: what opens in a viewer should be
//! accepted, with the small mistakes that cameras and old programs make, while a file that is not an image, or would
//! exhaust a decoder, is refused.

mod dimensions;
mod frames;
mod geometry;
mod heif;
#[cfg(test)]
mod heif_tests;
pub mod location;
mod reader;
#[cfg(test)]
mod tests;
mod tiff;
#[cfg(test)]
mod tiff_tests;
mod truncated;
#[cfg(test)]
mod truncated_tests;
mod video;
#[cfg(test)]
mod video_tests;

use std::{fmt, io};

use geometry::Geometry;

use store::{ReadAt, StoreError};

pub use geometry::Orientation;
pub use reader::BodyReader;

/// The supported formats of images and videos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// JPEG, also with a second picture after the first (MPO).
    Jpeg,
    /// PNG, also animated.
    Png,
    /// GIF, also animated.
    Gif,
    /// WebP, also animated.
    WebP,
    /// AVIF, also animated.
    Avif,
    /// Windows bitmap.
    Bmp,
    /// TIFF and BigTIFF, and with them the TIFF-based raw formats of cameras.
    Tiff,
    /// Windows icon or cursor.
    Ico,
    /// HEIF with HEVC inside, as written by phones.
    Heic,
    /// A video in an MP4.
    Mp4,
    /// A video in a WebM.
    WebM,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 11] = [
        Self::Jpeg,
        Self::Png,
        Self::Gif,
        Self::WebP,
        Self::Avif,
        Self::Bmp,
        Self::Tiff,
        Self::Ico,
        Self::Heic,
        Self::Mp4,
        Self::WebM,
    ];

    /// Whether it is a video rather than an image.
    pub fn is_video(self) -> bool {
        matches!(self, Self::Mp4 | Self::WebM)
    }

    /// The media type of the format.
    pub fn content_type(self) -> &'static str {
        self.names().0
    }

    /// The usual file extension, without a dot.
    pub fn extension(self) -> &'static str {
        self.names().1
    }

    /// Its media type, its file extension, and its name in sentences.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Jpeg => ("image/jpeg", "jpg", "JPEG"),
            Self::Png => ("image/png", "png", "PNG"),
            Self::Gif => ("image/gif", "gif", "GIF"),
            Self::WebP => ("image/webp", "webp", "WebP"),
            Self::Avif => ("image/avif", "avif", "AVIF"),
            Self::Bmp => ("image/bmp", "bmp", "BMP"),
            Self::Tiff => ("image/tiff", "tiff", "TIFF"),
            Self::Ico => ("image/vnd.microsoft.icon", "ico", "ICO"),
            Self::Heic => ("image/heic", "heic", "HEIC"),
            Self::Mp4 => ("video/mp4", "mp4", "MP4"),
            Self::WebM => ("video/webm", "webm", "WebM"),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names().2)
    }
}

/// The properties of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media {
    /// Its format.
    pub format: Format,
    /// Width in pixels, at least 1, as browsers show the picture: rotated and cropped as the file requires. For an icon
    /// of the largest picture, for a TIFF of the first page, for a raw photo of the photo and not the preview.
    pub width: u32,
    /// Height in pixels, at least 1; of the same picture as the width.
    pub height: u32,
    /// How the stored pixels were rotated for that.
    pub orientation: Orientation,
    /// Whether the file ends before its picture does. Only [`inspect`] checks that.
    pub is_truncated: bool,
}

/// Limits that protect decoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum of width times height.
    pub max_pixels: u64,
    /// The maximum number of frames of a GIF, PNG or WebP.
    pub max_frames: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_pixels: 100_000_000, max_frames: 1_000 }
    }
}

/// Why content is refused. All but `Read` are caused by the content, and each reads as a sentence for its sender.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The bytes are not an image of a supported format.
    #[error("The content is not a JPEG, PNG, GIF, WebP, AVIF, BMP, TIFF, ICO or HEIC image, and no MP4 or WebM video.")]
    NotAnImage,
    /// The bytes begin like an image of this format but are invalid.
    #[error("The {format} {} cannot be read: {reason}.", if .format.is_video() { "video" } else { "image" })]
    Undecodable {
        /// The format indicated by the first bytes.
        format: Format,
        /// What is wrong, as half a sentence.
        reason: &'static str,
    },
    /// The image is too large to be decoded safely.
    #[error("The image has {pixels} pixels, and at most {limit} are allowed.")]
    TooManyPixels {
        /// Width times height.
        pixels: u64,
        /// The limit.
        limit: u64,
    },
    /// The animation is too long to be decoded safely.
    #[error("The image has more than {limit} frames, which is the most that is allowed.")]
    TooManyFrames {
        /// The frames that were counted, or that the image declares; counting stops at the limit.
        frames: u32,
        /// The limit.
        limit: u32,
    },
    /// The bytes could not be read back; the content is not the cause.
    #[error("The content could not be read back.")]
    Read(#[source] io::Error),
}

/// The errors inside this module; [`inspect`] adds the format.
#[derive(Debug)]
enum Fault {
    /// The first bytes match the format only by chance.
    NotThisFormat,
    /// It is this format, but damaged.
    Damaged(&'static str),
    /// It is larger than allowed: width times height.
    TooManyPixels(u64),
    /// The body cannot be read.
    Read(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        // The system or a store reports errors of the body; decoders report errors of its content.
        match error.kind() {
            _ if error.get_ref().is_some_and(|inner| inner.is::<StoreError>()) => Self::Read(error),
            _ if error.raw_os_error().is_some() => Self::Read(error),
            io::ErrorKind::UnexpectedEof => Self::Damaged("it ends before its header does"),
            _ => Self::Damaged("its header is damaged"),
        }
    }
}

/// Returns the format and the size of the image in `body`, or why it is refused.
///
/// Reads the headers, and of an animation as much as needed to count its frames. Blocks if the bytes are in a file:
/// call it off the async threads.
pub fn inspect(body: &dyn ReadAt, limits: &Limits) -> Result<Media, MediaError> {
    let media = measure(body, limits)?;
    let refuse = |fault| refusal(fault, media.format, limits);
    let frames = frames::count(media.format, &mut BodyReader::new(body), limits).map_err(refuse)?;
    if frames.count > limits.max_frames {
        return Err(MediaError::TooManyFrames { frames: frames.count, limit: limits.max_frames });
    }
    let is_truncated = truncated::is_truncated(media.format, &mut BodyReader::new(body)).map_err(refuse)?;
    Ok(Media { is_truncated: is_truncated || frames.is_truncated, ..media })
}

/// Like [`inspect`], but does not check the number of frames and whether the file is complete.
pub fn measure(body: &dyn ReadAt, limits: &Limits) -> Result<Media, MediaError> {
    let mut start = [0; LONGEST_START];
    let length = body.read_at(0, &mut start).map_err(MediaError::Read)?;
    let format = recognise(&start[..length]).ok_or(MediaError::NotAnImage)?;
    let refuse = |fault| refusal(fault, format, limits);

    let Geometry { width, height, orientation } =
        dimensions::read(format, &mut BodyReader::new(body)).map_err(refuse)?;
    if width == 0 || height == 0 {
        return Err(refuse(Fault::Damaged("it has no width or no height")));
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits.max_pixels {
        return Err(refuse(Fault::TooManyPixels(pixels)));
    }
    Ok(Media { format, width, height, orientation, is_truncated: false })
}

fn refusal(fault: Fault, format: Format, limits: &Limits) -> MediaError {
    match fault {
        Fault::NotThisFormat => MediaError::NotAnImage,
        Fault::Damaged(reason) => MediaError::Undecodable { format, reason },
        Fault::TooManyPixels(pixels) => MediaError::TooManyPixels { pixels, limit: limits.max_pixels },
        Fault::Read(error) => MediaError::Read(error),
    }
}

/// Enough for every brand that an AVIF or HEIC lists.
const LONGEST_START: usize = 512;

/// The format indicated by the first bytes of a file.
fn recognise(start: &[u8]) -> Option<Format> {
    match start {
        [0xff, 0xd8, 0xff, ..] => Some(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Format::Png),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Format::Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::WebP),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Format::Tiff),
        // The next two are short enough to occur by chance: their `dimensions` check more.
        [b'B', b'M', ..] => Some(Format::Bmp),
        [0, 0, 1 | 2, 0, ..] => Some(Format::Ico),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => recognise_brand(start),
        // Matroska in general: `dimensions` finds out which kind.
        [0x1a, 0x45, 0xdf, 0xa3, ..] => Some(Format::WebM),
        _ => None,
    }
}

/// The format of an ISO base media file, which is the family of MP4 and HEIF, by its brands.
fn recognise_brand(start: &[u8]) -> Option<Format> {
    let coding = |brand: &[u8]| match brand {
        b"avif" | b"avis" => Some(Format::Avif),
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"hevm" | b"hevs" => Some(Format::Heic),
        _ => None,
    };
    let (size, major) = (start.first_chunk()?, start.get(8..12)?);
    let is_any_image = matches!(major, b"mif1" | b"mif2" | b"mif3" | b"msf1" | b"miaf");
    // A minimal file stores its codec in the field for the version.
    let minor = start.get(12..16).filter(|_| major == b"mif3");
    // A video may list an image's brand among its compatible ones; the major one decides, unless it leaves the codec
    // open.
    let is_video = video::is_mp4_brand(major).then_some(Format::Mp4);
    is_video.or_else(|| coding(major)).or_else(|| coding(minor?)).or_else(|| {
        let end = start.len().min(u32::from_be_bytes(*size) as usize);
        let lesser = start.get(16..end).filter(|_| is_any_image)?;
        lesser.chunks_exact(4).find_map(coding)
    })
}
