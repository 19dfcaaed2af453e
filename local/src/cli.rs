//! The command line: the commands, and a flag for each variable of the configuration, which overrides the environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgMatches, Args, FromArgMatches, Parser, Subcommand};
use shared::tokens::Scope;
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

/// The settings: each variable of the environment, and the help of its flag.
const SETTINGS: [(&str, &str); 28] = [
    ("HOST", "Address to listen on: an IP address or localhost"),
    ("PORT", "Port to listen on; 0 takes a free one"),
    ("DATA_DIR", "Folder of uploads/, backups/ and image-metadata.json"),
    ("STORE_URL", "The store: file:///path or s3://bucket/prefix?endpoint=https://…&region=…"),
    (
        "BACKUP_URL",
        "The archive of replicas and backups, if not backups/ in the store: a URL as for the store, or cloudinary://…, which contains a secret and is better set in the environment",
    ),
    ("ARCHIVE", "When replicas are made: sync or async"),
    ("ARCHIVE_BEHIND_MAX", "Changes that may be pending replication before uploads are refused"),
    ("BACKUP_EVERY", "Uploads for each automatic backup"),
    ("KEEP_LAST", "Newest automatic backups that a prune keeps"),
    ("KEEP_DAILY", "Days for which it keeps one"),
    ("KEEP_WEEKLY", "Weeks for which it keeps one"),
    ("KEEP_MONTHLY", "Months for which it keeps one"),
    ("MAX_UPLOAD_BYTES", "Longest upload, such as 100MiB"),
    ("MAX_PIXELS", "Most pixels an image may have"),
    ("RESERVE_BYTES", "Bytes that uploads leave free, such as 64MiB"),
    ("DERIVATIVE_CACHE_BYTES", "Size of the thumbnail cache, such as 1GiB; 0 disables it"),
    ("STRIP_GPS", "Whether images are served without their GPS positions: true or false"),
    (
        "OFFLOAD",
        "How a proxy before the server sends the files of verified images: x-accel-redirect:/internal-uploads/ or x-sendfile",
    ),
    ("ACCEPT_UNMOUNTED", "Locations whose volume is lost for good: data, uploads or archive, separated by commas"),
    ("READ", "Who may read the store: open for everyone, token for holders of a token"),
    ("ALLOWED_HOSTS", "Host names that the server accepts, besides localhost, separated by commas"),
    (
        "PUBLIC_URL",
        "Where clients reach the server, such as https://photos.example; makes the URLs in answers absolute",
    ),
    ("ALLOWED_ORIGINS", "Origins whose pages may make changes, separated by commas"),
    ("TRUST_PROXY", "Proxies before the server whose X-Forwarded-For is trusted"),
    ("RATE_LIMIT", "Requests per minute allowed from one address; 0 for no limit"),
    ("RATE_LIMIT_WRONG_TOKENS", "Wrong tokens per minute allowed from one address; 0 for no limit"),
    ("RUST_LOG", "What to log, such as info or shared=debug"),
    ("LOG_FORMAT", "Format of the log: text or json"),
];
/// The settings that `-h` shows; `--help` shows all.
const COMMON: [&str; 3] = ["DATA_DIR", "STORE_URL", "BACKUP_URL"];
const HEADING: &str = "Settings, each also a variable of the environment, as DATA_DIR is for --data-dir";

/// The settings that were given as flags.
#[derive(Debug, Default)]
struct Settings(BTreeMap<&'static str, String>);

impl Args for Settings {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(SETTINGS.map(|(variable, help)| {
            let flag = match variable {
                "DERIVATIVE_CACHE_BYTES" => "thumbnail-cache-bytes".to_owned(),
                variable => variable.to_ascii_lowercase().replace('_', "-"),
            };
            let argument = Arg::new(variable).long(flag).help(help).help_heading(HEADING);
            argument.global(true).hide_short_help(!COMMON.contains(&variable))
        }))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |(variable, _)| Some((variable, matches.get_one::<String>(variable)?.clone()));
        Ok(Self(SETTINGS.into_iter().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
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

Without a terminal, or with --json, it needs --yes or --dry-run."))]
    Restore(RestoreArgs),
    /// Make, list and revoke the tokens that clients show instead of API_TOKEN.
    #[command(after_help = concat!("\
Examples:
  keepsake token new phone --scope upload
  keepsake token list
  keepsake token revoke phone
", exit_codes!(), "

A running server accepts a new token within a second, and accepts a revoked one for at most five more seconds. Tokens open nothing
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

It ends with 3 if images of imported records are missing, or something could not be imported."))]
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

It ends with 3 if the bytes of an image are missing; missing.txt lists it."))]
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

It ends with 3 if something in FROM is damaged, or if FROM changed so quickly that another run is needed."))]
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
        /// What it allows: read the store, upload (also add and describe images), or admin (everything).
        #[arg(long, value_parser = scope())]
        scope: Scope,
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

/// The arguments of a restore.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// The backup, as `keepsake backups` lists it.
    #[arg(value_name = "BACKUP")]
    pub name: String,
    /// What happens to images that were added after the backup: merge keeps them, exact removes them.
    #[arg(long, value_parser = ["merge", "exact"], default_value = "merge")]
    pub mode: String,
    /// Only show what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
}

fn scope() -> impl TypedValueParser<Value = Scope> {
    PossibleValuesParser::new(Scope::ALL.map(Scope::name))
        .try_map(|name| Scope::ALL.into_iter().find(|scope| scope.name() == name).ok_or("no such scope"))
}

fn slice(text: &str) -> Result<Slice, String> {
    text.parse().map_err(|error: shared::Error| error.to_string())
}

impl Cli {
    /// The flag for a variable, if it was given. There is none for `API_TOKEN`: every program on a machine can read the
    /// command lines of others.
    pub fn flag(&self, name: &str) -> Option<String> {
        self.settings.0.get(name).cloned()
    }
}
