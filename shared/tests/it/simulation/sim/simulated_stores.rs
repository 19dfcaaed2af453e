//! The two places as they are, and the control of every operation on them.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::{FutureExt, TryStreamExt};
use jiff::Timestamp;

use super::schedule::{Mishap, Side};
use shared::layout;
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::store::{Body, ErrorKind, Key, ObjectStore, PutMode, Store};

/// An operation that took place, or failed in its place.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) backend: usize,
    pub(crate) side: Side,
    pub(crate) name: &'static str,
    /// The key inside the place.
    pub(crate) key: String,
    pub(crate) fault: Option<Fault>,
}

/// What decides the next operation.
#[derive(Debug, Default)]
struct Control {
    /// One operation may pass.
    open: bool,
    /// But so many are passed over first.
    pass_over: u8,
    mishap: Option<Mishap>,
    broken: Option<(Option<Side>, ErrorKind)>,
    op: Option<Op>,
}

/// The primary and the archive, in one backend or in two.
pub(crate) struct SimulatedStores {
    apart: bool,
    memory: Vec<Arc<MemoryStore>>,
    faulty: Vec<FaultStore>,
    control: Arc<Mutex<Control>>,
}

fn lock(control: &Mutex<Control>) -> MutexGuard<'_, Control> {
    control.lock().expect("nobody panics while deciding")
}

fn now<T>(ready: impl Future<Output = T>) -> T {
    ready.now_or_never().expect("memory never waits")
}

/// The place that a backend's key lies in, and the key inside it.
fn locate(apart: bool, backend: usize, key: &str) -> (Side, String) {
    if apart {
        return (if backend == 0 { Side::Primary } else { Side::Archive }, key.to_owned());
    }
    match key.strip_prefix("backups/") {
        Some(inside) => (Side::Archive, inside.to_owned()),
        None => (Side::Primary, key.to_owned()),
    }
}

/// How an operation of this name fails under a mishap.
fn fault(mishap: Mishap, name: &str) -> Option<Fault> {
    let changes = matches!(name, "put" | "delete" | "copy");
    match mishap {
        // Only what is written needs room.
        Mishap::Fails(ErrorKind::Full) => (name == "put").then_some(Fault::Before(ErrorKind::Full)),
        Mishap::Fails(kind) => Some(Fault::Before(kind)),
        Mishap::LosesItsReply => Some(Fault::After(ErrorKind::Unavailable)),
        Mishap::ComesLate => changes.then_some(Fault::Late),
        Mishap::BreaksOff => (name == "get").then_some(Fault::Truncate(9)),
    }
}

impl SimulatedStores {
    pub(crate) fn new(apart: bool) -> Self {
        let control = Arc::<Mutex<Control>>::default();
        let memory: Vec<_> = (0..if apart { 2 } else { 1 }).map(|_| Arc::new(MemoryStore::new())).collect();
        let faulty = |(backend, memory): (usize, &Arc<MemoryStore>)| {
            let (planned, gated) = (Arc::clone(&control), Arc::clone(&control));
            let plan = move |operation: &Operation| {
                let mut control = lock(&planned);
                let (side, key) = locate(apart, backend, &operation.key);
                let broken = control.broken.filter(|(of, _)| of.is_none_or(|of| of == side));
                let mishap = broken.map(|(_, kind)| Mishap::Fails(kind)).or(control.mishap);
                let fault = mishap.and_then(|mishap| fault(mishap, operation.name));
                control.op = Some(Op { backend, side, name: operation.name, key, fault });
                fault
            };
            let gate = move || {
                let mut control = lock(&gated);
                if control.pass_over > 0 {
                    control.pass_over -= 1;
                    return false;
                }
                std::mem::take(&mut control.open)
            };
            FaultStore::with_gate(Arc::clone(memory) as _, plan, gate)
        };
        let faulty = memory.iter().enumerate().map(faulty).collect();
        Self { apart, memory, faulty, control }
    }

    /// The primary and the archive as a process sees them.
    pub(crate) fn stores(&self) -> [Store; 2] {
        let store = |backend: &FaultStore| {
            let folder = std::path::Path::new("bodies here are small and never leave memory");
            Store::new(Arc::new(backend.clone()), folder)
        };
        let primary = store(&self.faulty[0]);
        let archive = if self.apart { store(&self.faulty[1]) } else { primary.below(&layout::default_archive()) };
        [primary, archive]
    }

    /// Lets one operation pass.
    pub(crate) fn open(&self, pass_over: u8, mishap: Option<Mishap>) {
        let mut control = lock(&self.control);
        (control.open, control.pass_over, control.mishap) = (true, pass_over, mishap);
    }

    /// The operation that passed since, if one did.
    pub(crate) fn passed(&self) -> Option<Op> {
        lock(&self.control).op.take()
    }

    pub(crate) fn set_broken(&self, broken: Option<(Option<Side>, ErrorKind)>) {
        lock(&self.control).broken = broken;
    }

    pub(crate) fn set_now(&self, time: Timestamp) {
        self.memory.iter().for_each(|memory| memory.set_now(time));
    }

    /// Lets the oldest late operation of a backend take place.
    pub(crate) fn deliver(&self, backend: usize) -> Option<Op> {
        let (name, key) = now(self.faulty.get(backend)?.deliver())?;
        let (side, key) = locate(self.apart, backend, key.as_str());
        Some(Op { backend, side, name, key, fault: None })
    }

    /// What reads the objects of a place as they lie there now.
    pub(crate) fn reader(&self, side: Side) -> impl Fn(&Key) -> Option<Bytes> + Send + Sync + use<> {
        let (apart, memory) = (self.apart, self.memory.clone());
        move |key| {
            let (memory, key) = match (side, apart) {
                (Side::Primary, _) => (&memory[0], key.clone()),
                (Side::Archive, true) => (&memory[1], key.clone()),
                (Side::Archive, false) => (&memory[0], Key::new(format!("backups/{key}")).ok()?),
            };
            let store = Store::new(Arc::clone(memory) as _, std::path::Path::new("never"));
            now(store.read(&key)).ok().map(|(bytes, _)| bytes)
        }
    }

    fn raw(&self, side: Side, key: &str) -> (&MemoryStore, String) {
        match (side, self.apart) {
            (Side::Primary, _) => (&self.memory[0], key.to_owned()),
            (Side::Archive, true) => (&self.memory[1], key.to_owned()),
            (Side::Archive, false) => (&self.memory[0], format!("backups/{key}")),
        }
    }

    /// An object as it lies there.
    pub(crate) fn read(&self, side: Side, key: &str) -> Option<Bytes> {
        let (memory, key) = self.raw(side, key);
        let object = now(memory.get(&Key::new(key).ok()?, None)).ok()?;
        now(object.bytes()).ok()
    }

    /// The keys in a place that start like this.
    pub(crate) fn keys(&self, side: Side, prefix: &str) -> Vec<String> {
        let (memory, full) = self.raw(side, prefix);
        let listed: Vec<_> = now(memory.list(&full, None).try_collect()).unwrap_or_default();
        let own = |meta: store::ObjectMeta| {
            let (located, key) =
                locate(self.apart, usize::from(self.apart && side == Side::Archive), meta.key.as_str());
            (located == side).then_some(key)
        };
        listed.into_iter().filter_map(own).collect()
    }

    pub(crate) fn write(&self, side: Side, key: &str, bytes: Vec<u8>) {
        let (memory, key) = self.raw(side, key);
        let key = Key::new(key).expect("it lies there");
        now(memory.put(&key, &Body::from(bytes), &PutMode::Overwrite)).expect("memory takes all");
    }

    pub(crate) fn remove(&self, side: Side, key: &str) {
        let (memory, key) = self.raw(side, key);
        now(memory.delete(&Key::new(key).expect("it lies there"))).expect("memory gives all");
    }
}
