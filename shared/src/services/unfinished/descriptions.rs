//! What is stored of an unfinished upload besides its bytes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::clock::millis;
use crate::services::images::fields::Fields;
use store::digest::Digest;

/// A stored ticket; sealed JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ticket {
    #[serde(with = "millis")]
    pub(super) expires: Timestamp,
    pub(super) original_name: Option<String>,
    pub(super) content_type: String,
    pub(crate) size: u64,
    pub(super) sha256: Digest,
    pub(super) fields: Fields,
    /// Digest of the secret, if the bytes come through this server.
    pub(super) secret: Option<Digest>,
    /// The client that requested the ticket, as far as clients can be distinguished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<String>,
}

/// The content of the first request; sealed JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begun {
    /// The announced total length in bytes, if given.
    pub length: Option<u64>,
    /// The query.
    pub query: String,
    /// The headers that describe the whole body.
    pub headers: Vec<(String, String)>,
    /// The total length in bytes, once the upload has ended, accepted or rejected.
    pub ended: Option<u64>,
    /// Whether images were made of it.
    #[serde(default)]
    pub stored: bool,
    /// Whether it ended because its first part begins no image.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_an_image: bool,
    /// The client that began it, as far as clients can be distinguished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

impl Begun {
    /// An upload without any bytes yet.
    pub fn new(length: Option<u64>, query: &str, headers: Vec<(String, String)>) -> Self {
        let query = query.to_owned();
        Self { length, query, headers, ended: None, stored: false, not_an_image: false, client: None }
    }

    /// The same upload, begun by this client.
    #[must_use]
    pub fn of(self, client: Option<String>) -> Self {
        Self { client, ..self }
    }
}
