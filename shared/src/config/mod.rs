//! What can be set from outside, checked before anything starts.
//!
//! Architecture invariant: this is the only module that reads the environment. A value that cannot be right stops the
//! start with one sentence that names the variable, the value and the remedy; nothing is guessed.

mod error;
mod location;
mod modes;
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

pub use error::ConfigError;
pub use location::Location;
pub use modes::{ArchiveMode, LogFormat, Read};
pub use platform::Platform;
pub use retention::Keep;
pub use store_url::StoreUrl;
use values::Values;

pub use store::{AwsCredentials, Secret};

/// All settings, each of them valid.
#[derive(Clone, Debug)]
pub struct Config {
    /// `HOST`: the address to listen on. By default the loopback address, so that nobody else gets in, but every address
    /// on a platform, where a loopback address could not be reached.
    pub host: IpAddr,
    /// `PORT`: the port to listen on, by default 3000; 0 means any free one.
    pub port: u16,
    /// The platform that this process runs on, where one is recognised.
    pub platform: Option<Platform>,
    /// What that platform calls the deployment that runs; see [`Platform`].
    pub deployment: Option<String>,
    /// `RAILWAY_VOLUME_MOUNT_PATH`: where Railway has mounted a volume.
    pub volume: Option<PathBuf>,
    /// `ACCEPT_UNMOUNTED`, separated by commas: places whose volume is gone for good, so that the store is to go on
    /// without it. By default none.
    pub accept_unmounted: Vec<Location>,
    /// `DATA_DIR`, an absolute path: the folder of the store where that is a disk, else where other files may lie.
    /// By default `RAILWAY_VOLUME_MOUNT_PATH`, else the current folder.
    pub data_dir: PathBuf,
    /// `STORE_URL`: the primary store, by default the folder `data_dir`.
    pub store: StoreUrl,
    /// `BACKUP_URL`: the archive; `None` means `backups/` in the primary.
    pub backup: Option<StoreUrl>,
    /// `BACKUP_AWS_ACCESS_KEY_ID`, `BACKUP_AWS_SECRET_ACCESS_KEY`: what an archive in S3 is reached with; by default what the
    /// primary is.
    pub backup_credentials: Option<AwsCredentials>,
    /// `AWS_ENDPOINT_URL_S3`, else `AWS_ENDPOINT_URL`: the service of buckets whose URL names none; by default AWS or what a
    /// profile names.
    pub endpoint: Option<String>,
    /// What a store in S3 is reached with where the AWS tools are not to be asked: `None`, but for a migration.
    pub credentials: Option<AwsCredentials>,
    /// `FROM_AWS_ACCESS_KEY_ID`, `FROM_AWS_SECRET_ACCESS_KEY`: what a migration reaches the store and the archive with that it
    /// reads.
    pub from_credentials: Option<AwsCredentials>,
    /// `TO_AWS_ACCESS_KEY_ID`, `TO_AWS_SECRET_ACCESS_KEY`: likewise those that it fills.
    pub to_credentials: Option<AwsCredentials>,
    /// `ARCHIVE`: when replicas are made, by default `sync` on a disk and `async` on S3.
    pub archive: ArchiveMode,
    /// `ARCHIVE_BEHIND_MAX`: how many changes may wait for their replicas before no more is taken in, by default
    /// 10,000. On Lambda events say what waits, and nothing limits it.
    pub archive_behind_max: usize,
    /// `BACKUP_EVERY`: how many uploads make an automatic backup, by default 10.
    pub backup_every: NonZeroU32,
    /// `KEEP_LAST`, `KEEP_DAILY`, `KEEP_WEEKLY`, `KEEP_MONTHLY`: how many automatic backups a prune keeps, by default 20,
    /// and then one a day for 14 days, one a week for 8 weeks and one a month for 12 months.
    pub keep: Keep,
    /// `MAX_UPLOAD_BYTES`: how many bytes an image may have, by default 100 MiB.
    pub max_upload_bytes: u64,
    /// `MAX_PIXELS`: how many pixels an image may have, by default 100 million.
    pub max_pixels: u64,
    /// `RESERVE_BYTES`: how many bytes of a disk uploads leave free, by default 64 MiB.
    pub reserve_bytes: u64,
    /// `DERIVATIVE_CACHE_BYTES`: how many bytes of thumbnails of images are kept, by default 1 GiB; 0 keeps none.
    pub thumbnail_cache_bytes: u64,
    /// `STRIP_GPS`: whether images are served without what they say of where they were taken, by default not.
    pub strip_gps: bool,
    /// `API_TOKEN`: what a client has to present to change anything.
    pub api_token: Option<Secret>,
    /// `READ`: whether reading needs a token too, by default `open`.
    pub read: Read,
    /// `ALLOWED_HOSTS`, separated by commas: the names that this server answers to, besides local ones, in lower case; one
    /// with a port with that port only. By default all, and on a loopback address none.
    pub allowed_hosts: Vec<String>,
    /// `PUBLIC_URL`: the origin under which clients reach this server, as browsers write it; with it the URLs in answers
    /// are absolute. By default they are relative.
    pub public_url: Option<String>,
    /// `ALLOWED_ORIGINS`, separated by commas: the origins besides its own whose pages may use this server, each written
    /// as browsers write it. By default none.
    pub allowed_origins: Vec<String>,
    /// `TRUST_PROXY`: how many proxies stand before this server and say, in `X-Forwarded-For`, whom they ask for. By default as
    /// many as the platform has, else none.
    pub trusted_proxies: u8,
    /// `RATE_LIMIT`: how many requests a client may send in a minute, by default 6,000; 0 is any number.
    pub rate_limit: u32,
    /// `RATE_LIMIT_WRONG_TOKENS`: how many wrong tokens a client may show in a minute, by default 20; 0 is any number.
    pub rate_limit_wrong_tokens: u32,
    /// `METRICS_STACK`: what the metrics that maintenance writes into its log are told apart by; none are written without.
    pub metrics_stack: Option<String>,
    /// `RUST_LOG`: what is logged, by default `info`; see `tracing_subscriber::filter::Targets` for its form.
    pub log_filter: String,
    /// `LOG_FORMAT`: how it is logged; `None` means text on a terminal, else JSON.
    pub log_format: Option<LogFormat>,
}

/// What is asked of the machine rather than of the environment.
struct Machine {
    current_dir: PathBuf,
    in_container: bool,
}

impl Machine {
    fn of_this_process() -> Self {
        Self {
            // Without one, only absolute paths will do, and any other is refused as such.
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

    /// Reads a command line's flags, by the names of the variables they stand for, and the environment for the rest.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn from_flags(flags: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::from_lookup(&|name| flags(name).or_else(|| Some(std::env::var_os(name)?.to_string_lossy().into_owned())))
    }

    /// Reads the variables from `lookup`. An empty value counts as none, and space around a value is dropped.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::assemble(&Values(lookup), &Machine::of_this_process())
    }

    fn assemble(values: &Values<'_>, machine: &Machine) -> Result<Self, ConfigError> {
        let platform = Platform::detect(values, machine.in_container);
        let default_host = match platform {
            // A container may be somebody's workshop as well as somebody's server; an image for servers sets HOST.
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
        // Where not every name is answered to, the name that clients use is one of those that are.
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
