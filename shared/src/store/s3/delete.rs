//! Deleting one version of an object and no other.

use aws_sdk_s3::operation::delete_object::DeleteObjectError;
use bytes::Bytes;

use super::S3Store;
use super::errors::{Failure, failure, is_conflict, kind, status};
use super::put::{LostReplies, new_put_id};
use crate::store::{Body, ErrorKind, Key, ObjectMeta, ObjectStore, Optional, PutMode, Result, StoreError};

impl S3Store {
    /// Deletes this version, told by its etag and, since the same bytes put again have the same etag, by its time in
    /// seconds, which is all that a HEAD tells.
    pub(super) async fn delete_object_version(&self, version: &ObjectMeta) -> Result<()> {
        let key = &version.key;
        let changed = || StoreError::new("delete", key, ErrorKind::Changed);
        let found = self.describe("delete", key).await.optional()?.ok_or_else(changed)?.meta;
        let seconds = |meta: &ObjectMeta| meta.modified.as_second();
        if (&found.etag, seconds(&found)) != (&version.etag, seconds(version)) {
            return Err(changed());
        }
        let lost = LostReplies::default();
        match self.try_delete(key, &version.etag.0, &lost).await {
            Ok(()) => Ok(()),
            Err(e) if status(&e) == Some(412) || is_conflict(&e) || kind(&e) == ErrorKind::NotFound => {
                // Where a reply was lost, it may be gone by this very delete.
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

    async fn try_delete(&self, key: &Key, etag: &str, lost: &LostReplies) -> Result<(), Failure<DeleteObjectError>> {
        let request = self.client.delete_object().bucket(&self.bucket).key(key.as_str()).if_match(etag);
        request.customize().interceptor(lost.clone()).send().await.map(drop)
    }

    /// Tries whether a delete minds its condition, on one small object below `prefix`.
    pub(super) async fn probe_deletes(&self, prefix: &Key) -> Result<()> {
        let refused = |reason: Box<dyn std::error::Error + Send + Sync>| {
            StoreError::caused("probe", prefix, ErrorKind::Refused, reason)
        };
        let probe =
            Key::new(format!("{prefix}/conditional-delete-probe-{}", new_put_id())).map_err(|e| refused(e.into()))?;
        self.put(&probe, &Body::from(Bytes::from_static(b"1")), &PutMode::Create).await?;
        let stale = "\"00000000000000000000000000000000\"";
        match self.try_delete(&probe, stale, &LostReplies::default()).await {
            Err(e) if status(&e) == Some(412) => self.delete(&probe).await,
            Err(e) => {
                self.delete(&probe).await?;
                Err(failure("probe", prefix, e))
            }
            Ok(()) => Err(refused(
                "this endpoint ignores the If-Match of a delete, so what is relied on again could be deleted; \
                 nothing can be pruned in it"
                    .into(),
            )),
        }
    }
}
