//! The token for changes, if the server is reachable from other machines and none was configured.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use shared::clock::Clock;
use shared::config::{Config, Read, Secret};

/// The file, beside the store.
const FILE: &str = ".keepsake-token";

#[derive(Debug, PartialEq, Eq)]
pub struct Made {
    pub token: String,
    /// Whether it is stored beside the store.
    pub kept: bool,
}

/// Gives `config` a token if it needs one, because users of other machines can send requests or because reading
/// requires one: the token stored beside the store, or else a new one, which is returned so that it can be shown once.
/// Unless the location is `writable`, a new token lasts as long as the process: if a volume is not mounted, the store's
/// token is on it.
pub fn ensure(config: &mut Config, clock: &Clock, writable: bool) -> Result<Option<Made>, String> {
    let only_local = config.host.is_loopback() && config.allowed_hosts.is_empty() && config.read == Read::Open;
    if config.api_token.is_some() || only_local {
        return Ok(None);
    }
    let path = config.data_dir.join(FILE);
    let failed = |error: io::Error| {
        format!(
            "API_TOKEN is not set, and none can be kept in {} ({error}); set API_TOKEN to a long random word",
            path.display()
        )
    };
    let (token, made) = match read(&path).map_err(failed)? {
        Some(token) => (token, false),
        None => {
            let token = clock.new_secret();
            if writable {
                write(&path, &token).map_err(failed)?;
            }
            (token, true)
        }
    };
    config.api_token = Some(Secret::new(token.clone()));
    Ok(made.then_some(Made { token, kept: writable }))
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(token) => Ok(Some(token.trim().to_owned()).filter(|token| !token.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, token: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    writeln!(file, "{token}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_server_that_can_be_reached_gets_a_token_that_stays_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let configured = |host: &str| {
            let (host, data) = (host.to_owned(), folder.path().display().to_string());
            Config::from_lookup(&|name| match name {
                "HOST" => Some(host.clone()),
                "DATA_DIR" => Some(data.clone()),
                _ => None,
            })
            .unwrap()
        };
        let clock = Clock::system();
        assert_eq!(ensure(&mut configured("127.0.0.1"), &clock, true).unwrap(), None);
        let passing = ensure(&mut configured("0.0.0.0"), &clock, false).unwrap().unwrap();
        assert!(!passing.kept && !folder.path().join(FILE).exists(), "nothing is written where nothing may be");
        let mut first = configured("0.0.0.0");
        let made = ensure(&mut first, &clock, true).unwrap().unwrap().token;
        assert_eq!(first.api_token.unwrap().expose(), made);
        let mut second = configured("0.0.0.0");
        assert_eq!(ensure(&mut second, &clock, true).unwrap(), None, "it is shown once");
        assert_eq!(second.api_token.unwrap().expose(), made);
        for (name, value) in [("ALLOWED_HOSTS", "images.example.com"), ("READ", "token")] {
            let data = folder.path().display().to_string();
            let lookup = |asked: &str| match asked {
                _ if asked == name => Some(value.to_owned()),
                "DATA_DIR" => Some(data.clone()),
                _ => None,
            };
            let mut local = Config::from_lookup(&lookup).unwrap();
            assert!(local.host.is_loopback() && ensure(&mut local, &clock, true).unwrap().is_none());
            assert_eq!(local.api_token.unwrap().expose(), made, "{name}: who asks may be anyone");
        }
        let mode = folder.path().join(FILE).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
