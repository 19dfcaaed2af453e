//! The settings, validated before anything starts.
//!
//! Architecture invariant: this is the only module that reads the environment. An invalid value stops the start with
//! one sentence that contains the variable, the value and the remedy; values are never guessed.

mod error;
mod location;
mod modes;
mod offload;
mod parse;
mod platform;
mod retention;
mod store_url;
#[cfg(test)]
mod store_url_tests;
#[cfg(test)]
mod tests;
mod values;

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use values::Values;

pub use error::ConfigError;
pub use location::Location;
pub use modes::{ArchiveMode, LogFormat, Read};
pub use offload::Offload;
pub use platform::Platform;
pub use retention::Keep;
pub use store::{AwsCredentials, Secret};
pub use store_url::StoreUrl;

/// All settings, validated.
#[derive(Clone, Debug)]
pub struct Config {
    /// `HOST`: the address to listen on. By default the loopback address, so that only local clients can connect, but
    /// every address on a platform, where a loopback address could not be reached.
    pub host: IpAddr,
    /// `PORT`: the port to listen on, by default 3000; 0 means any free one.
    pub port: u16,
    /// The platform that this process runs on, if it is recognized.
    pub platform: Option<Platform>,
    /// The platform's name for the running deployment; see [`Platform`].
    pub deployment: Option<String>,
    /// `RAILWAY_VOLUME_MOUNT_PATH`: where Railway has mounted a volume.
    pub volume: Option<PathBuf>,
    /// `ACCEPT_UNMOUNTED`, separated by commas: locations whose volume is permanently gone, so that the store continues
    /// without it. By default none.
    pub accept_unmounted: Vec<Location>,
    /// `DATA_DIR`, an absolute path: the folder of the store if that is a disk, else the folder for other files. By
    /// default `RAILWAY_VOLUME_MOUNT_PATH`, else the current folder.
    pub data_dir: PathBuf,
    /// `STORE_URL`: the primary store, by default the folder `data_dir`.
    pub store: StoreUrl,
    /// `BACKUP_URL`: the archive; `None` means `backups/` in the primary.
    pub backup: Option<StoreUrl>,
    /// `BACKUP_AWS_ACCESS_KEY_ID`, `BACKUP_AWS_SECRET_ACCESS_KEY`: the credentials for an archive in S3; by default
    /// those of the primary.
    pub backup_credentials: Option<AwsCredentials>,
    /// `AWS_ENDPOINT_URL_S3`, else `AWS_ENDPOINT_URL`: the service for buckets whose URL has no endpoint; by default
    /// AWS or the profile's.
    pub endpoint: Option<String>,
    /// The credentials for a store in S3, instead of those that the AWS tools find: `None`, except for a migration.
    pub credentials: Option<AwsCredentials>,
    /// `FROM_AWS_ACCESS_KEY_ID`, `FROM_AWS_SECRET_ACCESS_KEY`: the credentials for the store and the archive from which
    /// a migration reads.
    pub from_credentials: Option<AwsCredentials>,
    /// `TO_AWS_ACCESS_KEY_ID`, `TO_AWS_SECRET_ACCESS_KEY`: the credentials for those to which it writes.
    pub to_credentials: Option<AwsCredentials>,
    /// `ARCHIVE`: when replicas are made, by default `sync` on a disk and `async` on S3.
    pub archive: ArchiveMode,
    /// `ARCHIVE_BEHIND_MAX`: how many changes may be pending replication before uploads are refused, by default 10,000.
    /// On Lambda, events carry the pending changes, and there is no limit.
    pub archive_behind_max: usize,
    /// `BACKUP_EVERY`: the number of uploads per automatic backup, by default 10.
    pub backup_every: NonZeroU32,
    /// `KEEP_LAST`, `KEEP_DAILY`, `KEEP_WEEKLY`, `KEEP_MONTHLY`: how many automatic backups a prune keeps, by default
    /// 20, and then one a day for 14 days, one a week for 8 weeks and one a month for 12 months.
    pub keep: Keep,
    /// `MAX_UPLOAD_BYTES`: maximum size of an image in bytes, by default 100 MiB.
    pub max_upload_bytes: u64,
    /// `MAX_PIXELS`: maximum number of pixels of an image, by default 100 million.
    pub max_pixels: u64,
    /// `RESERVE_BYTES`: how many bytes of a disk uploads leave free, by default 64 MiB.
    pub reserve_bytes: u64,
    /// `DERIVATIVE_CACHE_BYTES`: size of the thumbnail cache in bytes, by default 1 GiB; 0 disables it.
    pub thumbnail_cache_bytes: u64,
    /// `STRIP_GPS`: whether GPS positions are removed from images when they are served, by default not.
    pub strip_gps: bool,
    /// `OFFLOAD`: how a proxy in front of the server sends the files of verified images; by default the server sends
    /// them. Only for a store on a disk.
    pub offload: Option<Offload>,
    /// `API_TOKEN`: the token that clients need for changes.
    pub api_token: Option<Secret>,
    /// `READ`: whether reading needs a token too, by default `open`.
    pub read: Read,
    /// `ALLOWED_HOSTS`, separated by commas: the host names that this server accepts, besides local ones, in lower
    /// case; a name with a port is accepted with that port only. By default all, and on a loopback address none.
    pub allowed_hosts: Vec<String>,
    /// `PUBLIC_URL`: the origin under which clients reach this server, in the form that browsers send; if set, URLs in
    /// responses are absolute. By default they are relative.
    pub public_url: Option<String>,
    /// `ALLOWED_ORIGINS`, separated by commas: other origins whose pages may use this server, in the form that browsers
    /// send. By default none.
    pub allowed_origins: Vec<String>,
    /// `TRUST_PROXY`: the number of proxies in front of this server that add the client's address to `X-Forwarded-For`.
    /// By default as many as the platform has, else none.
    pub trusted_proxies: u8,
    /// `RATE_LIMIT`: how many requests a client may send in a minute, by default 6,000; 0 means no limit.
    pub rate_limit: u32,
    /// `RATE_LIMIT_WRONG_TOKENS`: how many wrong tokens a client may send in a minute, by default 20; 0 means no limit.
    pub rate_limit_wrong_tokens: u32,
    /// `METRICS_STACK`: a label for the metrics that maintenance writes into its log; without it, none are written.
    pub metrics_stack: Option<String>,
    /// `RUST_LOG`: what is logged, by default `info`; see `tracing_subscriber::filter::Targets` for the syntax.
    pub log_filter: String,
    /// `LOG_FORMAT`: the log format; `None` means text on a terminal, else JSON.
    pub log_format: Option<LogFormat>,
}

/// Facts about the machine that are not in the environment.
struct Machine {
    current_dir: PathBuf,
    in_container: bool,
}

impl Machine {
    fn of_this_process() -> Self {
        Self {
            // Without a current folder, only absolute paths are accepted, and any other is refused as such.
            current_dir: std::env::current_dir().unwrap_or_default(),
            in_container: ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| Path::new(mark).exists()),
        }
    }
}

impl Config {
    /// Reads the environment.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_flags(&|_| None)
    }

    /// Reads the flags of a command line, which have the names of the variables, and the environment for the rest.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn from_flags(flags: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::from_lookup(&|name| flags(name).or_else(|| Some(std::env::var_os(name)?.to_string_lossy().into_owned())))
    }

    /// Reads the variables from `lookup`. An empty value counts as unset, and surrounding space is trimmed.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::assemble(&Values(lookup), &Machine::of_this_process())
    }

    fn assemble(values: &Values<'_>, machine: &Machine) -> Result<Self, ConfigError> {
        let platform = Platform::detect(values, machine.in_container);
        let default_host = match platform {
            // A container may be a development environment as well as a server; an image for servers sets HOST.
            None | Some(Platform::Container) => Ipv4Addr::LOCALHOST,
            Some(_) => Ipv4Addr::UNSPECIFIED,
        };
        let (store, data_dir) = values.store(platform, &machine.current_dir)?;
        let backup = values.backup(&store)?;
        let default_archive = match store {
            StoreUrl::File(_) => ArchiveMode::Sync,
            StoreUrl::S3 { .. } | StoreUrl::Cloudinary { .. } => ArchiveMode::Async,
        };
        let host = values.host()?.unwrap_or(default_host.into());
        let (mut allowed_hosts, public_url) = (values.hosts()?, values.public_url()?);
        // If host names are restricted, the one that clients use is accepted.
        if let Some(name) = public_url.as_deref().and_then(parse::host_of)
            && (host.is_loopback() || !allowed_hosts.is_empty())
        {
            allowed_hosts.push(name);
        }
        Ok(Self {
            host,
            port: values.number("PORT", "a number from 0 to 65535")?.unwrap_or(3000),
            platform,
            deployment: platform.and_then(|platform| platform.deployment(values)),
            volume: values.get("RAILWAY_VOLUME_MOUNT_PATH")?.map(PathBuf::from),
            accept_unmounted: values.unmounted()?,
            data_dir,
            backup,
            backup_credentials: values.credentials(["BACKUP_AWS_ACCESS_KEY_ID", "BACKUP_AWS_SECRET_ACCESS_KEY"])?,
            endpoint: values.service(&None)?,
            credentials: None,
            from_credentials: values.credentials(["FROM_AWS_ACCESS_KEY_ID", "FROM_AWS_SECRET_ACCESS_KEY"])?,
            to_credentials: values.credentials(["TO_AWS_ACCESS_KEY_ID", "TO_AWS_SECRET_ACCESS_KEY"])?,
            archive: values
                .one_of("ARCHIVE", [("sync", ArchiveMode::Sync), ("async", ArchiveMode::Async)])?
                .unwrap_or(default_archive),
            archive_behind_max: values.behind_max(platform)?,
            backup_every: values.number("BACKUP_EVERY", "a whole number of uploads from 1 up")?.unwrap_or(TEN),
            keep: values.keep()?,
            max_upload_bytes: values.size("MAX_UPLOAD_BYTES", 1)?.unwrap_or(100 << 20),
            max_pixels: values.pixels()?.unwrap_or(100_000_000),
            reserve_bytes: values.size("RESERVE_BYTES", 0)?.unwrap_or(64 << 20),
            read: values.read(platform)?,
            allowed_hosts,
            thumbnail_cache_bytes: values.size("DERIVATIVE_CACHE_BYTES", 0)?.unwrap_or(1 << 30),
            strip_gps: values.strip_gps(platform)?,
            offload: values.offload(&store, platform)?,
            api_token: values.token()?,
            public_url,
            allowed_origins: values.origins()?,
            trusted_proxies: values
                .number("TRUST_PROXY", "the number of proxies before it, from 0 up")?
                .unwrap_or(platform.map_or(0, Platform::proxies)),
            rate_limit: values.number("RATE_LIMIT", A_MINUTE)?.unwrap_or(6_000),
            rate_limit_wrong_tokens: values.number("RATE_LIMIT_WRONG_TOKENS", A_MINUTE)?.unwrap_or(20),
            metrics_stack: values.get("METRICS_STACK")?,
            log_filter: values.get("RUST_LOG")?.unwrap_or_else(|| "info".to_owned()),
            log_format: values.one_of("LOG_FORMAT", [("text", LogFormat::Text), ("json", LogFormat::Json)])?,
            store,
        })
    }
}

const A_MINUTE: &str = "a number for each minute from 0 up";
const TEN: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
