//! The commands of the command line, one file each.

mod backup;
mod backups;
mod clear_uploads;
mod export;
mod fields;
mod healthcheck;
mod import;
mod migrate;
mod prune;
mod restore;
mod status;
mod token;
mod verify;

use shared::config::Config;
use shared::telemetry;

use self::migrate::Side;
use crate::api::Api;
use crate::cli::{Cli, Command};
use crate::output::{DONE, Failure, Output};
use crate::server;

/// Runs the command; returns the exit code.
pub async fn run(cli: &Cli, output: &Output) -> Result<u8, Failure> {
    if let Some(Command::Migrate { from, to, from_backup, to_backup }) = &cli.command {
        let from = migrate::config_of_side(cli, Side::From, from, from_backup.as_deref())?;
        let to = migrate::config_of_side(cli, Side::To, to, to_backup.as_deref())?;
        log_warnings(to.clone())?;
        return migrate::run(&from, &to, output).await;
    }
    let config = Config::from_flags(&|name| cli.flag(name)).map_err(|error| Failure::usage(error.to_string()))?;
    let Some(command) = cli.command.as_ref().filter(|command| !matches!(command, Command::Serve)) else {
        telemetry::init(&config).map_err(|error| Failure::usage(error.to_string()))?;
        return Ok(server::serve(config).await.map(|()| DONE)?);
    };
    let config = log_warnings(config)?;
    if matches!(command, Command::Healthcheck) {
        return Ok(healthcheck::run(&config).map(|()| DONE)?);
    }
    let api = Api::open(&config).await?;
    if !matches!(command, Command::Status | Command::Backups | Command::Export { .. }) {
        api.check_services().await?;
    }
    match command {
        Command::Status => status::run(&api, output).await,
        Command::ClearUploads => clear_uploads::run(&api, output).await,
        Command::Backup => backup::run(&api, output).await,
        Command::Backups => backups::run(&api, output).await,
        Command::Restore(arguments) => restore::run(&api, output, arguments).await,
        Command::Verify { slice, repair } => verify::run(&api, output, *slice, *repair).await,
        Command::Prune { dry_run } => prune::run(&api, output, *dry_run).await,
        Command::Token { action } => token::run(&api, output, action).await,
        Command::Import { path, dry_run } => import::run(&api, output, path, *dry_run).await,
        Command::Export { backup, path } => export::run(&api, output, backup.as_deref(), path).await,
        Command::Serve | Command::Healthcheck | Command::Migrate { .. } => {
            unreachable!("handled above")
        }
    }
}

/// A command reports its results itself; it logs only warnings, unless another level was set.
fn log_warnings(mut config: Config) -> Result<Config, Failure> {
    if config.log_filter == "info" {
        config.log_filter = "warn".to_owned();
    }
    telemetry::init(&config).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(config)
}
