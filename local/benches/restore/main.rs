//! How long a restore takes beside `cp -r` and an fsync of each file: the same bytes, on the same file system.
//!
//! `just bench-restore` serves a store of 10,000 images of 100 kB, takes `uploads/` away under the server, and restores a
//! backup that has them all; `--images N` makes it another number. It does so in pairs with the copy, who goes first taking
//! turns, and fails where the median of the ratios is above 1.5. Afterwards each file is compared with its replica. It
//! needs three times the room of the images on the disk of the target directory for a while.

#[allow(dead_code, reason = "some of it is for the growth of stores")]
#[path = "../growth/seed.rs"]
mod seed;
#[allow(dead_code, reason = "likewise")]
#[path = "../growth/server.rs"]
mod server;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use reqwest::{Client, Response};
use serde_json::Value;
use tempfile::TempDir;

use crate::server::{NEVER, Server};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Images, unless `--images` says otherwise.
const IMAGES: usize = 10_000;
const PAIRS: usize = 5;
/// What a restore may take, in times of the copy.
const BOUND: f64 = 1.5;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(ratio) if ratio <= BOUND => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("restore: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<f64> {
    let images = images()?;
    eprintln!("restore: making a store of {images} images of {} bytes", seed::IMAGE_BYTES);
    let folder = tempfile::Builder::new().prefix("restore-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let data = folder.path().join("data");
    fs::create_dir(&data)?;
    seed::fill_with(&data, images, seed::Bytes::All).await?;
    let client = Client::new();
    let server = Server::start(server::OWN, &data, &client, NEVER).await?;
    let backups: Value = client.get(format!("{}/api/backups", server.url)).send().await?.json().await?;
    let backup = backups["backups"][0]["name"].as_str().ok_or("there is no backup")?.to_owned();
    let restore = Restore { client, url: format!("{}/api/restore/{backup}", server.url), data, images };

    println!("{:<6}{:>22}{:>14}{:>10}", "pair", "cp -r and fsync, s", "restore, s", "ratio");
    let mut ratios = Vec::new();
    for pair in 0..PAIRS {
        // The first to read may find less in the cache, and the disk may have other things to do at times.
        let (copied, restored) = if pair % 2 == 0 {
            let copied = copy(&folder, &restore.data)?;
            (copied, restore.run().await?)
        } else {
            let restored = restore.run().await?;
            (copy(&folder, &restore.data)?, restored)
        };
        let ratio = restored.as_secs_f64() / copied.as_secs_f64();
        println!("{:<6}{:>22.2}{:>14.2}{ratio:>10.2}", pair + 1, copied.as_secs_f64(), restored.as_secs_f64());
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    let verdict = if median <= BOUND { "" } else { "  BROKEN" };
    println!("{:<42}{median:>10.2}  at most {BOUND}{verdict}", "median");
    server.stop()?;
    Ok(median)
}

/// What `--images` says.
fn images() -> Result<usize> {
    let mut arguments = std::env::args();
    match arguments.find(|argument| argument == "--images") {
        Some(_) => Ok(arguments.next().ok_or("--images needs a number")?.parse()?),
        None => Ok(IMAGES),
    }
}

struct Restore {
    client: Client,
    url: String,
    data: PathBuf,
    images: usize,
}

impl Restore {
    /// Takes the images away and restores them; returns how long the restore took.
    #[expect(clippy::disallowed_methods, reason = "measures time")]
    async fn run(&self) -> Result<Duration> {
        let uploads = self.data.join("uploads");
        fs::remove_dir_all(&uploads)?;
        sync_disk(&self.data)?;
        let begun = Instant::now();
        let answer = self.client.post(&self.url).send().await.and_then(Response::error_for_status)?.bytes().await?;
        let took = begun.elapsed();
        self.compare(&uploads).map_err(|error| format!("{error}; {}", String::from_utf8_lossy(&answer)))?;
        Ok(took)
    }

    /// Whether every image is there and has the bytes of its replica, whose name is their digest.
    fn compare(&self, uploads: &Path) -> Result<()> {
        let archived = self.data.join("backups/images");
        let mut found = 0;
        for entry in fs::read_dir(uploads)? {
            let bytes = fs::read(entry?.path())?;
            let digest = shared::digest::Digest::of(&bytes);
            if bytes.len() != seed::IMAGE_BYTES || !archived.join(digest.to_string()).is_file() {
                return Err("an image came back with other bytes".into());
            }
            found += 1;
        }
        if found == self.images { Ok(()) } else { Err(format!("{found} of {} images came back", self.images).into()) }
    }
}

/// Copies the replicas with `cp -r` and syncs each file and the folder; returns how long that took.
#[expect(clippy::disallowed_methods, reason = "measures time")]
fn copy(folder: &TempDir, data: &Path) -> Result<Duration> {
    let to = folder.path().join("copy");
    sync_disk(data)?;
    let begun = Instant::now();
    let status = Command::new("cp").arg("-r").arg(data.join("backups/images")).arg(&to).status()?;
    if !status.success() {
        return Err("cp failed".into());
    }
    for entry in fs::read_dir(&to)? {
        File::open(entry?.path())?.sync_all()?;
    }
    File::open(&to)?.sync_all()?;
    let took = begun.elapsed();
    fs::remove_dir_all(&to)?;
    Ok(took)
}

/// Lets the disk finish what was done before, so that the next measurement does not wait for it.
fn sync_disk(data: &Path) -> Result<()> {
    let status = Command::new("sync").arg("--file-system").arg(data).status()?;
    if status.success() { Ok(()) } else { Err("sync failed".into()) }
}
