//! The persistence report: which evidence exists, and which of it wins.

use std::borrow::Cow;
use std::path::PathBuf;

use super::{Deployment, MountPoint, Outlived, Persistence};
use crate::base::clock::format_millis;
use crate::config::{Location, Platform};

/// Whether the images will survive the next deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersistenceStatus {
    /// They have outlived an instance.
    Proven,
    /// There is no evidence against it, and no proof yet.
    Unproven,
    /// They are stored where the next instance will not find them.
    Ephemeral,
}

impl PersistenceStatus {
    /// The status as one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Unproven => "unproven",
            Self::Ephemeral => "ephemeral",
        }
    }
}

/// A persistence status and its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersistenceReport {
    /// The status.
    pub status: PersistenceStatus,
    /// The evidence, in plain words.
    pub evidence: String,
    /// What to do, if action is needed.
    pub warning: Option<String>,
    /// The mount point of the file system that holds the images.
    pub mount: Option<String>,
    /// The kind of that file system.
    pub file_system: Option<String>,
    /// Whether the archive, including the backups, is lost with the instance although the images stay.
    pub archive_passes: bool,
}

/// Why data may be lost with its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passing<'a> {
    /// The platform is known to start each instance with a new disk.
    Wiped,
    /// File systems of this kind usually are.
    ByName(&'a str),
}

/// File systems in memory, and those that show a software image with a writable layer.
const BY_NAME: [&str; 8] = ["tmpfs", "ramfs", "overlay", "aufs", "squashfs", "rootfs", "devtmpfs", "erofs"];

impl Deployment {
    fn passing<'a>(&self, mount_point: &'a MountPoint, file_system: Option<&'a str>) -> Option<Passing<'a>> {
        let mount = match mount_point {
            MountPoint::Service => return None,
            MountPoint::Folder { mount, .. } => mount.as_ref(),
        };
        let name = mount.map(|mount| mount.file_system.as_str()).or(file_system);
        let by_name = name.filter(|name| BY_NAME.contains(name));
        let on_root = mount.is_some_and(|mount| mount.point == "/");
        // A mount in a pod may be a folder that is deleted with the pod.
        let of_pod = mount.is_some_and(|mount| mount.root.contains("/kubernetes.io~empty-dir/"));
        let wiped = match self.platform {
            // Software that is deployed with data in it brings that data along each time, which looks like survival.
            None => false,
            Some(Platform::Heroku | Platform::Lambda) => true,
            Some(_) => on_root || by_name.is_some() || of_pod,
        };
        if wiped { Some(Passing::Wiped) } else { by_name.map(Passing::ByName) }
    }

    /// Derives the status from the evidence. `images` and `archive` are what each has outlived; `file_system` is the
    /// kind that the primary reports; `whole` means that a recovery has found everything.
    pub(super) fn judge(
        &self,
        images: Option<&Outlived>,
        archive: Option<&Outlived>,
        file_system: Option<&str>,
        whole: bool,
    ) -> PersistenceReport {
        let mount_point = self.images();
        let passing = self.passing(mount_point, file_system);
        let archive_stays = match (self.passing(&self.archive, None), archive) {
            (Some(Passing::Wiped), _) | (Some(Passing::ByName(_)), None) => false,
            _ => self.archive == MountPoint::Service || !self.archive.is_at(mount_point) || passing.is_none(),
        };
        let (status, evidence) = match (passing, images, archive) {
            (None | Some(Passing::ByName(_)), Some(outlived), _) => (PersistenceStatus::Proven, outlived.evidence()),
            (None, None, _) if *mount_point == MountPoint::Service => {
                (PersistenceStatus::Proven, "the images lie in a service that is apart from every instance".to_owned())
            }
            (None, None, _) => (
                PersistenceStatus::Unproven,
                "nothing speaks against it, and no earlier instance has left a trace here yet".to_owned(),
            ),
            (Some(_), _, Some(outlived)) if archive_stays && whole => (
                PersistenceStatus::Proven,
                format!("{}, in the archive, which brought everything back{}", outlived.evidence(), self.behind()),
            ),
            (Some(_), _, _) if archive_stays => {
                let evidence = format!(
                    "the images' own disk goes with its instance; the archive stays and would bring everything back, which \
                     is not shown yet{}",
                    self.behind()
                );
                (PersistenceStatus::Unproven, evidence)
            }
            (Some(Passing::Wiped), ..) => (PersistenceStatus::Ephemeral, self.wipes().to_owned()),
            (Some(Passing::ByName(name)), ..) => (
                PersistenceStatus::Ephemeral,
                format!("the file system is {name}, which mostly goes with its instance"),
            ),
        };
        let on = mount_point.mount().map(|mount| mount.file_system.as_str()).or(file_system);
        let lie = on.map_or_else(|| "on the instance's own disk".to_owned(), |name| format!("on {name}"));
        let warning = (status == PersistenceStatus::Ephemeral).then(|| {
            format!("Storage may be ephemeral: the images lie {lie}, and {}. {}", self.wipes(), self.remedy())
        });
        PersistenceReport {
            status,
            evidence,
            warning,
            mount: mount_point.mount().map(|mount| mount.point.clone()),
            file_system: on.map(str::to_owned),
            archive_passes: passing.is_none() && !archive_stays,
        }
    }

    fn behind(&self) -> &'static str {
        if self.asynchronous { "; what it is behind by, see backups.singleCopies, may be lost" } else { "" }
    }

    /// What happens to an instance's own disk.
    fn wipes(&self) -> &'static str {
        match self.platform {
            Some(Platform::Railway) => "Railway gives each deployment an empty disk",
            Some(Platform::Fly) => "Fly.io resets a machine's own disk at each deployment and restart",
            Some(Platform::Render) => "Render gives each deployment an empty disk",
            Some(Platform::Heroku) => "Heroku gives each dyno an empty disk at least once a day",
            Some(Platform::CloudRun) => "Cloud Run keeps an instance's files in its memory",
            Some(Platform::Lambda) => "a function's own disk goes with it",
            Some(Platform::Kubernetes) => "what is no persistent volume goes with its pod",
            Some(Platform::Container) => "a container's own layer and memory go with it",
            None => "a restart may wipe it",
        }
    }

    /// What to do about it on this platform.
    fn remedy(&self) -> Cow<'static, str> {
        if let (Some(Platform::Railway), Some(volume)) = (self.platform, &self.volume) {
            let volume = volume.display();
            let remedy =
                format!("A volume is mounted at {volume}, but the store lies elsewhere: unset DATA_DIR and STORE_URL.");
            return remedy.into();
        }
        let remedy = match self.platform {
            Some(Platform::Railway) => "Add a volume to the service; it is found by itself.",
            Some(Platform::Fly) => {
                "Make one with `fly volumes create`, mount it in fly.toml under [mounts], and set DATA_DIR to its path."
            }
            Some(Platform::Render) => {
                "Add a disk and set DATA_DIR to its mount path, or on the free tier set BACKUP_URL to a location elsewhere, such \
                 as s3://bucket/prefix."
            }
            Some(Platform::Heroku | Platform::CloudRun) => {
                "Set STORE_URL=s3://bucket/prefix, or BACKUP_URL to a location elsewhere, from which each start restores \
                 everything."
            }
            Some(Platform::Lambda) => "Set STORE_URL=s3://bucket.",
            Some(Platform::Kubernetes) => "Mount a PersistentVolumeClaim, and set DATA_DIR to its path.",
            Some(Platform::Container) => {
                "Mount a volume, as with `docker run -v keepsake:/data`, and set DATA_DIR=/data."
            }
            None => "Set DATA_DIR to a folder on a disk.",
        };
        remedy.into()
    }
}

impl Outlived {
    fn evidence(&self) -> String {
        let (since, instance) = (format_millis(self.since), self.instance.shown());
        let restarts = if self.changes == 1 { "restart" } else { "restarts" };
        format!("data written by {instance} on {since} was still here after {} {restarts}", self.changes)
    }
}

impl Persistence {
    /// Whether the images outlive their instance, as far as this start has found. `file_system` is the kind that the
    /// primary reports, and `kind` is the kind of store.
    pub(crate) fn judge(&self, kind: &str, file_system: Option<&str>) -> PersistenceReport {
        let unknown = Deployment::unknown(&if kind == "s3" {
            MountPoint::Service
        } else {
            MountPoint::Folder { at: PathBuf::new(), mount: None }
        });
        let known = self.deployment().unwrap_or(&unknown);
        let images = if known.is_volume(Location::Uploads) { Location::Uploads } else { Location::Data };
        let whole = self.recovering.last().is_some_and(|report| report.missing.is_empty());
        let mut report =
            known.judge(self.outlived(images).as_ref(), self.outlived(Location::Archive).as_ref(), file_system, whole);
        if let Some(needless) = self.needless_acceptance() {
            report.warning = Some(report.warning.map_or(needless.clone(), |warning| format!("{warning} {needless}")));
        }
        if let Some(why) = self.fenced() {
            let evidence = "what is here now is not what was here before".to_owned();
            report = PersistenceReport {
                status: PersistenceStatus::Unproven,
                evidence,
                warning: Some(why.message()),
                ..report
            };
        }
        report
    }
}
