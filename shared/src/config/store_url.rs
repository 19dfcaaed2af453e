//! Store URLs and folders, and which combinations are valid.

use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use url::Url;

use super::error::ConfigError;
use super::parse::absolute;
use super::platform::Platform;
use super::values::{Values, wrong};
use store::{AwsCredentials, Key, Secret};

/// The URL of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `file:///path`: a folder, by its absolute path.
    File(PathBuf),
    /// `s3://bucket` or `s3://bucket/prefix`. Missing parts are resolved by the AWS SDK.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// The prefix of every key, without a slash at either end; a valid `store::Key`.
        prefix: Option<String>,
        /// `?endpoint=`: the URL of a service other than AWS, without a trailing slash.
        endpoint: Option<String>,
        /// `?region=`: the bucket's region.
        region: Option<String>,
    },
    /// `cloudinary://key:secret@cloud` or `cloudinary://key:secret@cloud/folder`, for archives only.
    Cloudinary {
        /// The product environment.
        cloud: String,
        /// The API key.
        key: String,
        /// The API secret.
        secret: Secret,
        /// The folder that contains all objects, without a slash at either end; a valid `store::Key`.
        folder: String,
        /// `?endpoint=`: the URL of the API, if not Cloudinary's own.
        endpoint: Option<String>,
    },
}

impl StoreUrl {
    /// Whether it is a folder, whose compactions, verifications and listings cost no requests.
    pub fn is_disk(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::S3 { .. } | Self::Cloudinary { .. } => false,
        }
    }

    /// Whether the capabilities of its service have to be determined before anything is written to it.
    pub fn is_probed(&self) -> bool {
        match self {
            Self::S3 { .. } => true,
            Self::File(_) | Self::Cloudinary { .. } => false,
        }
    }

    /// Whether `other` is the same location or inside it.
    pub fn contains(&self, other: &Self) -> bool {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let path = |prefix: &Option<String>| PathBuf::from(prefix.as_deref().unwrap_or_default());
        match (self, other) {
            (Self::File(outer), Self::File(inner)) => real(inner).starts_with(real(outer)),
            (
                Self::S3 { bucket: a, prefix: outer, endpoint: at, .. },
                Self::S3 { bucket: b, prefix: inner, endpoint: there, .. },
            ) => (a, at) == (b, there) && path(inner).starts_with(path(outer)),
            (
                Self::Cloudinary { cloud: a, folder: outer, endpoint: at, .. },
                Self::Cloudinary { cloud: b, folder: inner, endpoint: there, .. },
            ) => (a, at) == (b, there) && Path::new(inner).starts_with(outer),
            (Self::File(_) | Self::S3 { .. } | Self::Cloudinary { .. }, _) => false,
        }
    }
}

impl fmt::Display for StoreUrl {
    /// For display: without secrets, and without endpoint and region.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(folder) => folder.display().fmt(f),
            Self::S3 { bucket, prefix, endpoint, .. } => {
                write!(f, "s3://{bucket}")?;
                prefix.iter().try_for_each(|prefix| write!(f, "/{prefix}"))?;
                endpoint.iter().try_for_each(|endpoint| write!(f, " at {endpoint}"))
            }
            Self::Cloudinary { cloud, folder, .. } => write!(f, "cloudinary://{cloud}/{folder}"),
        }
    }
}

impl Values<'_> {
    /// The primary store and its folder.
    pub(super) fn store(
        &self,
        platform: Option<Platform>,
        current_dir: &Path,
    ) -> Result<(StoreUrl, PathBuf), ConfigError> {
        let folder = self.folder(current_dir)?;
        let volume = self.get("RAILWAY_VOLUME_MOUNT_PATH")?;
        match self.store_url("STORE_URL")? {
            Some(StoreUrl::Cloudinary { .. }) => Err(wrong(
                "STORE_URL",
                &self.get("STORE_URL")?.unwrap_or_default(),
                "name Cloudinary in BACKUP_URL instead: it can hold replicas, but no store that several may change",
            )),
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

    /// The folder in `DATA_DIR`, or in its alias, with the name of the variable.
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

    /// The archive, unless it is in the primary.
    pub(super) fn backup(&self, store: &StoreUrl) -> Result<Option<StoreUrl>, ConfigError> {
        let Some(backup) = self.store_url("BACKUP_URL")? else { return Ok(None) };
        let inside = match (store, &backup) {
            (StoreUrl::File(store), StoreUrl::File(backup)) => backup.strip_prefix(store).ok().map(Path::to_owned),
            (
                StoreUrl::S3 { bucket, prefix, endpoint, .. },
                StoreUrl::S3 { bucket: other, prefix: below, endpoint: of_other, .. },
            ) if bucket == other && self.service(endpoint)? == self.service(of_other)? => {
                let [prefix, below] = [prefix, below].map(|prefix| Path::new(prefix.as_deref().unwrap_or_default()));
                below.strip_prefix(prefix).ok().map(Path::to_owned)
            }
            _ => None,
        };
        // In these folders of the primary, the archive's objects would be mistaken for the primary's.
        let collides = |path: &PathBuf| {
            let first = path.components().next();
            first.is_none_or(|first| ["uploads", "image-metadata.d"].iter().any(|own| first.as_os_str() == *own))
        };
        if inside.as_ref().is_some_and(collides) {
            let value = self.get("BACKUP_URL")?.unwrap_or_default();
            let remedy =
                "set it to a location apart from the primary's own objects, or unset it for backups/ in the primary";
            return Err(wrong("BACKUP_URL", &value, remedy));
        }
        Ok(Some(backup))
    }

    /// The endpoint of an S3 URL, if known; found in the same order as by the SDK.
    pub(super) fn service(&self, endpoint: &Option<String>) -> Result<Option<String>, ConfigError> {
        let mut found = endpoint.clone();
        for name in ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"] {
            found = found.or(self.get(name)?.map(|endpoint| endpoint.trim_end_matches('/').to_owned()));
        }
        Ok(found)
    }

    /// Credentials in two variables, both of which must be set.
    pub(super) fn credentials(&self, names: [&'static str; 2]) -> Result<Option<AwsCredentials>, ConfigError> {
        let without = |name: &'static str, other: &str| ConfigError {
            name,
            value: None,
            remedy: format!("set it too, or unset {other}: the one is of no use without the other"),
        };
        match (self.get(names[0])?, self.get(names[1])?) {
            (None, None) => Ok(None),
            (Some(access_key_id), Some(secret)) => {
                Ok(Some(AwsCredentials { access_key_id, secret_access_key: Secret::new(secret) }))
            }
            (None, Some(_)) => Err(without(names[0], names[1])),
            (Some(_), None) => Err(without(names[1], names[0])),
        }
    }

    fn store_url(&self, name: &'static str) -> Result<Option<StoreUrl>, ConfigError> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        parse_store_url(&value).map(Some).map_err(|remedy| wrong(name, &value, remedy))
    }
}

const FORMS: &str = "set it to file:///path/to/folder or s3://bucket/prefix, or for an archive to \
                     cloudinary://key:secret@cloud/folder";
const PREFIX: &str = "give the prefix as plain folder names with single slashes between them";

/// Parses a store URL; an error is the remedy.
fn parse_store_url(value: &str) -> Result<StoreUrl, &'static str> {
    let url = Url::parse(value).map_err(|_| FORMS)?;
    if url.fragment().is_some() {
        return Err("write a number sign as %23, and leave out what follows the path");
    }
    // Otherwise the parser silently removes the folder before them.
    if has_dot_segments(value) {
        return Err("write the path without . and .. between its slashes");
    }
    if url.scheme() == "cloudinary" {
        return parse_cloudinary(&url);
    }
    if !url.username().is_empty() || url.password().is_some() || url.port().is_some() {
        return Err(
            "leave credentials to AWS_ACCESS_KEY_ID, or BACKUP_AWS_ACCESS_KEY_ID for the archive alone, and name a \
                    service as in s3://bucket/prefix?endpoint=https://host:port",
        );
    }
    match url.scheme() {
        "file" if url.query().is_some() => Err("write a question mark as %3F, and leave out what follows the path"),
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
            let Way { endpoint, region } = parse_way(&url)?;
            Ok(StoreUrl::S3 { bucket: bucket.to_owned(), prefix: parse_prefix(&url)?, endpoint, region })
        }
        _ => Err(FORMS),
    }
}

/// Whether a segment of the path, as written, is `.` or `..`, in any encoding that URLs have for a dot.
fn has_dot_segments(value: &str) -> bool {
    let path = value.split(['?', '#']).next().unwrap_or_default();
    let dots = |part: &str| matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    path.split(['/', '\\']).any(dots)
}

fn parse_cloudinary(url: &Url) -> Result<StoreUrl, &'static str> {
    const FORM: &str = "write it as cloudinary://key:secret@cloud/folder, with the API key, the API secret and the cloud \
                        name that Cloudinary's console shows";
    let decoded = |part: &str| percent_decode_str(part).decode_utf8().map(|part| part.into_owned()).map_err(|_| FORM);
    let (key, secret) = (decoded(url.username())?, decoded(url.password().unwrap_or_default())?);
    let cloud = url.host_str().unwrap_or_default().to_owned();
    // These are used in headers and paths.
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if !plain(&key) || !plain(&secret) || !plain(&cloud) || url.port().is_some() {
        return Err(FORM);
    }
    let folder = parse_prefix(url)?.unwrap_or_else(|| "keepsake".to_owned());
    // Cloudinary takes such a folder name in a URL for a version.
    let is_version = |name: &str| name.strip_prefix('v').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    if folder.len() > 60 || !folder.split('/').all(|name| plain(name) && !is_version(name)) {
        return Err(
            "give the folder as at most 60 letters, digits, hyphens and underscores with single slashes between \
                    them, and no folder a name like v1",
        );
    }
    let Way { endpoint, region } = parse_way(url)?;
    if region.is_some() {
        return Err("leave out the region, which only s3:// has");
    }
    Ok(StoreUrl::Cloudinary { cloud, key, secret: Secret::new(secret), folder, endpoint })
}

/// The key prefix in a URL's path.
fn parse_prefix(url: &Url) -> Result<Option<String>, &'static str> {
    let path = percent_decode_str(url.path()).decode_utf8();
    let prefix = path.map_err(|_| "write the prefix in UTF-8")?.trim_matches('/').to_owned();
    if prefix.is_empty() {
        return Ok(None);
    }
    Key::new(prefix.clone()).map_err(|_| PREFIX)?;
    Ok(Some(prefix))
}

/// Endpoint and region from the query.
struct Way {
    endpoint: Option<String>,
    region: Option<String>,
}

fn parse_way(url: &Url) -> Result<Way, &'static str> {
    let mut way = Way { endpoint: None, region: None };
    for (name, value) in url.query_pairs() {
        let (known, value) = match &*name {
            "endpoint" => (&mut way.endpoint, parse_endpoint(&value)?),
            "region" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => {
                (&mut way.region, value.into_owned())
            }
            "region" => return Err("name a region as in region=eu-central-1"),
            _ => return Err("write a question mark of a name as %3F; after it may stand endpoint= and region= alone"),
        };
        if known.replace(value).is_some() {
            return Err("say each of endpoint= and region= once");
        }
    }
    Ok(way)
}

fn parse_endpoint(value: &str) -> Result<String, &'static str> {
    let url = Url::parse(value).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let plain = |url: &Url| url.username().is_empty() && url.password().is_none() && url.query().is_none();
    match url.filter(|url| plain(url) && url.fragment().is_none()) {
        Some(url) => Ok(url.as_str().trim_end_matches('/').to_owned()),
        None => Err("name a service by its URL alone, as in endpoint=https://host:port"),
    }
}
