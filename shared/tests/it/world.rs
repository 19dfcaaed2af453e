//! A place that outlives the processes which serve it, and what tests do there.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use image::{ImageFormat, RgbImage};
use jiff::SignedDuration;

use shared::backup::Manifest;
use shared::catalog::Record;
use shared::clock::Clock;
use shared::digest::Digest;
use shared::images::Fields;
use shared::layout::{self, ImageId};
use shared::recovery::Report;
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::store::{Body, Key, ObjectStore, PutMode, Store};
use shared::testing::catalog::{Entries, backup_parts, entries_of};
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

    /// Another place with the same objects of the same ages, at the same time.
    pub(crate) async fn copy(&self) -> Self {
        let copy = Self { memory: Arc::new(MemoryStore::new()), clock: self.clock.clone() };
        for meta in self.raw().list("", None).try_collect::<Vec<_>>().await.unwrap() {
            copy.memory.set_now(meta.modified);
            copy.put(meta.key.as_str(), &self.raw().read(&meta.key).await.unwrap().0).await;
        }
        copy.memory.set_now(self.clock.now());
        copy
    }

    /// Removes the catalog of a location, which is the primary or one below it: the root, its pages, the commits and the
    /// metadata file.
    pub(crate) async fn remove_catalog(&self, location: &str) {
        for name in ["catalog", "image-metadata"] {
            self.remove(&format!("{location}{name}")).await;
        }
    }

    /// The pages in a location.
    pub(crate) async fn pages(&self, location: &str) -> BTreeSet<Digest> {
        let keys = self.keys(&format!("{location}{}", layout::CATALOG)).await;
        let page = |key: String| layout::parse_page(&Key::new(key.strip_prefix(location).unwrap()).unwrap());
        keys.into_iter().filter_map(page).collect()
    }

    /// Replaces a page by these bytes in the primary and in the archive.
    pub(crate) async fn spoil_page(&self, page: &Digest, bytes: &[u8]) {
        for location in ["", "backups/"] {
            self.put(&format!("{location}{}", layout::page(page)), bytes).await;
        }
    }

    pub(crate) async fn remove(&self, prefix: &str) {
        for key in self.keys(prefix).await {
            self.raw().delete(&Key::new(key).unwrap()).await.unwrap();
        }
    }
}

/// Reads the objects that a location held when this was called, of the catalog and its pages; the location is the
/// primary, or one below it.
pub(crate) async fn catalog_of(
    world: &World,
    location: &str,
) -> impl Fn(&Key) -> Option<Bytes> + Send + Sync + 'static {
    let mut objects = BTreeMap::new();
    for key in world.keys(&format!("{location}catalog")).await {
        let (bytes, _) = world.raw().read(&Key::new(&*key).unwrap()).await.unwrap();
        objects.insert(Key::new(key.strip_prefix(location).unwrap()).unwrap(), bytes);
    }
    move |key| objects.get(key).cloned()
}

/// The pages of a backup, and its entries.
pub(crate) async fn parts_of(world: &World, manifest: &Manifest) -> (HashSet<Digest>, Entries) {
    backup_parts(manifest, catalog_of(world, "backups/").await).unwrap()
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

/// The live records according to the cache of a process.
pub(crate) async fn live(keepsake: &Keepsake) -> BTreeMap<ImageId, Record> {
    let live = keepsake.core.catalog.view().live();
    live.map_ok(|(id, entry)| (id, entry.live().unwrap().clone())).try_collect().await.unwrap()
}

/// All entries according to the cache of a process.
pub(crate) async fn entries(keepsake: &Keepsake) -> Entries {
    entries_of(&keepsake.core.catalog.view()).await.unwrap()
}

/// Every image that a reader sees: its description and, where they can be had, its bytes.
pub(crate) async fn seen(keepsake: &Keepsake) -> BTreeMap<ImageId, (Option<String>, Option<Vec<u8>>)> {
    keepsake.core.catalog.refresh().await.unwrap();
    let mut seen = BTreeMap::new();
    for (id, record) in live(keepsake).await {
        let description = record.description;
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
