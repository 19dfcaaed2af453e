//! The command `migrate`.

use serde_json::{Value, json};
use shared::clock::Clock;
use shared::config::Config;
use shared::migrate::{Migrated, migrate};

use super::fields::{number, text, texts};
use crate::cli::Cli;
use crate::output::{FAILED, Failure, Output};
use crate::{api, progress_bar, server};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    From,
    To,
}

/// The configuration of a store given on the command line as a path or a URL. The store location in the environment is
/// that of another store.
pub fn config_of_side(cli: &Cli, side: Side, store: &str, archive: Option<&str>) -> Result<Config, Failure> {
    let is_url = store.contains("://");
    let archive = match archive {
        Some(path) if !path.contains("://") => Some(url(path)?),
        archive => archive.map(str::to_owned),
    };
    let config = Config::from_flags(&|name| match name {
        "STORE_URL" => Some(if is_url { store.to_owned() } else { String::new() }),
        "DATA_DIR" => Some(if is_url { String::new() } else { store.to_owned() }),
        "PERSISTENT_DATA_DIR" | "RAILWAY_VOLUME_MOUNT_PATH" => Some(String::new()),
        "BACKUP_URL" => Some(archive.clone().unwrap_or_default()),
        other => cli.flag(other),
    });
    let config = config.map_err(|error| Failure::usage(error.to_string()))?;
    Ok(of_side(config, side))
}

/// Gives a side its own credentials, if there are any: the two may belong to two accounts.
fn of_side(mut config: Config, side: Side) -> Config {
    let own = match side {
        Side::From => config.from_credentials.clone(),
        Side::To => config.to_credentials.clone(),
    };
    if own.is_some() {
        config.credentials.clone_from(&own);
        config.backup_credentials = own;
    }
    config
}

fn url(path: &str) -> Result<String, Failure> {
    let absolute =
        std::path::absolute(path).map_err(|error| Failure::usage(format!("{path:?} is no path ({error}).")))?;
    Ok(format!("file://{}", absolute.display().to_string().replace('%', "%25").replace('?', "%3F").replace('#', "%23")))
}

pub async fn run(from: &Config, to: &Config, output: &Output) -> Result<u8, Failure> {
    check_apart(from, to)?;
    let from = api::open(from).await?;
    let to = server::open(to, Clock::system()).await?;
    let done = progress_bar::watch(&to.core.progress, migrate(&from.core, &to.core)).await.map_err(failure)?;
    output.print(&answer(&done), lines);
    Ok(output.end(done.needs_attention()))
}

fn failure(error: shared::Error) -> Failure {
    match error {
        shared::Error::MigrationRefused(sentence) => {
            Failure::new(FAILED, "migration-refused", "Migration refused", sentence)
        }
        error => Failure::failed(format!(
            "{}. What was copied stays; run it again to continue.",
            server::sentence("The migration was interrupted", &error)
        )),
    }
}

/// Checks that no two of the four locations are equal or contain each other as folders, except for an archive in its
/// own store.
fn check_apart(from: &Config, to: &Config) -> Result<(), Failure> {
    let locations = |config: &Config| [Some(config.store.clone()), config.backup.clone()].into_iter().flatten();
    for one in locations(from) {
        for other in locations(to) {
            if one.contains(&other) || other.contains(&one) {
                let detail =
                    "The two stores have the same location, or one contains the other. Name separate locations.";
                return Err(Failure::usage(detail));
            }
        }
    }
    Ok(())
}

fn answer(done: &Migrated) -> Value {
    let mut answer = json!({ "success": true, "message": message(done) });
    if let (Some(answer), Ok(Value::Object(fields))) = (answer.as_object_mut(), serde_json::to_value(done)) {
        answer.extend(fields);
    }
    answer
}

fn message(done: &Migrated) -> String {
    let Migrated { images, copied, bytes, second_copies, backups, .. } = done;
    let mut message = format!(
        "The store is there with {images} images. Copied: {copied} images ({bytes} bytes), {second_copies} replicas, \
         {backups} backups."
    );
    if done.caught_up > 0 {
        message += &format!(" Changes that came meanwhile and are there as well: {}.", done.caught_up);
    }
    if done.behind > 0 {
        message += &format!(" Changes that came after that: {}. Run it again to bring them.", done.behind);
    }
    message
}

fn lines(answer: &Value) -> Vec<String> {
    let mut lines = vec![text(answer, "message").to_owned()];
    for (what, field) in
        [("repaired", "repaired"), ("missing", "missing"), ("lost", "lostCopies"), ("damaged", "damagedBackups")]
    {
        lines.extend(texts(answer, field).map(|name| format!("{what:<9} {name}")));
    }
    if number(answer, "unreadableCommits") > 0 {
        let count = number(answer, "unreadableCommits");
        lines.push(format!(
            "not read  {count} changes that only a start of the old server can take in; then run it again"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_is_reached_with_its_own_credentials_where_it_has_any() {
        let variables = [
            ("BACKUP_AWS_ACCESS_KEY_ID", "archive"),
            ("BACKUP_AWS_SECRET_ACCESS_KEY", "secret"),
            ("TO_AWS_ACCESS_KEY_ID", "to"),
            ("TO_AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        let lookup = |name: &str| Some(variables.iter().find(|(other, _)| *other == name)?.1.to_owned());
        let of = |side| {
            let config = of_side(Config::from_lookup(&lookup).unwrap(), side);
            [config.credentials, config.backup_credentials].map(|own| own.map(|own| own.access_key_id))
        };
        assert_eq!(of(Side::From), [None, Some("archive".to_owned())]);
        assert_eq!(of(Side::To), [Some("to".to_owned()), Some("to".to_owned())]);
    }
}
