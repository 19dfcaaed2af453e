//! How long a thumbnail takes beside Debian's `vipsthumbnail` (package `libvips-tools`), and how much memory sixteen take
//! that are asked for at once.
//!
//! `cargo bench --package scaling --bench thumbnail -- PHOTO.jpg…`; without a photograph, one of 12 megapixels is made up.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]
#![expect(clippy::disallowed_methods, reason = "measures how long things take")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scaling::Engine;
use shared::clock::Clock;
use shared::images::Fields;
use shared::media;
use shared::store::{Body, DiskStore, Store};
use shared::thumbnails::{Bounds, Form, Formats, Limits, Scaler, Thumbnails};
use shared::upload::NewImage;
use shared::{Keepsake, Settings};
use tokio::task::JoinSet;

/// So often each is measured; they take turns, so that what else the machine does slows down both.
const ROUNDS: usize = 15;
/// So many are asked for at once.
const CROWD: u8 = 16;

fn form() -> Form {
    Form { bounds: Bounds::asked(Some(400), None).unwrap().unwrap(), formats: Formats::WithWebP }
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    // Cargo adds a flag of its own.
    let mut photos: Vec<PathBuf> =
        std::env::args().skip(1).filter(|name| !name.starts_with("--")).map(PathBuf::from).collect();
    if photos.is_empty() {
        photos.push(folder.path().join("made-up.jpg"));
        fs::write(&photos[0], made_up()).unwrap();
    }
    println!("| Photograph | Pixels | Here | `vipsthumbnail --size 400` | Ratio |\n|---|---|---|---|---|");
    for photo in &photos {
        compare(photo, folder.path());
    }
    let (before, after) = crowd(&photos[0], folder.path()).await;
    println!("\n{CROWD} at once: the process grew from {before} MB to {after} MB at most.");
}

fn compare(photo: &Path, folder: &Path) {
    let media = media::measure(&Body::from(fs::read(photo).unwrap()), &media::Limits::default()).unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let source = fs::read(photo).unwrap().into();
        let made = Engine.scale(&source, media.format, form(), u64::MAX).unwrap();
        fs::write(folder.join("ours"), &made.bytes).unwrap();
        ours.push(begun.elapsed());
        let begun = Instant::now();
        let output = folder.join("theirs.jpg");
        let vips = Command::new("vipsthumbnail").arg(photo).args(["--size", "400", "-o"]).arg(output).status();
        assert!(vips.expect("vipsthumbnail is needed: apt-get install libvips-tools").success());
        theirs.push(begun.elapsed());
    }
    let (ours, theirs) = (median(ours), median(theirs));
    let name = photo.file_name().unwrap().to_string_lossy().into_owned();
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    let pixels = f64::from(media.width) * f64::from(media.height) / 1e6;
    println!("| {name} | {pixels:.1} M | {} ms | {} ms | {ratio:.2} |", ours.as_millis(), theirs.as_millis());
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The most memory that the process has had, in MB, before and after many ask for forms of different images.
async fn crowd(photo: &Path, folder: &Path) -> (u64, u64) {
    let primary = Store::new(Arc::new(DiskStore::open(folder).unwrap()), folder);
    let archive = primary.below(&shared::layout::default_archive());
    let keepsake = Arc::new(Keepsake::new(primary, archive, Vec::new(), Clock::system(), Settings::default()));
    let photo = fs::read(photo).unwrap();
    let mut ids = Vec::new();
    for number in 0..CROWD {
        let body = Body::from([&photo[..], &[number]].concat());
        let stored = keepsake
            .uploads
            .upload(vec![NewImage { body, original_name: None }], Fields::default(), None)
            .await
            .unwrap();
        ids.push(stored.images[0].0.clone());
    }
    let thumbnails = Arc::new(Thumbnails::new(Arc::new(Engine), Limits::default()));
    let before = peak();
    let mut asking = JoinSet::new();
    for id in ids {
        let (keepsake, thumbnails) = (Arc::clone(&keepsake), Arc::clone(&thumbnails));
        asking.spawn(async move {
            let (id, entry) = keepsake.images.get(id.as_str()).await.unwrap();
            let record = entry.live().unwrap();
            thumbnails.get(&keepsake.thumbnails, &id, record, record.sha256.unwrap(), form()).await.unwrap();
        });
    }
    asking.join_all().await;
    (before, peak())
}

fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1000
}

/// Twelve megapixels with the unrest of a photograph.
fn made_up() -> Vec<u8> {
    let (mut noise, mut pixels) = (1_u32, Vec::with_capacity(36_000_000));
    for y in 0..3000_u32 {
        for x in 0..4000_u32 {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let grain = f64::from(noise >> 28);
            let wave = (f64::from(x) / 90.0).sin() * (f64::from(y) / 70.0).cos() * 60.0;
            let shade = [128.0 + wave, f64::from(x) / 20.0, 220.0 - f64::from(y) / 20.0];
            pixels.extend(shade.map(|shade| (shade + grain).clamp(0.0, 255.0) as u8));
        }
    }
    let mut jpeg = Vec::new();
    jpeg_encoder::Encoder::new(&mut jpeg, 90).encode(&pixels, 4000, 3000, jpeg_encoder::ColorType::Rgb).unwrap();
    jpeg
}
