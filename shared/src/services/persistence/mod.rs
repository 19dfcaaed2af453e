//! Determines whether images outlive the instance that stored them, and whether each location still holds its earlier
//! data.
//!
//! Two questions, answered from a ledger in each location, which a start writes after its recovery:
//!
//! - **Will the images survive?** A location whose ledger lists an earlier instance has outlived it ([`judge`]).
//! - **Is an empty location lost, or is its volume not mounted?** It is not mounted if the ledgers of other locations
//!   record that it had a file system of its own, it has none now, and it carries no mark ([`Fenced`]). Then nothing is
//!   written anywhere: missing data would be restored beside the volume, and deletions would be forgotten.
//!
//! A location carries a mark if it has a ledger or a root. Recovery writes a root into every location
//! before a ledger records it as a volume, so no crash leaves a volume that is recorded but not marked.

mod instance;
mod judge;
mod ledger;
mod machine;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::catalog::CatalogError;
use crate::config::{ArchiveMode, Config, Location, Platform, StoreUrl};
use crate::core::Core;
use crate::core::error::Error;
use crate::layout;
use crate::services::recovery::RecoveryState;
use store::sync::{Mutex, lock};
use store::{Key, Optional, Store};

pub use instance::Instance;
pub use judge::{PersistenceReport, PersistenceStatus};
pub use ledger::Outlived;
pub use machine::{Machine, Mount};

/// What a location is stored on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountPoint {
    /// A bucket or another service, which is independent of every instance.
    Service,
    /// A folder.
    Folder {
        /// Its path.
        at: PathBuf,
        /// Its mount, if known.
        mount: Option<Mount>,
    },
}

/// A location that was a file system of its own, as recorded in the ledgers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    #[serde(rename = "place")]
    location: Location,
    /// Its mount point. Only a location that is still at this path can be missing its volume; a location may also be
    /// moved.
    point: PathBuf,
}

impl MountPoint {
    /// The mount point of a folder. A `volume` above it that the platform reports as mounted counts even if it is not
    /// visible.
    fn of(folder: &Path, volume: Option<&Path>, machine: &Machine) -> Self {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let folder = real(folder);
        let mut mount = machine.mount_of(&folder).cloned();
        if let (Some(volume), Some(seen)) = (volume.map(real), &mut mount)
            && seen.point == "/"
            && folder.starts_with(&volume)
        {
            seen.point = volume.display().to_string();
        }
        Self::Folder { at: folder, mount }
    }

    /// Its mount, if it is a folder and the mount is known.
    pub fn mount(&self) -> Option<&Mount> {
        match self {
            Self::Service => None,
            Self::Folder { mount, .. } => mount.as_ref(),
        }
    }

    fn is_at(&self, other: &Self) -> bool {
        self.mount().map(|mount| &mount.point) == other.mount().map(|mount| &mount.point)
    }
}

/// Where a store is served: what is known before anything is read.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// The platform, if it is recognised.
    pub platform: Option<Platform>,
    /// The instance; `None` if nothing distinguishes instances.
    pub instance: Option<Instance>,
    /// What the primary is stored on.
    pub data: MountPoint,
    /// What `uploads/` is stored on.
    pub uploads: MountPoint,
    /// What the archive is stored on.
    pub archive: MountPoint,
    /// Whether `BACKUP_URL` puts the archive elsewhere.
    pub archive_elsewhere: bool,
    /// Whether replicas are made after the answer.
    pub asynchronous: bool,
    /// Locations whose volume is lost for good.
    pub accepted: Vec<Location>,
    /// Where the platform reports a mounted volume.
    pub volume: Option<PathBuf>,
}

impl Deployment {
    /// The deployment as given by a configuration and a machine. The folders must exist.
    pub fn of(config: &Config, machine: &Machine) -> Self {
        let mount_point = |folder: &Path| MountPoint::of(folder, config.volume.as_deref(), machine);
        let (data, uploads, inner_archive) = match &config.store {
            StoreUrl::File(folder) => {
                let below = |key: Key| mount_point(&folder.join(key.as_str()));
                (mount_point(folder), below(layout::uploads_folder()), below(layout::default_archive()))
            }
            _ => (MountPoint::Service, MountPoint::Service, MountPoint::Service),
        };
        let archive = match &config.backup {
            None => inner_archive,
            Some(StoreUrl::File(folder)) => mount_point(folder),
            Some(_) => MountPoint::Service,
        };
        Self {
            platform: config.platform,
            instance: Instance::of(config.platform, config.deployment.as_deref(), machine),
            data,
            uploads,
            archive,
            archive_elsewhere: config.backup.is_some(),
            asynchronous: config.archive == ArchiveMode::Async,
            accepted: config.accept_unmounted.clone(),
            volume: config.volume.clone(),
        }
    }

    /// A deployment of which only the mount point of all locations is known.
    pub fn unknown(mount_point: &MountPoint) -> Self {
        Self {
            platform: None,
            instance: None,
            data: mount_point.clone(),
            uploads: mount_point.clone(),
            archive: mount_point.clone(),
            archive_elsewhere: false,
            asynchronous: false,
            accepted: Vec::new(),
            volume: None,
        }
    }

    /// Whether a location is a file system of its own.
    pub fn is_volume(&self, location: Location) -> bool {
        let apart_from_root = |mount_point: &MountPoint| mount_point.mount().is_some_and(|mount| mount.point != "/");
        match location {
            Location::Data => apart_from_root(&self.data),
            Location::Uploads => !self.uploads.is_at(&self.data),
            Location::Archive if self.archive_elsewhere => apart_from_root(&self.archive),
            Location::Archive => !self.archive.is_at(&self.data),
        }
    }

    /// The locations that are file systems of their own.
    fn volumes(&self) -> Vec<Volume> {
        let volumes = Location::ALL.into_iter().filter(|location| self.is_volume(*location));
        let point = |location| Some(PathBuf::from(&self.mount_point(location).mount()?.point));
        volumes.filter_map(|location| Some(Volume { location, point: point(location)? })).collect()
    }

    fn mount_point(&self, location: Location) -> &MountPoint {
        match location {
            Location::Data => &self.data,
            Location::Uploads => &self.uploads,
            Location::Archive => &self.archive,
        }
    }

    /// What the images are stored on.
    pub fn images(&self) -> &MountPoint {
        if self.is_volume(Location::Uploads) { &self.uploads } else { &self.data }
    }
}

/// Why writes are fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fenced {
    /// A location was a volume, and none is mounted there now.
    NotMounted(Location),
    /// A location belongs to another store.
    Foreign(Location),
}

impl Fenced {
    /// What happened and what to do about it, in a few plain sentences.
    pub fn message(self) -> String {
        match self {
            Self::NotMounted(location) => format!(
                "{} was on a volume of its own, and no volume is mounted there now, so nothing is written. Mount the volume \
                 and start again. If it is gone for good, set ACCEPT_UNMOUNTED={} for one start; then what was on it is \
                 restored from the other locations.",
                location.title(),
                location.name()
            ),
            Self::Foreign(location) => format!(
                "{} belongs to another store, so nothing is written. Point BACKUP_URL and DATA_DIR at locations of one store, \
                 or at empty ones, and start again.",
                location.title()
            ),
        }
    }
}

/// Whether images outlive this instance, and what this process has found at its start.
#[derive(Debug)]
pub struct Persistence {
    core: Arc<Core>,
    recovering: Arc<RecoveryState>,
    /// Unset if a store is not served from a machine of its own.
    deployment: OnceLock<Deployment>,
    fenced: OnceLock<Fenced>,
    /// Locations with an accepted missing volume.
    needed: Mutex<Vec<Location>>,
    /// What each location has outlived, in the order of [`Location::ALL`].
    outlived: Mutex<[Option<Outlived>; 3]>,
}

impl Persistence {
    /// Starts without a deployment for the store of `core`.
    pub fn new(core: Arc<Core>, recovering: Arc<RecoveryState>) -> Self {
        let (deployment, fenced, needed, outlived) = Default::default();
        Self { core, recovering, deployment, fenced, needed, outlived }
    }

    /// Sets where the store is served, and checks whether each location still holds its earlier data; writes nothing.
    /// If a volume is not mounted, writes are fenced from then on.
    pub async fn set_deployment(&self, deployment: Deployment) {
        for location in Location::ALL.into_iter().filter(|location| !deployment.is_volume(*location)) {
            let MountPoint::Folder { at, .. } = deployment.mount_point(location) else { continue };
            if !self.carries_mark(location).await && self.was_volume(location, at).await {
                match deployment.accepted.contains(&location) {
                    true => lock(&self.needed).push(location),
                    false => self.fence(Fenced::NotMounted(location)),
                }
            }
        }
        self.deployment.get_or_init(|| deployment);
    }

    pub(crate) fn deployment(&self) -> Option<&Deployment> {
        self.deployment.get()
    }

    /// Why writes are fenced, if they are.
    pub fn fenced(&self) -> Option<Fenced> {
        self.fenced.get().copied()
    }

    /// What to do about `ACCEPT_UNMOUNTED` if it lists locations that this start would have served anyway: the next
    /// missing volume at these locations would be accepted as lost.
    fn needless_acceptance(&self) -> Option<String> {
        let accepted = &self.deployment()?.accepted;
        let needed = lock(&self.needed);
        let needless = accepted.iter().filter(|location| !needed.contains(location));
        let names: Vec<&str> = needless.map(|location| location.name()).collect();
        (!names.is_empty()).then(|| {
            format!(
                "ACCEPT_UNMOUNTED is set for {} and not needed; unset it, or a volume that is not mounted at a later start \
                 counts as lost.",
                names.join(", ")
            )
        })
    }

    fn fence(&self, why: Fenced) {
        let why = self.fenced.get_or_init(|| why);
        tracing::error!("{}", why.message());
        self.core.primary.fence();
        self.core.archive.store().fence();
    }

    /// Handles the result of a recovery: if a location belongs to another store, writes are fenced from then on.
    pub(crate) fn note_foreign(&self, error: &Error) {
        if let Error::Catalog(error) = error
            && let CatalogError::ForeignStore { place: index, .. } = error.cause()
        {
            self.fence(Fenced::Foreign(match index {
                0 => Location::Data,
                1 => Location::Archive,
                _ => Location::Uploads,
            }));
        }
    }

    fn store_of(&self, location: Location) -> Store {
        match location {
            Location::Data => self.core.primary.clone(),
            Location::Uploads => self.core.primary.below(&layout::uploads_mirror()),
            Location::Archive => self.core.archive.store().clone(),
        }
    }

    /// Whether a location carries the mark of a store. A location that does not answer is not known to be empty.
    async fn carries_mark(&self, location: Location) -> bool {
        let store = self.store_of(location);
        for key in [layout::starts(), layout::root(), layout::metadata_file()] {
            if !matches!(store.head(&key).await.optional(), Ok(None)) {
                return true;
            }
        }
        false
    }

    /// Whether another location records that this one was a volume at its present path, `at`; the first one with a
    /// ledger decides.
    async fn was_volume(&self, location: Location, at: &Path) -> bool {
        for other in Location::ALL.into_iter().filter(|other| *other != location) {
            if let Ok(Some(ledger)) = ledger::read(&self.store_of(other)).await {
                return ledger
                    .volumes
                    .iter()
                    .any(|volume| volume.location == location && at.starts_with(&volume.point));
            }
        }
        false
    }

    /// Records this start in each location after its recovery, and again when an unavailable location is back. Never
    /// fails, since a read-only store is served too.
    pub async fn note_start(&self) {
        let Some(known) = self.deployment() else { return };
        let volumes = known.volumes();
        for location in Location::ALL {
            if location == Location::Uploads && !known.is_volume(location) {
                continue;
            }
            match self.note_start_in(&self.store_of(location), &volumes).await {
                Ok(outlived) => lock(&self.outlived)[location as usize] = outlived,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(location = location.name(), error, "the ledger of starts cannot be read");
                }
            }
        }
    }

    /// Finds out what each location has outlived without recording a start: for a command, which serves nothing.
    pub async fn read_starts(&self) {
        let Some(instance) = self.deployment().and_then(|known| known.instance.as_ref()) else { return };
        for location in Location::ALL {
            if let Ok(Some(ledger)) = ledger::read(&self.store_of(location)).await {
                lock(&self.outlived)[location as usize] = ledger.outlived(instance);
            }
        }
    }

    /// What the location has outlived, as of this start.
    fn outlived(&self, location: Location) -> Option<Outlived> {
        lock(&self.outlived)[location as usize].clone()
    }
}
