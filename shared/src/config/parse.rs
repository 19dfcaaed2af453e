//! Parsing and validating settings, one variable at a time.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use url::{Host, Url};

use super::error::ConfigError;
use super::location::Location;
use super::modes::Read;
use super::platform::Platform;
use super::retention::Keep;
use super::values::{Values, wrong};
use store::Secret;

impl Values<'_> {
    /// One of a fixed set of values.
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

    /// There is no limit on Lambda.
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

    /// On Lambda no token is generated if none is set, and a setting for private reads must not leave reads open.
    pub(super) fn read(&self, platform: Option<Platform>) -> Result<Read, ConfigError> {
        let read = self.one_of("READ", [("open", Read::Open), ("token", Read::Token)])?.unwrap_or(Read::Open);
        if read == Read::Token && platform == Some(Platform::Lambda) && !self.is_set("API_TOKEN") {
            return Err(wrong("READ", "token", "set API_TOKEN as well"));
        }
        Ok(read)
    }

    /// On AWS the CDN and signed URLs serve the stored bytes unchanged, and a privacy setting must not be ignored
    /// silently.
    pub(super) fn strip_gps(&self, platform: Option<Platform>) -> Result<bool, ConfigError> {
        let strip = self.one_of("STRIP_GPS", [("true", true), ("false", false)])?.unwrap_or(false);
        if strip && platform == Some(Platform::Lambda) {
            let remedy = "leave it out: on AWS Lambda images are sent as they are stored, and only a server can do it";
            return Err(wrong("STRIP_GPS", "true", remedy));
        }
        Ok(strip)
    }

    pub(super) fn hosts(&self) -> Result<Vec<String>, ConfigError> {
        let value = self.get("ALLOWED_HOSTS")?.unwrap_or_default();
        let hosts = value.split(',').map(str::trim).filter(|host| !host.is_empty());
        let checked = hosts.map(|host| {
            let remedy = "list names such as images.example.com or images.example.com:8443, separated by commas";
            parse_host(host).ok_or_else(|| wrong("ALLOWED_HOSTS", host, remedy))
        });
        checked.collect()
    }

    pub(super) fn public_url(&self) -> Result<Option<String>, ConfigError> {
        let Some(value) = self.get("PUBLIC_URL")? else { return Ok(None) };
        let origin = parse_origin(value.strip_suffix('/').unwrap_or(&value));
        let remedy = "set it to the scheme and name that clients use, such as https://photos.example, without a path";
        origin.map(Some).ok_or_else(|| wrong("PUBLIC_URL", &value, remedy))
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

    pub(super) fn unmounted(&self) -> Result<Vec<Location>, ConfigError> {
        let value = self.get("ACCEPT_UNMOUNTED")?.unwrap_or_default();
        let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
        let checked = names.map(|name| {
            let meant = Location::ALL.into_iter().find(|known| known.name() == name);
            meant.ok_or_else(|| wrong("ACCEPT_UNMOUNTED", name, "set it to data, uploads or archive"))
        });
        checked.collect()
    }
}

/// Makes a folder's path absolute and normalizes it, without accessing the disk.
pub(super) fn absolute(name: &'static str, value: &str, current_dir: &Path) -> Result<PathBuf, ConfigError> {
    if value.contains("://") {
        return Err(wrong(name, value, "set it to the path of a folder, and STORE_URL to a URL"));
    }
    let path: PathBuf = current_dir.join(value).components().collect();
    if path.is_absolute() { Ok(path) } else { Err(wrong(name, value, "set it to an absolute path")) }
}

/// Parses a size; `KB` is 1,000 bytes, `KiB` is 1,024.
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

/// The host name in an origin, without its port; `None` for a local one, which is always accepted.
pub(super) fn host_of(origin: &str) -> Option<String> {
    let host = Url::parse(origin).ok()?.host_str()?.to_owned();
    Some(host).filter(|host| !["localhost", "127.0.0.1", "[::1]"].contains(&host.as_str()))
}

fn parse_origin(value: &str) -> Option<String> {
    let url = Url::parse(value).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    // The URL of an origin is the origin and a slash; anything longer is more than an origin.
    let origin = url.origin().ascii_serialization();
    (url.as_str() == format!("{origin}/")).then_some(origin)
}

/// A host, with its port if given, in the form that browsers send.
fn parse_host(value: &str) -> Option<String> {
    let (name, port) = match value.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port.parse::<u16>().ok()?)),
        _ => (value, None),
    };
    let name = Host::parse(name).ok()?.to_string();
    (!name.contains('*')).then(|| port.map_or_else(|| name.clone(), |port| format!("{name}:{port}")))
}
