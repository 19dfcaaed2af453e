//! The command line: a flag for each variable of the configuration, which goes before the environment.

use clap::{Parser, Subcommand};

/// Keeps images so that nothing it has acknowledged is ever lost.
#[derive(Debug, Default, Parser)]
#[command(name = "keepsake", version, about, long_about = None)]
pub struct Cli {
    /// What to do; to serve, if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Address to listen on: an IP address or localhost.
    #[arg(long, global = true)]
    host: Option<String>,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, global = true)]
    port: Option<String>,
    /// Folder of uploads/, backups/ and image-metadata.json.
    #[arg(long, global = true)]
    data_dir: Option<String>,
    /// The store: file:///path or s3://bucket/prefix.
    #[arg(long, global = true)]
    store_url: Option<String>,
    /// The archive of second copies and backups, if not backups/ in the store.
    #[arg(long, global = true)]
    backup_url: Option<String>,
    /// When second copies are made: sync or async.
    #[arg(long, global = true)]
    archive: Option<String>,
    /// Changes that may wait for their second copies before no more is taken in.
    #[arg(long, global = true)]
    archive_behind_max: Option<String>,
    /// Uploads for each automatic backup.
    #[arg(long, global = true)]
    backup_every: Option<String>,
    /// Newest automatic backups that a prune keeps.
    #[arg(long, global = true)]
    keep_last: Option<String>,
    /// Days of which it keeps one.
    #[arg(long, global = true)]
    keep_daily: Option<String>,
    /// Weeks of which it keeps one.
    #[arg(long, global = true)]
    keep_weekly: Option<String>,
    /// Months of which it keeps one.
    #[arg(long, global = true)]
    keep_monthly: Option<String>,
    /// Longest upload, such as 100MiB.
    #[arg(long, global = true)]
    max_upload_bytes: Option<String>,
    /// Most pixels an image may have.
    #[arg(long, global = true)]
    max_pixels: Option<String>,
    /// Bytes that uploads leave free, such as 64MiB.
    #[arg(long, global = true)]
    reserve_bytes: Option<String>,
    /// Places whose volume is gone for good: data, uploads or archive, separated by commas.
    #[arg(long, global = true)]
    accept_unmounted: Option<String>,
    /// Origins whose pages may make changes, separated by commas.
    #[arg(long, global = true)]
    allowed_origins: Option<String>,
    /// What to log, such as info or shared=debug.
    #[arg(long, global = true)]
    rust_log: Option<String>,
    /// Form of the log: text or json.
    #[arg(long, global = true)]
    log_format: Option<String>,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Serve the store over HTTP.
    Serve,
    /// Ask the server that runs with the same HOST and PORT whether it can serve; exits with 0 if it can, else with 1.
    Healthcheck,
    /// Read what is stored through and compare it with its digests.
    Verify {
        /// Only a part, such as 1/30: the first of thirty.
        #[arg(long)]
        slice: Option<String>,
        /// Make anew what is wrong, where the other copy is right.
        #[arg(long)]
        repair: bool,
    },
    /// Thin out automatic backups, and remove what no backup and no image needs any more.
    Prune {
        /// Only say what would go.
        #[arg(long)]
        dry_run: bool,
    },
}

impl Cli {
    /// The flag that stands for a variable, if it was given. There is none for `API_TOKEN`: every program of a machine
    /// can read another's command line.
    pub fn flag(&self, name: &str) -> Option<String> {
        let flag = match name {
            "HOST" => &self.host,
            "PORT" => &self.port,
            "DATA_DIR" => &self.data_dir,
            "STORE_URL" => &self.store_url,
            "BACKUP_URL" => &self.backup_url,
            "ARCHIVE" => &self.archive,
            "ARCHIVE_BEHIND_MAX" => &self.archive_behind_max,
            "BACKUP_EVERY" => &self.backup_every,
            "KEEP_LAST" => &self.keep_last,
            "KEEP_DAILY" => &self.keep_daily,
            "KEEP_WEEKLY" => &self.keep_weekly,
            "KEEP_MONTHLY" => &self.keep_monthly,
            "MAX_UPLOAD_BYTES" => &self.max_upload_bytes,
            "MAX_PIXELS" => &self.max_pixels,
            "RESERVE_BYTES" => &self.reserve_bytes,
            "ACCEPT_UNMOUNTED" => &self.accept_unmounted,
            "ALLOWED_ORIGINS" => &self.allowed_origins,
            "RUST_LOG" => &self.rust_log,
            "LOG_FORMAT" => &self.log_format,
            _ => &None,
        };
        flag.clone()
    }
}
