//! How fast images are taken in: uploads beside the durable limit of the disk, and the thumbnails of a page of new
//! photographs beside `vipsthumbnail`.
//!
//! `just bench-ingest` runs both and prints one table, of medians of five alternating rounds. `--only uploads` and `--only
//! thumbnails` run one of them. The load, and what it is compared with, run on the processors of the server, so only the
//! processor time of a server is its own. It needs up to 10 GB on the disk of the target directory for a while.

#[allow(dead_code, reason = "some of it is for the growth of stores")]
#[path = "../growth/seed.rs"]
mod seed;
#[allow(dead_code, reason = "likewise")]
#[path = "../growth/server.rs"]
mod server;

#[allow(dead_code, reason = "some of it is for reads")]
#[path = "../serve/load.rs"]
mod load;
#[allow(dead_code, reason = "likewise")]
#[path = "../serve/process.rs"]
mod process;

mod limit;
mod photograph;
mod table;
mod thumbnails;
mod uploads;

use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const ROUNDS: usize = 5;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ingest: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let only = server::argument("--only");
    let (with_uploads, with_thumbnails) = match only.as_deref() {
        None => (true, true),
        Some("uploads") => (true, false),
        Some("thumbnails") => (false, true),
        Some(other) => return Err(format!("--only takes uploads or thumbnails, not {other}").into()),
    };
    let folder = tempfile::Builder::new().prefix("ingest-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let folder = folder.path().canonicalize()?;
    table::print_head();
    if with_uploads {
        uploads::run(&folder).await?;
    }
    if with_thumbnails {
        thumbnails::run(&folder).await?;
    }
    Ok(())
}
