//! Deleting exactly one version of an object.

use aws_sdk_s3::operation::delete_object::DeleteObjectError;
use bytes::Bytes;

use super::S3Store;
use super::errors::{Failure, failure, is_conflict, kind, status};
use super::probe::stale;
use super::put::{LostReplies, new_put_id};
use crate::body::Body;
use crate::error::{ErrorKind, Optional, Result, StoreError};
use crate::key::Key;
use crate::object::{ETag, ObjectMeta, ObjectStore, PutMode};

impl S3Store {
    /// Deletes this version, identified by its etag and, since the same bytes put again have the same etag, by its time
    /// in seconds, the resolution of a HEAD.
    pub(super) async fn delete_object_version(&self, version: &ObjectMeta) -> Result<()> {
        let key = &version.key;
        let changed = || StoreError::new("delete", key, ErrorKind::Changed);
        let found = self.describe("delete", key).await.optional()?.ok_or_else(changed)?.meta;
        let seconds = |meta: &ObjectMeta| meta.modified.as_second();
        if (&found.etag, seconds(&found)) != (&version.etag, seconds(version)) {
            return Err(changed());
        }
        let lost = LostReplies::default();
        match self.try_delete(key, &version.etag, &lost).await {
            Ok(()) => Ok(()),
            Err(e) if status(&e) == Some(412) || is_conflict(&e) || kind(&e) == ErrorKind::NotFound => {
                // If a reply was lost, this delete may have removed it.
                Err(StoreError::caused(
                    "delete",
                    key,
                    if lost.any() { ErrorKind::Unavailable } else { ErrorKind::Changed },
                    e,
                ))
            }
            Err(e) => Err(failure("delete", key, e)),
        }
    }

    async fn try_delete(&self, key: &Key, etag: &ETag, lost: &LostReplies) -> Result<(), Failure<DeleteObjectError>> {
        let condition = self.capabilities().condition(etag);
        let request = self.client.delete_object().bucket(&self.bucket).key(key.as_str()).if_match(condition);
        request.customize().interceptor(lost.clone()).send().await.map(drop)
    }

    /// Tests on one small object below `prefix` whether a delete respects its condition: rejects a wrong one and
    /// accepts a right one.
    pub(super) async fn probe_deletes(&self, prefix: &Key) -> Result<bool> {
        let probe = Key::new(format!("{prefix}/conditional-delete-probe-{}", new_put_id()))
            .map_err(|e| StoreError::caused("probe", prefix, ErrorKind::Refused, e))?;
        let etag = self.put(&probe, &Body::from(Bytes::from_static(b"1")), &PutMode::Create).await?;
        let tried = match self.try_delete(&probe, &stale(), &LostReplies::default()).await {
            Ok(()) => return Ok(false),
            Err(e) if status(&e) == Some(412) => self.try_delete(&probe, &etag, &LostReplies::default()).await,
            Err(e) => Err(e),
        };
        let Err(e) = tried else { return Ok(true) };
        self.delete(&probe).await?;
        match status(&e) {
            Some(400 | 405 | 412 | 501) => {
                tracing::warn!(
                    endpoint = self.endpoint,
                    error = &failure("probe", prefix, e) as &dyn std::error::Error,
                    "the service refuses a right If-Match of a delete"
                );
                Ok(false)
            }
            _ => Err(failure("probe", prefix, e)),
        }
    }
}
