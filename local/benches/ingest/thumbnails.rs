//! A page of new photographs: the thumbnails that a browser requests, beside `vipsthumbnail` with the same files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use crate::process::{Measured, time_of_ended};
use crate::server::{NEVER, OWN, Server, argument};
use crate::table::{self, Round};
use crate::{ROUNDS, Result, load, photograph};

const PHOTOGRAPHS: u32 = 60;
/// As many as a browser opens to a server.
const CONNECTIONS: usize = 6;
/// The width that the gallery requests for most screens.
const WIDTH: u32 = 640;
/// What `vipsthumbnail` writes: the format that the gallery requests, and its default.
const OUTPUTS: [(&str, &str); 2] = [("vips, WebP", "%s.webp[Q=75]"), ("vips, JPEG", "%s.jpg")];
/// So many run at a time, one on each processor.
const PROCESSES: usize = 2;

/// Prints both. Without `vipsthumbnail`, prints the server alone and says so.
pub async fn run(folder: &Path) -> Result<()> {
    let photographs = make(&folder.join("photographs"))?;
    let data = folder.join("page");
    fs::create_dir(&data)?;
    let client = reqwest::Client::new();
    let program = argument("--program");
    let program = program.as_deref().unwrap_or(OWN);
    let keepsake = Server::start(program, &data, &client, NEVER).await?;
    let mut paths = Vec::new();
    for photograph in &photographs {
        let request = client.post(format!("{}/api/upload", keepsake.url)).header("Content-Type", "image/jpeg");
        let answer: Value = request.body(fs::read(photograph)?).send().await?.error_for_status()?.json().await?;
        paths.push(answer["url"].as_str().or(answer["images"][0]["url"].as_str()).ok_or("no url")?.to_owned());
    }
    keepsake.stop()?;

    let vips = match Command::new("vipsthumbnail").arg("--version").stdout(Stdio::null()).status() {
        Ok(status) => status.success(),
        Err(_) => false,
    };
    let (mut ours, mut megabytes) = (Vec::new(), 0.0_f64);
    let mut theirs = OUTPUTS.map(|_| Vec::new());
    for round in 0..ROUNDS {
        let (page, most) = page(program, &data, &client, &paths).await?;
        ours.push(page);
        megabytes = megabytes.max(most);
        for ((_, options), theirs) in OUTPUTS.iter().zip(&mut theirs).filter(|_| vips) {
            let to = folder.join(format!("vips-{round}"));
            theirs.push(vipsthumbnail(&photographs, &to, options)?);
            fs::remove_dir_all(to)?;
        }
    }
    let name = format!("{PHOTOGRAPHS} thumbnails of 12 MP");
    table::print(&name, "Keepsake", &ours, Some(megabytes));
    if vips {
        for ((by, _), theirs) in OUTPUTS.iter().zip(&theirs) {
            table::print(&name, by, theirs, None);
        }
    } else {
        println!("vipsthumbnail was not found, so nothing is compared with it: install Debian's libvips-tools.");
    }
    Ok(())
}

/// Makes the photographs on both processors.
fn make(folder: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir(folder)?;
    let paths: Vec<PathBuf> = (0..PHOTOGRAPHS).map(|number| folder.join(format!("{number}.jpg"))).collect();
    let left = Mutex::new(paths.iter().enumerate());
    let next = || left.lock().ok().and_then(|mut left| left.next());
    thread::scope(|scope| {
        let make = || -> Result<()> {
            while let Some((number, path)) = next() {
                fs::write(path, photograph::photograph(number as u32)?)?;
            }
            Ok(())
        };
        let running: Vec<_> = (0..PROCESSES).map(|_| scope.spawn(make)).collect();
        running.into_iter().try_for_each(|thread| thread.join().map_err(|_| "no photograph was made")?)
    })?;
    Ok(paths)
}

/// A server that has just started makes every thumbnail; returns also the most memory that it had, in MB.
#[expect(clippy::disallowed_methods, reason = "measures time")]
async fn page(program: &str, data: &Path, client: &reqwest::Client, paths: &[String]) -> Result<(Round, f64)> {
    let kept = data.join("derivatives");
    if kept.exists() {
        fs::remove_dir_all(kept)?;
    }
    let keepsake = Server::start(program, data, client, NEVER).await?;
    let host = load::address(&keepsake.url)?;
    let requests = paths.iter().rev().map(|path| {
        Bytes::from(format!("GET {path}?w={WIDTH}&format=webp HTTP/1.1\r\nHost: {host}\r\nAccept: image/webp\r\n\r\n"))
    });
    let left = Mutex::new(requests.collect::<Vec<_>>());
    let next = move || left.lock().ok().and_then(|mut left| left.pop());
    let measured = Measured::of(&[keepsake.id()]);
    let (before, begun) = (measured.processor_time()?, Instant::now());
    let operations = load::until_none(&keepsake.url, CONNECTIONS, next).await?;
    let (took, processor_time) = (begun.elapsed(), measured.processor_time()? - before);
    let most = keepsake.peak_megabytes()?;
    keepsake.stop()?;
    Ok((Round { operations, took, processor_time }, most))
}

/// `vipsthumbnail` with half of the photographs in each of two processes.
#[expect(clippy::disallowed_methods, reason = "measures time")]
fn vipsthumbnail(photographs: &[PathBuf], to: &Path, output: &str) -> Result<Round> {
    fs::create_dir(to)?;
    let before = children_time()?;
    let begun = Instant::now();
    let mut running = Vec::new();
    for part in photographs.chunks(photographs.len().div_ceil(PROCESSES)) {
        let mut command = Command::new("vipsthumbnail");
        command.args(part).args(["--size", &format!("{WIDTH}x")]).arg("--output").arg(to.join(output));
        running.push(command.spawn()?);
    }
    for mut process in running {
        if !process.wait()?.success() {
            return Err("vipsthumbnail failed".into());
        }
    }
    let (took, processor_time) = (begun.elapsed(), children_time()? - before);
    if fs::read_dir(to)?.count() != photographs.len() {
        return Err("vipsthumbnail made fewer thumbnails than photographs".into());
    }
    Ok(Round { operations: photographs.len() as u64, took, processor_time })
}

/// The processor time of the processes that this one has waited for.
fn children_time() -> Result<Duration> {
    time_of_ended(std::process::id())
}
