//! Tests at startup whether a service supports what the store needs.

use bytes::Bytes;

use super::S3Store;
use super::capabilities::{Capabilities, Checksum, Integrity};
use super::errors::{Answer, explain};
use super::put::{LostReplies, new_put_id};
use crate::body::Body;
use crate::error::{ErrorKind, Result, StoreError};
use crate::key::Key;
use crate::object::{ETag, ObjectStore, PutMode};

const CONDITIONAL: &str = "use a service with conditional writes (If-None-Match, If-Match)";
const RIGHTS: &str = "check the bucket, the key and its rights";

/// An entity tag that no object has.
pub(super) fn stale() -> ETag {
    ETag("\"00000000000000000000000000000000\"".to_owned())
}

fn body(bytes: &'static [u8]) -> Body {
    Body::from(Bytes::from_static(bytes))
}

impl S3Store {
    /// Checks the bucket, and tries puts with right and wrong conditions and with wrong checksums, on one small object
    /// below `prefix`, which it deletes again. Later puts of this store use what it found.
    pub(super) async fn probe(&self, prefix: &Key) -> Result<()> {
        self.look_for_bucket(prefix).await?;
        let probe = Key::new(format!("{prefix}/conditional-write-probe-{}", new_put_id()))
            .map_err(|e| StoreError::caused("probe", prefix, ErrorKind::Refused, e))?;
        let tried = Probe { store: self, key: probe.clone() }.try_promises().await;
        let cleaned = self.delete(&probe).await;
        let capabilities = tried?;
        cleaned.map_err(|e| explain(e, &self.endpoint, &self.bucket, "to delete an object", RIGHTS))?;
        self.set_capabilities(capabilities);
        Ok(())
    }

    /// Reads from the bucket before the first put: some services create a bucket that does not exist.
    async fn look_for_bucket(&self, prefix: &Key) -> Result<()> {
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(format!("{prefix}/")).max_keys(1);
        let looked = request.send().await.map_err(|e| super::failure("probe", &self.bucket, e));
        looked.map_err(|e| explain(e, &self.endpoint, &self.bucket, "to list the bucket", RIGHTS))?;
        Ok(())
    }
}

/// The object used by a probe.
struct Probe<'a> {
    store: &'a S3Store,
    key: Key,
}

impl Probe<'_> {
    /// Returns what the service supports; [`ErrorKind::Refused`] with an explanation if that is not enough.
    async fn try_promises(&self) -> Result<Capabilities> {
        let mut found = Capabilities::default();
        let etag = self.try_create(&mut found).await?;
        match self.put(found, b"2", &PutMode::Create).await {
            Ok(Some(_)) => {
                return Err(self.lacks(&format!(
                    "ignores If-None-Match, so two writers could overwrite each other's images; {CONDITIONAL}"
                )));
            }
            Err(e) if e.kind == ErrorKind::AlreadyExists => {}
            Ok(None) => return Err(self.lacks(&format!("lists no object that was just put; {CONDITIONAL}"))),
            Err(e) => return Err(self.explain(e, "a put under If-None-Match")),
        }
        self.try_update(&mut found, etag).await?;
        self.try_checksums(&mut found).await?;
        Ok(found)
    }

    /// Puts the object; falls back to MD5 if the service rejects the SHA-256 header itself.
    async fn try_create(&self, found: &mut Capabilities) -> Result<ETag> {
        let error = match self.put(*found, b"1", &PutMode::Create).await {
            Ok(Some(etag)) => return Ok(etag),
            Ok(None) => {
                let answer = "answers 412 to If-None-Match although there is no object";
                return Err(self.lacks(&format!("{answer}; {CONDITIONAL}")));
            }
            // No permission, no bucket, no connection.
            Err(e) if !is_about_headers(&e) => return Err(self.explain(e, "to store an object")),
            Err(e) => e,
        };
        match self.put(*found, b"1", &PutMode::Overwrite).await {
            Ok(_) => return Err(self.explain(error, "a put under If-None-Match")),
            Err(e) if !is_about_headers(&e) => return Err(self.explain(e, "to store an object")),
            Err(_) => found.integrity = Integrity::Md5,
        }
        if let Err(e) = self.put(*found, b"1", &PutMode::Overwrite).await {
            return Err(self.explain(e, "to store an object"));
        }
        self.store.delete(&self.key).await?;
        match self.put(*found, b"1", &PutMode::Create).await {
            Ok(Some(etag)) => Ok(etag),
            Ok(None) => Err(self.lacks(&format!("refuses If-None-Match although there is no object; {CONDITIONAL}"))),
            Err(e) => Err(self.explain(e, "a put under If-None-Match")),
        }
    }

    /// Finds the form of `If-Match` for which the service rejects a wrong entity tag and accepts the right one.
    async fn try_update(&self, found: &mut Capabilities, etag: ETag) -> Result<()> {
        for quoted in [true, false] {
            found.quoted = quoted;
            match self.put(*found, b"3", &PutMode::Update(stale())).await {
                Ok(Some(_)) => {
                    return Err(self.lacks(&format!(
                        "ignores If-Match, so two writers could undo each other's changes; {CONDITIONAL}"
                    )));
                }
                Ok(None) => {}
                Err(e) if e.kind == ErrorKind::Changed => {}
                Err(e) => return Err(self.explain(e, "a put under If-Match")),
            }
            match self.put(*found, b"4", &PutMode::Update(etag.clone())).await {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => {}
                Err(e) if e.kind == ErrorKind::Changed => {}
                Err(e) => return Err(self.explain(e, "a put under If-Match")),
            }
        }
        Err(self.lacks(&format!(
            "answers 412 to If-Match although the entity tag is right, with and without quotation marks; {CONDITIONAL}, and \
             see that no proxy changes that header"
        )))
    }

    /// Finds a checksum that the service verifies and accepts if it is right.
    async fn try_checksums(&self, found: &mut Capabilities) -> Result<()> {
        for integrity in [Integrity::Sha256, Integrity::Md5] {
            if found.integrity == Integrity::Md5 && integrity == Integrity::Sha256 {
                continue;
            }
            let wrong = integrity.checksum(&body(b"right")).await;
            let wrong = wrong.map_err(|e| StoreError::io("probe", &self.key, e))?;
            match self.put_damaged(&wrong).await {
                Ok(()) => {}
                Err(e) if e.kind == ErrorKind::Unavailable => return Err(self.explain(e, "to store an object")),
                Err(e) if !is_about_headers(&e) && e.kind != ErrorKind::Corrupt => {
                    return Err(self.explain(e, "to store an object"));
                }
                Err(_) => {
                    let tried = Capabilities { integrity, ..*found };
                    if self.put(tried, b"5", &PutMode::Overwrite).await.is_ok_and(|put| put.is_some()) {
                        *found = tried;
                        return Ok(());
                    }
                }
            }
        }
        found.integrity = Integrity::ReadBack;
        Ok(())
    }

    /// Puts bytes that do not match the checksum.
    async fn put_damaged(&self, checksum: &Checksum) -> Result<()> {
        let (bytes, put_id, lost) = (body(b"damaged"), new_put_id(), LostReplies::default());
        let put = self.store.try_put(&self.key, &bytes, &PutMode::Overwrite, checksum, (&put_id, &lost)).await;
        put.map(drop).map_err(|e| super::failure("probe", &self.key, e))
    }

    /// Puts bytes as if the service had these capabilities; see [`S3Store::put_once`].
    async fn put(&self, tried: Capabilities, bytes: &'static [u8], mode: &PutMode) -> Result<Option<ETag>> {
        self.store.trial(tried).put_once(&self.key, &body(bytes), mode).await
    }

    fn lacks(&self, fault: &str) -> StoreError {
        let reason = format!("{} {fault}", self.store.endpoint);
        StoreError::caused("probe", &self.key, ErrorKind::Refused, reason)
    }

    fn explain(&self, error: StoreError, feature: &str) -> StoreError {
        explain(error, &self.store.endpoint, &self.store.bucket, feature, CONDITIONAL)
    }
}

/// Whether a service rejected the content of the request, not its sender: services name a wrong checksum and an unknown
/// header differently, but all of them report a client error.
fn is_about_headers(error: &StoreError) -> bool {
    Answer::behind(error).is_some_and(|answer| matches!(answer.status, 400 | 501) && !answer.is_about_access())
}
