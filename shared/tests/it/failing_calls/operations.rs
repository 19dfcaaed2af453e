//! Everything that can be asked of a store, as data.

use std::collections::BTreeSet;

use futures::FutureExt;
use futures::future::BoxFuture;
use uuid::Uuid;

use crate::world::{png, upload};
use shared::backup::Kind;
use shared::images::{Fields, Filter, Patch};
use shared::layout::{BackupName, ImageId};
use shared::restore::Mode;
use shared::store::Body;
use shared::upload::NewImage;
use shared::verify::Slice;
use shared::{Error, Keepsake, Result};

/// What there is in the store that an operation runs on.
pub(crate) struct Known {
    /// Uploaded, backed up and edited since.
    pub(crate) edited: ImageId,
    /// Uploaded and backed up.
    pub(crate) backed_up: ImageId,
    pub(crate) backup: BackupName,
    /// A ticket whose bytes have come.
    pub(crate) arrived: Uuid,
    /// A ticket that waits for its bytes, and its secret.
    pub(crate) waiting: (Uuid, String),
    pub(crate) commits: BTreeSet<Uuid>,
    /// Every image that there is or was.
    pub(crate) ids: BTreeSet<ImageId>,
}

/// The store that an operation runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// A store that is well, one upload before an automatic backup.
    Intact,
    /// One with a bit of everything that recovery and verification repair.
    Damaged,
    /// One whose replicas were left for later.
    Deferred,
}

/// What an operation may do to what a client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing, and it writes nothing at all.
    Reads,
    /// Nothing.
    Keeps,
    /// All of it or nothing; it says which unless it says that it does not know.
    Changes,
    /// All of it or nothing; to do it again does it twice.
    Adds,
    /// Steps that each may stand.
    Repairs,
}

type Run = for<'a> fn(&'a Keepsake, &'a Known) -> BoxFuture<'a, Result<()>>;

pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) on: On,
    pub(crate) effect: Effect,
    pub(crate) run: Run,
}

const fn op(name: &'static str, on: On, effect: Effect, run: Run) -> Operation {
    Operation { name, on, effect, run }
}

use Effect::{Adds, Changes, Keeps, Reads, Repairs};
use On::{Damaged, Deferred, Intact};

/// The image that an upload under a ticket brings.
pub(crate) const UNDER_TICKET: u32 = 60;

pub(crate) const OPERATIONS: &[Operation] = &[
    op("list images", Intact, Reads, |k, _| async { k.images.list(&all(), None, 9).await.map(drop) }.boxed()),
    op("show an image", Intact, Reads, |k, w| async { k.images.get(w.edited.as_str()).await.map(drop) }.boxed()),
    op("serve an image", Intact, Reads, |k, w| serve(k, &w.edited).boxed()),
    op("list backups", Intact, Reads, |k, _| async { k.backups.list().await.map(drop) }.boxed()),
    op("show a backup", Intact, Reads, |k, w| async { k.backups.manifest(w.backup).await.map(drop) }.boxed()),
    op("plan a merge", Intact, Reads, |k, w| async { k.restores.plan(w.backup, Mode::Merge).await.map(drop) }.boxed()),
    op("plan a rewind", Intact, Reads, |k, w| async { k.restores.plan(w.backup, Mode::Exact).await.map(drop) }.boxed()),
    op("health", Intact, Reads, |k, _| {
        async {
            _ = k.health.report().await;
            Ok(())
        }
        .boxed()
    }),
    op("ask for overdue backups", Intact, Reads, |k, _| {
        async { k.maintenance.backup_overdue().await.map(drop) }.boxed()
    }),
    op("ask what verifications found", Intact, Reads, |k, _| {
        async { k.verifier.verifications().await.map(drop) }.boxed()
    }),
    op("check the stores", Intact, Reads, |k, _| check(k).boxed()),
    op("upload one", Intact, Adds, |k, _| async { upload(k, 50).await.map(drop) }.boxed()),
    op("upload three", Intact, Adds, |k, _| send(k, None).boxed()),
    op("upload under a key", Intact, Changes, |k, _| send(k, Some("key")).boxed()),
    op("issue a ticket", Intact, Keeps, |k, _| async { k.tickets.issue(announcement(61)).await.map(drop) }.boxed()),
    op("receive a ticket's bytes", Intact, Keeps, |k, w| receive(k, w).boxed()),
    op("complete a ticket", Intact, Changes, |k, w| {
        async { threaded(k.tickets.complete(w.arrived)).map(drop) }.boxed()
    }),
    op("edit", Intact, Changes, |k, w| edit(k, w).boxed()),
    op("delete", Intact, Changes, |k, w| async { delete(k, &w.backed_up).await }.boxed()),
    op("back up", Intact, Keeps, |k, _| async { k.backups.create(Kind::Manual).await.map(drop) }.boxed()),
    op("merge", Intact, Changes, |k, w| restore(k, w, Mode::Merge).boxed()),
    op("rewind", Intact, Changes, |k, w| restore(k, w, Mode::Exact).boxed()),
    op("fold", Intact, Keeps, |k, _| async { Ok(k.core.catalog.compact().await.map(drop)?) }.boxed()),
    op("tidy", Intact, Keeps, |k, _| async { k.maintenance.tidy().await }.boxed()),
    op("verify", Intact, Keeps, |k, _| async { k.verifier.verify(Slice::WHOLE, false).await.map(drop) }.boxed()),
    op("sweep", Intact, Keeps, |k, _| sweep(k).boxed()),
    op("clear tickets", Intact, Keeps, |k, _| async { k.tickets.clear().await.map(drop) }.boxed()),
    op("recover what is well", Intact, Keeps, |k, _| async { k.recovery.recover().await.map(drop) }.boxed()),
    op("recover", Damaged, Repairs, |k, _| async { k.recovery.recover().await.map(drop) }.boxed()),
    op("start", Damaged, Repairs, |k, _| start(k).boxed()),
    op("verify and repair", Damaged, Repairs, |k, _| {
        async { k.verifier.verify(Slice::WHOLE, true).await.map(drop) }.boxed()
    }),
    op("serve what is damaged", Damaged, Reads, |k, w| serve(k, &w.edited).boxed()),
    op("serve and repair", Damaged, Repairs, |k, w| {
        async {
            serve(k, &w.edited).await?;
            k.verifier.repair_suspects().await
        }
        .boxed()
    }),
    op("back up what is damaged", Damaged, Repairs, |k, _| {
        async { k.backups.create(Kind::Manual).await.map(drop) }.boxed()
    }),
    op("rewind what is damaged", Damaged, Repairs, |k, w| restore(k, w, Mode::Exact).boxed()),
    op("upload for later", Deferred, Adds, |k, _| async { upload(k, 50).await.map(drop) }.boxed()),
    op("follow commits", Deferred, Keeps, |k, w| follow(k, w).boxed()),
    op("delete what has one copy", Deferred, Changes, |k, w| async { delete(k, &w.backed_up).await }.boxed()),
];

/// Drives a future that reads from threads of its own.
fn threaded<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn all() -> Filter {
    Filter::default()
}

/// Reads an image as it is served.
async fn serve(keepsake: &Keepsake, id: &ImageId) -> Result<()> {
    let (id, entry) = keepsake.images.get(id.as_str()).await?;
    let record = entry.live().unwrap();
    keepsake.bytes.locate(&id, record).await?;
    let digest = record.sha256.unwrap();
    let (store, meta) = keepsake.bytes.verified(&id, digest).await?;
    let (bytes, _) = store.read(&meta.key).await?;
    assert_eq!(shared::digest::Digest::of(&bytes), digest, "other bytes are served");
    Ok(())
}

/// Uploads three images in one request.
async fn send(keepsake: &Keepsake, key: Option<&str>) -> Result<()> {
    let image = |n| NewImage { body: Body::from(png(n)), original_name: None };
    let fields =
        Fields { description: Some("several".to_owned()), group_id: Some("g".to_owned()), ..Fields::default() };
    let uploaded = keepsake.uploads.upload((51..54).map(image).collect(), fields, key).await?;
    assert_eq!(uploaded.images.len(), 3);
    Ok(())
}

pub(crate) fn announcement(n: u32) -> shared::ticket::Announcement {
    let bytes = png(n);
    shared::ticket::Announcement {
        client: None,
        original_name: None,
        content_type: "image/png".to_owned(),
        size: bytes.len() as u64,
        sha256: shared::digest::Digest::of(&bytes),
        fields: Fields { description: Some("under a ticket".to_owned()), ..Fields::default() },
    }
}

async fn receive(keepsake: &Keepsake, known: &Known) -> Result<()> {
    let (id, secret) = &known.waiting;
    let terms = keepsake.tickets.expected(*id, secret).await?;
    keepsake.tickets.receive(*id, &terms, &Body::from(png(UNDER_TICKET))).await
}

async fn edit(keepsake: &Keepsake, known: &Known) -> Result<()> {
    let patch = Patch { description: Some(Some("edited again".to_owned())), ..Patch::default() };
    keepsake.images.edit(known.edited.as_str(), &patch, shared::Any).await.map(drop)
}

async fn delete(keepsake: &Keepsake, id: &ImageId) -> Result<()> {
    keepsake.images.delete(id.as_str(), shared::Any).await.map(drop)
}

/// A restore says which images it had to leave as they are; here, that is not all that was asked for.
async fn restore(keepsake: &Keepsake, known: &Known, mode: Mode) -> Result<()> {
    let restored = keepsake.restores.restore(known.backup, mode).await?;
    if restored.plan.missing.is_empty() { Ok(()) } else { Err(Error::MissingBytes) }
}

async fn sweep(keepsake: &Keepsake) -> Result<()> {
    let before = keepsake.core.clock.now() - jiff::SignedDuration::from_hours(1);
    for store in [&keepsake.core.primary, keepsake.core.archive.store()] {
        store.sweep_unfinished(before).await?;
    }
    Ok(())
}

async fn check(keepsake: &Keepsake) -> Result<()> {
    keepsake.core.check_primary().await?;
    keepsake.core.check_archive().await
}

/// What a server does before its first request.
async fn start(keepsake: &Keepsake) -> Result<()> {
    check(keepsake).await?;
    keepsake.recovery.recover().await.map(drop)
}

async fn follow(keepsake: &Keepsake, known: &Known) -> Result<()> {
    match keepsake.replication.replicate_commits(&known.commits).await?.pop() {
        Some((_, error)) => Err(error),
        None => keepsake.maintenance.follow_up().await,
    }
}
