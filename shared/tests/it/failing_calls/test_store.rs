//! Where a store lies in these tests, and what fails there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures::TryStreamExt;
use jiff::Timestamp;

use super::run;
use shared::clock::Clock;
use shared::store::fs::FileSystem;
use shared::store::testing::fs::{Call, CallFault, FaultyFileSystem, SimulatedDisk};
use shared::store::testing::{FaultStore, MemoryStore, Operation};
use shared::store::{self, Body, DiskStore, Key, ObjectStore, PutMode, Store, StoreError};
use shared::{Keepsake, Settings, layout};

/// A store that outlives the processes which serve it.
pub(crate) enum TestStore {
    Disk(SimulatedDisk),
    /// A store in memory, with the archive inside it or in another one.
    Memory(Arc<MemoryStore>, Option<Arc<MemoryStore>>),
}

/// One way to fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) how: How,
    /// The types of the problems that it may lead to; none where it must do no harm.
    pub(crate) problems: &'static [&'static str],
}

/// What fails, and how.
#[derive(Clone, Copy)]
pub(crate) enum How {
    Disk(fn(&Call) -> bool, CallFault),
    Store(fn(&Operation) -> bool, store::testing::Fault),
}

impl std::fmt::Debug for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disk(_, fault) => fault.fmt(f),
            Self::Store(_, fault) => fault.fmt(f),
        }
    }
}

/// Which of the calls that a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Once(u64),
    From(u64),
    /// These two.
    Both(u64, u64),
}

/// Makes calls fail while it is armed.
pub(crate) struct Injector {
    fault: Fault,
    when: When,
    armed: AtomicBool,
    seen: AtomicU64,
    struck: Mutex<Vec<String>>,
}

impl Injector {
    pub(crate) fn new(fault: Fault, when: When) -> Arc<Self> {
        let (armed, seen, struck) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::default());
        Arc::new(Self { fault, when, armed, seen, struck })
    }

    pub(crate) fn arm(&self, armed: bool) {
        self.armed.store(armed, Ordering::SeqCst);
    }

    /// The calls that failed.
    pub(crate) fn struck(&self) -> Vec<String> {
        self.struck.lock().unwrap().clone()
    }

    fn strikes(&self, relevant: bool, call: impl FnOnce() -> String) -> bool {
        if !relevant || !self.armed.load(Ordering::SeqCst) {
            return false;
        }
        let seen = self.seen.fetch_add(1, Ordering::SeqCst);
        let strikes = match self.when {
            When::Once(n) => seen == n,
            When::From(n) => seen >= n,
            When::Both(n, m) => seen == n || seen == m,
        };
        if strikes {
            self.struck.lock().unwrap().push(call());
        }
        strikes
    }

    fn on_call(&self, call: &Call) -> Option<CallFault> {
        let How::Disk(relevant, fault) = self.fault.how else { return None };
        self.strikes(relevant(call), || format!("{} {}", call.name, call.on)).then_some(fault)
    }

    fn on_operation(&self, operation: &Operation) -> Option<store::testing::Fault> {
        let How::Store(relevant, fault) = self.fault.how else { return None };
        self.strikes(relevant(operation), || format!("{} {}", operation.name, operation.key)).then_some(fault)
    }
}

impl Fault {
    /// Whether it makes a copy of something wrong, as far as a reader can tell.
    pub(crate) fn spoils_a_copy(&self) -> bool {
        self.problems.contains(&"store-corrupt")
    }
}

impl TestStore {
    /// A store with the same content, which nobody has open.
    pub(crate) fn copy(&self) -> Self {
        match self {
            Self::Disk(disk) => Self::Disk(disk.moment().copy()),
            Self::Memory(primary, archive) => Self::Memory(copy(primary), archive.as_ref().map(copy)),
        }
    }

    pub(crate) fn set_now(&self, now: Timestamp) {
        match self {
            Self::Disk(disk) => disk.set_now(now),
            Self::Memory(primary, archive) => {
                primary.set_now(now);
                archive.iter().for_each(|archive| archive.set_now(now));
            }
        }
    }

    /// The primary and the archive, whose calls fail where an injector is given.
    pub(crate) fn stores(&self, injector: Option<&Arc<Injector>>) -> Result<(Store, Store), StoreError> {
        let temp = std::env::temp_dir();
        match self {
            Self::Disk(disk) => {
                let files: Arc<dyn FileSystem> = match injector.cloned() {
                    Some(injector) => {
                        let plan = move |call: &Call| injector.on_call(call);
                        Arc::new(FaultyFileSystem::with_plan(Arc::new(disk.clone()), plan))
                    }
                    None => Arc::new(disk.clone()),
                };
                let primary = Store::new(Arc::new(DiskStore::open_on(files, "/")?), &temp);
                let archive = primary.below(&layout::default_archive());
                Ok((primary, archive))
            }
            Self::Memory(primary, archive) => {
                let faulty = |memory: &Arc<MemoryStore>| -> Arc<dyn ObjectStore> {
                    let Some(injector) = injector.cloned() else { return memory.clone() };
                    let plan = move |operation: &Operation| injector.on_operation(operation);
                    Arc::new(FaultStore::with_plan(memory.clone(), plan))
                };
                let primary = Store::new(faulty(primary), &temp);
                let archive = match archive {
                    Some(archive) => Store::new(faulty(archive), &temp),
                    None => primary.below(&layout::default_archive()),
                };
                Ok((primary, archive))
            }
        }
    }

    /// A process that serves the store.
    pub(crate) fn open(
        &self,
        clock: &Clock,
        settings: &Settings,
        injector: Option<&Arc<Injector>>,
    ) -> Result<Keepsake, StoreError> {
        let (primary, archive) = self.stores(injector)?;
        Ok(Keepsake::new(primary, archive, Vec::new(), clock.clone(), settings.clone()))
    }

    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        let (primary, archive) = self.stores(None).unwrap();
        let (store, key) = match key.strip_prefix("backups/") {
            Some(key) => (archive, key),
            None => (primary, key),
        };
        let key = Key::new(key).unwrap();
        run(store.put(&key, &Body::from(bytes.to_vec()), &PutMode::Overwrite)).unwrap();
    }

    pub(crate) fn remove(&self, key: &str) {
        let (primary, archive) = self.stores(None).unwrap();
        match key.strip_prefix("backups/") {
            Some(key) => run(archive.delete(&Key::new(key).unwrap())).unwrap(),
            None => run(primary.delete(&Key::new(key).unwrap())).unwrap(),
        }
    }

    /// The keys that start like this; those of the archive start with `backups/`, wherever it lies.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let all = self.versions().into_keys();
        all.filter(|key| key.starts_with(prefix)).collect()
    }

    /// The bytes of an object.
    pub(crate) fn read(&self, key: &str) -> Vec<u8> {
        let (primary, archive) = self.stores(None).unwrap();
        let (store, key) = key.strip_prefix("backups/").map_or((primary, key), |key| (archive, key));
        run(store.read(&Key::new(key).unwrap())).unwrap().0.to_vec()
    }

    /// Every object with its version.
    pub(crate) fn versions(&self) -> BTreeMap<String, String> {
        let (primary, archive) = self.stores(None).unwrap();
        let list = |store: &Store, prefix: &str| -> Vec<(String, String)> {
            let versions = store.list("", None).map_ok(|meta| (format!("{prefix}{}", meta.key), meta.etag.0));
            run(versions.try_collect()).unwrap()
        };
        list(&primary, "").into_iter().chain(list(&archive, "backups/")).collect()
    }

    /// Files that puts did not finish; in memory there are none.
    pub(crate) fn unfinished(&self) -> Vec<String> {
        match self {
            Self::Disk(disk) => disk.moment().tree().into_keys().filter(|path| path.contains(".tmp-")).collect(),
            Self::Memory(..) => Vec::new(),
        }
    }

    pub(crate) fn open_handles(&self) -> usize {
        match self {
            Self::Disk(disk) => disk.open_handles(),
            Self::Memory(..) => 0,
        }
    }

    /// The same after a loss of power that took all that was not synced.
    pub(crate) fn after_power_loss(&self) -> Self {
        match self {
            Self::Disk(disk) => Self::Disk(disk.moment().least()),
            Self::Memory(..) => self.copy(),
        }
    }
}

fn copy(memory: &Arc<MemoryStore>) -> Arc<MemoryStore> {
    Arc::new(memory.snapshot())
}
