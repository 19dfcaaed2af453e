//! How Keepsake grows: the same work on stores of 1,000, 10,000 and 100,000 images of 100 kB.
//!
//! `just bench` starts the real server on each and prints one table; it fails where a bound is broken. It runs for about
//! five minutes and needs 10 GB on the disk of the target directory for a while. `--images N` makes the largest store one
//! of N images.
//!
//! The stores take turns, so that whatever else the machine does meets all of them alike, and nobody compacts commits when a
//! turn begins. What a turn takes is compared with a few plain durable writes made in the same turn.

mod measure;
mod prune;
mod seed;
mod server;
mod table;

use std::process::ExitCode;

use crate::measure::{Counts, Store};
use crate::table::{Bound, Row};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Images in the largest store to begin with, unless `--images` says otherwise. The others have a tenth and a hundredth.
const IMAGES: usize = 100_000;
/// Turns that each store has at uploading, and uploads in each; every tenth makes a backup.
const TURNS: usize = 5;
const UPLOADS: usize = 100;
/// Backups by hand, each after ten uploads.
const BACKUPS: usize = 21;
/// Times that a page is asked for.
const PAGES: usize = 200;
const RESTARTS: usize = 3;
/// Searches and other looks of each kind.
const LOOKS: usize = 50;
/// Uploads to each store that are two seconds apart.
const SPACED: usize = 50;
/// Prunes of each store.
const PRUNES: usize = 5;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok((sizes, rows)) => {
            table::print(&sizes, &rows);
            if rows.iter().all(Row::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("growth: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<([usize; 3], Vec<Row>)> {
    let largest = images()?;
    let sizes = [largest / 100, largest / 10, largest];
    let mut stores = Vec::new();
    for images in sizes {
        eprintln!("growth: making a store of {images} images");
        stores.push(Store::seeded(images).await?);
    }
    eprintln!("growth: looking");
    for store in &mut stores {
        store.look(LOOKS).await?;
    }
    eprintln!("growth: uploading, two seconds apart");
    write_spaced(&mut stores).await?;
    eprintln!("growth: uploading");
    let before = count_all(&stores)?;
    for _ in 0..TURNS {
        for turn in 0..stores.len() {
            wait_for_compaction(&stores).await?;
            stores[turn].upload(UPLOADS).await?;
        }
    }
    wait_for_compaction(&stores).await?;
    let after = count_all(&stores)?;

    eprintln!("growth: listing, restarting, backing up by hand");
    for store in &mut stores {
        store.list(PAGES).await?;
        for _ in 0..RESTARTS {
            store.restart().await?;
        }
        store.stop_automatic_backups().await?;
    }
    for _ in 0..BACKUPS {
        for turn in 0..stores.len() {
            wait_for_compaction(&stores).await?;
            stores[turn].back_up_by_hand().await?;
        }
    }
    wait_for_compaction(&stores).await?;
    let last = count_all(&stores)?;
    let mut rows = table_of(&mut stores, [&before, &after, &last])?;
    eprintln!("growth: pruning");
    for _ in 0..PRUNES {
        for store in &mut stores {
            store.prune().await?;
        }
    }
    rows.extend(rows_of_prunes(&stores));
    drop(stores);

    eprintln!("growth: 64 uploads of 50 MB at a time");
    let peak = measure::many_large_uploads().await?;
    rows.push(Row::once("memory, 64 uploads of 50 MB at a time, MB", peak, Bound::Below(200.0)));
    Ok((sizes, rows))
}

/// Uploads to each store, two seconds apart, and counts what is written.
async fn write_spaced(stores: &mut [Store]) -> Result<()> {
    let before = stores.iter().map(Store::bytes_written).collect::<Result<Vec<_>>>()?;
    for _ in 0..SPACED {
        for store in stores.iter_mut() {
            store.upload_alone().await?;
        }
        spaced().await;
    }
    wait_for_compaction(stores).await?;
    for (store, before) in stores.iter_mut().zip(before) {
        let each = (store.bytes_written()? - before) as f64 / SPACED as f64;
        store.written = (each - 2.0 * seed::IMAGE_BYTES as f64) / 1e3;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "uploads that are apart do not share a compaction")]
async fn spaced() {
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
}

/// What `--images` says.
fn images() -> Result<usize> {
    let mut arguments = std::env::args();
    match arguments.find(|argument| argument == "--images") {
        Some(_) => Ok(arguments.next().ok_or("--images needs a number")?.parse()?),
        None => Ok(IMAGES),
    }
}

/// Waits until no store has anything left to compact.
async fn wait_for_compaction(stores: &[Store]) -> Result<()> {
    for store in stores {
        store.compacted().await?;
    }
    Ok(())
}

fn count_all(stores: &[Store]) -> Result<Vec<Counts>> {
    stores.iter().map(Store::count).collect()
}

fn table_of(stores: &mut [Store], [before, after, last]: [&[Counts]; 3]) -> Result<Vec<Row>> {
    let uploads = (TURNS * UPLOADS) as f64;
    let kilobytes = |of: fn(&Counts) -> u64| {
        before.iter().zip(after).map(|(before, after)| (of(after) as f64 - of(before) as f64) / uploads / 1e3).collect()
    };
    let mut rows = Vec::new();
    let mut row = |name: &'static str, values: Vec<f64>, bound| rows.push(Row { name, values, bound });
    row("upload, ms", stores.iter().map(|s| s.upload.median()).collect(), Bound::Growth(1.5));
    row("  slowest in a hundred, ms", stores.iter().map(|s| s.upload.worst_percent()).collect(), Bound::None);
    row("  beside it: four plain durable writes, ms", stores.iter().map(|s| s.floor.median()).collect(), Bound::None);
    row("  upload : plain writes", stores.iter().map(|s| s.upload.median() / s.floor.median()).collect(), Bound::None);
    row("10th upload with its backup, ms", stores.iter().map(|s| s.tenth.median()).collect(), Bound::Growth(1.5));
    row("backup by hand after 10 uploads, ms", stores.iter().map(|s| s.backup.median()).collect(), Bound::Growth(1.5));
    row("page of 50, ms", stores.iter().map(|s| s.page.median()).collect(), Bound::Growth(1.5));
    row("page of 50 of a category, ms", stores.iter().map(|s| s.category.median()).collect(), Bound::Growth(1.5));
    row(
        "search for a word that no image has, ms",
        stores.iter().map(|s| s.search.median()).collect(),
        Bound::Below(40.0),
    );
    row(
        "search for a word that one image has, ms",
        stores.iter().map(|s| s.rare.median()).collect(),
        Bound::Below(40.0),
    );
    row("  the first search of a process, ms", stores.iter().map(|s| s.first_search.median()).collect(), Bound::None);
    row("report of the storage, ms", stores.iter().map(|s| s.storage.median()).collect(), Bound::None);
    row("plan of a restore, ms", stores.iter().map(|s| s.plan.median()).collect(), Bound::None);
    row("memory after a start and some lists, MB", stores.iter().map(|s| s.at_start).collect(), Bound::Below(96.0));
    row("written per upload, beyond the image, kB", stores.iter().map(|s| s.written).collect(), Bound::None);
    row("restart until ready, s", stores.iter().map(|s| s.restart.median() / 1e3).collect(), Bound::Below(2.0));
    row("backups/ per upload: replica, kB", kilobytes(|c| c.image_bytes), Bound::None);
    row("backups/ per upload: metadata, kB", kilobytes(|c| c.other_bytes), Bound::None);
    row("  the same as blocks on the disk, kB", kilobytes(|c| c.image_blocks + c.other_blocks), Bound::None);
    row(
        "peak memory of the server, MB",
        stores.iter_mut().map(|s| s.peak_megabytes()).collect::<Result<_>>()?,
        Bound::None,
    );
    let once = |(store, last): (&Store, &Counts)| last.images as f64 / store.images as f64;
    row("files in backups/images per image", stores.iter().zip(last).map(once).collect(), Bound::Exactly(1.0));
    Ok(rows)
}

fn rows_of_prunes(stores: &[Store]) -> [Row; 4] {
    let row = |name, of: fn(&Store) -> f64, bound| Row { name, values: stores.iter().map(of).collect(), bound };
    [
        row("prune of 10 backups and 100 images, ms", |s| s.prune.median(), Bound::Growth(1.5)),
        // In a store of few pages more of what goes lies in the same ones.
        row("  operations of the stores", |s| s.prune_operations as f64, Bound::Growth(1.5)),
        row("  beside it: a sweep that looks only, ms", |s| s.sweep.median(), Bound::None),
        row("  the first such look of a process, ms", |s| s.first_sweep.median(), Bound::None),
    ]
}
