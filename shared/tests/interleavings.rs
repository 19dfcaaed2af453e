//! The code's own concurrency: what several threads of one process do to what they share, with shuttle deciding at every
//! lock, counter and store operation which of them goes on. Each test is explored at random, and then by PCT, which
//! finds what takes a few rare switches in a certain order. A failure prints its schedule, which `shuttle::replay` repeats.
//!
//! Under the feature `interleavings`, because shuttle's locks work in its own tests only: see `just interleavings`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use futures::TryStreamExt;
use image::{ImageFormat, Rgb, RgbImage};
use jiff::SignedDuration;
use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::Mutex;
use shuttle::thread;
use uuid::Uuid;

use shared::backup::Kind;
use shared::catalog::{Catalog, Change, Content, Record, TOMBSTONE_AGE, Tombstone};
use shared::clock::Clock;
use shared::images::Fields;
use shared::layout::{self, ImageId};
use shared::store::testing::MemoryStore;
use shared::store::{Body, PutMode, Store};
use shared::upload::{NewImage, Uploaded};
use shared::{Error, Keepsake, Settings};

/// How many schedules of each kind each test tries.
#[expect(clippy::disallowed_methods, reason = "whoever starts the tests decides how long they may take")]
fn schedules() -> usize {
    std::env::var("KEEPSAKE_SCHEDULES").map_or(2_000, |value| value.parse().unwrap())
}

/// Switches that a bug may take; each more costs many times as many schedules.
const PCT_DEPTH: usize = 3;

fn explore(test: impl Fn() + Send + Sync + 'static) {
    let test = Arc::new(test);
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    let run = |test: &Arc<dyn Fn() + Send + Sync>| {
        let test = Arc::clone(test);
        move || test()
    };
    let test: Arc<dyn Fn() + Send + Sync> = test;
    shuttle::Runner::new(RandomScheduler::new(schedules()), config.clone()).run(run(&test));
    shuttle::Runner::new(PctScheduler::new(PCT_DEPTH, schedules()), config).run(run(&test));
}

/// Runs all of this on threads of their own, and waits for them.
fn at_once(work: Vec<Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = work.into_iter().map(thread::spawn).collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

macro_rules! at_once {
    ($($work:expr),+ $(,)?) => { at_once(vec![$(Box::new($work)),+]) };
}

fn clock() -> Clock {
    Clock::manual("2026-11-20T08:00:00Z".parse().unwrap())
}

fn store(memory: &Arc<MemoryStore>) -> Store {
    Store::new(Arc::clone(memory) as _, Path::new("nothing here leaves memory"))
}

/// A process that serves the catalog that lies in `memory`.
fn catalog(memory: &Arc<MemoryStore>, clock: &Clock) -> Arc<Catalog> {
    let (primary, archive) = (store(memory), store(memory).below(&layout::default_archive()));
    Arc::new(Catalog::new(primary, vec![archive], true, clock.clone()))
}

fn name(image: u32) -> ImageId {
    ImageId::new(&format!("{image}.png")).unwrap()
}

async fn add(catalog: &Catalog, image: u32) {
    let change = Change { version: 1, content: Content::Live(Record::default()) };
    catalog.commit(vec![(name(image), change)]).await.unwrap();
}

/// What was acknowledged, by anyone.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<BTreeSet<u32>>>);

impl Acknowledged {
    fn all(&self) -> BTreeSet<u32> {
        self.0.lock().unwrap().clone()
    }

    async fn add(&self, catalog: &Catalog, image: u32) {
        add(catalog, image).await;
        self.0.lock().unwrap().insert(image);
        self.are_seen(&BTreeSet::from([image]), catalog).await;
    }

    /// Refreshes; whatever was acknowledged before is then there.
    async fn refresh(&self, catalog: &Catalog) {
        let before = self.all();
        catalog.refresh().await.unwrap();
        self.are_seen(&before, catalog).await;
    }

    async fn are_seen(&self, images: &BTreeSet<u32>, catalog: &Catalog) {
        let view = catalog.view();
        for image in images {
            assert!(view.is_live(name(*image).as_str()).await.unwrap(), "{image} is not seen");
        }
    }

    /// A process that starts now sees all of it, from either place.
    async fn are_kept(&self, memory: &Arc<MemoryStore>, clock: &Clock) {
        for place in [store(memory), store(memory).below(&layout::default_archive())] {
            let fresh = Catalog::new(place, Vec::new(), true, clock.clone());
            self.refresh(&fresh).await;
        }
    }
}

#[test]
fn identifiers_are_unique_and_each_is_greater_than_all_given_out_before() {
    explore(|| {
        let clock = clock();
        let given: Arc<Mutex<Vec<Uuid>>> = Arc::default();
        let take = || {
            let (clock, given) = (clock.clone(), Arc::clone(&given));
            move || {
                for _ in 0..3 {
                    let greatest = given.lock().unwrap().iter().max().copied();
                    let id = clock.new_id();
                    assert!(Some(id) > greatest);
                    given.lock().unwrap().push(id);
                }
            }
        };
        at_once![take(), take(), take()];
        let given = given.lock().unwrap();
        assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 9);
    });
}

#[test]
fn a_refresh_misses_nothing_that_was_acknowledged_before_it_was_called() {
    explore(|| {
        let (memory, clock, seen) = (Arc::new(MemoryStore::new()), clock(), Acknowledged::default());
        let (here, elsewhere) = (catalog(&memory, &clock), catalog(&memory, &clock));
        let reader = || {
            let (here, seen) = (Arc::clone(&here), seen.clone());
            move || {
                block_on(async {
                    seen.refresh(&here).await;
                    seen.refresh(&here).await;
                });
            }
        };
        let writer = {
            let (elsewhere, seen) = (Arc::clone(&elsewhere), seen.clone());
            move || {
                block_on(async {
                    seen.add(&elsewhere, 1).await;
                    seen.add(&elsewhere, 2).await;
                });
            }
        };
        let folder = {
            let elsewhere = Arc::clone(&elsewhere);
            move || _ = block_on(elsewhere.compact()).unwrap()
        };
        at_once![reader(), reader(), reader(), writer, folder];
    });
}

#[test]
fn concurrent_compactions_refreshes_and_commits_lose_nothing() {
    explore(|| {
        let (memory, clock, seen) = (Arc::new(MemoryStore::new()), clock(), Acknowledged::default());
        let here = catalog(&memory, &clock);
        let writer = |image| {
            let (here, seen) = (Arc::clone(&here), seen.clone());
            move || {
                block_on(async {
                    seen.add(&here, image).await;
                    seen.refresh(&here).await;
                });
            }
        };
        let folder = || {
            let (here, seen) = (Arc::clone(&here), seen.clone());
            move || {
                block_on(async {
                    here.compact().await.unwrap();
                    seen.refresh(&here).await;
                });
            }
        };
        at_once![writer(1), writer(2), folder(), folder()];
        block_on(async {
            seen.are_kept(&memory, &clock).await;
            here.compact().await.unwrap();
            seen.are_kept(&memory, &clock).await;
            assert!(here.uncompacted() == 0 && !here.needs_compaction());
        });
    });
}

#[test]
fn what_was_acknowledged_stays_seen_while_old_tombstones_go() {
    explore(|| {
        let (memory, clock, seen) = (Arc::new(MemoryStore::new()), clock(), Acknowledged::default());
        let (here, elsewhere) = (catalog(&memory, &clock), catalog(&memory, &clock));
        block_on(async {
            add(&elsewhere, 0).await;
            let tombstone = Content::Deleted(Tombstone { deleted_at: clock.now(), sha256: None });
            elsewhere.commit(vec![(name(0), Change { version: 2, content: tombstone })]).await.unwrap();
            elsewhere.compact().await.unwrap();
            here.refresh().await.unwrap();
            clock.advance(TOMBSTONE_AGE + SignedDuration::from_secs(1));
        });
        let folder = move || _ = block_on(elsewhere.compact()).unwrap();
        let reader = {
            let here = Arc::clone(&here);
            move || block_on(here.refresh()).unwrap()
        };
        let writer = {
            let (here, seen) = (Arc::clone(&here), seen.clone());
            move || {
                block_on(async {
                    seen.add(&here, 1).await;
                    seen.refresh(&here).await;
                });
            }
        };
        at_once![folder, reader, writer];
        block_on(seen.refresh(&here));
    });
}

fn keepsake(memory: &Arc<MemoryStore>, clock: &Clock, settings: Settings) -> Arc<Keepsake> {
    let (primary, archive) = (store(memory), store(memory).below(&layout::default_archive()));
    Arc::new(Keepsake::new(primary, archive, Vec::new(), clock.clone(), settings))
}

fn png(number: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(1, 1, Rgb([number; 3])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

async fn upload(keepsake: &Keepsake, bytes: &[u8], key: Option<&str>) -> shared::Result<Uploaded> {
    let image = NewImage { body: Body::from(bytes.to_vec()), original_name: None };
    keepsake.uploads.upload(vec![image], Fields::default(), key).await
}

#[test]
fn uploads_with_one_idempotency_key_make_one_image() {
    let bytes = png(1);
    explore(move || {
        let (memory, clock) = (Arc::new(MemoryStore::new()), clock());
        let here = keepsake(&memory, &clock, Settings::default());
        let elsewhere = keepsake(&memory, &Clock::manual_seeded(clock.now(), 1), Settings::default());
        let stored: Arc<Mutex<Vec<ImageId>>> = Arc::default();
        let uploader = |process: &Arc<Keepsake>| {
            let (process, stored, bytes) = (Arc::clone(process), Arc::clone(&stored), bytes.clone());
            move || match block_on(upload(&process, &bytes, Some("key"))) {
                Ok(uploaded) => stored.lock().unwrap().push(uploaded.images[0].0.clone()),
                Err(Error::IdempotencyInProgress) => {}
                Err(error) => panic!("{error:?}"),
            }
        };
        at_once![uploader(&here), uploader(&here), uploader(&elsewhere)];
        block_on(async {
            let again = upload(&here, &bytes, Some("key")).await.unwrap().images[0].0.clone();
            let stored = stored.lock().unwrap();
            assert!(!stored.is_empty() && stored.iter().all(|id| *id == again));
            assert_eq!(here.core.catalog.view().totals().uploads(), 1);
            assert_eq!(here.core.primary.read(&layout::image(&again)).await.unwrap().0, bytes);
        });
    });
}

#[test]
fn images_that_join_a_group_at_once_get_a_place_each() {
    let images = [png(1), png(2), png(3)];
    explore(move || {
        let (memory, clock) = (Arc::new(MemoryStore::new()), clock());
        let here = keepsake(&memory, &clock, Settings::default());
        let join = |image: usize, order: Option<i64>| {
            let (here, body) = (Arc::clone(&here), Body::from(images[image].clone()));
            let fields = Fields { group_id: Some("group".to_owned()), order, ..Fields::default() };
            move || {
                let image = NewImage { body, original_name: None };
                _ = block_on(here.uploads.upload(vec![image], fields, None)).unwrap();
            }
        };
        join(0, Some(1))();
        at_once![join(1, None), join(2, None)];
        let orders = here.core.catalog.view().live().map_ok(|(_, entry)| entry.live().and_then(|record| record.order));
        let places: BTreeSet<_> = block_on(orders.try_collect()).unwrap();
        assert_eq!(places, BTreeSet::from([Some(1), Some(2), Some(3)]));
    });
}

#[test]
fn every_upload_completes_just_one_automatic_backup_where_each_is_due_one() {
    let images = [png(1), png(2)];
    explore(move || {
        let (memory, clock) = (Arc::new(MemoryStore::new()), clock());
        let here = keepsake(&memory, &clock, Settings { backup_every: 1, ..Settings::default() });
        block_on(here.recovery.recover()).unwrap();
        let uploader = |image: usize| {
            let (here, bytes) = (Arc::clone(&here), images[image].clone());
            move || {
                // So that two claims of one backup would not happen to give it the same name.
                here.core.clock.advance(SignedDuration::from_millis(1));
                _ = block_on(upload(&here, &bytes, None)).unwrap();
            }
        };
        at_once![uploader(0), uploader(1)];
        block_on(async {
            let mut made = Vec::new();
            for listed in here.backups.list().await.unwrap() {
                made.extend(here.backups.manifest(listed.name).await.unwrap().sequence);
            }
            made.sort_unstable();
            assert_eq!(made, [1, 2]);
        });
    });
}

#[test]
fn backups_made_at_once_are_each_whole() {
    let bytes = png(1);
    explore(move || {
        let (memory, clock) = (Arc::new(MemoryStore::new()), clock());
        let here = keepsake(&memory, &clock, Settings::default());
        let first = block_on(upload(&here, &bytes, None)).unwrap().images[0].0.clone();
        let maker = || {
            let (here, first) = (Arc::clone(&here), first.clone());
            move || {
                block_on(async {
                    let made = here.backups.create(Kind::Manual).await.unwrap();
                    here.images.delete(first.as_str(), shared::Any).await.ok();
                    let plan = here.restores.plan(made.name, shared::restore::Mode::Merge).await.unwrap();
                    assert!(plan.missing.is_empty());
                });
            }
        };
        at_once![maker(), maker()];
    });
}

#[test]
fn pending_replicas_are_all_made_in_any_order_of_uploads_and_drains() {
    let images = [png(1), png(2)];
    explore(move || {
        let (memory, clock) = (Arc::new(MemoryStore::new()), clock());
        let here = keepsake(&memory, &clock, Settings { archive_sync: false, ..Settings::default() });
        let uploader = |image: usize| {
            let (here, bytes) = (Arc::clone(&here), images[image].clone());
            move || _ = block_on(upload(&here, &bytes, None)).unwrap()
        };
        let follower = || {
            let here = Arc::clone(&here);
            move || block_on(here.maintenance.catch_up()).unwrap()
        };
        at_once![uploader(0), uploader(1), follower(), follower()];
        block_on(async {
            here.maintenance.catch_up().await.unwrap();
            for bytes in &images {
                let copy = layout::archived_image(&Body::from(bytes.clone()).digest());
                assert_eq!(here.core.archive.store().read(&copy).await.unwrap().0, *bytes);
            }
        });
    });
}

#[test]
fn a_rotten_image_is_never_served_and_repaired_whoever_asks_first() {
    let bytes = png(1);
    explore(move || {
        let (memory, clock) = (Arc::new(MemoryStore::new()), clock());
        let here = keepsake(&memory, &clock, Settings::default());
        let digest = Body::from(bytes.clone()).digest();
        let id = block_on(async {
            let id = upload(&here, &bytes, None).await.unwrap().images[0].0.clone();
            let rotten = Body::from(b"rotten".to_vec());
            here.core.primary.put(&layout::image(&id), &rotten, &PutMode::Overwrite).await.unwrap();
            id
        });
        let reader = || {
            let (here, id, bytes) = (Arc::clone(&here), id.clone(), bytes.clone());
            move || {
                block_on(async {
                    let (store, meta) = here.bytes.verified(&id, digest).await.unwrap();
                    assert_eq!(store.read(&meta.key).await.unwrap().0, bytes);
                });
            }
        };
        let repairer = || {
            let here = Arc::clone(&here);
            move || block_on(here.verifier.repair_suspects()).unwrap()
        };
        at_once![reader(), reader(), repairer(), repairer()];
        block_on(async {
            here.verifier.repair_suspects().await.unwrap();
            assert_eq!(here.core.primary.read(&layout::image(&id)).await.unwrap().0, bytes);
        });
    });
}
