//! Tickets: uploads of images too large to pass through a server or function.
//!
//! A ticket states exactly which bytes will come. The client puts them straight into the store, under an unlisted key:
//! through a signed URL if the store has them, otherwise through a URL of this server that contains a secret.
//! Completing the ticket inspects the bytes in the store, copies them to `uploads/` and commits. Abandoned tickets are
//! cleared.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::descriptions::Ticket;
use crate::base::seal;
use crate::catalog::Record;
use crate::core::archive::Archived;
use crate::core::error::{Error, Result};
use crate::core::{Core, blocking};
use crate::layout::{self, ImageId};
use crate::media::{self, Media, MediaError};
use crate::services::images::fields::{Fields, check_name};
use crate::services::replication::Replicator;
use crate::services::room::Room;
use crate::services::unfinished::UnfinishedUploads;
use crate::services::upload::{InProgress, Uploaded, Uploads, image_of_uuid};
use store::digest::Digest;
use store::sync::Mutex;
use store::{Body, ErrorKind, Key, ObjectMeta, Optional, PutMode, Ranged, SignedPut, StoreError, Terms};

/// How long after the ticket is issued the transfer of the bytes may begin.
const OPEN_FOR: Duration = Duration::from_secs(60 * 60);
/// How long a ticket and its bytes are kept at least. In a bucket, a lifecycle rule over the same number of days does
/// this.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(24);
/// The longest media type that a client may state, in bytes.
const MAX_CONTENT_TYPE: usize = 100;

/// A client's description of the image it is going to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The client's file name.
    pub original_name: Option<String>,
    /// The media type that the client will state when it sends the bytes. The image's actual format follows from its
    /// bytes.
    pub content_type: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of the bytes.
    pub sha256: Digest,
    /// All other fields.
    pub fields: Fields,
    /// The sending client, as far as clients can be distinguished.
    pub client: Option<String>,
}

/// A ticket as issued to its client.
#[derive(Debug)]
pub struct Issued {
    /// Its id.
    pub id: Uuid,
    /// The destination of the bytes.
    pub destination: Destination,
    /// Until when the transfer may begin.
    pub expires: Timestamp,
}

/// The destination of a ticket's bytes.
#[derive(Debug)]
pub enum Destination {
    /// The store's own service.
    Signed(SignedPut),
    /// [`Tickets::receive`], with the secret: tickets work over every store, so that one client is enough.
    Here {
        /// The secret.
        secret: String,
    },
}

/// Whether an error means that the bytes are not as announced, rather than that they could not be read.
fn is_about_the_bytes(error: &Error) -> bool {
    match error {
        Error::DigestMismatch => true,
        Error::Media(error) => !matches!(error, MediaError::Read(_)),
        _ => false,
    }
}

/// Uploads by ticket.
#[derive(Debug)]
pub struct Tickets {
    core: Arc<Core>,
    room: Arc<Room>,
    unfinished: Arc<UnfinishedUploads>,
    replication: Arc<Replicator>,
    uploads: Arc<Uploads>,
    /// Tickets whose bytes are arriving.
    receiving: Mutex<HashSet<Digest>>,
}

impl Tickets {
    /// Tickets for the stores of `core`.
    pub fn new(
        core: Arc<Core>,
        room: Arc<Room>,
        unfinished: Arc<UnfinishedUploads>,
        replication: Arc<Replicator>,
        uploads: Arc<Uploads>,
    ) -> Self {
        Self { core, room, unfinished, replication, uploads, receiving: Mutex::default() }
    }

    /// Issues a ticket for the bytes that `announced` describes.
    pub async fn issue(&self, announced: Announcement) -> Result<Issued> {
        let Announcement { original_name, content_type, size, sha256, fields, client } = announced;
        fields.check()?;
        check_name(original_name.as_deref())?;
        let visible = |byte: u8| matches!(byte, b' '..=b'~');
        if content_type.is_empty() || content_type.len() > MAX_CONTENT_TYPE || !content_type.bytes().all(visible) {
            return Err(Error::Invalid("The contentType is not a media type.".to_owned()));
        }
        if size == 0 {
            return Err(Error::EmptyFile);
        }
        if size > self.core.settings.max_upload_bytes {
            return Err(Error::TooLarge { limit: self.core.settings.max_upload_bytes });
        }
        self.room.check(size).await?;
        let _guard = self.unfinished.beginning.lock().await;
        self.unfinished.check(client.as_deref(), size).await?;
        let (id, expires) = (self.core.clock.new_id(), self.core.clock.now() + OPEN_FOR);
        let terms = Terms { size, digest: sha256, content_type: content_type.clone() };
        let destination = match self.core.primary.signed_put(&layout::incoming(id), &terms, OPEN_FOR).await? {
            Some(signed) => Destination::Signed(signed),
            None => Destination::Here { secret: self.core.clock.new_secret() },
        };
        let secret = match &destination {
            Destination::Signed(_) => None,
            Destination::Here { secret } => Some(Digest::of(secret.as_bytes())),
        };
        let ticket = Ticket { expires, original_name, content_type, size, sha256, fields, secret, client };
        let put = self.core.primary.put(&layout::ticket(id), &Body::from(seal::seal(&ticket)), &PutMode::Create).await;
        self.core.note_write(put.map_err(Error::from))?;
        Ok(Issued { id, destination, expires })
    }

    /// Marks a ticket as receiving its bytes, until the mark is dropped; an error if it already is.
    pub fn enter(&self, id: Uuid) -> Result<InProgress<'_>> {
        let entered = InProgress::enter(&self.receiving, Digest::of(id.as_bytes()));
        entered.map_err(|_| Error::ArrivingNow)
    }

    /// How many bytes a request with this ticket's secret may send now; to be called before any are read.
    pub async fn expected(&self, id: Uuid, secret: &str) -> Result<Terms> {
        if secret.is_empty() {
            return Err(Error::NoSuchTicket);
        }
        let ticket = self.ticket(id).await?;
        let given = Digest::of(secret.as_bytes());
        let right = ticket.secret.is_some_and(|kept| given.as_bytes().ct_eq(kept.as_bytes()).into());
        if !right || ticket.expires <= self.core.clock.now() {
            return Err(Error::NoSuchTicket);
        }
        if self.core.primary.head(&layout::incoming(id)).await.optional()?.is_some() {
            return Err(Error::ArrivedBefore);
        }
        self.room.check(ticket.size).await?;
        Ok(Terms { size: ticket.size, digest: ticket.sha256, content_type: ticket.content_type })
    }

    /// Stores the bytes of a ticket, which must match its announcement.
    pub async fn receive(&self, id: Uuid, terms: &Terms, body: &Body) -> Result<()> {
        if (body.size(), body.digest()) != (terms.size, terms.digest) {
            return Err(Error::DigestMismatch);
        }
        match self.core.primary.put(&layout::incoming(id), body, &PutMode::Create).await {
            Err(e) if e.kind == ErrorKind::AlreadyExists => Err(Error::ArrivedBefore),
            put => self.core.note_write(put.map(drop).map_err(Error::from)),
        }
    }

    /// Makes an image of the bytes received for a ticket. Repeating this changes nothing and returns the same image.
    pub async fn complete(&self, id: Uuid) -> Result<Uploaded> {
        self.core.catalog.refresh().await?;
        if let Some(earlier) = self.completed(id).await? {
            return Ok(earlier);
        }
        self.replication.check_lag()?;
        let ticket = match self.ticket(id).await {
            Err(Error::NoSuchTicket) => return self.completed_meanwhile(id, Error::NoSuchTicket).await,
            ticket => ticket?,
        };
        let from = layout::incoming(id);
        let Some((ObjectMeta { size, .. }, digest)) = self.core.primary.digest(&from).await.optional()? else {
            return self.completed_meanwhile(id, Error::NothingArrived).await;
        };
        let media = match self.inspect_arrived(&ticket, &from, size, digest).await {
            Err(error) if is_about_the_bytes(&error) => {
                // These bytes never become an image, so they are deleted at once.
                self.clear_ticket(id).await;
                return Err(error);
            }
            // Another request may have completed the ticket meanwhile and deleted its bytes.
            Err(error) => return self.completed_meanwhile(id, error).await,
            Ok(media) => media,
        };
        let begun = self.core.clock.now();
        let image = ImageId::generate(id, media.format.extension());

        let record = Record::of_bytes(size, digest, &media);
        let record = record.described(&ticket.fields, ticket.original_name, self.core.clock.now());
        let content_type = Some(media.format.content_type());
        let copied =
            self.core.primary.copy_to(&from, &self.core.primary, &layout::image(&image), digest, content_type).await;
        match copied {
            Err(e) if e.is_not_found() => return self.completed_meanwhile(id, Error::NothingArrived).await,
            copied => self.core.note_write(copied.map_err(Error::from))?,
        }
        if self.core.settings.archive_sync
            && self.core.archive.verify(&self.core.primary, &image, digest).await? != Archived::Yes
        {
            return Err(StoreError::new("verify", layout::image(&image), ErrorKind::Corrupt).into());
        }
        // A failure from here on is not rolled back: another request may be completing the same ticket with these
        // bytes.
        self.core.catalog.refresh().await?;
        if let Some(earlier) = self.completed(id).await? {
            return Ok(earlier);
        }
        let images = self.uploads.commit_new(vec![(image, record)], &ticket.fields, begun).await;
        let images = self.core.note_write(images)?;
        self.clear_ticket(id).await;
        Ok(self.uploads.acknowledge(images).await)
    }

    /// Inspects bytes in the store.
    async fn inspect_arrived(&self, ticket: &Ticket, from: &Key, size: u64, digest: Digest) -> Result<Media> {
        if (size, digest) != (ticket.size, ticket.sha256) {
            return Err(Error::DigestMismatch);
        }
        let (bytes, limits) = (Ranged::open(&self.core.primary, from.clone(), size).await?, self.core.settings.media);
        Ok(blocking(move || media::inspect(&bytes, &limits)).await??)
    }

    /// The image that was made of a ticket, as far as is cached.
    async fn completed(&self, id: Uuid) -> Result<Option<Uploaded>> {
        match image_of_uuid(&self.core.catalog.view(), id).await? {
            None => Ok(None),
            Some((_, entry)) if entry.live().is_none() => Err(Error::NoSuchTicket),
            Some(image) => Ok(Some(Uploaded { images: vec![image], copies: self.uploads.copies(), backup: None })),
        }
    }

    /// The result for a ticket whose objects are gone: another request may have just completed it.
    async fn completed_meanwhile(&self, id: Uuid, otherwise: Error) -> Result<Uploaded> {
        self.core.catalog.refresh().await?;
        self.completed(id).await?.ok_or(otherwise)
    }

    async fn ticket(&self, id: Uuid) -> Result<Ticket> {
        let kept = self.core.primary.read(&layout::ticket(id)).await.optional()?;
        let (bytes, _) = kept.ok_or(Error::NoSuchTicket)?;
        seal::open(&bytes).ok_or_else(|| StoreError::new("read", layout::ticket(id), ErrorKind::Corrupt).into())
    }

    /// Deletes a completed ticket, its bytes first.
    async fn clear_ticket(&self, id: Uuid) {
        for key in [layout::incoming(id), layout::ticket(id)] {
            if let Err(error) = self.core.primary.delete(&key).await {
                tracing::warn!(%key, error = &error as &dyn std::error::Error, "the objects of a ticket could not be deleted; they are deleted later");
                return;
            }
        }
    }

    /// The tickets that can still be completed.
    pub(crate) async fn open(&self) -> Result<HashSet<Uuid>> {
        let listed = self.core.primary.list(layout::INCOMING, None);
        Ok(listed.try_filter_map(async |meta| Ok(layout::parse_ticket(&meta.key))).try_collect().await?)
    }

    /// Deletes tickets that were not completed in time, and their bytes; returns the number of deleted objects.
    pub async fn clear(&self) -> Result<u64> {
        let before = self.core.clock.now() - KEPT_FOR;
        let listed: Vec<_> = self.core.primary.list(layout::INCOMING, None).try_collect().await?;
        let mut cleared = 0;
        for meta in listed.into_iter().filter(|meta| meta.modified < before) {
            self.core.primary.delete(&meta.key).await?;
            cleared += 1;
        }
        Ok(cleared)
    }
}
