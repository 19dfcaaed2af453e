//! How Keepsake grows: the same work on stores of 1,000, 10,000 and 100,000 images of 100 kB.
//!
//! `just bench` starts the real server on each and prints one table; it fails where a bound is broken. It runs for about
//! ten minutes and needs 10 GB on the disk of the target directory for a while. `--images 1000,100000,1000000` takes
//! stores of these sizes. `--beside PATH` does the same with another build of the server, such as that of an older version,
//! and prints its table too.
//!
//! The stores take turns, so that other work of the machine affects all of them alike, and no compaction is pending when
//! a turn begins. The time of a turn is compared with that of a few plain durable writes in the same turn.

mod measure;
mod prune;
mod seed;
#[allow(dead_code, reason = "some of it is for the other benches")]
mod server;
mod table;

use std::process::ExitCode;

use crate::measure::{Counts, Store};
use crate::server::argument;
use crate::table::{Bound, Row};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Images in the stores to begin with, unless `--images` says otherwise.
const IMAGES: [usize; 3] = [1_000, 10_000, 100_000];
/// Turns that each store has at uploading, and uploads in each; every tenth makes a backup.
const TURNS: usize = 5;
const UPLOADS: usize = 100;
/// Backups by hand, each after ten uploads.
const BACKUPS: usize = 7;
/// Times that a page is asked for.
const PAGES: usize = 200;
const RESTARTS: usize = 3;
/// Searches and other looks of each kind.
const LOOKS: usize = 50;
/// Uploads to each store that are two seconds apart.
const SPACED: usize = 40;
/// Prunes of each store.
const PRUNES: usize = 5;

#[tokio::main]
async fn main() -> ExitCode {
    match compare().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("growth: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the table of this build, and that of the one beside it; returns whether this build keeps all bounds.
async fn compare() -> Result<bool> {
    let sizes = images()?;
    let rows = run(server::OWN, &sizes, true).await?;
    table::print("this build", &sizes, &rows);
    if let Some(beside) = argument("--beside") {
        // Its prune cannot be measured: the bench itself prunes, with this build's code.
        let rows: Vec<Row> = run(&beside, &sizes, false).await?.into_iter().map(Row::unbound).collect();
        table::print(&beside, &sizes, &rows);
    }
    Ok(rows.iter().all(Row::holds))
}

async fn run(program: &str, sizes: &[usize], prunes: bool) -> Result<Vec<Row>> {
    let mut stores = Vec::new();
    for images in sizes {
        eprintln!("growth: making a store of {images} images");
        stores.push(Store::seeded(program, *images).await?);
    }
    eprintln!("growth: searching and reporting");
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
    eprintln!("growth: planning restores");
    for store in &mut stores {
        store.plan().await?;
    }
    rows.extend(rows_of_plans(&mut stores)?);
    if prunes {
        eprintln!("growth: pruning");
        for _ in 0..PRUNES {
            for store in &mut stores {
                store.prune().await?;
            }
        }
        rows.extend(rows_of_prunes(&stores));
    }
    drop(stores);

    eprintln!("growth: 64 uploads of 50 MB at a time");
    let peak = measure::many_large_uploads(program).await?;
    rows.push(Row::once("memory, 64 uploads of 50 MB at a time, MB", peak, Bound::Below(200.0)));
    Ok(rows)
}

/// Uploads to each store, two seconds apart, without and with a key, and counts what is written.
async fn write_spaced(stores: &mut [Store]) -> Result<()> {
    for keyed in [false, true] {
        wait_for_compaction(stores).await?;
        let before = stores.iter().map(Store::bytes_written).collect::<Result<Vec<_>>>()?;
        let mut files = stores.iter().map(Store::metadata_files).collect::<Result<Vec<_>>>()?;
        let mut bytes_of_files = vec![0; stores.len()];
        for _ in 0..SPACED {
            for store in stores.iter_mut() {
                store.upload_alone(keyed).await?;
            }
            spaced().await;
            for ((store, files), bytes) in stores.iter().zip(&mut files).zip(&mut bytes_of_files) {
                let now = store.metadata_files()?;
                let written = now.iter().zip(&*files).filter(|((now, _), (before, _))| now != before);
                *bytes += written.map(|((_, length), _)| length).sum::<u64>();
                *files = now;
            }
        }
        wait_for_compaction(stores).await?;
        for ((store, before), files) in stores.iter_mut().zip(before).zip(bytes_of_files) {
            let each = (store.bytes_written()? - before - files) as f64 / SPACED as f64;
            let written = if keyed { &mut store.written_keyed } else { &mut store.written };
            *written = (each - 2.0 * seed::IMAGE_BYTES as f64) / 1e3;
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "uploads that are apart do not share a compaction")]
async fn spaced() {
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
}

/// What `--images` says.
fn images() -> Result<Vec<usize>> {
    let Some(images) = argument("--images") else { return Ok(IMAGES.to_vec()) };
    Ok(images.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?)
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
    row("upload, ms", stores.iter().map(|s| s.upload.median()).collect(), Bound::Growth(1.2));
    row("  slowest in a hundred, ms", stores.iter().map(|s| s.upload.worst_percent()).collect(), Bound::None);
    row("  beside it: four plain durable writes, ms", stores.iter().map(|s| s.floor.median()).collect(), Bound::None);
    row("  upload : plain writes", stores.iter().map(|s| s.upload.median() / s.floor.median()).collect(), Bound::None);
    row("10th upload with its backup, ms", stores.iter().map(|s| s.tenth.median()).collect(), Bound::Growth(1.2));
    row("backup by hand after 10 uploads, ms", stores.iter().map(|s| s.backup.median()).collect(), Bound::Growth(1.2));
    row("page of 50, ms", stores.iter().map(|s| s.page.median()).collect(), Bound::Growth(1.2));
    row("page of 50 of a category, ms", stores.iter().map(|s| s.category.median()).collect(), Bound::Growth(1.2));
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
    row("report of the storage, ms", stores.iter().map(|s| s.storage.median()).collect(), Bound::Below(40.0));
    row("memory after a start, MB", stores.iter().map(|s| s.at_start).collect(), Bound::Below(96.0));
    row(
        "written per upload besides image and file, kB",
        stores.iter().map(|s| s.written).collect(),
        Bound::Below(64.0),
    );
    row("  the same with an Idempotency-Key, kB", stores.iter().map(|s| s.written_keyed).collect(), Bound::Below(77.0));
    row("start until ready, s", stores.iter().map(|s| s.restart.median() / 1e3).collect(), Bound::Below(0.15));
    row("backups/ per upload: replica, kB", kilobytes(|c| c.image_bytes), Bound::None);
    row("backups/ per upload: metadata, kB", kilobytes(|c| c.other_bytes), Bound::None);
    row("  the same as blocks on the disk, kB", kilobytes(|c| c.image_blocks + c.other_blocks), Bound::None);
    row(
        "most memory in all of this, MB",
        stores.iter_mut().map(|s| s.peak_megabytes()).collect::<Result<_>>()?,
        Bound::Below(96.0),
    );
    let once = |(store, last): (&Store, &Counts)| last.images as f64 / store.images as f64;
    row("files in backups/images per image", stores.iter().zip(last).map(once).collect(), Bound::Exactly(1.0));
    Ok(rows)
}

fn rows_of_plans(stores: &mut [Store]) -> Result<[Row; 2]> {
    let plans = stores.iter().map(|s| s.plan.median()).collect();
    let memory = stores.iter_mut().map(|s| s.peak_megabytes()).collect::<Result<_>>()?;
    Ok([
        Row { name: "plan of a restore after 10 uploads, ms", values: plans, bound: Bound::None },
        Row { name: "  most memory with it, MB", values: memory, bound: Bound::None },
    ])
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
