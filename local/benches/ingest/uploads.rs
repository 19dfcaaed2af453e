//! Uploads of 100 kB, beside the durable limit of the disk that the store is on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::limit::{self, Durability};
use crate::process::{Measured, time_alone};
use crate::server::{NEVER, OWN, Server, argument};
use crate::table::{self, Round};
use crate::{ROUNDS, Result, load, seed};

const ROUND: Duration = Duration::from_secs(2);
/// The default of `BACKUP_EVERY`.
const DEFAULT: u32 = 10;
/// Connections, and uploads for each automatic backup.
const CASES: [(usize, u32); 4] = [(1, DEFAULT), (16, DEFAULT), (64, DEFAULT), (16, NEVER)];

/// Runs every case in a store of its own. `--connections` runs those with so many connections only; `--program` names
/// another server.
pub async fn run(folder: &Path) -> Result<()> {
    let only = argument("--connections").map(|number| number.parse::<usize>()).transpose()?;
    for (connections, backup_every) in CASES {
        if only.is_none_or(|only| only == connections) {
            case(folder, connections, backup_every).await?;
        }
    }
    Ok(())
}

async fn case(folder: &Path, connections: usize, backup_every: u32) -> Result<()> {
    let data = folder.join("data");
    fs::create_dir(&data)?;
    let program = argument("--program");
    let client = reqwest::Client::new();
    let keepsake = Server::start(program.as_deref().unwrap_or(OWN), &data, &client, backup_every).await?;
    let measured = Measured::of(&[keepsake.id()]);
    let image = seed::image(0)?;
    let mut next_number = 0;
    let (mut ours, mut file_by_file, mut batches) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        settle(folder)?;
        let before = measured.processor_time()?;
        let first = next_number;
        let (uploads, took) = upload(&keepsake.url, connections, first).await?;
        next_number += uploads + connections as u64;
        for (durability, rounds) in [(Durability::FileByFile, &mut file_by_file), (Durability::Batch, &mut batches)] {
            rounds.push(measure_limit(folder, &image, durability, connections)?);
        }
        // Includes what the server did for these uploads after it had answered.
        let processor_time = measured.processor_time()? - before;
        ours.push(Round { operations: uploads, took, processor_time });
    }
    let backups = if backup_every == NEVER { ", no backups" } else { "" };
    let name = format!("upload, {connections} at a time{backups}");
    table::print(&name, "Keepsake", &ours, Some(measured.megabytes()?));
    table::print(&name, "disk, by file", &file_by_file, None);
    table::print(&name, "disk, by batch", &batches, None);
    keepsake.stop()?;
    fs::remove_dir_all(&data)?;
    Ok(())
}

/// Uploads images, numbered from `first`; returns how many, and how long that took.
#[expect(clippy::disallowed_methods, reason = "measures time")]
async fn upload(url: &str, connections: usize, first: u64) -> Result<(u64, Duration)> {
    let image = seed::image(0)?;
    // Of an image, only these bytes differ from those of another.
    let at = seed::start_of_image(0)?.len() - size_of::<u64>();
    let head = format!(
        "POST /api/upload HTTP/1.1\r\nHost: {}\r\nContent-Type: image/png\r\nContent-Length: {}\r\n\r\n",
        load::address(url)?,
        image.len()
    );
    let template = [head.as_bytes(), &image].concat();
    let (at, number) = (head.len() + at, AtomicU64::new(first));
    let request = move || {
        let mut request = template.clone();
        request[at..at + size_of::<u64>()].copy_from_slice(&number.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        Bytes::from(request)
    };
    let begun = Instant::now();
    let uploads = load::for_time(url, connections, ROUND, request).await?;
    Ok((uploads, begun.elapsed()))
}

#[expect(clippy::disallowed_methods, reason = "measures time")]
fn measure_limit(folder: &Path, image: &[u8], durability: Durability, threads: usize) -> Result<Round> {
    settle(folder)?;
    let own = std::process::id();
    let folder = folder.join("limit");
    fs::create_dir(&folder)?;
    let (before, begun) = (time_alone(own)?, Instant::now());
    let operations = limit::run(&folder, image, durability, threads, ROUND)?;
    let (took, processor_time) = (begun.elapsed(), time_alone(own)? - before);
    fs::remove_dir_all(&folder)?;
    Ok(Round { operations, took, processor_time })
}

/// Lets the disk finish what was done before, so that the next measurement does not wait for it.
fn settle(folder: &Path) -> Result<()> {
    let status = Command::new("sync").arg("--file-system").arg(folder).status()?;
    if status.success() { Ok(()) } else { Err("sync failed".into()) }
}
