//! Finding out at a start, by trying, whether a service keeps what is relied on.

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

use super::S3Store;
use super::errors::{Failure, failure, kind, status};
use super::put::new_put_id;
use crate::digest::Digest;
use crate::store::{Body, ETag, ErrorKind, Key, ObjectStore, PutMode, Result, StoreError};

impl S3Store {
    /// Tries puts under conditions and under a wrong checksum, on one small object below `prefix` that it deletes again.
    pub(super) async fn probe(&self, prefix: &Key) -> Result<()> {
        let probe = Key::new(format!("{prefix}/conditional-write-probe-{}", new_put_id()))
            .map_err(|e| StoreError::caused("probe", prefix, ErrorKind::Refused, e))?;
        self.put(&probe, &Body::from(Bytes::from_static(b"1")), &PutMode::Create).await?;
        let tried = self.try_promises(&probe).await;
        self.delete(&probe).await?;
        match tried? {
            None => Ok(()),
            Some(fault) => {
                let reason = format!("{} {fault}", self.endpoint);
                Err(StoreError::caused("probe", prefix, ErrorKind::Refused, reason))
            }
        }
    }

    /// What the service does wrong with the object that is there.
    async fn try_promises(&self, probe: &Key) -> Result<Option<&'static str>> {
        match self.put(probe, &Body::from(Bytes::from_static(b"2")), &PutMode::Create).await {
            Ok(_) => {
                return Ok(Some(
                    "ignores If-None-Match, so two writers could overwrite each other's images; use a service with \
                     conditional writes",
                ));
            }
            Err(e) if e.kind == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        let stale = ETag("\"00000000000000000000000000000000\"".to_owned());
        match self.put(probe, &Body::from(Bytes::from_static(b"3")), &PutMode::Update(stale)).await {
            Ok(_) => {
                return Ok(Some(
                    "ignores If-Match, so two writers could undo each other's changes; use a service with conditional \
                     writes",
                ));
            }
            Err(e) if e.kind == ErrorKind::Changed => {}
            Err(e) => return Err(e),
        }
        let damaged = self.client.put_object().bucket(&self.bucket).key(probe.as_str());
        let damaged = damaged.checksum_sha256(Digest::of(b"4").to_base64()).body(ByteStream::from_static(b"damaged"));
        match damaged.send().await {
            Ok(_) => Ok(Some(
                "ignores x-amz-checksum-sha256, so that bytes damaged on their way would pass for stored; use a service \
                 that checks it",
            )),
            Err(e) if is_refusal(&e) => Ok(None),
            Err(e) => Err(failure("probe", probe, e)),
        }
    }
}

/// Whether a service turned the bytes down: services name a wrong checksum differently, but all of them blame the request.
fn is_refusal<E: aws_sdk_s3::error::ProvideErrorMetadata>(error: &Failure<E>) -> bool {
    kind(error) == ErrorKind::Corrupt || status(error) == Some(400)
}
