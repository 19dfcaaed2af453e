//! The command line: the commands, and a flag for each variable of the configuration, which overrides the environment.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use shared::verify::Slice;

/// The exit codes in the help of every command.
macro_rules! exit_codes {
    () => {
        "\nExit codes:
  0  done
  1  failed, and nothing was changed unless the message says so
  2  the command line or the configuration is wrong
  3  done, but something needs attention; the output says what"
    };
}

/// Keeps images so that nothing it has acknowledged is ever lost.
///
/// Every command works on the store in DATA_DIR or STORE_URL, with or without a running server.
#[derive(Debug, Default, Parser)]
#[command(name = "keepsake", version, about, after_help = concat!("\
Examples:
  keepsake                                  serve the current folder
  keepsake status --data-dir /srv/photos
  keepsake backups --json
  keepsake migrate /srv/photos s3://bucket/photos
", exit_codes!()))]
pub struct Cli {
    /// The command; serve if none is given.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Print one JSON document, as the HTTP API returns it; on failure, the problem.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// The configuration.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Settings, each also a variable of the environment, as DATA_DIR is for --data-dir")]
struct Settings {
    /// Address to listen on: an IP address or localhost.
    #[arg(long, global = true, hide_short_help = true)]
    host: Option<String>,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, global = true, hide_short_help = true)]
    port: Option<String>,
    /// Folder of uploads/, backups/ and image-metadata.json.
    #[arg(long, global = true)]
    data_dir: Option<String>,
    /// The store: file:///path or s3://bucket/prefix?endpoint=https://…&region=….
    #[arg(long, global = true)]
    store_url: Option<String>,
    /// The archive of replicas and backups, if not backups/ in the store: a URL as for the store, or cloudinary://…,
    /// which contains a secret and is better set in the environment.
    #[arg(long, global = true)]
    backup_url: Option<String>,
    /// When replicas are made: sync or async.
    #[arg(long, global = true, hide_short_help = true)]
    archive: Option<String>,
    /// Changes that may be pending replication before uploads are refused.
    #[arg(long, global = true, hide_short_help = true)]
    archive_behind_max: Option<String>,
    /// Uploads for each automatic backup.
    #[arg(long, global = true, hide_short_help = true)]
    backup_every: Option<String>,
    /// Newest automatic backups that a prune keeps.
    #[arg(long, global = true, hide_short_help = true)]
    keep_last: Option<String>,
    /// Days for which it keeps one.
    #[arg(long, global = true, hide_short_help = true)]
    keep_daily: Option<String>,
    /// Weeks for which it keeps one.
    #[arg(long, global = true, hide_short_help = true)]
    keep_weekly: Option<String>,
    /// Months for which it keeps one.
    #[arg(long, global = true, hide_short_help = true)]
    keep_monthly: Option<String>,
    /// Longest upload, such as 100MiB.
    #[arg(long, global = true, hide_short_help = true)]
    max_upload_bytes: Option<String>,
    /// Most pixels an image may have.
    #[arg(long, global = true, hide_short_help = true)]
    max_pixels: Option<String>,
    /// Bytes that uploads leave free, such as 64MiB.
    #[arg(long, global = true, hide_short_help = true)]
    reserve_bytes: Option<String>,
    /// Size of the thumbnail cache, such as 1GiB; 0 disables it.
    #[arg(long, global = true, hide_short_help = true)]
    thumbnail_cache_bytes: Option<String>,
    /// Whether images are served without their GPS positions: true or false.
    #[arg(long, global = true, hide_short_help = true)]
    strip_gps: Option<String>,
    /// Locations whose volume is lost for good: data, uploads or archive, separated by commas.
    #[arg(long, global = true, hide_short_help = true)]
    accept_unmounted: Option<String>,
    /// Who may read the store: open for everyone, token for holders of a token.
    #[arg(long, global = true, hide_short_help = true)]
    read: Option<String>,
    /// Host names that the server accepts, besides localhost, separated by commas.
    #[arg(long, global = true, hide_short_help = true)]
    allowed_hosts: Option<String>,
    /// Where clients reach the server, such as https://photos.example; makes the URLs in answers absolute.
    #[arg(long, global = true, hide_short_help = true)]
    public_url: Option<String>,
    /// Origins whose pages may make changes, separated by commas.
    #[arg(long, global = true, hide_short_help = true)]
    allowed_origins: Option<String>,
    /// Proxies before the server whose X-Forwarded-For is trusted.
    #[arg(long, global = true, hide_short_help = true)]
    trust_proxy: Option<String>,
    /// Requests per minute allowed from one address; 0 for no limit.
    #[arg(long, global = true, hide_short_help = true)]
    rate_limit: Option<String>,
    /// Wrong tokens per minute allowed from one address; 0 for no limit.
    #[arg(long, global = true, hide_short_help = true)]
    rate_limit_wrong_tokens: Option<String>,
    /// What to log, such as info or shared=debug.
    #[arg(long, global = true, hide_short_help = true)]
    rust_log: Option<String>,
    /// Format of the log: text or json.
    #[arg(long, global = true, hide_short_help = true)]
    log_format: Option<String>,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Serve the store over HTTP.
    #[command(after_help = concat!("\
Examples:
  keepsake serve --data-dir /srv/photos --port 8080
  STORE_URL=s3://bucket/photos keepsake serve
", exit_codes!()))]
    Serve,
    /// Show the state of the store: images, backups, and every check.
    #[command(after_help = concat!("\
Examples:
  keepsake status
  keepsake status --json | jq .backups.newestVerified
", exit_codes!(), "

A store whose status is warn ends with 3, one whose status is error with 1."))]
    Status,
    /// Make a backup.
    #[command(after_help = concat!("Example:\n  keepsake backup\n", exit_codes!()))]
    Backup,
    /// List the backups, newest first.
    #[command(after_help = concat!("\
Examples:
  keepsake backups
  keepsake backups --json | jq -r '.backups[].name'
", exit_codes!()))]
    Backups,
    /// Show what restoring a backup would do, and do it after confirmation.
    ///
    /// Images that were added after the backup stay, unless --mode exact removes them. A safety backup is made first:
    /// restoring it undoes the restore.
    #[command(after_help = concat!("\
Examples:
  keepsake restore backup-2026-11-24T10-51-01-760Z --dry-run
  keepsake restore backup-2026-11-24T10-51-01-760Z
  keepsake restore backup-2026-11-24T10-51-01-760Z --mode exact --yes
", exit_codes!(), "

Where nobody can be asked, because this is no terminal or by --json, it takes --yes or --dry-run."))]
    Restore {
        /// The backup, as `keepsake backups` lists it.
        #[arg(value_name = "BACKUP")]
        name: String,
        /// What happens to images that were added after the backup.
        #[arg(long, value_enum, default_value_t)]
        mode: Mode,
        /// Only show what would be done.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Make, list and revoke the tokens that clients show instead of API_TOKEN.
    #[command(after_help = concat!("\
Examples:
  keepsake token new phone --scope upload
  keepsake token list
  keepsake token revoke phone
", exit_codes!(), "

A running server knows a new token within a second, and takes a revoked one for at most five seconds more. Tokens open nothing
where none is needed: on a loopback address, unless API_TOKEN is set."))]
    Token {
        #[command(subcommand)]
        action: TokenAction,
    },
    /// Delete all unfinished uploads, in parts or by a ticket, to free their space.
    #[command(after_help = concat!("Example:\n  keepsake clear-uploads\n", exit_codes!()))]
    ClearUploads,
    /// Check whether the server with the same HOST and PORT can serve.
    #[command(after_help = concat!("\
Example:
  keepsake healthcheck --port 8080
", exit_codes!()))]
    Healthcheck,
    /// Read all stored objects and compare them with their digests.
    #[command(after_help = concat!("\
Examples:
  keepsake verify
  keepsake verify --repair
  keepsake verify --slice 1/30
", exit_codes!()))]
    Verify {
        /// Only a part, such as 1/30: the first of thirty.
        #[arg(long, value_parser = slice)]
        slice: Option<Slice>,
        /// Replace what is damaged, if the other copy is intact.
        #[arg(long)]
        repair: bool,
    },
    /// Thin out automatic backups, and remove unreferenced objects.
    #[command(after_help = concat!("\
Examples:
  keepsake prune --dry-run
  keepsake prune --keep-last 5
", exit_codes!()))]
    Prune {
        /// Only show what would be removed.
        #[arg(long)]
        dry_run: bool,
    },
    /// Import images and records from a zip or a folder: an export, a folder of the older format, or plain images.
    ///
    /// An import adds and replaces nothing: live images stay as they are, deleted ones come back. A safety backup is
    /// made first. A second run changes nothing, and a run after an interrupted one does the rest, a minute later.
    #[command(after_help = concat!("\
Examples:
  keepsake import photos.zip --dry-run
  keepsake import photos.zip
  keepsake import /srv/old-photos
", exit_codes!(), "

It ends with 3 where records came in whose images are missing, or something could not be taken in."))]
    Import {
        /// A zip, or a folder.
        path: PathBuf,
        /// Only show what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Export images and records as plain files: into a zip if PATH ends in .zip, else into a folder.
    ///
    /// The export contains uploads/, image-metadata.json, and SHA256SUMS, which any program can open.
    #[command(allow_missing_positional = true, after_help = concat!("\
Examples:
  keepsake export photos.zip                the store as it is now
  keepsake export backup-2026-11-24T10-51-01-760Z photos.zip
  keepsake export /mnt/stick/photos
", exit_codes!(), "

It ends with 3 where the bytes of an image are nowhere to be found; missing.txt names it."))]
    Export {
        /// The backup to export, as `keepsake backups` lists it; the present store if none is given.
        backup: Option<String>,
        /// The zip to create, or the folder. Existing files are not replaced.
        path: PathBuf,
    },
    /// Copy this store to another location: images, records, backups.
    ///
    /// FROM is only read, and may be served meanwhile. TO is empty, or holds an unfinished migration or an older state
    /// of the same store; it becomes a store in one step, at the end. Run it again after an interruption, or to copy
    /// later changes; existing objects are not copied again. Run it in the other direction to bring later changes back.
    #[command(after_help = concat!("\
Examples:
  keepsake migrate /srv/photos s3://bucket/photos
  keepsake migrate s3://bucket/photos file:///srv/photos
  keepsake migrate . /mnt/new --from-backup /mnt/archive --to-backup s3://bucket/archive
", exit_codes!(), "

Two accounts: FROM_AWS_ACCESS_KEY_ID and FROM_AWS_SECRET_ACCESS_KEY in the environment are for FROM and its archive alone,
TO_AWS_ACCESS_KEY_ID and TO_AWS_SECRET_ACCESS_KEY for TO and its archive.

It ends with 3 where FROM holds something damaged, or changed so quickly that another run is needed."))]
    Migrate {
        /// The store: a folder, file:///path or s3://bucket/prefix.
        from: String,
        /// The location to copy it to: a folder or a URL, as for FROM.
        to: String,
        /// The archive of FROM, if not backups/ in it.
        #[arg(long, value_name = "URL")]
        from_backup: Option<String>,
        /// The archive of TO, if not backups/ in it.
        #[arg(long, value_name = "URL")]
        to_backup: Option<String>,
    },
}

/// What to do with tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenAction {
    /// Issue a token, and show it: it is stored nowhere else.
    #[command(after_help = concat!("Example:\n  keepsake token new phone --scope upload\n", exit_codes!()))]
    New {
        /// Its name, such as the device or program that it is for.
        name: String,
        /// What it allows: read, also add and describe images, or everything.
        #[arg(long, value_enum)]
        scope: ScopeName,
    },
    /// List the tokens, without their secrets.
    #[command(after_help = concat!("Example:\n  keepsake token list --json\n", exit_codes!()))]
    List,
    /// Revoke a token.
    #[command(after_help = concat!("Example:\n  keepsake token revoke phone\n", exit_codes!()))]
    Revoke {
        /// Its name, or its id.
        token: String,
    },
}

/// What a token allows.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ScopeName {
    /// Read the store.
    Read,
    /// Also add images and describe them.
    Upload,
    /// Everything.
    Admin,
}

/// What a restore does with images that were added after the backup.
#[derive(Debug, Default, Clone, Copy, ValueEnum)]
pub enum Mode {
    /// Keeps them.
    #[default]
    Merge,
    /// Removes them.
    Exact,
}

fn slice(text: &str) -> Result<Slice, String> {
    text.parse().map_err(|error: shared::Error| error.to_string())
}

impl Cli {
    /// The flag for a variable, if it was given. There is none for `API_TOKEN`: every program on a machine can read the
    /// command lines of others.
    pub fn flag(&self, name: &str) -> Option<String> {
        let settings = &self.settings;
        let flag = match name {
            "HOST" => &settings.host,
            "PORT" => &settings.port,
            "DATA_DIR" => &settings.data_dir,
            "STORE_URL" => &settings.store_url,
            "BACKUP_URL" => &settings.backup_url,
            "ARCHIVE" => &settings.archive,
            "ARCHIVE_BEHIND_MAX" => &settings.archive_behind_max,
            "BACKUP_EVERY" => &settings.backup_every,
            "KEEP_LAST" => &settings.keep_last,
            "KEEP_DAILY" => &settings.keep_daily,
            "KEEP_WEEKLY" => &settings.keep_weekly,
            "KEEP_MONTHLY" => &settings.keep_monthly,
            "MAX_UPLOAD_BYTES" => &settings.max_upload_bytes,
            "MAX_PIXELS" => &settings.max_pixels,
            "RESERVE_BYTES" => &settings.reserve_bytes,
            "DERIVATIVE_CACHE_BYTES" => &settings.thumbnail_cache_bytes,
            "STRIP_GPS" => &settings.strip_gps,
            "ACCEPT_UNMOUNTED" => &settings.accept_unmounted,
            "READ" => &settings.read,
            "ALLOWED_HOSTS" => &settings.allowed_hosts,
            "PUBLIC_URL" => &settings.public_url,
            "ALLOWED_ORIGINS" => &settings.allowed_origins,
            "TRUST_PROXY" => &settings.trust_proxy,
            "RATE_LIMIT" => &settings.rate_limit,
            "RATE_LIMIT_WRONG_TOKENS" => &settings.rate_limit_wrong_tokens,
            "RUST_LOG" => &settings.rust_log,
            "LOG_FORMAT" => &settings.log_format,
            _ => &None,
        };
        flag.clone()
    }
}
