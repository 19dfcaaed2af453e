//! A place that outlives the processes which serve it, and what tests do there.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use futures::TryStreamExt;
use image::{ImageFormat, RgbImage};
use jiff::SignedDuration;

use shared::clock::Clock;
use shared::images::Fields;
use shared::layout::{self, ImageId};
use shared::recovery::Report;
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::store::{Body, Key, ObjectStore, PutMode, Store};
use shared::upload::{NewImage, Uploaded};
use shared::{Keepsake, Settings};

/// A place in memory that outlives the processes which serve it.
pub(crate) struct World {
    pub(crate) memory: Arc<MemoryStore>,
    pub(crate) clock: Clock,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = Clock::manual("2026-11-20T08:00:00Z".parse().unwrap());
        let world = Self { memory: Arc::new(MemoryStore::new()), clock };
        world.memory.set_now(world.clock.now());
        world
    }

    /// A process that serves the place.
    pub(crate) fn open(&self) -> Keepsake {
        self.open_on(Arc::clone(&self.memory) as _)
    }

    pub(crate) fn open_on(&self, backend: Arc<dyn ObjectStore>) -> Keepsake {
        self.open_with(backend, Settings::default())
    }

    pub(crate) fn open_with(&self, backend: Arc<dyn ObjectStore>, settings: Settings) -> Keepsake {
        let primary = Store::new(backend, &std::env::temp_dir());
        let archive = primary.below(&layout::default_archive());
        Keepsake::new(primary, archive, Vec::new(), self.clock.clone(), settings)
    }

    /// A process whose store operations fail as `plan` says.
    pub(crate) fn open_failing(&self, plan: impl Fn(&Operation) -> Option<Fault> + Send + Sync + 'static) -> Keepsake {
        self.open_on(Arc::new(FaultStore::with_plan(Arc::clone(&self.memory) as _, plan)))
    }

    /// Lets time pass, for the processes and for the place.
    pub(crate) fn pass(&self, time: SignedDuration) {
        self.clock.advance(time);
        self.memory.set_now(self.clock.now());
    }

    pub(crate) fn raw(&self) -> Store {
        Store::new(Arc::clone(&self.memory) as _, &std::env::temp_dir())
    }

    pub(crate) async fn keys(&self, prefix: &str) -> Vec<String> {
        self.raw().list(prefix, None).map_ok(|meta| meta.key.to_string()).try_collect().await.unwrap()
    }

    pub(crate) async fn put(&self, key: &str, bytes: &[u8]) {
        let body = Body::from(bytes.to_vec());
        self.raw().put(&Key::new(key).unwrap(), &body, &PutMode::Overwrite).await.unwrap();
    }

    pub(crate) async fn remove(&self, prefix: &str) {
        for key in self.keys(prefix).await {
            self.raw().delete(&Key::new(key).unwrap()).await.unwrap();
        }
    }
}

/// The bytes of a small image that differs for each `n`.
pub(crate) fn png(n: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(3, 2, image::Rgb(n.to_le_bytes()[..3].try_into().unwrap()))
        .write_to(&mut bytes, ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

pub(crate) async fn upload(keepsake: &Keepsake, n: u32) -> shared::Result<Uploaded> {
    let image = NewImage { body: Body::from(png(n)), original_name: Some(format!("{n}.png")) };
    let fields = Fields { description: Some(format!("number {n}")), ..Fields::default() };
    keepsake.uploads.upload(vec![image], fields, None).await
}

/// Uploads images and returns their ids.
pub(crate) async fn upload_all(keepsake: &Keepsake, numbers: std::ops::Range<u32>) -> Vec<ImageId> {
    let mut ids = Vec::new();
    for n in numbers {
        ids.push(upload(keepsake, n).await.unwrap().images[0].0.clone());
    }
    ids
}

/// Every image that a reader sees: its description and, where they can be had, its bytes.
pub(crate) async fn seen(keepsake: &Keepsake) -> BTreeMap<ImageId, (Option<String>, Option<Vec<u8>>)> {
    keepsake.core.catalog.refresh().await.unwrap();
    let records: Vec<_> = keepsake
        .core
        .catalog
        .read(|state| state.live().map(|(id, record)| (id.clone(), record.description.clone())).collect());
    let mut seen = BTreeMap::new();
    for (id, description) in records {
        let bytes = keepsake.core.primary.read(&layout::image(&id)).await.ok().map(|(bytes, _)| bytes.to_vec());
        seen.insert(id, (description, bytes));
    }
    seen
}

/// Whether a recovery had nothing to do.
pub(crate) fn found_nothing(report: &Report) -> bool {
    let Report { is_new, images, missing, unusable_names, .. } = report.clone();
    *report == Report { is_new, images, missing, unusable_names, ..Report::default() }
}
