//! Leases that a process left when it died in a restore.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::Value;

use super::{png, upload_all};
use shared::backup::Kind;
use shared::clock::Clock;
use shared::layout::{self, BackupName};
use shared::restore::Mode;
use shared::store::testing::{Fault, FaultStore, Operation};
use shared::store::{DiskStore, ErrorKind, ObjectStore, Store};
use shared::{Error, Keepsake, Settings};

/// A process that serves the folder and whose operations fail like this.
fn open(folder: &Path, clock: &Clock, plan: impl Fn(&Operation) -> Option<Fault> + Send + Sync + 'static) -> Keepsake {
    let disk: Arc<dyn ObjectStore> = Arc::new(DiskStore::open(folder).unwrap());
    let primary = Store::new(Arc::new(FaultStore::with_plan(disk, plan)), folder);
    let archive = primary.below(&layout::default_archive());
    Keepsake::new(primary, archive, Vec::new(), clock.clone(), Settings::default())
}

/// The start time of a process, as /proc tells it.
fn started(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap()
}

/// A process that runs until it is ended, and the start time of it.
fn child() -> (Child, u64) {
    let child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let started = started(child.id());
    (child, started)
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

struct Left {
    folder: tempfile::TempDir,
    clock: Clock,
    backup: BackupName,
    /// The lease as it was left.
    lease: Value,
}

impl Left {
    /// A restore on a disk that breaks off and leaves its lease.
    async fn behind() -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::manual("2026-11-20T08:00:00Z".parse().unwrap()));
        let keepsake = open(folder.path(), &clock, |_| None);
        let ids = upload_all(&keepsake, 0..1).await;
        let backup = keepsake.backups.create(Kind::Manual).await.unwrap().name;
        keepsake.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
        let dies = |operation: &Operation| {
            let hit = operation.key.contains("manifest.json") || operation.name == "delete";
            hit.then_some(Fault::Before(ErrorKind::Unavailable))
        };
        open(folder.path(), &clock, dies).restores.restore(backup, Mode::Merge).await.unwrap_err();
        let lease = std::fs::read(folder.path().join("backups/restore.json")).unwrap();
        Self { lease: serde_json::from_slice(&lease).unwrap(), folder, clock, backup }
    }

    /// Restores beside a lease whose process is changed like this.
    async fn restore_beside(&self, change: impl Fn(&mut Value)) -> shared::Result<()> {
        let mut lease = self.lease.clone();
        change(&mut lease);
        std::fs::write(self.folder.path().join("backups/restore.json"), lease.to_string()).unwrap();
        open(self.folder.path(), &self.clock, |_| None).restores.restore(self.backup, Mode::Merge).await.map(drop)
    }
}

#[tokio::test]
async fn the_lease_of_a_process_that_died_is_taken_over_at_once() {
    let left = Left::behind().await;
    let (running, began) = child();
    let pid = running.id();
    let of_child = |lease: &mut Value| {
        lease["process"]["pid"] = pid.into();
        lease["process"]["started"] = began.into();
    };
    let busy = left.restore_beside(of_child).await;
    assert!(matches!(busy, Err(Error::RestoreRunning)), "it runs: {busy:?}");
    end(running);
    left.restore_beside(of_child).await.unwrap();
    assert_eq!(std::fs::read_dir(left.folder.path().join("uploads")).unwrap().count(), 1);
    assert!(!left.folder.path().join("backups/restore.json").exists());
}

#[tokio::test]
async fn the_lease_of_a_process_that_may_live_is_waited_for() {
    let left = Left::behind().await;
    let (running, began) = child();
    let pid = running.id();
    end(running);
    let dead = |lease: &mut Value| {
        lease["process"]["pid"] = pid.into();
        lease["process"]["started"] = began.into();
    };
    type Changes<'a> = [(&'a str, &'a dyn Fn(&mut Value)); 5];
    let changes: Changes<'_> = [
        ("this process", &|_| ()),
        ("on another machine", &|lease| {
            dead(lease);
            lease["process"]["boot"] = "5a9e2a3c-0b1d-4e5f-8a9b-000000000000".into();
        }),
        ("in another container", &|lease| {
            dead(lease);
            lease["process"]["namespace"] = "pid:[1]".into();
        }),
        ("of an older version", &|lease| _ = lease.as_object_mut().unwrap().remove("process")),
        ("of a process that says nothing", &|lease| lease["process"] = Value::Null),
    ];
    for (whose, change) in changes {
        let busy = left.restore_beside(change).await;
        assert!(matches!(busy, Err(Error::RestoreRunning)), "{whose}: {busy:?}");
    }
    left.clock.advance(jiff::SignedDuration::from_secs(61));
    left.restore_beside(|_| ()).await.unwrap();
    assert_eq!(std::fs::read_dir(left.folder.path().join("uploads")).unwrap().count(), 1);
    assert_eq!(png(0).len() as u64, std::fs::metadata(left.only_image()).unwrap().len());
}

impl Left {
    fn only_image(&self) -> std::path::PathBuf {
        std::fs::read_dir(self.folder.path().join("uploads")).unwrap().next().unwrap().unwrap().path()
    }
}
