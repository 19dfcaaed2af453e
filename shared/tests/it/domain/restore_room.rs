//! Restores on disks with little room.

use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, TryStreamExt};
use image::{ImageFormat, RgbImage};
use jiff::SignedDuration;
use uuid::Uuid;

use super::{World, png, seen, upload_all};
use shared::backup::Kind;
use shared::catalog::CommitError;
use shared::images::Fields;
use shared::layout::{BackupName, ImageId};
use shared::restore::Mode;
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::store::{
    Body, ETag, ErrorKind, Key, Object, ObjectMeta, ObjectStore, PutMode, Result, StoreError, StoreStatus,
};
use shared::upload::NewImage;
use shared::{Error, Keepsake, Settings};

const RESERVE: u64 = 10_000;

/// A store in memory with room for so many bytes.
#[derive(Debug)]
struct SmallDisk {
    memory: Arc<MemoryStore>,
    capacity: AtomicU64,
    /// The least that was ever free.
    least_free: AtomicU64,
}

impl SmallDisk {
    fn new(world: &World) -> Arc<Self> {
        let (capacity, least_free) = (AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX));
        Arc::new(Self { memory: Arc::clone(&world.memory), capacity, least_free })
    }

    async fn used(&self) -> u64 {
        let all: Vec<ObjectMeta> = self.memory.list("", None).try_collect().await.unwrap();
        all.iter().map(|meta| meta.size).sum()
    }

    async fn free(&self) -> u64 {
        self.capacity.load(SeqCst).saturating_sub(self.used().await)
    }

    /// Leaves so many bytes free.
    async fn leave(&self, free: u64) {
        self.capacity.store(self.used().await + free, SeqCst);
        self.least_free.store(free, SeqCst);
    }
}

#[async_trait]
impl ObjectStore for SmallDisk {
    async fn put(&self, key: &Key, body: &Body, mode: &PutMode) -> Result<ETag> {
        if self.free().await < body.size() {
            return Err(StoreError::new("put", key, ErrorKind::Full));
        }
        let put = self.memory.put(key, body, mode).await;
        self.least_free.fetch_min(self.free().await, SeqCst);
        put
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Object> {
        self.memory.get(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta> {
        self.memory.head(key).await
    }

    fn list(&self, prefix: &str, start_after: Option<&str>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.memory.list(prefix, start_after)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.memory.delete(key).await
    }

    async fn delete_version(&self, version: &ObjectMeta) -> Result<()> {
        self.memory.delete_version(version).await
    }

    async fn status(&self) -> Result<StoreStatus> {
        let free_bytes = Some(self.free().await);
        Ok(StoreStatus { free_bytes, kind: "disk", ..StoreStatus::default() })
    }
}

/// The bytes of an image that take far more room than its record.
fn noise() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    let pixels = RgbImage::from_fn(150, 150, |_, _| image::Rgb([next(), next(), next()]));
    let mut bytes = Cursor::new(Vec::new());
    pixels.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A store whose images were all deleted after a backup was made.
async fn emptied(world: &World) -> (BackupName, Vec<ImageId>) {
    emptied_of(world, 4).await
}

/// Likewise, with so many images.
async fn emptied_of(world: &World, count: u32) -> (BackupName, Vec<ImageId>) {
    let keepsake = world.open();
    keepsake.recovery.recover().await.unwrap();
    let mut ids = upload_all(&keepsake, 0..count).await;
    ids.sort();
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    for id in &ids {
        keepsake.images.delete(id.as_str(), shared::Any).await.unwrap();
    }
    keepsake.replication.compact().await.unwrap();
    assert!(world.keys("uploads/").await.is_empty());
    (backup, ids)
}

fn open(world: &World, backend: Arc<dyn ObjectStore>) -> Keepsake {
    world.open_with(backend, Settings { reserve_bytes: RESERVE, ..Settings::default() })
}

#[tokio::test]
async fn a_restore_without_enough_room_changes_nothing_and_its_plan_says_so() {
    let world = World::new();
    let (backup, ids) = emptied(&world).await;
    let disk = SmallDisk::new(&world);
    let keepsake = open(&world, Arc::clone(&disk) as _);
    let bytes: u64 = (0..4).map(|n| png(n).len() as u64).sum();
    disk.leave(RESERVE + bytes).await;
    let plan = keepsake.restores.plan(backup, Mode::Merge).await.unwrap();
    assert_eq!(plan.restored.len(), ids.len());
    let lacking = plan.lacking_bytes;
    assert!(lacking > 0, "the safety backup and the commit take room as well");

    let before = world.keys("").await;
    let error = keepsake.restores.restore(backup, Mode::Merge).await.unwrap_err();
    let Error::NoRoomToRestore { lacking: said } = error else { panic!("{error:?}") };
    assert!((lacking..lacking + 1_000).contains(&said), "{said}: its own lease takes room as well, beside {lacking}");
    assert_eq!(world.keys("").await, before, "no file, no backup and no lease is left");

    // With as much as was said, it goes, and nothing is written that was not counted.
    disk.leave(RESERVE + bytes + said).await;
    assert_eq!(keepsake.restores.plan(backup, Mode::Merge).await.unwrap().lacking_bytes, 0);
    keepsake.restores.restore(backup, Mode::Merge).await.unwrap();
    assert_eq!(seen(&keepsake).await.len(), ids.len());
    let least = disk.least_free.load(SeqCst);
    assert!(least >= RESERVE, "{least} bytes were free");
}

/// Restores on a disk with as much room as the plan asks for, and demands that the reserve stays free all the time.
async fn restores_in_the_room_that_its_plan_asks_for(world: &World, backup: BackupName) {
    let disk = SmallDisk::new(world);
    let keepsake = open(world, Arc::clone(&disk) as _);
    disk.leave(RESERVE).await;
    let lacking = keepsake.restores.plan(backup, Mode::Merge).await.unwrap().lacking_bytes;
    // The lease takes room as well.
    disk.leave(RESERVE + lacking + 1_000).await;
    keepsake.restores.restore(backup, Mode::Merge).await.unwrap();
    let least = disk.least_free.load(SeqCst);
    assert!(least >= RESERVE, "{least} bytes were free, after {lacking} had been asked for");
}

#[tokio::test]
async fn the_room_for_a_restore_includes_the_images() {
    let world = World::new();
    let keepsake = world.open();
    keepsake.recovery.recover().await.unwrap();
    let image = NewImage { body: Body::from(noise()), original_name: None };
    let id = keepsake.uploads.upload(vec![image], Fields::default(), None).await.unwrap().images[0].0.clone();
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    keepsake.images.delete(id.as_str(), shared::Any).await.unwrap();
    restores_in_the_room_that_its_plan_asks_for(&world, backup).await;
}

#[tokio::test]
async fn the_room_for_a_restore_includes_the_files_that_it_sets_aside() {
    let world = World::new();
    let (backup, ids) = emptied(&world).await;
    world.put(&format!("uploads/{}", ids[0]), &noise()).await;
    restores_in_the_room_that_its_plan_asks_for(&world, backup).await;
    assert_eq!(world.keys("backups/quarantine/").await.len(), 1);
}

#[tokio::test]
async fn the_room_for_a_restore_includes_the_safety_backup() {
    let world = World::new();
    let (backup, _) = emptied_of(&world, 1).await;
    // No backup holds their records yet.
    upload_all(&world.open(), 100..200).await;
    restores_in_the_room_that_its_plan_asks_for(&world, backup).await;
}

#[tokio::test]
async fn a_restore_stops_at_the_reserve_where_others_take_the_room() {
    let world = World::new();
    let (backup, ids) = emptied_of(&world, 40).await;
    let disk = SmallDisk::new(&world);
    let (other, begun) = (Arc::clone(&disk), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&begun);
    disk.leave(1_000_000).await;
    // When the first image is brought back, somebody else takes the room down to the reserve, which would hold all of them.
    let plan = move |operation: &Operation| {
        if operation.name == "put" && operation.key.starts_with("uploads/") && counted.fetch_add(1, SeqCst) == 0 {
            let used = other.used().now_or_never().expect("a store in memory answers at once");
            other.capacity.store(used + RESERVE, SeqCst);
        }
        None
    };
    let keepsake = open(&world, Arc::new(FaultStore::with_plan(disk, plan)));
    let error = keepsake.restores.restore(backup, Mode::Merge).await.unwrap_err();
    assert!(matches!(error, Error::NoRoom), "{error:?}");
    let begun = usize::try_from(begun.load(SeqCst)).unwrap();
    assert!(begun < ids.len() / 2, "{begun} were begun, of which only some were under way already");
    assert!(world.keys("uploads/").await.is_empty());
}

/// Fails the operations of this name on keys that hold this.
fn fails(name: &'static str, key: String, fault: Fault) -> impl Fn(&Operation) -> Option<Fault> + Send + Sync {
    move |operation| (operation.name == name && operation.key.contains(&key)).then_some(fault)
}

#[tokio::test]
async fn a_failed_restore_deletes_what_it_copied() {
    let world = World::new();
    let (backup, ids) = emptied(&world).await;
    let commit = || "image-metadata.d/".to_owned();
    let faults = [
        fails("put", format!("uploads/{}", ids[3]), Fault::Before(ErrorKind::Full)),
        fails("put", format!("uploads/{}", ids[3]), Fault::After(ErrorKind::Unavailable)),
        fails("put", commit(), Fault::Before(ErrorKind::Full)),
        fails("put", commit(), Fault::Before(ErrorKind::Refused)),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        world.open_failing(fault).restores.restore(backup, Mode::Merge).await.unwrap_err();
        assert!(world.keys("uploads/").await.is_empty(), "fault {number}");
        assert!(seen(&world.open()).await.is_empty(), "fault {number}");
    }
    // An image that lives keeps what was brought back for it.
    let restored = world.open().restores.restore(backup, Mode::Merge).await.unwrap();
    assert_eq!(restored.plan.restored.len(), ids.len());
    world.remove("uploads/").await;
    let fault = fails("put", format!("uploads/{}", ids[3]), Fault::Before(ErrorKind::Full));
    world.open_failing(fault).restores.restore(backup, Mode::Merge).await.unwrap_err();
    assert_eq!(world.keys("uploads/").await.len(), ids.len() - 1);
}

#[tokio::test]
async fn a_failed_restore_leaves_the_files_that_it_did_not_copy() {
    let world = World::new();
    let (backup, ids) = emptied_of(&world, 12).await;
    // Copied there by hand, under the name of the image that comes last.
    let other = format!("uploads/{}", ids[11]);
    world.put(&other, &png(77)).await;
    let full = Fault::Before(ErrorKind::Full);
    let faults = [
        ("another image fails before", fails("put", format!("uploads/{}", ids[0]), full)),
        ("the file cannot be quarantined", fails("put", "quarantine/".to_owned(), full)),
        ("the image fails itself", fails("put", other.clone(), full)),
    ];
    for (what, fault) in faults {
        world.open_failing(fault).restores.restore(backup, Mode::Merge).await.unwrap_err();
        assert_eq!(world.keys("uploads/").await, std::slice::from_ref(&other), "{what}");
        let (bytes, _) = world.raw().read(&Key::new(&other).unwrap()).await.unwrap();
        assert_eq!(bytes, png(77), "{what}");
    }
}

#[tokio::test]
async fn a_failed_restore_deletes_no_more_once_its_lease_is_lost() {
    let world = World::new();
    let (backup, _) = emptied_of(&world, 20).await;
    let (memory, clock) = (Arc::clone(&world.memory), world.clock.clone());
    let fault = move |operation: &Operation| {
        // With the first delete the lease expires, and another process takes it over.
        let lost = operation.name == "delete" && operation.key.starts_with("uploads/");
        if lost && clock.now() < "2026-11-20T08:01:00Z".parse().unwrap() {
            clock.advance(SignedDuration::from_secs(61));
            let lease = format!(r#"{{"holder":"{}","renewed":"2026-11-20T08:01:01.000Z"}}"#, Uuid::from_u128(7));
            let key = Key::new("backups/restore.json").unwrap();
            let put = memory.put(&key, &Body::from(lease.into_bytes()), &PutMode::Overwrite).now_or_never();
            put.unwrap().unwrap();
        }
        let commit = operation.name == "put" && operation.key.starts_with("image-metadata.d/");
        commit.then_some(Fault::Before(ErrorKind::Full))
    };
    world.open_failing(fault).restores.restore(backup, Mode::Merge).await.unwrap_err();
    assert!(world.clock.now() > "2026-11-20T08:01:00Z".parse().unwrap(), "it has begun to delete");
    assert!(!world.keys("uploads/").await.is_empty());
}

#[tokio::test]
async fn a_restore_of_unknown_outcome_keeps_what_it_copied() {
    // The archive has the commit each time, so that it becomes visible with the next look, if it is not already.
    for fault in [Fault::After(ErrorKind::Unavailable), Fault::Before(ErrorKind::Unavailable), Fault::Late] {
        let world = World::new();
        let (backup, ids) = emptied(&world).await;
        let commit = move |operation: &Operation| {
            let hit = operation.name == "put" && operation.key.starts_with("image-metadata.d/");
            hit.then_some(fault)
        };
        let error = world.open_failing(commit).restores.restore(backup, Mode::Merge).await.unwrap_err();
        assert!(matches!(error, Error::Commit(CommitError::Unknown(_))), "{fault:?}: {error:?}");
        assert_eq!(world.keys("uploads/").await.len(), ids.len(), "{fault:?}");
        let next = world.open();
        next.recovery.recover().await.unwrap();
        let seen = seen(&next).await;
        assert_eq!(seen.values().filter(|(_, bytes)| bytes.is_some()).count(), ids.len(), "{fault:?}");
    }
}
