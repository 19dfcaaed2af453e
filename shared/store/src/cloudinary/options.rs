//! [`CloudinaryOptions`]: the location and credentials of an archive at Cloudinary.

use std::time::Duration;

use crate::secret::Secret;

/// The location and credentials of an archive at Cloudinary.
#[derive(Clone, Debug)]
pub struct CloudinaryOptions {
    /// The product environment.
    pub cloud: String,
    /// The API key.
    pub key: String,
    /// The API secret.
    pub secret: Secret,
    /// The folder that contains all objects.
    pub folder: String,
    /// The URL of the API, by default Cloudinary's own.
    pub endpoint: Option<String>,
    /// The key prefix of images, which are stored as images if Cloudinary returns them bit for bit.
    pub images: &'static str,
    /// How long to wait before a second try, by default half a second.
    pub first_wait: Duration,
}

impl CloudinaryOptions {
    /// Default values for all fields that have one.
    pub fn new(images: &'static str) -> Self {
        Self {
            cloud: String::new(),
            key: String::new(),
            secret: Secret::new(""),
            folder: String::new(),
            endpoint: None,
            images,
            first_wait: Duration::from_millis(500),
        }
    }
}
