//! Header values of every answer with the bytes of an image.

/// The bytes under a name never change.
pub(crate) const CACHE: &str = "public, max-age=31536000, immutable";
/// If a browser interprets an image as a page after all, that page can do nothing.
pub(crate) const POLICY: &str = "default-src 'none'; sandbox";
