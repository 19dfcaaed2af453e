//! Keepsake on one machine: the routers of all functions in one process, on a disk or a bucket, and the command line.

mod allocator;
mod api;
mod background;
mod banner;
mod cli;
mod commands;
mod compression;
mod connections;
mod drain_body;
mod limits;
mod metrics;
mod openapi;
mod output;
mod page;
mod progress_bar;
mod server;
mod token;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, None | Some(Command::Serve)) {
        allocator::return_freed_memory();
    }
    run(&cli)
}

#[tokio::main]
async fn run(cli: &Cli) -> ExitCode {
    let output = Output::new(cli.json);
    let code = commands::run(cli, &output).await.unwrap_or_else(|failure| output.fail(&failure));
    ExitCode::from(code)
}
