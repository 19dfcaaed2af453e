//! What every crash leaves. Each operation runs once on a simulated disk; then, for each of its system calls and for
//! each state that the disk can be in after a loss of power there, a new process recovers and everything is looked at.
//!
//! Nothing is left to chance: the states are all that the model of [`shared::store::fs`] allows. Those that differ in
//! nothing but the names of unfinished files or the times of files are looked at once.

mod check;
mod operations;
mod pairs;
mod single;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::Cursor;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use image::{ImageFormat, RgbImage};
use jiff::{SignedDuration, Timestamp};

use crate::world::live;
use shared::catalog::Record;
use shared::clock::Clock;
use shared::images::Fields;
use shared::layout::{self, BackupName, ImageId};
use shared::store::testing::fs::{Moment, SimulatedDisk};
use shared::store::{Body, DiskStore, ObjectStore, Store};
use shared::upload::NewImage;
use shared::{Keepsake, Settings};

/// The images that a reader sees: their records, and their bytes.
type View = BTreeMap<ImageId, (Record, Vec<u8>)>;

/// A visible tree, by which states are acknowledged apart.
type Tree = BTreeSet<(String, Option<Arc<Vec<u8>>>)>;

/// A disk, the time, and what whoever uses it was acknowledged.
#[derive(Clone)]
struct World {
    disk: SimulatedDisk,
    clock: Clock,
    /// The backups that were acknowledged, with what they hold.
    backups: BTreeMap<BackupName, View>,
    copies: Copies,
}

/// Where replicas are made, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copies {
    /// In the archive, before the answer.
    AtOnce,
    /// In the archive, and of the metadata beside the images as well.
    AtOnceAndBesideTheImages,
    /// In the archive, some time after the answer.
    Later,
}

impl World {
    /// An empty disk.
    fn new(copies: Copies) -> Self {
        let start: Timestamp = "2026-11-20T08:00:00Z".parse().unwrap();
        let (disk, clock) = (SimulatedDisk::new(), Clock::manual(start));
        disk.set_now(clock.now());
        Self { disk, clock, backups: BTreeMap::new(), copies }
    }

    /// This world as it is after a crash or a copy of its disk: a little later, and with identifiers of its own.
    fn with_disk(&self, disk: SimulatedDisk, seed: u64) -> Self {
        let clock = Clock::manual_seeded(self.clock.now() + SignedDuration::from_secs(1), seed);
        disk.set_now(clock.now());
        Self { disk, clock, ..self.clone() }
    }

    fn advance(&self, by: SignedDuration) {
        self.clock.advance(by);
        self.disk.set_now(self.clock.now());
    }

    fn backend(&self) -> Arc<dyn ObjectStore> {
        Arc::new(DiskStore::open_on(Arc::new(self.disk.clone()), "/").unwrap())
    }

    fn open(&self) -> Keepsake {
        self.open_over(self.backend(), self.clock.clone())
    }

    fn open_over(&self, backend: Arc<dyn ObjectStore>, clock: Clock) -> Keepsake {
        let primary = Store::new(backend, "bodies here stay in memory".as_ref());
        let archive = primary.below(&layout::default_archive());
        let beside =
            (self.copies == Copies::AtOnceAndBesideTheImages).then(|| primary.below(&layout::uploads_mirror()));
        let archive_sync = self.copies != Copies::Later;
        let settings = Settings { backup_every: 3, archive_sync, ..Settings::default() };
        Keepsake::new(primary, archive, beside.into_iter().collect(), clock, settings)
    }

    fn tree(&self) -> Tree {
        tree(&self.disk.moment())
    }
}

/// What is visible, with one name for all unfinished files.
fn tree(moment: &Moment) -> Tree {
    let plain = |(path, bytes): (String, _)| match path.split_once(".tmp-") {
        Some((folder, _)) => (format!("{folder}.tmp"), bytes),
        None => (path, bytes),
    };
    moment.tree().into_iter().map(plain).collect()
}

/// Runs a future that waits for nothing outside: without a runtime, the store does everything at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    let (mut future, mut context) = (pin!(future), Context::from_waker(Waker::noop()));
    for _ in 0..100_000 {
        if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
    }
    panic!("it waits for something that never comes");
}

/// The bytes of a small image that differs for each `n`.
fn png(n: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(2, 1, image::Rgb([n, 1, 2])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn new_image(n: u8) -> NewImage {
    NewImage { body: Body::from(png(n)), original_name: Some(format!("{n}.png")) }
}

/// Uploads one image for each number, in one request.
fn upload(keepsake: &Keepsake, numbers: &[u8], key: Option<&str>) -> Vec<ImageId> {
    now(try_upload(keepsake, numbers, key)).unwrap().images.into_iter().map(|(id, _)| id).collect()
}

async fn try_upload(
    keepsake: &Keepsake,
    numbers: &[u8],
    key: Option<&str>,
) -> shared::Result<shared::upload::Uploaded> {
    let fields = Fields { description: Some(format!("{numbers:?}")), ..Fields::default() };
    keepsake.uploads.upload(numbers.iter().copied().map(new_image).collect(), fields, key).await
}

/// What a reader sees, who must find the bytes of every image whole.
fn view(keepsake: &Keepsake) -> Result<View, String> {
    now(keepsake.core.catalog.refresh()).map_err(|e| format!("{e:?}"))?;
    let mut view = View::new();
    for (id, record) in now(live(keepsake)) {
        let bytes = now(async {
            let (store, meta) = match record.sha256 {
                Some(digest) => keepsake.bytes.verified(&id, digest).await?,
                // What was imported has none at first.
                None => keepsake.bytes.locate(&id, &record).await?,
            };
            Ok::<_, shared::Error>(store.read(&meta.key).await?.0.to_vec())
        });
        let bytes = bytes.map_err(|e| format!("{id} cannot be read: {e:?}"))?;
        view.insert(id, (record, bytes));
    }
    Ok(view)
}
