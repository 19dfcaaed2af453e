//! Values of headers that every answer with the bytes of an image has.

/// The bytes under a name never change.
pub(crate) const CACHE: &str = "public, max-age=31536000, immutable";
/// Should a browser take an image for a page after all, then it is one that can do nothing.
pub(crate) const POLICY: &str = "default-src 'none'; sandbox";
