//! Disks that are full, nearly full, or take no writes: what is there can be read, what is refused leaves nothing
//! behind, and service goes on as soon as it can.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::mounts::Mount;
use crate::clients::World;
use crate::model::{Sent, State};
use crate::photos;
use crate::server::{STORE_FOLDERS, Server, eventually, names};

/// A store on a small disk, and what it must hold.
struct Small {
    mount: Mount,
    world: Arc<World>,
    server: Server,
    client: Client,
    reserve: String,
    uploads: u32,
    /// What the backup holds that is restored.
    restorable: BTreeMap<String, State>,
}

impl Small {
    fn new(kind: &'static str, mebibytes: u32, reserve_mebibytes: u64) -> Self {
        let mount = Mount::new(kind, mebibytes);
        let reserve = format!("{reserve_mebibytes}MiB");
        let (server, world) = (Self::start(&mount, &reserve), World::new(false));
        Self { mount, world, server, client: Client::new(), reserve, uploads: 0, restorable: BTreeMap::new() }
    }

    fn start(mount: &Mount, reserve: &str) -> Server {
        Server::start_with(&mount.data(), &[("RESERVE_BYTES", reserve), ("RUST_LOG", "off")])
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.server.url(path))
    }

    /// Uploads an image; returns the status that refused it.
    async fn upload(&mut self, bytes: Vec<u8>) -> Result<(), StatusCode> {
        self.uploads += 1;
        let sent = Sent { images: vec![(format!("image {}", self.uploads), Arc::new(bytes))], fields: Vec::new() };
        self.world.model().sending(&sent);
        let (name, bytes) = &sent.images[0];
        let form = Form::new().part("image", Part::bytes(bytes.to_vec()).file_name(name.clone()));
        let answer = self.ask(self.request(Method::POST, "/api/upload").multipart(form)).await?;
        self.world.model().uploaded(&sent, answer);
        Ok(())
    }

    /// Asks for a change, which is made or refused with a problem.
    async fn ask(&self, request: RequestBuilder) -> Result<Value, StatusCode> {
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let media_type = answer.headers()["content-type"].clone();
        let body: Value = answer.json().await.unwrap();
        if status.is_success() {
            return Ok(body);
        }
        assert_eq!(media_type, "application/problem+json", "{body}");
        let expected = match status {
            StatusCode::INSUFFICIENT_STORAGE => "insufficient-storage",
            StatusCode::SERVICE_UNAVAILABLE => "read-only",
            _ => panic!("{status}: {body}"),
        };
        assert_eq!(body["type"], expected, "{body}");
        Err(status)
    }

    async fn edit(&self, id: &str) -> Result<(), StatusCode> {
        let patch = json!({ "description": "é".repeat(200), "order": 3 });
        let after = self.ask(self.request(Method::PATCH, &format!("/api/images/{id}")).json(&patch)).await?;
        self.world.model().changed(BTreeMap::from([(id.to_owned(), Some(after))]));
        Ok(())
    }

    async fn delete(&self, id: &str) -> Result<(), StatusCode> {
        self.ask(self.request(Method::DELETE, &format!("/api/images/{id}"))).await?;
        self.world.model().changed(BTreeMap::from([(id.to_owned(), None)]));
        Ok(())
    }

    async fn back_up(&self) -> Result<String, StatusCode> {
        let made = self.ask(self.request(Method::POST, "/api/backup")).await?;
        Ok(made["backupName"].as_str().unwrap().to_owned())
    }

    /// Restores the backup that holds `restorable`.
    async fn restore(&self, backup: &str) -> Result<(), StatusCode> {
        self.ask(self.request(Method::POST, &format!("/api/restore/{backup}"))).await?;
        self.world.model().changed(self.restorable.clone());
        Ok(())
    }

    /// The name of an image that is there.
    fn any(&self) -> String {
        self.world.model().live().into_keys().next().unwrap()
    }

    /// Everything is as it was acknowledged, and nothing else is there.
    async fn check(&self, after: &str) {
        let after = format!("{}, {after}", self.mount);
        self.world.check(std::slice::from_ref(&self.server), &after).await;
        let live: Vec<String> = self.world.model().live().into_keys().collect();
        let mut stored = names(self.mount.data().join("uploads"));
        // A restore that found no room leaves bytes that it had brought back already.
        stored.retain(|name| live.contains(name) || !self.restorable.contains_key(name));
        assert_eq!(stored, live, "{after}");
        for folder in STORE_FOLDERS {
            let folder = self.mount.data().join(folder);
            // There may be one for a moment, while commits are compacted.
            let unfinished = || names(folder.clone()).iter().any(|name| name.starts_with(".tmp-"));
            eventually(&format!("no unfinished file is in {folder:?}, {after}"), || !unfinished()).await;
        }
    }

    async fn restart(&mut self) {
        let server = Self::start(&self.mount, &self.reserve);
        std::mem::replace(&mut self.server, server).kill();
    }

    /// Fills the disk up to the last byte, and then frees so many of its bytes.
    fn leave_free(&self, bytes: u64) {
        let file = File::options().create(true).append(true).open(self.filler()).unwrap();
        for size in [1 << 24, 1 << 20, 1 << 16, 1 << 12, 1 << 10] {
            let full = loop {
                let length = file.metadata().unwrap().len();
                if let Err(full) = fallocate(&file, FallocateFlags::empty(), length, size) {
                    break full;
                }
            };
            assert_eq!(full, Errno::NOSPC);
        }
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(bytes)).unwrap();
        // A file system may free what a file loses only when it has to.
        file.sync_all().unwrap();
    }

    fn filler(&self) -> std::path::PathBuf {
        self.mount.data().parent().map(|point| point.join("filler")).unwrap()
    }
}

/// Fills a disk with uploads: the first one that finds too little room is refused and leaves nothing behind.
pub async fn fills_up(kind: &'static str, mebibytes: u32, reserve_mebibytes: u64) {
    let mut small = Small::new(kind, mebibytes, reserve_mebibytes);
    let fitted = loop {
        let n = small.uploads;
        if let Err(status) = small.upload(photos::large(n)).await {
            assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE);
            break small.uploads - 1;
        }
    };
    assert!(fitted > 10, "{kind}: only {fitted} uploads fitted in");
    // Automatic backups and checkpoints may take a little of the reserve.
    let space = statvfs(small.mount.data()).unwrap();
    let free = space.f_bavail * space.f_frsize;
    assert!(free + (1 << 20) > reserve_mebibytes << 20, "{kind}: only {free} bytes are left");
    small.check("the first upload that was refused").await;
    small.restart().await;
    small.check("a start on a full disk").await;

    // Deleting goes at once. The replicas stay, so that a restore can bring back what was deleted.
    for _ in 0..4 {
        small.delete(&small.any()).await.unwrap();
    }
    small.check("deletes on a full disk").await;
    small.upload(photos::large(1_000_000)).await.unwrap();
    small.check("an upload into what was freed").await;
}

/// Leaves more and more room, so that each kind of write in turn is the first to find none.
pub async fn nearly_full(kind: &'static str, mebibytes: u32) {
    let mut small = Small::new(kind, mebibytes, 0);
    for n in 0..25 {
        small.upload(photos::medium(n)).await.unwrap();
    }
    let backup = small.back_up().await.unwrap();
    small.restorable = small.world.model().live();
    let mut refused = BTreeMap::<&str, u32>::new();
    let mut made = BTreeMap::<&str, u32>::new();
    let mut note = |what, outcome: Result<(), StatusCode>| {
        if let Err(status) = outcome {
            assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE, "{kind}: {what}");
        }
        *if outcome.is_ok() { &mut made } else { &mut refused }.entry(what).or_default() += 1;
    };
    let rooms = (0..24).map(|n| n * 4096).chain((0..16).map(|n| 100_000 + n * 65_536));
    for (n, room) in rooms.enumerate() {
        let after = format!("{room} bytes were free");
        small.leave_free(room);
        let bytes = if n < 24 { photos::medium(100 + n as u32) } else { photos::large(n as u32) };
        let outcome = small.upload(bytes).await;
        note("upload", outcome);
        small.leave_free(room);
        note("edit", small.edit(&small.any()).await);
        small.leave_free(room);
        note("backup", small.back_up().await.map(drop));
        small.leave_free(room);
        assert_eq!(small.delete(&small.any()).await, Ok(()), "{kind}: a delete when {after}");
        if n % 4 == 0 {
            // What was deleted comes back, or nothing does.
            small.leave_free(room);
            note("restore", small.restore(&backup).await);
            small.leave_free(room);
            small.restart().await;
        }
        small.check(&after).await;
        small.leave_free(4 << 20);
        small.upload(photos::medium(1_000 + n as u32)).await.unwrap();
    }
    small.check("there was room again").await;
    println!("{kind}: made {made:?}, refused {refused:?}");
    for what in ["upload", "edit", "backup", "restore"] {
        assert!(made.contains_key(what) && refused.contains_key(what), "{kind}: {what} met only one of both");
    }
}

/// Turns a file system read-only under a running server, starts one on it, and makes it writable again.
pub async fn turns_read_only(kind: &'static str) {
    let mut small = Small::new(kind, 64, 1);
    for n in 0..12 {
        small.upload(photos::photo(n).1).await.unwrap();
    }
    let commits = small.mount.data().join("image-metadata.d");
    eventually("the commits are folded", || names(commits.clone()).is_empty()).await;
    for started_on_it in [false, true] {
        small.mount.remount("ro");
        if started_on_it {
            small.restart().await;
        }
        small.check("it turned read-only").await;
        refuses_every_change(&mut small).await;
        let health: Value = small.request(Method::GET, "/api/health").send().await.unwrap().json().await.unwrap();
        assert_eq!((&health["status"], &health["persistence"]["writable"]), (&json!("error"), &json!(false)));
        small.check("changes were refused").await;

        small.mount.remount("rw");
        small.upload(photos::photo(100).1).await.unwrap();
        small.edit(&small.any()).await.unwrap();
        small.delete(&small.any()).await.unwrap();
        small.back_up().await.unwrap();
        small.check("it took writes again").await;
        let health: Value = small.request(Method::GET, "/api/health").send().await.unwrap().json().await.unwrap();
        assert_eq!(health["persistence"]["writable"], true, "{health}");
    }
}

async fn refuses_every_change(small: &mut Small) {
    let refused = Err(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(small.upload(photos::photo(50).1).await, refused, "an upload");
    assert_eq!(small.upload(photos::large(50)).await, refused, "a large upload");
    assert_eq!(small.edit(&small.any()).await, refused, "an edit");
    assert_eq!(small.delete(&small.any()).await, refused, "a delete");
    assert_eq!(small.back_up().await.map(drop), refused, "a backup");
    let backup = small.world.model().backups.first().unwrap().clone();
    assert_eq!(small.restore(&backup).await, refused, "a restore");
}
