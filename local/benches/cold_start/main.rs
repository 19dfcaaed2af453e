//! How soon a Lambda function answers after it was started, how large it is, and how much memory it takes.
//!
//! `just bench-cold-start` builds the functions as they are deployed, starts each of them many times against a played
//! Runtime API and a bucket in this process, and prints one table; it fails where a bound is broken. Beside them, in the
//! same rounds, it starts a function that only says hello: the bounds of time are relative to it.
//!
//! The bucket is asked over TLS, with the machine's own certificates to trust beside the bucket's, since that is a large
//! part of what a first answer costs. What the bench does not have is Lambda's small share of a processor and the way to
//! S3 and back.

mod binaries;
mod bucket;
mod function;
mod runtime;
#[path = "../../../shared/store/tests/it/s3_server.rs"]
#[allow(clippy::unwrap_used, reason = "a bench that cannot go on ends")]
mod s3_server;
mod table;

use std::process::ExitCode;

use shared::clock::Clock;

use crate::bucket::Bucket;
use crate::function::{FUNCTIONS, Function, HELLO};
use crate::table::Row;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Starts of each function.
const ROUNDS: usize = 31;
/// Requests before a function's memory is looked at.
const REQUESTS: usize = 100;
/// Images in the store.
const IMAGES: u32 = 100;

#[tokio::main]
async fn main() -> ExitCode {
    // What Cargo passes to every bench says nothing here; a name narrows the functions down to one.
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    match run(only.as_deref()).await {
        Ok(rows) => {
            table::print(&rows);
            if rows.iter().all(|row| row.holds(&rows[0])) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("cold_start: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(only: Option<&str>) -> Result<Vec<Row>> {
    function::check_list()?;
    let chosen = FUNCTIONS.iter().filter(|function| only.is_none_or(|name| name == function.name));
    let functions: Vec<&Function> = std::iter::once(&HELLO).chain(chosen).collect();
    let names: Vec<&str> = functions.iter().map(|function| function.name).collect();
    eprintln!("cold_start: building {}", names.join(", "));
    let binaries = binaries::build(&names)?;
    let bucket = Bucket::start(IMAGES, Clock::system()).await?;

    let mut rows = Vec::new();
    for (name, binary) in names.iter().zip(&binaries) {
        rows.push(Row::new(name, binaries::stripped_megabytes(binary)?));
    }
    eprintln!("cold_start: starting each {ROUNDS} times");
    for _ in 0..ROUNDS {
        for ((function, binary), row) in functions.iter().zip(&binaries).zip(&mut rows) {
            row.first.push(function.start(binary, &bucket, 1).await?.first);
        }
    }
    eprintln!("cold_start: sending {REQUESTS} requests to each");
    for ((function, binary), row) in functions.iter().zip(&binaries).zip(&mut rows) {
        row.resident_megabytes = function.start(binary, &bucket, REQUESTS).await?.resident_megabytes;
    }
    Ok(rows)
}
