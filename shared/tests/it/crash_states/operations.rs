//! The operations that are cut off, and the store that they find.

use std::sync::Mutex;

use futures::TryStreamExt;
use jiff::SignedDuration;
use uuid::Uuid;

use super::{Copies, View, World, now, png, try_upload, upload, view};
use crate::world::{entries, live};
use shared::Keepsake;
use shared::backup::Kind;
use shared::catalog::Entry;
use shared::digest::Digest;
use shared::images::{Fields, Patch};
use shared::layout::{self, BackupName, ImageId};
use shared::restore::Mode;
use shared::store::fs::{FileSystem, Open};
use shared::store::{Body, PutMode};
use shared::ticket::{Announcement, Destination};
use shared::verify::Slice;

/// What a process does that loses power meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    UploadOne,
    /// Three at once, which also makes an automatic backup due.
    UploadSeveral,
    UploadKeyed,
    IssueTicket,
    PutTicket,
    CompleteTicket,
    Edit,
    Delete,
    Backup,
    RestoreMerge,
    RestoreExact,
    Compaction,
    Recover,
    /// A recovery after so long that tombstones are dropped.
    RecoverLate,
    /// What a schedule asks for.
    Tidy,
    Verify,
    Sweep,
}

use Operation::*;

/// All of them.
pub const ALL: [Operation; 17] = [
    UploadOne,
    UploadSeveral,
    UploadKeyed,
    IssueTicket,
    PutTicket,
    CompleteTicket,
    Edit,
    Delete,
    Backup,
    RestoreMerge,
    RestoreExact,
    Compaction,
    Recover,
    RecoverLate,
    Tidy,
    Verify,
    Sweep,
];

/// What an operation needs to know from its preparation, and what it was acknowledged.
#[derive(Debug, Default)]
pub struct Notes {
    ticket: Mutex<Option<(Uuid, String)>>,
    /// Backups that were acknowledged.
    pub backups: Mutex<Vec<BackupName>>,
}

/// A store in use: images that are there, edited and deleted, an automatic backup and one by hand, and commits that are
/// compacted and that are not.
pub fn used(copies: Copies) -> World {
    let mut world = World::new(copies);
    let keepsake = world.open();
    now(keepsake.recovery.recover()).unwrap();
    upload(&keepsake, &[1], None);
    upload(&keepsake, &[2, 3], None);
    now(keepsake.maintenance.catch_up()).unwrap();
    let automatic = now(keepsake.backups.list()).unwrap()[0].name;
    world.backups.insert(automatic, view(&keepsake).unwrap());
    now(keepsake.images.delete(id_of(&keepsake, 2).unwrap().as_str(), shared::Any)).unwrap();
    backup(&mut world, &keepsake);
    now(keepsake.core.catalog.compact()).unwrap();
    upload(&keepsake, &[4], None);
    now(keepsake.maintenance.catch_up()).unwrap();
    world.advance(SignedDuration::from_mins(5));
    world
}

fn backup(world: &mut World, keepsake: &Keepsake) -> BackupName {
    let name = now(keepsake.backups.create(Kind::Manual)).unwrap().name;
    world.backups.insert(name, view(keepsake).unwrap());
    name
}

/// The live image that was uploaded under this number.
fn id_of(keepsake: &Keepsake, number: u8) -> shared::Result<ImageId> {
    let name = format!("{number}.png");
    let named = now(live(keepsake)).into_iter().find(|(_, record)| record.original_name.as_deref() == Some(&name));
    named.map(|(id, _)| id).ok_or(shared::Error::NoSuchImage(name))
}

/// An image whatever another operation has been prepared for: a restore, by deleting the first.
fn one_that_lives(keepsake: &Keepsake) -> ImageId {
    id_of(keepsake, 1).or_else(|_| id_of(keepsake, 3)).unwrap()
}

fn announcement(number: u8) -> Announcement {
    Announcement {
        client: None,
        original_name: Some(format!("{number}.png")),
        content_type: "image/png".to_owned(),
        size: png(number).len() as u64,
        sha256: Digest::of(&png(number)),
        fields: Fields::default(),
    }
}

impl Operation {
    /// Brings the store into the state that the operation is for.
    pub fn prepare(self, world: &World, notes: &Notes) {
        let keepsake = world.open();
        now(keepsake.core.catalog.refresh()).unwrap();
        match self {
            PutTicket | CompleteTicket => {
                let issued = now(keepsake.tickets.issue(announcement(9))).unwrap();
                let Destination::Here { secret } = issued.destination else { panic!("a disk signs nothing") };
                *notes.ticket.lock().unwrap() = Some((issued.id, secret));
                if self == CompleteTicket {
                    now(PutTicket.run(&keepsake, notes)).unwrap();
                }
            }
            RestoreMerge | RestoreExact => {
                // The other of two restores that meet may have deleted it already.
                if let Ok(id) = id_of(&keepsake, 1) {
                    now(keepsake.images.delete(id.as_str(), shared::Any)).unwrap();
                }
                now(Edit.run(&keepsake, notes)).unwrap();
            }
            Recover => {
                damage(&keepsake);
                // What is young may belong to someone.
                world.advance(SignedDuration::from_hours(2));
            }
            Verify => {
                let rotten = layout::image(&one_that_lives(&keepsake));
                now(keepsake.core.primary.put(&rotten, &Body::from(vec![0; png(1).len()]), &PutMode::Overwrite))
                    .unwrap();
            }
            Sweep => {
                let root = world.disk.root().unwrap();
                for folder in ["uploads", "image-metadata.d"] {
                    let folder = root.open_at(folder, Open::Folder).unwrap();
                    for n in 0..2 {
                        // The other of two sweeps that meet has made it already.
                        let name = format!(".tmp-{}", Uuid::from_u128(n));
                        let Ok(file) = folder.open_at(&name, Open::New) else { continue };
                        file.write(b"half").unwrap();
                        file.sync().unwrap();
                    }
                    folder.sync().unwrap();
                }
            }
            RecoverLate => {
                now(keepsake.core.catalog.compact()).unwrap();
                world.advance(SignedDuration::from_hours(31 * 24));
            }
            Tidy => drop(upload(&keepsake, &[11, 12], None)),
            UploadOne | UploadSeveral | UploadKeyed | IssueTicket | Edit | Delete | Backup | Compaction => {}
        }
        drop(keepsake);
        world.advance(SignedDuration::from_secs(1));
    }

    /// Does it; what it is acknowledged of that lasts, it notes.
    pub async fn run(self, keepsake: &Keepsake, notes: &Notes) -> shared::Result<()> {
        keepsake.core.catalog.refresh().await?;
        let ticket = notes.ticket.lock().unwrap().clone();
        let uploaded = match self {
            UploadOne => try_upload(keepsake, &[5], None).await?,
            UploadSeveral => try_upload(keepsake, &[6, 7, 8], None).await?,
            UploadKeyed => try_upload(keepsake, &[10], Some("key")).await?,
            CompleteTicket => keepsake.tickets.complete(ticket.unwrap().0).await?,
            IssueTicket => {
                let issued = keepsake.tickets.issue(announcement(9)).await?;
                let Destination::Here { secret } = issued.destination else { panic!("a disk signs nothing") };
                *notes.ticket.lock().unwrap() = Some((issued.id, secret));
                return Ok(());
            }
            PutTicket => {
                let (id, secret) = ticket.unwrap();
                let terms = keepsake.tickets.expected(id, &secret).await?;
                return keepsake.tickets.receive(id, &terms, &Body::from(png(9))).await;
            }
            Edit => {
                let patch = Patch { description: Some(Some("edited".to_owned())), ..Patch::default() };
                return keepsake.images.edit(id_of(keepsake, 3)?.as_str(), &patch, shared::Any).await.map(drop);
            }
            Delete => {
                return keepsake.images.delete(id_of(keepsake, 3)?.as_str(), shared::Any).await.map(drop);
            }
            Backup => {
                let made = keepsake.backups.create(Kind::Manual).await?.name;
                notes.backups.lock().unwrap().push(made);
                return Ok(());
            }
            RestoreMerge | RestoreExact => {
                let mode = if self == RestoreExact { Mode::Exact } else { Mode::Merge };
                let by_hand = keepsake.backups.list().await?.into_iter().find(|listed| listed.kind == Kind::Manual);
                return keepsake.restores.restore(by_hand.unwrap().name, mode).await.map(drop);
            }
            Compaction => return Ok(keepsake.core.catalog.compact().await.map(drop)?),
            Tidy => return keepsake.maintenance.tidy().await,
            Recover | RecoverLate => return keepsake.recovery.recover().await.map(drop),
            Verify => return keepsake.verifier.verify(Slice::WHOLE, true).await.map(drop),
            Sweep => return Ok(keepsake.core.primary.sweep_unfinished(keepsake.core.clock.now()).await.map(drop)?),
        };
        notes.backups.lock().unwrap().extend(uploaded.backup);
        Ok(())
    }

    /// Does it once more after the crash, as a client would who was not acknowledged: then it must stand, and only once. What was
    /// acknowledged of a ticket must be enough to complete it.
    pub fn again(self, keepsake: &Keepsake, notes: &Notes, acknowledged: bool) -> Result<(), String> {
        let notes = &Notes { ticket: Mutex::new(notes.ticket.lock().unwrap().clone()), ..Notes::default() };
        let outcome = match self {
            IssueTicket => {
                if !acknowledged {
                    now(IssueTicket.run(keepsake, notes)).unwrap();
                }
                now(PutTicket.run(keepsake, notes)).and_then(|()| complete(keepsake, notes))
            }
            PutTicket => match now(self.run(keepsake, notes)) {
                Err(shared::Error::ArrivedBefore) => complete(keepsake, notes),
                Ok(()) if acknowledged => return Err("the bytes did not stay".to_owned()),
                put => put.and_then(|()| complete(keepsake, notes)),
            },
            CompleteTicket => complete(keepsake, notes),
            // What was deleted cannot be found to be deleted again.
            Delete => match now(self.run(keepsake, notes)) {
                Err(shared::Error::NoSuchImage(_)) => Ok(()),
                outcome => outcome,
            },
            _ => now(self.run(keepsake, notes)),
        };
        outcome.map_err(|e| format!("{e:?}"))
    }

    /// Whether doing it twice is the same as doing it once.
    pub fn can_be_repeated(self) -> bool {
        !matches!(self, UploadOne | UploadSeveral | Sweep)
    }
}

/// Completing reads the image's headers out of the store while it blocks, for which it needs a runtime.
fn complete(keepsake: &Keepsake, notes: &Notes) -> shared::Result<()> {
    runtime().block_on(CompleteTicket.run(keepsake, notes))
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// Everything that a recovery puts right: bytes and replicas that are missing, a file without a record, the bytes
/// of a deleted image, and a root, a page and a metadata file that are gone.
fn damage(keepsake: &Keepsake) {
    let (primary, archive) = (&keepsake.core.primary, keepsake.core.archive.store());
    let orphan = layout::image(&ImageId::generate(Uuid::from_u128(7), "png"));
    now(primary.put(&orphan, &Body::from(png(77)), &PutMode::Overwrite)).unwrap();
    let second = Some(Digest::of(&png(2)));
    let is_second = |entry: &Entry| entry.tombstone().is_some_and(|tombstone| tombstone.sha256 == second);
    let deleted = now(entries(keepsake)).into_iter().find(|(_, entry)| is_second(entry));
    let deleted = deleted.map(|(id, _)| layout::image(&id));
    // Where tombstones are gone already, there is nothing to finish.
    if let Some(deleted) = deleted {
        now(primary.put(&deleted, &Body::from(png(2)), &PutMode::Overwrite)).unwrap();
    }
    let first = one_that_lives(keepsake);
    now(primary.delete(&layout::image(&first))).unwrap();
    let other = now(live(keepsake)).into_iter().find_map(|(id, record)| record.sha256.filter(|_| id != first));
    if let Some(other) = other {
        now(archive.delete(&layout::archived_image(&other))).unwrap();
    }
    now(archive.delete(&layout::metadata_file())).unwrap();
    now(archive.delete(&layout::root())).unwrap();
    let page = now(primary.list(layout::CATALOG, None).try_next()).unwrap();
    if let Some(page) = page {
        now(primary.delete(&page.key)).unwrap();
    }
}

/// Whether two views show the same images with the same bytes, whatever their records say.
pub fn same_images(a: &View, b: &View) -> bool {
    let plain = |view: &View| view.iter().map(|(id, (_, bytes))| (id.clone(), bytes.clone())).collect::<Vec<_>>();
    plain(a) == plain(b)
}
