//! What is asked of a process, and how it is done: through the same calls as the routes and the background task make.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::contents::{Image, image};
use shared::backup::{All, Kind, Manifest};
use shared::catalog::{Entry, Record, Stamp};
use shared::images::{Fields, Filter, Page, Patch};
use shared::layout::{BackupName, ImageId};
use shared::prune::Pruned;
use shared::restore::{Mode, Plan, Restored};
use shared::store::Body;
use shared::ticket::{Announcement, Destination};
use shared::upload::{NewImage, Uploaded};
use shared::verify::{Findings, Slice};
use shared::{Error, Keepsake, Precondition, Result};

/// An upload as its client knows it.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// A word that no other upload has, but for those with the same key.
    pub(crate) marker: String,
    pub(crate) contents: Vec<usize>,
    pub(crate) fields: Fields,
    pub(crate) key: Option<String>,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Upload(Spec),
    Issue(Spec),
    Send { ticket: Uuid, secret: String, content: usize },
    Complete { ticket: Uuid, spec: Spec },
    Edit { id: ImageId, patch: Patch, condition: Option<Stamp> },
    Delete { id: ImageId, condition: Option<Stamp> },
    List { limit: usize },
    Get { id: ImageId },
    Health,
    Backup,
    Backups,
    Plan { name: BackupName, mode: Mode },
    Restore { name: BackupName, mode: Mode },
    Background,
    Verify(Slice),
    VerifyNext,
    ClearTickets,
    Follow(BTreeSet<Uuid>),
    FollowUp,
    Tidy,
    Recover,
    Prune { dry_run: bool },
    PruneBySchedule,
    DeleteBackup(BackupName),
}

/// What came back.
#[derive(Debug)]
pub(crate) enum Answer {
    Done,
    Uploaded(Uploaded),
    Issued { ticket: Uuid, secret: String },
    Image(ImageId, Arc<Entry>),
    Page(Page),
    Bytes(Arc<Entry>, Bytes),
    Made(Box<Manifest>),
    Listed(All),
    Plan(Box<Plan>),
    Restored(Box<Restored>),
    Found(Findings),
    Followed(Vec<Uuid>),
    Missing(Vec<ImageId>),
    Pruned(Pruned),
}

impl Spec {
    pub(crate) fn images(&self) -> Vec<NewImage> {
        let new = |(index, content): (usize, &usize)| NewImage {
            body: Body::from(image(*content).bytes.clone()),
            original_name: Some(self.name(index)),
        };
        self.contents.iter().enumerate().map(new).collect()
    }

    pub(crate) fn name(&self, index: usize) -> String {
        format!("{}.{index}", self.marker)
    }

    /// Whether a record says what the image at `index` was sent with.
    pub(crate) fn made(&self, index: usize, record: &Record) -> bool {
        let same = |sent: &Option<String>, kept: &Option<String>, otherwise: &str| {
            sent.as_deref().unwrap_or(otherwise) == kept.as_deref().unwrap_or_default()
        };
        self.made_bytes(index, record)
            && same(&self.fields.description, &record.description, "")
            && same(&self.fields.category, &record.category, "fun")
            && record.group_id == self.fields.group_id
            && self.fields.order.is_none_or(|order| record.order == Some(order + index as i64))
            && record.order.is_some()
    }

    /// Likewise, of what never changes.
    pub(crate) fn made_bytes(&self, index: usize, record: &Record) -> bool {
        let Image { bytes, digest, .. } = image(self.contents[index]);
        record.sha256 == Some(*digest)
            && record.size == Some(bytes.len() as u64)
            && record.original_name == Some(self.name(index))
            && record.content_type.as_deref() == Some("image/png")
            && (record.width, record.height) == (Some(3), Some(2))
            && record.kind.as_deref() == Some("image")
    }
}

/// What a patch makes of a record.
pub(crate) fn patched(record: &Record, patch: &Patch) -> Record {
    let Patch { category, description, group_id, order } = patch.clone();
    Record {
        category: category.unwrap_or_else(|| record.category.clone()),
        description: description.unwrap_or_else(|| record.description.clone()),
        group_id: group_id.unwrap_or_else(|| record.group_id.clone()),
        order: order.unwrap_or(record.order),
        ..record.clone()
    }
}

impl Request {
    /// For statistics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Upload(Spec { key: Some(_), .. }) => "upload with key",
            Self::Upload(spec) if spec.contents.len() > 1 => "upload many",
            Self::Upload(_) => "upload",
            Self::Issue(_) => "ticket",
            Self::Send { .. } => "send",
            Self::Complete { .. } => "complete",
            Self::Edit { condition: Some(_), .. } => "edit if",
            Self::Edit { .. } => "edit",
            Self::Delete { .. } => "delete",
            Self::List { .. } => "list",
            Self::Get { .. } => "get",
            Self::Health => "health",
            Self::Backup => "backup",
            Self::Backups => "list backups",
            Self::Plan { .. } => "dry run",
            Self::Restore { mode: Mode::Merge, .. } => "restore merge",
            Self::Restore { mode: Mode::Exact, .. } => "restore exact",
            Self::Background => "background",
            Self::Verify(_) => "verify",
            Self::VerifyNext => "verify next",
            Self::ClearTickets => "clear tickets",
            Self::Follow(_) => "follow",
            Self::FollowUp => "follow up",
            Self::Tidy => "tidy",
            Self::Recover => "recover",
            Self::Prune { dry_run: true } => "prune dry run",
            Self::Prune { dry_run: false } => "prune",
            Self::PruneBySchedule => "prune by schedule",
            Self::DeleteBackup(_) => "delete backup",
        }
    }

    /// Does it.
    pub(crate) async fn perform(self, keepsake: Arc<Keepsake>) -> Result<Answer> {
        Ok(match self {
            Self::Upload(spec) => {
                let uploaded = keepsake.uploads.upload(spec.images(), spec.fields.clone(), spec.key.as_deref()).await?;
                Answer::Uploaded(uploaded)
            }
            Self::Issue(spec) => {
                let Image { bytes, digest, .. } = image(spec.contents[0]);
                let announced = Announcement {
                    client: None,
                    original_name: Some(spec.name(0)),
                    content_type: "image/png".to_owned(),
                    size: bytes.len() as u64,
                    sha256: *digest,
                    fields: spec.fields,
                };
                let issued = keepsake.tickets.issue(announced).await?;
                let Destination::Here { secret } = issued.destination else { return Err(Error::NoSuchTicket) };
                Answer::Issued { ticket: issued.id, secret }
            }
            Self::Send { ticket, secret, content } => {
                let _mark = keepsake.tickets.enter(ticket)?;
                let terms = keepsake.tickets.expected(ticket, &secret).await?;
                keepsake.tickets.receive(ticket, &terms, &Body::from(image(content).bytes.clone())).await?;
                Answer::Done
            }
            Self::Complete { ticket, .. } => Answer::Uploaded(keepsake.tickets.complete(ticket).await?),
            Self::Edit { id, patch, condition } => {
                let (id, entry) = keepsake.images.edit(id.as_str(), &patch, Expected(condition)).await?;
                Answer::Image(id, entry)
            }
            Self::Delete { id, condition } => {
                keepsake.images.delete(id.as_str(), Expected(condition)).await?;
                Answer::Done
            }
            Self::List { limit } => Answer::Page(keepsake.images.list(&Filter::default(), None, limit).await?),
            Self::Get { id } => get(&keepsake, &id).await?,
            Self::Health => {
                keepsake.health.report().await;
                Answer::Done
            }
            Self::Backup => Answer::Made(Box::new(keepsake.backups.create(Kind::Manual).await?)),
            Self::Backups => Answer::Listed(keepsake.backups.all().await?),
            Self::Plan { name, mode } => Answer::Plan(Box::new(keepsake.restores.plan(name, mode).await?)),
            Self::Restore { name, mode } => Answer::Restored(Box::new(keepsake.restores.restore(name, mode).await?)),
            Self::Background => {
                // A repair that fails keeps nothing else from being done.
                let _ = keepsake.verifier.repair_suspects().await;
                keepsake.maintenance.catch_up().await?;
                keepsake.replication.compact().await?;
                Answer::Done
            }
            Self::Verify(slice) => Answer::Found(keepsake.verifier.verify(slice, true).await?),
            Self::VerifyNext => Answer::Found(keepsake.verifier.verify_next().await?.1),
            Self::ClearTickets => {
                keepsake.tickets.clear().await?;
                Answer::Done
            }
            Self::Follow(commits) => {
                let failed = keepsake.replication.replicate_commits(&commits).await?;
                let failed: BTreeSet<Uuid> = failed.into_iter().map(|(commit, _)| commit).collect();
                Answer::Followed(commits.difference(&failed).copied().collect())
            }
            Self::FollowUp => {
                keepsake.maintenance.follow_up().await?;
                Answer::Done
            }
            Self::Tidy => {
                keepsake.maintenance.tidy().await?;
                Answer::Done
            }
            Self::Prune { dry_run } => Answer::Pruned(keepsake.pruner.prune(dry_run).await?),
            Self::PruneBySchedule => Answer::Pruned(keepsake.pruner.prune_by_schedule().await?),
            Self::DeleteBackup(name) => {
                keepsake.backups.delete(name).await?;
                Answer::Done
            }
            Self::Recover => Answer::Missing(keepsake.recovery.recover().await?.missing),
        })
    }
}

/// The state that a change expects, if any.
struct Expected(Option<Stamp>);

impl Precondition<Entry> for Expected {
    fn holds(&self, present: Option<&Entry>) -> bool {
        self.0.is_none_or(|stamp| present.is_some_and(|entry| entry.stamp == stamp))
    }

    fn is_any(&self) -> bool {
        self.0.is_none()
    }
}

/// An image with its bytes, as the route serves it.
async fn get(keepsake: &Keepsake, id: &ImageId) -> Result<Answer> {
    let (id, entry) = keepsake.images.get(id.as_str()).await?;
    let record = entry.live().ok_or(Error::MissingBytes)?;
    keepsake.bytes.locate(&id, record).await?;
    let (store, meta) = keepsake.bytes.verified(&id, record.sha256.ok_or(Error::MissingBytes)?).await?;
    let object = store.get(&meta.key, None).await?;
    if object.meta.etag != meta.etag {
        return Err(Error::MissingBytes);
    }
    let bytes = object.bytes().await?;
    Ok(Answer::Bytes(entry, bytes))
}
