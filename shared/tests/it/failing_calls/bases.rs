//! The stores that operations run on, and what a client sees there.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::operations::{Known, On, UNDER_TICKET, announcement};
use super::run;
use super::test_store::TestStore;
use crate::world::{live, png, upload_all};
use shared::backup::Kind;
use shared::clock::Clock;
use shared::images::{Fields, Patch};
use shared::layout::{self, ImageId};
use shared::restore::Mode;
use shared::store::Body;
use shared::ticket::Destination;
use shared::upload::NewImage;
use shared::{Keepsake, Settings};

/// Uploads for each automatic backup.
const BACKUP_EVERY: u64 = 5;

/// A store that cases start from, each on a copy of its own.
pub(crate) struct Base {
    pub(crate) store: TestStore,
    pub(crate) on: On,
    pub(crate) known: Known,
    pub(crate) settings: Settings,
    pub(crate) now: Timestamp,
}

/// What a client sees: of each image its id, or that it is new; what is said of it; whether its bytes are served.
pub(crate) type View = Vec<(String, Option<String>, bool)>;

impl Base {
    pub(crate) fn new(store: TestStore, on: On) -> Self {
        let clock = Clock::manual("2026-11-20T08:00:00Z".parse().unwrap());
        store.set_now(clock.now());
        let settings = Settings {
            backup_every: BACKUP_EVERY,
            reserve_bytes: 0,
            archive_sync: on != On::Deferred,
            ..Settings::default()
        };
        let keepsake = store.open(&clock, &settings, None).unwrap();
        let (ids, known) = run(fill(&keepsake));
        drop(keepsake);
        let commits = store.keys(layout::COMMITS).iter().map(|key| commit_id(key)).collect();
        if on == On::Damaged {
            damage(&store, &ids);
            clock.advance(SignedDuration::from_hours(25));
        }
        Self { store, on, known: Known { commits, ..known }, settings, now: clock.now() + SignedDuration::from_mins(1) }
    }

    /// A clock that gives other ids than those that are in the store.
    pub(crate) fn clock(&self) -> Clock {
        Clock::manual_seeded(self.now, 7)
    }

    /// What a client sees in a store that began as this one; every new reader sees the same.
    pub(crate) fn view(&self, store: &TestStore, clock: &Clock) -> View {
        self.seen(&store.open(clock, &self.settings, None).unwrap())
    }

    /// Likewise, of one process.
    pub(crate) fn seen(&self, keepsake: &Keepsake) -> View {
        run(async {
            keepsake.core.catalog.refresh().await.unwrap();
            let mut view = View::new();
            for (id, record) in live(keepsake).await {
                let said = record.description;
                let served = match record.sha256 {
                    Some(digest) => keepsake.bytes.verified(&id, digest).await.is_ok(),
                    None => false,
                };
                let old = self.known.ids.contains(&id);
                view.push((if old { id.to_string() } else { "new".to_owned() }, said, served));
            }
            view.sort();
            view
        })
    }

    /// Whether no unfinished file came to those that a store began with.
    pub(crate) fn has_only_its_unfinished(&self, store: &TestStore) -> bool {
        let before = self.store.unfinished();
        store.unfinished().iter().all(|file| before.contains(file))
    }

    /// The images whose bytes lie in the store, and those that it should hold.
    pub(crate) fn files(&self, store: &TestStore, keepsake: &Keepsake) -> (Vec<String>, Vec<String>) {
        let live = run(live(keepsake)).keys().map(|id| layout::image(id).to_string()).collect();
        (store.keys(layout::UPLOADS), live)
    }

    /// Every backup that was there can be restored whole, and each automatic one that was due is there once.
    pub(crate) fn check_backups(&self, keepsake: &Keepsake) {
        run(async {
            let listed = keepsake.backups.list().await.unwrap();
            assert!(listed.iter().any(|backup| backup.name == self.known.backup), "the backup is gone: {listed:?}");
            for backup in &listed {
                let plan = keepsake.restores.plan(backup.name, Mode::Exact).await.unwrap();
                assert!(plan.missing.is_empty(), "{} has lost {:?}", backup.name, plan.missing);
            }
            let uploads = keepsake.core.catalog.view().totals().uploads();
            let automatic = listed.iter().filter(|backup| backup.kind == Kind::Auto).count() as u64;
            assert_eq!(automatic, uploads / BACKUP_EVERY, "automatic backups after {uploads} uploads");
        });
    }
}

async fn fill(keepsake: &Keepsake) -> (Vec<ImageId>, Known) {
    keepsake.recovery.recover().await.unwrap();
    let mut ids = upload_all(keepsake, 0..3).await;
    let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name;
    keepsake.core.catalog.compact().await.unwrap();
    let patch = Patch { description: Some(Some("edited".to_owned())), ..Patch::default() };
    keepsake.images.edit(ids[0].as_str(), &patch, shared::Any).await.unwrap();
    keepsake.images.delete(ids[1].as_str(), shared::Any).await.unwrap();
    let image = NewImage { body: Body::from(png(3)), original_name: None };
    let fields =
        Fields { description: Some("number 3".to_owned()), group_id: Some("g".to_owned()), ..Fields::default() };
    ids.push(keepsake.uploads.upload(vec![image], fields, None).await.unwrap().images[0].0.clone());
    let (waiting, _) = ticket(keepsake, UNDER_TICKET).await;
    let (arrived, bytes) = ticket(keepsake, UNDER_TICKET + 2).await;
    let terms = keepsake.tickets.expected(arrived.0, &arrived.1).await.unwrap();
    keepsake.tickets.receive(arrived.0, &terms, &Body::from(bytes)).await.unwrap();
    let (edited, backed_up) = (ids[0].clone(), ids[2].clone());
    let known = Known {
        ids: ids.iter().cloned().collect(),
        edited,
        backed_up,
        backup,
        arrived: arrived.0,
        waiting,
        commits: Default::default(),
    };
    (ids, known)
}

async fn ticket(keepsake: &Keepsake, n: u32) -> ((Uuid, String), Vec<u8>) {
    let issued = keepsake.tickets.issue(announcement(n)).await.unwrap();
    let Destination::Here { secret } = issued.destination else { panic!("nothing is signed here") };
    ((issued.id, secret), png(n))
}

/// A bit of everything that recovery and verification repair.
fn damage(store: &TestStore, ids: &[ImageId]) {
    let digest = |n| shared::digest::Digest::of(&png(n));
    // The bytes of one image are gone, those of another have rotted, and one has no replica.
    let mut rotten = png(0);
    rotten[50] ^= 1;
    store.put(&format!("uploads/{}", ids[0]), &rotten);
    store.remove(&format!("uploads/{}", ids[2]));
    store.remove(&format!("backups/images/{}", digest(3)));
    // A delete and an upload were cut off, and someone copied an image into the folder.
    store.put(&format!("uploads/{}", ids[1]), &png(1));
    store.put(&format!("uploads/{}", ImageId::generate(Uuid::from_u128(5), "png")), &png(70));
    store.put("uploads/foreign.png", &png(71));
    // One commit is torn, and the replica of the root, a page, and a metadata file are gone.
    let torn = store.keys(layout::COMMITS)[0].clone();
    store.put(&torn, b"{\"digest\":");
    store.remove("backups/catalog.json");
    store.remove("backups/image-metadata.json");
    store.remove(&store.keys(layout::CATALOG)[0].clone());
    if let TestStore::Disk(disk) = store {
        use shared::store::fs::{FileSystem, Open};
        let left = disk.root().unwrap().open_at(&format!(".tmp-{}", Uuid::from_u128(9)), Open::New).unwrap();
        left.write(b"unfinished").unwrap();
    }
}

fn commit_id(key: &str) -> Uuid {
    let name = key.strip_prefix(layout::COMMITS).and_then(|name| name.strip_suffix(".json")).unwrap();
    name.parse().unwrap()
}

/// What operation and fault a case is about, printed where it fails.
pub(crate) struct ContextOnPanic(pub(crate) String);

impl Drop for ContextOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the case: {}", self.0);
        }
    }
}

/// How many images of each kind a view shows.
pub(crate) fn counted(view: &View) -> BTreeMap<&(String, Option<String>, bool), usize> {
    view.iter().fold(BTreeMap::new(), |mut counts, image| {
        *counts.entry(image).or_default() += 1;
        counts
    })
}
