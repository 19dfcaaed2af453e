//! Tests the limits on thumbnails, with a scaler that only counts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::{join_all, poll_immediate};
use jiff::SignedDuration;

use super::{Bounds, Form, Formats, Limits, Scaler, Thumbnail, Thumbnails, Unscalable};
use crate::core::error::{Error, Result};
use crate::core::settings::Settings;
use crate::keepsake::Keepsake;
use crate::layout::{self, ImageId};
use crate::media::Format;
use crate::services::images::Fields;
use crate::services::upload::NewImage;
use crate::testing::keepsake_on;
use store::testing::{Fault, FaultStore, MemoryStore, Operation};
use store::{Body, ErrorKind, Key, ObjectStore, PutMode, ReadAt};

/// Counts the thumbnails made, and how many at a time; an image costs as many MiB as its last byte contains. Waits
/// while the gate is closed.
#[derive(Debug, Default)]
struct Counting {
    made: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
    bytes_now: AtomicU64,
    most_bytes: AtomicU64,
    looking: AtomicUsize,
    most_looking: AtomicUsize,
    shut: Mutex<bool>,
    moved: Condvar,
}

impl Counting {
    fn gate(&self) -> MutexGuard<'_, bool> {
        self.shut.lock().unwrap()
    }

    fn open(&self) {
        *self.gate() = false;
        self.moved.notify_all();
    }
}

#[derive(Debug)]
struct Shared(Arc<Counting>);

impl Scaler for Shared {
    fn version(&self) -> u32 {
        1
    }

    fn cost(&self, source: &dyn ReadAt, _: Format, _: Form) -> Result<u64, Unscalable> {
        let mut last = [0];
        let looking = self.0.looking.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most_looking.fetch_max(looking, Ordering::SeqCst);
        let read = source.read_at(source.size() - 1, &mut last);
        // Long enough for others to overlap.
        (0..100).for_each(|_| std::thread::yield_now());
        self.0.looking.fetch_sub(1, Ordering::SeqCst);
        read.map_err(Unscalable::Read)?;
        Ok(u64::from(last[0]) << 20)
    }

    fn scale(&self, source: &Bytes, _: Format, form: Form, most: u64) -> Result<Thumbnail, Unscalable> {
        let counting = &self.0;
        let note = |now: usize, bytes: u64| {
            counting.most.fetch_max(now, Ordering::SeqCst);
            counting.most_bytes.fetch_max(bytes, Ordering::SeqCst);
        };
        note(
            counting.now.fetch_add(1, Ordering::SeqCst) + 1,
            counting.bytes_now.fetch_add(most, Ordering::SeqCst) + most,
        );
        drop(counting.moved.wait_while(counting.gate(), |shut| *shut).unwrap());
        counting.made.fetch_add(1, Ordering::SeqCst);
        counting.now.fetch_sub(1, Ordering::SeqCst);
        counting.bytes_now.fetch_sub(most, Ordering::SeqCst);
        match source.last() {
            Some(13) => panic!("a decoder that stumbles"),
            Some(14) => Err(Unscalable::Damaged),
            _ => {
                Ok(Thumbnail { bytes: Bytes::from(format!("\u{89}{form} of {}", source.len())), format: Format::WebP })
            }
        }
    }
}

fn form(width: u32) -> Form {
    Form { bounds: Bounds::asked(Some(width), None).unwrap().unwrap(), formats: Formats::WithWebP }
}

struct World {
    keepsake: Keepsake,
    thumbnails: Arc<Thumbnails>,
    counting: Arc<Counting>,
}

const LIMITS: Limits =
    Limits { memory_bytes: 10 << 20, at_once: 4, max_wait: Duration::from_secs(3600), cache_bytes: 1 << 20 };

impl World {
    fn new(limits: Limits) -> Self {
        Self::on(Arc::new(MemoryStore::new()), limits)
    }

    fn on(backend: Arc<dyn ObjectStore>, limits: Limits) -> Self {
        let keepsake = keepsake_on(backend, Settings::default());
        let counting = Arc::new(Counting::default());
        let thumbnails = Arc::new(Thumbnails::new(Arc::new(Shared(Arc::clone(&counting))), limits));
        keepsake.thumbnails.set_kept(thumbnails.are_kept());
        Self { keepsake, thumbnails, counting }
    }

    /// Uploads an image that costs this many MiB to scale; no two are the same.
    async fn upload(&self, number: u8, cost: u8) -> ImageId {
        // A GIF of one pixel, followed by bytes that make it unique.
        let gif = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0;";
        let body = Body::from([&gif[..], &[number, cost]].concat());
        let new = NewImage { body, original_name: None };
        self.keepsake.uploads.upload(vec![new], Fields::default(), None).await.unwrap().images[0].0.clone()
    }

    async fn get(&self, id: &ImageId, width: u32) -> Result<Thumbnail> {
        let (id, entry) = self.keepsake.images.get(id.as_str()).await?;
        let record = entry.live().unwrap();
        let content = record.sha256.unwrap();
        let made = self.thumbnails.get(&self.keepsake.thumbnails, &id, record, content, form(width)).await;
        // It is cached after it was returned.
        while self.thumbnails.making.has(&(content, form(width))) {
            tokio::task::yield_now().await;
        }
        made
    }

    fn made(&self) -> usize {
        self.counting.made.load(Ordering::SeqCst)
    }

    async fn kept(&self) -> Vec<Key> {
        self.keepsake.core.primary.list(layout::THUMBNAILS, None).map_ok(|meta| meta.key).try_collect().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_made_at_a_time_stays_within_the_memory_and_the_processors() {
    let world = World::new(LIMITS);
    let mut ids = Vec::new();
    for number in 0..32 {
        ids.push(world.upload(number, 1 + number % 9).await);
    }
    for made in join_all(ids.iter().map(|id| world.get(id, 320))).await {
        made.unwrap();
    }
    let (most, bytes) = (world.counting.most.load(Ordering::SeqCst), world.counting.most_bytes.load(Ordering::SeqCst));
    assert_eq!(world.made(), 32);
    assert!((1..=LIMITS.at_once).contains(&most), "{most} at once");
    assert!(bytes <= LIMITS.memory_bytes, "{bytes} bytes at once");
    assert_eq!(world.counting.most_looking.load(Ordering::SeqCst), 1, "a look takes most of this memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_the_same_at_the_same_time_gets_the_same_making() {
    let world = World::new(Limits { cache_bytes: 0, ..LIMITS });
    let id = world.upload(1, 1).await;
    *world.counting.gate() = true;
    let (first, second, other) = (world.get(&id, 320), world.get(&id, 320), world.get(&id, 640));
    let (mut first, mut second, mut other) = (pin!(first), pin!(second), pin!(other));
    for asking in [first.as_mut(), second.as_mut(), other.as_mut()] {
        assert!(poll_immediate(asking).await.is_none());
    }
    world.counting.open();
    let (first, second, other) = tokio::join!(first, second, other);
    assert_eq!(first.unwrap(), second.unwrap());
    other.unwrap();
    assert_eq!(world.made(), 2, "one of each form");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_waiting_takes_nothing_from_others() {
    let world = World::new(Limits { at_once: 1, ..LIMITS });
    let (busy, id) = (world.upload(1, 1).await, world.upload(2, 1).await);
    *world.counting.gate() = true;
    let mut first = Box::pin(world.get(&busy, 320));
    while world.counting.now.load(Ordering::SeqCst) == 0 {
        assert!(poll_immediate(first.as_mut()).await.is_none());
        tokio::task::yield_now().await;
    }
    // One request has the only processor; two wait for the same thumbnail, and the one that began it disconnects.
    let mut gone = Box::pin(world.get(&id, 320));
    assert!(poll_immediate(gone.as_mut()).await.is_none());
    let mut stays = Box::pin(world.get(&id, 320));
    assert!(poll_immediate(stays.as_mut()).await.is_none());
    drop(gone);
    world.counting.open();
    first.await.unwrap();
    stays.await.unwrap();
    assert_eq!(world.made(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn thumbnail_whose_first_request_disconnects_is_made_once() {
    let world = World::new(Limits { cache_bytes: 0, ..LIMITS });
    let id = world.upload(1, 1).await;
    *world.counting.gate() = true;
    let mut gone = Box::pin(world.get(&id, 320));
    while world.counting.now.load(Ordering::SeqCst) == 0 {
        assert!(poll_immediate(gone.as_mut()).await.is_none());
        tokio::task::yield_now().await;
    }
    let mut stays = Box::pin(world.get(&id, 320));
    // Until it waits for the same making.
    for _ in 0..100 {
        assert!(poll_immediate(stays.as_mut()).await.is_none());
        tokio::task::yield_now().await;
    }
    drop(gone);
    for _ in 0..100 {
        assert!(poll_immediate(stays.as_mut()).await.is_none());
        tokio::task::yield_now().await;
    }
    world.counting.open();
    stays.await.unwrap();
    assert_eq!(world.made(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn thumbnail_is_cached_although_every_request_disconnected_while_it_was_scaled() {
    let world = World::new(LIMITS);
    let id = world.upload(1, 1).await;
    *world.counting.gate() = true;
    let mut gone = Box::pin(world.get(&id, 320));
    while world.counting.now.load(Ordering::SeqCst) == 0 {
        assert!(poll_immediate(gone.as_mut()).await.is_none());
        tokio::task::yield_now().await;
    }
    drop(gone);
    world.counting.open();
    while world.kept().await.is_empty() {
        tokio::task::yield_now().await;
    }
    world.get(&id, 320).await.unwrap();
    assert_eq!(world.made(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_concurrent_requests_make_a_thumbnail_once() {
    let world = Arc::new(World::new(LIMITS));
    for number in 0..20 {
        let id = world.upload(number, 1).await;
        let ask = |_| {
            let (world, id) = (Arc::clone(&world), id.clone());
            tokio::spawn(async move { world.get(&id, 320).await })
        };
        for made in join_all((0..16).map(ask)).await {
            made.unwrap().unwrap();
        }
        assert_eq!(world.made(), usize::from(number) + 1);
    }
}

#[tokio::test]
async fn concurrent_requests_share_a_failure_and_the_next_tries_again() {
    let (fails, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let plan = {
        let (fails, reads) = (Arc::clone(&fails), Arc::clone(&reads));
        move |operation: &Operation| {
            let is_image = operation.name == "get" && !operation.key.starts_with(layout::THUMBNAILS);
            (is_image && fails.load(Ordering::SeqCst)).then(|| {
                reads.fetch_add(1, Ordering::SeqCst);
                Fault::Before(ErrorKind::Unavailable)
            })
        }
    };
    let world = World::on(Arc::new(FaultStore::with_plan(Arc::new(MemoryStore::new()), plan)), LIMITS);
    let id = world.upload(1, 1).await;
    let (id, entry) = world.keepsake.images.get(id.as_str()).await.unwrap();
    let record = entry.live().unwrap();
    let ask = || world.thumbnails.get(&world.keepsake.thumbnails, &id, record, record.sha256.unwrap(), form(320));
    fails.store(true, Ordering::SeqCst);
    assert_eq!(ask().await.unwrap_err().store_kind(), Some(ErrorKind::Unavailable));
    let alone = reads.swap(0, Ordering::SeqCst);
    for failed in join_all((0..8).map(|_| ask())).await {
        assert_eq!(failed.unwrap_err().store_kind(), Some(ErrorKind::Unavailable));
    }
    assert_eq!(reads.load(Ordering::SeqCst), alone, "the store was read for one of them");
    fails.store(false, Ordering::SeqCst);
    ask().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_longer_than_people_do() {
    let world = World::new(Limits { at_once: 1, max_wait: Duration::from_millis(1), ..LIMITS });
    let (busy, id) = (world.upload(1, 1).await, world.upload(2, 1).await);
    *world.counting.gate() = true;
    let mut first = Box::pin(world.get(&busy, 320));
    while world.counting.now.load(Ordering::SeqCst) == 0 {
        assert!(poll_immediate(first.as_mut()).await.is_none());
        tokio::task::yield_now().await;
    }
    assert!(matches!(world.get(&id, 320).await, Err(Error::TooBusy)));
    world.counting.open();
    first.await.unwrap();
    world.get(&id, 320).await.unwrap();
}

#[tokio::test]
async fn what_would_take_more_than_all_memory_is_not_tried() {
    let world = World::new(LIMITS);
    let id = world.upload(1, 11).await;
    let Err(Error::NotScalable(reason)) = world.get(&id, 320).await else { panic!("it is refused") };
    assert!(reason.contains("11 MiB of memory") && reason.contains("10 MiB for it"), "{reason}");
    assert_eq!(world.made(), 0);
}

#[tokio::test]
async fn a_decoder_that_fails_or_panics_takes_nothing_with_it() {
    let world = World::new(Limits { memory_bytes: 100 << 20, at_once: 1, ..LIMITS });
    for cost in [13, 14, 13, 14] {
        let id = world.upload(cost, cost).await;
        assert!(matches!(world.get(&id, 320).await, Err(Error::NotScalable(_))));
    }
    let id = world.upload(1, 100).await;
    world.get(&id, 320).await.unwrap();
}

#[tokio::test]
async fn what_was_made_is_kept_until_the_image_is_deleted() {
    let world = World::new(LIMITS);
    let (id, other) = (world.upload(1, 1).await, world.upload(2, 1).await);
    let first = world.get(&id, 320).await.unwrap();
    assert_eq!(world.get(&id, 320).await.unwrap(), first);
    world.get(&id, 640).await.unwrap();
    world.get(&other, 320).await.unwrap();
    assert_eq!((world.made(), world.kept().await.len()), (3, 3));
    world.keepsake.images.delete(id.as_str(), crate::Any).await.unwrap();
    assert_eq!(world.kept().await.len(), 1, "that of the other image");
}

#[tokio::test]
async fn what_was_kept_and_has_rotted_or_gone_is_made_again() {
    let world = World::new(LIMITS);
    let id = world.upload(1, 1).await;
    let first = world.get(&id, 320).await.unwrap();
    let key = world.kept().await.remove(0);
    let mut bytes = world.keepsake.core.primary.get(&key, None).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[1] ^= 1;
    for damage in [bytes, Vec::new(), vec![0xff; 40]] {
        world.keepsake.core.primary.put(&key, &Body::from(damage), &PutMode::Overwrite).await.unwrap();
        assert_eq!(world.get(&id, 320).await.unwrap(), first);
    }
    world.keepsake.core.primary.delete(&key).await.unwrap();
    assert_eq!(world.get(&id, 320).await.unwrap(), first);
    assert_eq!(world.made(), 5);
}

#[tokio::test]
async fn the_oldest_go_where_there_are_too_many_and_so_do_those_of_no_image() {
    let size = 64;
    let world = World::new(Limits { cache_bytes: 8 * size, ..LIMITS });
    let stray = layout::thumbnail(&store::digest::Digest::of(b"no image"), "1-w320-webp");
    world.keepsake.core.primary.put(&stray, &Body::from(vec![0; 10]), &PutMode::Create).await.unwrap();
    for number in 0..30 {
        let id = world.upload(number, 1).await;
        world.get(&id, 320).await.unwrap();
        world.keepsake.core.clock.advance(SignedDuration::from_secs(1));
    }
    world.thumbnails.sweep(&world.keepsake.thumbnails).await.unwrap();
    let kept = world.kept().await;
    let mut bytes = 0;
    for key in &kept {
        bytes += world.keepsake.core.primary.head(key).await.unwrap().size;
    }
    assert!(!kept.contains(&stray) && !kept.is_empty() && bytes <= 8 * size, "{bytes} bytes of {kept:?}");
    assert_eq!(world.made(), 30);
}

#[tokio::test]
async fn thumbnails_are_served_uncached_on_read_only_or_full_store() {
    for kind in [ErrorKind::ReadOnly, ErrorKind::Full, ErrorKind::Unavailable] {
        let fails = move |operation: &Operation| {
            (operation.name == "put" && operation.key.starts_with(layout::THUMBNAILS)).then_some(Fault::Before(kind))
        };
        let backend = FaultStore::with_plan(Arc::new(MemoryStore::new()), fails);
        let world = World::on(Arc::new(backend), LIMITS);
        let id = world.upload(1, 1).await;
        for _ in 0..2 {
            world.get(&id, 320).await.unwrap();
        }
        assert_eq!((world.made(), world.kept().await.len()), (2, 0));
        assert_eq!(
            world.keepsake.core.last_write_failure(),
            None,
            "it is no failure of the store that anyone has to see to"
        );
    }
}
