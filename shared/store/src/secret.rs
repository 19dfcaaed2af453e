//! [`Secret`]: a value that is never shown, and [`AwsCredentials`], which hold one.

use std::fmt;

use subtle::ConstantTimeEq;

/// A value that is never shown: its debug form is `***`, and it has no other. How long it takes to compare two of equal length
/// does not tell how much of a guess is right.
#[derive(Clone, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `secret`.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The value itself. Compare it in constant time and do not log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What identifies the caller to an S3 service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsCredentials {
    /// Which key it is.
    pub access_key_id: String,
    /// What goes with it.
    pub secret_access_key: Secret,
}
