//! From text to settings, one variable at a time.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::Url;

use super::{ConfigError, Platform, Secret, StoreUrl};
use crate::persistence::Place;
use crate::prune::Keep;
use crate::store::Key;

/// The variables, wherever they come from.
pub(super) struct Values<'a>(pub(super) &'a dyn Fn(&str) -> Option<String>);

fn wrong(name: &'static str, value: &str, remedy: impl Into<String>) -> ConfigError {
    // A URL may carry a password, also one that is not written as it should be.
    let shown = match (value.split_once("://"), value.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://***@{rest}"),
        (None, Some((_, rest))) => format!("***@{rest}"),
        (_, None) => value.to_owned(),
    };
    ConfigError { name, value: Some(shown), remedy: remedy.into() }
}

impl Values<'_> {
    /// What the environment says under this name, without the space around it; `None` where that is nothing.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// Whether the environment says anything under this name.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    /// The value without the space around it; `None` where it is not set or empty.
    pub(super) fn get(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        let value = self.text(name);
        // What was not UTF-8 has been replaced by this sign on its way here, and would name another folder.
        if value.as_ref().is_some_and(|value| value.contains(char::REPLACEMENT_CHARACTER)) {
            return Err(ConfigError { name, value: Some("***".to_owned()), remedy: "write it in UTF-8".to_owned() });
        }
        Ok(value)
    }

    /// A number; `what` says which ones are right.
    pub(super) fn number<T: FromStr>(&self, name: &'static str, what: &str) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        let number = value.replace('_', "").parse();
        number.map(Some).map_err(|_| wrong(name, &value, format!("set it to {what}")))
    }

    /// One of a few words.
    pub(super) fn one_of<T>(&self, name: &'static str, words: [(&str, T); 2]) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        let remedy = format!("set it to {} or {}", words[0].0, words[1].0);
        let meant = words.into_iter().find(|(word, _)| value.eq_ignore_ascii_case(word));
        meant.map(|(_, meaning)| Some(meaning)).ok_or_else(|| wrong(name, &value, remedy))
    }

    /// A number of bytes, at least `least`.
    pub(super) fn size(&self, name: &'static str, least: u64) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        match parse_size(&value).filter(|size| *size >= least) {
            Some(size) => Ok(Some(size)),
            None => Err(wrong(name, &value, "set it to a whole number of bytes, such as 104857600, 100MB or 64MiB")),
        }
    }

    pub(super) fn pixels(&self) -> Result<Option<u64>, ConfigError> {
        let pixels = self.number::<std::num::NonZeroU64>("MAX_PIXELS", "a whole number of pixels from 1 up")?;
        Ok(pixels.map(u64::from))
    }

    /// On Lambda nothing limits it.
    pub(super) fn behind_max(&self, platform: Option<Platform>) -> Result<usize, ConfigError> {
        let set = self.number::<std::num::NonZeroUsize>("ARCHIVE_BEHIND_MAX", "a whole number of changes from 1 up")?;
        Ok(if platform == Some(Platform::Lambda) { usize::MAX } else { set.map_or(10_000, usize::from) })
    }

    pub(super) fn keep(&self) -> Result<Keep, ConfigError> {
        let default = Keep::default();
        let number = |name, default| {
            Ok::<u32, ConfigError>(self.number(name, "a whole number of backups from 0 up")?.unwrap_or(default))
        };
        Ok(Keep {
            last: number("KEEP_LAST", default.last)?,
            daily: number("KEEP_DAILY", default.daily)?,
            weekly: number("KEEP_WEEKLY", default.weekly)?,
            monthly: number("KEEP_MONTHLY", default.monthly)?,
        })
    }

    pub(super) fn host(&self) -> Result<Option<IpAddr>, ConfigError> {
        let Some(value) = self.get("HOST")? else { return Ok(None) };
        if value.eq_ignore_ascii_case("localhost") {
            return Ok(Some(Ipv4Addr::LOCALHOST.into()));
        }
        let address = value.trim_matches(['[', ']']).parse().map(Some);
        address.map_err(|_| wrong("HOST", &value, "set it to an IP address, such as 127.0.0.1, 0.0.0.0 or ::"))
    }

    pub(super) fn token(&self) -> Result<Option<Secret>, ConfigError> {
        let Some(value) = self.get("API_TOKEN")? else { return Ok(None) };
        if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("API_TOKEN", "***", "set it to ASCII letters, digits and signs without spaces"));
        }
        Ok(Some(Secret::new(value)))
    }

    pub(super) fn origins(&self) -> Result<Vec<String>, ConfigError> {
        let value = self.get("ALLOWED_ORIGINS")?.unwrap_or_default();
        let origins = value.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        let checked = origins.map(|origin| {
            let remedy = "list origins such as https://example.com or http://localhost:5173, separated by commas";
            parse_origin(origin).ok_or_else(|| wrong("ALLOWED_ORIGINS", origin, remedy))
        });
        checked.collect()
    }

    pub(super) fn unmounted(&self) -> Result<Vec<Place>, ConfigError> {
        let value = self.get("ACCEPT_UNMOUNTED")?.unwrap_or_default();
        let places = value.split(',').map(str::trim).filter(|place| !place.is_empty());
        let checked = places.map(|place| {
            let meant = Place::ALL.into_iter().find(|known| known.name() == place);
            meant.ok_or_else(|| wrong("ACCEPT_UNMOUNTED", place, "set it to data, uploads or archive"))
        });
        checked.collect()
    }

    /// The primary store and the folder that goes with it.
    pub(super) fn store(
        &self,
        platform: Option<Platform>,
        current_dir: &Path,
    ) -> Result<(StoreUrl, PathBuf), ConfigError> {
        let folder = self.folder(current_dir)?;
        let volume = self.get("RAILWAY_VOLUME_MOUNT_PATH")?;
        match self.store_url("STORE_URL")? {
            Some(StoreUrl::File(path)) => match folder {
                Some((name, folder)) if folder != path => {
                    let remedy = format!("unset it, or {name}, which names another folder ({})", folder.display());
                    Err(wrong("STORE_URL", &format!("file://{}", path.display()), remedy))
                }
                _ => Ok((StoreUrl::File(path.clone()), path)),
            },
            None if folder.is_none() && platform == Some(Platform::Lambda) => Err(ConfigError {
                name: "STORE_URL",
                value: None,
                remedy: "set it to s3://bucket, because a Lambda function has no disk of its own that lasts".to_owned(),
            }),
            url => {
                let folder = match (folder, volume) {
                    (Some((_, folder)), _) => folder,
                    (None, Some(volume)) => absolute("RAILWAY_VOLUME_MOUNT_PATH", &volume, current_dir)?,
                    (None, None) => absolute("DATA_DIR", ".", current_dir)?,
                };
                Ok((url.unwrap_or_else(|| StoreUrl::File(folder.clone())), folder))
            }
        }
    }

    /// The folder that `DATA_DIR`, or its other name, gives, with the name that gave it.
    fn folder(&self, current_dir: &Path) -> Result<Option<(&'static str, PathBuf)>, ConfigError> {
        let mut found: Option<(&'static str, PathBuf)> = None;
        for name in ["DATA_DIR", "PERSISTENT_DATA_DIR"] {
            let Some(value) = self.get(name)? else { continue };
            let folder = absolute(name, &value, current_dir)?;
            if let Some((other, first)) = &found
                && *first != folder
            {
                let remedy = format!("unset it, or {other}, which names another folder ({})", first.display());
                return Err(wrong(name, &value, remedy));
            }
            found.get_or_insert((name, folder));
        }
        Ok(found)
    }

    /// The archive, if it is not to be found in the primary.
    pub(super) fn backup(&self, store: &StoreUrl) -> Result<Option<StoreUrl>, ConfigError> {
        let Some(backup) = self.store_url("BACKUP_URL")? else { return Ok(None) };
        let inside = match (store, &backup) {
            (StoreUrl::File(store), StoreUrl::File(backup)) => backup.strip_prefix(store).ok().map(Path::to_owned),
            (StoreUrl::S3 { bucket, prefix }, StoreUrl::S3 { bucket: other, prefix: below }) if bucket == other => {
                let [prefix, below] = [prefix, below].map(|prefix| Path::new(prefix.as_deref().unwrap_or_default()));
                below.strip_prefix(prefix).ok().map(Path::to_owned)
            }
            _ => None,
        };
        // Among the primary's own objects each would be taken for what it is not.
        let collides = |path: &PathBuf| {
            let first = path.components().next();
            first.is_none_or(|first| ["uploads", "image-metadata.d"].iter().any(|own| first.as_os_str() == *own))
        };
        if inside.as_ref().is_some_and(collides) {
            let value = self.get("BACKUP_URL")?.unwrap_or_default();
            let remedy = "name a place apart from the primary's own objects, or unset it for backups/ in the primary";
            return Err(wrong("BACKUP_URL", &value, remedy));
        }
        Ok(Some(backup))
    }

    fn store_url(&self, name: &'static str) -> Result<Option<StoreUrl>, ConfigError> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        parse_store_url(&value).map(Some).map_err(|remedy| wrong(name, &value, remedy))
    }
}

/// Makes a folder's path absolute and plain, without looking at the disk.
fn absolute(name: &'static str, value: &str, current_dir: &Path) -> Result<PathBuf, ConfigError> {
    if value.contains("://") {
        return Err(wrong(name, value, "set it to the path of a folder, and STORE_URL to a URL"));
    }
    let path: PathBuf = current_dir.join(value).components().collect();
    if path.is_absolute() { Ok(path) } else { Err(wrong(name, value, "set it to an absolute path")) }
}

/// Reads bytes as people write them; `KB` are thousands, `KiB` are 1,024.
fn parse_size(value: &str) -> Option<u64> {
    let end = value.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(value.len());
    let (number, unit) = value.split_at(end);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    number.replace('_', "").parse::<u64>().ok()?.checked_mul(factor)
}

/// An origin in the one form that browsers send.
fn parse_origin(value: &str) -> Option<String> {
    let url = Url::parse(value).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    // The URL of an origin is the origin and a slash; anything longer names more than an origin.
    let origin = url.origin().ascii_serialization();
    (url.as_str() == format!("{origin}/")).then_some(origin)
}

/// Reads the place of a store, or says what to do about it.
fn parse_store_url(value: &str) -> Result<StoreUrl, &'static str> {
    const FORMS: &str = "set it to file:///path/to/folder or s3://bucket/prefix";
    let url = Url::parse(value).map_err(|_| FORMS)?;
    if !url.username().is_empty() || url.password().is_some() || url.port().is_some() {
        return Err("leave credentials to AWS_ACCESS_KEY_ID and the endpoint to AWS_ENDPOINT_URL");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("write a question mark as %3F and a number sign as %23, and leave out what follows the path");
    }
    match url.scheme() {
        "file" if value.contains("://") => {
            let path = url.to_file_path().map_err(|()| "write three slashes, as in file:///path/to/folder")?;
            Ok(StoreUrl::File(path.components().collect()))
        }
        "s3" => {
            let bucket = url.host_str().unwrap_or_default();
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(is_allowed) {
                return Err("name a bucket by 3 to 63 letters, digits, dots and hyphens, as in s3://bucket/prefix");
            }
            let path = percent_decode_str(url.path()).decode_utf8();
            let prefix = path.map_err(|_| "write the prefix in UTF-8")?.trim_matches('/').to_owned();
            if !prefix.is_empty() && Key::new(prefix.clone()).is_err() {
                return Err("give the prefix as plain folder names with single slashes between them");
            }
            Ok(StoreUrl::S3 { bucket: bucket.to_owned(), prefix: Some(prefix).filter(|prefix| !prefix.is_empty()) })
        }
        _ => Err(FORMS),
    }
}
