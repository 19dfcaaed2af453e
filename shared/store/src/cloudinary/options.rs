//! [`CloudinaryOptions`]: where an archive at Cloudinary is.

use std::time::Duration;

use crate::secret::Secret;

/// Where an archive at Cloudinary is, and what identifies its owner.
#[derive(Clone, Debug)]
pub struct CloudinaryOptions {
    /// The product environment.
    pub cloud: String,
    /// The API key.
    pub key: String,
    /// The API secret.
    pub secret: Secret,
    /// The folder that everything lies in.
    pub folder: String,
    /// Where the API is, by default Cloudinary's own.
    pub endpoint: Option<String>,
    /// What the keys of pictures start with, which become images where Cloudinary keeps them bit for bit.
    pub images: &'static str,
    /// How long to wait before a second try, by default half a second.
    pub first_wait: Duration,
}

impl CloudinaryOptions {
    /// The default of everything that has one.
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
