//! Copying inside the service.

use aws_sdk_s3::types::{ChecksumAlgorithm, MetadataDirective};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::capabilities::Integrity;
use super::errors::{failure, status};
use super::{PUT_ID, S3Store, put};
use crate::digest::Digest;
use crate::error::{ErrorKind, Result, StoreError};
use crate::key::Key;
use crate::object::{Address, ETag};

/// The characters allowed in the header that names the source of a copy.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl S3Store {
    /// Copies an object with this digest, according to the service; `None` if the service stores no digest.
    ///
    /// The copy is of the version that was checked. The digest that the service reports for the copy is computed or, on
    /// some services, carried over from the source, so verification reads the bytes. A copy with another digest is
    /// reported as [`ErrorKind::Corrupt`].
    pub(super) async fn copy_object(
        &self,
        from: &Address,
        to: &Key,
        digest: Digest,
        content_type: Option<&str>,
    ) -> Result<Option<ETag>> {
        if self.capabilities().integrity != Integrity::Sha256 {
            return Ok(None);
        }
        let corrupt = |what: &'static str| StoreError::caused("copy", &from.key, ErrorKind::Corrupt, what);
        let source = self.describe_in(&from.bucket, "copy", &from.key).await?;
        match source.digest {
            None => return Ok(None),
            Some(found) if found != digest => return Err(corrupt("the source has another digest")),
            Some(_) => {}
        }
        let path = format!("{}/{}", from.bucket, utf8_percent_encode(from.key.as_str(), UNRESERVED));
        let request = self.client.copy_object().bucket(&self.bucket).key(to.as_str()).copy_source(path);
        let request = request
            .copy_source_if_match(self.capabilities().condition(&source.meta.etag))
            .checksum_algorithm(ChecksumAlgorithm::Sha256);
        // Without a type, the copy keeps all metadata of its source.
        let request = match content_type {
            Some(content_type) => request
                .metadata_directive(MetadataDirective::Replace)
                .metadata(PUT_ID, put::new_put_id())
                .content_type(content_type),
            None => request,
        };
        let output = match request.send().await {
            Ok(output) => output,
            Err(e) if status(&e) == Some(412) => return Err(corrupt("the source changed meanwhile")),
            Err(e) => return Err(failure("copy", &from.key, e)),
        };
        let copied = output.copy_object_result;
        let hashed = copied.as_ref().and_then(|copied| copied.checksum_sha256.as_deref()).and_then(Digest::from_base64);
        let (hashed, etag) = match (hashed, copied.and_then(|copied| copied.e_tag)) {
            (Some(hashed), Some(etag)) => (Some(hashed), ETag(etag)),
            // Some services do not return the etag.
            _ => {
                let copy = self.describe("copy", to).await?;
                (copy.digest, copy.meta.etag)
            }
        };
        if hashed == Some(digest) {
            Ok(Some(etag))
        } else {
            Err(corrupt("the copy has another digest, or none is kept"))
        }
    }
}
