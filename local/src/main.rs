//! Keepsake on one machine: the routers of all functions in one process, on a disk or a bucket.

mod background;
mod cli;
mod connections;
mod greeting;
mod healthcheck;
mod metrics;
mod prune;
mod server;
mod token;
mod verify;

use std::process::ExitCode;

use clap::Parser;
use shared::config::Config;
use shared::telemetry;

use crate::cli::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("keepsake: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the command line says; the error is one sentence for whoever started it.
async fn run(cli: &Cli) -> Result<(), String> {
    let config = Config::from_flags(&|name| cli.flag(name)).map_err(|error| error.to_string())?;
    telemetry::init(&config).map_err(|error| error.to_string())?;
    match &cli.command {
        None | Some(Command::Serve) => server::serve(config).await,
        Some(Command::Healthcheck) => healthcheck::healthcheck(&config),
        Some(Command::Verify { slice, repair }) => verify::verify(&config, slice.as_deref(), *repair).await,
        Some(Command::Prune { dry_run }) => prune::prune(&config, *dry_run).await,
    }
}
