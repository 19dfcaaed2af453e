//! Every key of the layout: the only module that builds and parses them.
//!
//! ```text
//! uploads/<id>                          image bytes
//! catalog.json                          the root of the catalog
//! catalog/<sha256>.json.gz              its pages
//! image-metadata.d/<commit-id>.json     commits not yet compacted into it
//! image-metadata.json                   every record, for people
//! incoming/<ticket-id>[.json]           bytes received for a ticket, and the ticket
//! incoming/<id>.part-<offset>           a part of a resumable upload, and beside it <id>.resumable.json
//! derivatives/<sha256>/<version>-<form> thumbnails of images, which may be deleted at any time
//! migration.json                        the marker of a migration into this store that has not ended
//! editing.json                          the lease of a conditional edit in progress
//! starts.json                           which instances started here; in every location that holds metadata
//! tokens.json                           the tokens of clients, hashed
//! backups/…                             the archive, a separate store (below)
//! ```
//!
//! Inside the archive, which by default is `backups/` in the primary:
//!
//! ```text
//! catalog.json, image-metadata.json, …      replicas of the above
//! images/<sha256>                           replica of each image, once per content
//! catalog/<sha256>.json.gz                  pages of the catalog and of backups
//! catalog/<sha256>.json                     chunks of backups of format 1
//! <backup-name>/manifest.json               a backup
//! <backup-name>/intent-<uuid>.json          what a backup in progress will reference
//! sequence.json                             which automatic backups are due
//! restore.json                              the lease of a running restore or prune
//! verified.json                             the findings of verifications
//! pruned.json                               what was referenced when the last prune ended
//! quarantine/<sha256>/<file name>           what recovery could not explain
//! ```
//!
//! The root, its pages and the commits have the same keys in every location that holds metadata, so the same code reads them
//! all.

pub mod file_name;
mod names;

use uuid::Uuid;

use store::Key;
use store::digest::Digest;

pub use names::{BackupName, ImageId, InvalidName};

/// The folder of images, with its trailing slash, as a listing prefix.
pub const UPLOADS: &str = "uploads/";
/// The folder of commits, as a listing prefix.
pub const COMMITS: &str = "image-metadata.d/";
/// The folder of tickets and of the bytes received for them, as a listing prefix. Listed only for cleanup.
pub const INCOMING: &str = "incoming/";
/// The folder of thumbnails, as a listing prefix.
pub const THUMBNAILS: &str = "derivatives/";
/// The archive's folder of replicas of images, as a listing prefix.
pub const ARCHIVED_IMAGES: &str = "images/";
/// The folder of the catalog's pages, as a listing prefix; in the archive, also of the chunks of older backups.
pub const CATALOG: &str = "catalog/";
/// The archive's quarantine folder, as a listing prefix.
pub const QUARANTINE: &str = "quarantine/";
/// The prefix of every backup's name.
pub const BACKUPS: &str = "backup-";
/// The name in a metadata file for everything that is not a record.
pub const RESERVED_NAME: &str = "$keepsake";

/// Builds a key from validated parts.
fn key(raw: impl Into<String>) -> Key {
    Key::new(raw).unwrap_or_else(|e| unreachable!("the layout makes valid keys only: {e}"))
}

/// The folder of images.
pub fn uploads_folder() -> Key {
    key("uploads")
}

/// The archive's folder in the primary, if no other archive is configured.
pub fn default_archive() -> Key {
    key("backups")
}

/// The folder of another replica of the metadata if `uploads/` is a separate file system.
pub fn uploads_mirror() -> Key {
    key("uploads/.keepsake")
}

/// An image's bytes, in the primary.
pub fn image(id: &ImageId) -> Key {
    key(format!("{UPLOADS}{id}"))
}

/// Parses the key of an [`image()`] in the primary.
pub fn parse_image(key: &Key) -> Option<ImageId> {
    ImageId::new(key.as_str().strip_prefix(UPLOADS)?).ok()
}

/// The bytes received for a ticket that are not an image yet, in the primary.
pub fn incoming(ticket: Uuid) -> Key {
    key(format!("{INCOMING}{ticket}"))
}

/// A ticket, in the primary.
pub fn ticket(id: Uuid) -> Key {
    key(format!("{INCOMING}{id}.json"))
}

/// Parses the key of a [`ticket`] in the primary.
pub fn parse_ticket(key: &Key) -> Option<Uuid> {
    parse_uuid(key.as_str().strip_prefix(INCOMING)?.strip_suffix(".json")?)
}

/// The metadata from the first request of a resumable upload, in the primary.
pub fn resumable(id: Uuid) -> Key {
    key(format!("{INCOMING}{id}.resumable.json"))
}

/// The prefix of the parts of a resumable upload, for listings.
pub fn parts(id: Uuid) -> String {
    format!("{INCOMING}{id}.part-")
}

/// The part of a resumable upload that begins at this byte, in the primary. Parts sort by offset.
pub fn part(id: Uuid, offset: u64) -> Key {
    key(format!("{}{offset:020}", parts(id)))
}

/// Parses the offset from the key of a [`part`] in the primary.
pub fn parse_part(key: &Key) -> Option<u64> {
    let (_, offset) = key.as_str().strip_prefix(INCOMING)?.split_once(".part-")?;
    offset.parse().ok().filter(|_| offset.len() == 20)
}

/// A thumbnail of the images with this content, in the primary; `form` is one segment.
pub fn thumbnail(content: &Digest, form: &str) -> Key {
    key(format!("{THUMBNAILS}{content}/{form}"))
}

/// The prefix of all thumbnails of this content, for listings.
pub fn thumbnails_of(content: &Digest) -> String {
    format!("{THUMBNAILS}{content}/")
}

/// Parses the content digest from the key of a [`thumbnail`] in the primary.
pub fn parse_thumbnail(key: &Key) -> Option<Digest> {
    key.as_str().strip_prefix(THUMBNAILS)?.split_once('/')?.0.parse().ok()
}

/// The metadata file, in any location that holds metadata.
pub fn metadata_file() -> Key {
    key("image-metadata.json")
}

/// The root of the catalog, in any location that holds metadata.
pub fn root() -> Key {
    key("catalog.json")
}

/// A page of the catalog, in any location that holds metadata.
pub fn page(digest: &Digest) -> Key {
    key(format!("{CATALOG}{digest}.json.gz"))
}

/// Parses the key of a [`page`].
pub fn parse_page(key: &Key) -> Option<Digest> {
    key.as_str().strip_prefix(CATALOG)?.strip_suffix(".json.gz")?.parse().ok()
}

/// The marker of a migration into this store that has not ended, in the primary.
pub fn migration() -> Key {
    key("migration.json")
}

/// Which instances started with a location, in any location that holds metadata.
pub fn starts() -> Key {
    key("starts.json")
}

/// The tokens of clients, in the primary.
pub fn tokens() -> Key {
    key("tokens.json")
}

/// A commit, in any location that holds metadata.
pub fn commit(id: Uuid) -> Key {
    key(format!("{COMMITS}{id}.json"))
}

/// Parses the key of a [`commit`].
pub fn parse_commit(key: &Key) -> Option<Uuid> {
    parse_uuid(key.as_str().strip_prefix(COMMITS)?.strip_suffix(".json")?)
}

/// A UUID in the exact form that Keepsake writes: other programs name files by UUIDs too, phones in upper case.
fn parse_uuid(text: &str) -> Option<Uuid> {
    Uuid::parse_str(text).ok().filter(|uuid| uuid.to_string() == text)
}

/// The replica of an image, in the archive.
pub fn archived_image(digest: &Digest) -> Key {
    key(format!("{ARCHIVED_IMAGES}{digest}"))
}

/// Parses the key of an [`archived_image`] in the archive.
pub fn parse_archived_image(key: &Key) -> Option<Digest> {
    key.as_str().strip_prefix(ARCHIVED_IMAGES)?.parse().ok()
}

/// A catalog chunk, in the archive.
pub fn chunk(digest: &Digest) -> Key {
    key(format!("{CATALOG}{digest}.json"))
}

/// Parses the key of a [`chunk`] in the archive.
pub fn parse_chunk(key: &Key) -> Option<Digest> {
    key.as_str().strip_prefix(CATALOG)?.strip_suffix(".json")?.parse().ok()
}

/// A backup's manifest, in the archive.
pub fn manifest(name: BackupName) -> Key {
    key(format!("{name}/manifest.json"))
}

/// Parses the key of a [`manifest`] in the archive.
pub fn parse_manifest(key: &Key) -> Option<BackupName> {
    key.as_str().strip_suffix("/manifest.json")?.parse().ok()
}

/// What a backup in progress will reference, in the archive. Sorts before its manifest, so that a listing that misses
/// the intent because it was deleted finds the manifest.
pub fn intent(name: BackupName, id: Uuid) -> Key {
    key(format!("{name}/intent-{id}.json"))
}

/// Whether a key of the archive is that of an [`intent`].
pub fn is_intent(key: &Key) -> bool {
    let rest = key.as_str().split_once("/intent-").filter(|(name, _)| name.parse::<BackupName>().is_ok());
    rest.and_then(|(_, id)| id.strip_suffix(".json")).is_some_and(|id| parse_uuid(id).is_some())
}

/// Which automatic backups are due, in the archive.
pub fn sequence() -> Key {
    key("sequence.json")
}

/// The findings of verifications, in the archive.
pub fn verified() -> Key {
    key("verified.json")
}

/// What was referenced when the last prune ended, in the archive.
pub fn pruned() -> Key {
    key("pruned.json")
}

/// Parses the commit id from the key of a quarantined commit in the archive.
pub fn parse_quarantined_commit(key: &Key) -> Option<Uuid> {
    let (_, name) = key.as_str().strip_prefix(QUARANTINE)?.split_once('/')?;
    parse_uuid(name.strip_suffix(".json")?)
}

/// The lease of a running restore or prune, in the archive.
pub fn restore_lease() -> Key {
    key("restore.json")
}

/// The lease of a conditional edit, in the primary.
pub fn edit_lease() -> Key {
    key("editing.json")
}

/// In an export: the digests of all other files, in the format of `sha256sum --check`.
pub fn exported_digests() -> Key {
    key("SHA256SUMS")
}

/// In an export: the names of images whose bytes it does not contain.
pub fn exported_missing() -> Key {
    key("missing.txt")
}

/// Whether a path in a folder that Keepsake has served or exported is one of Keepsake's own files.
pub fn is_own(path: &str) -> bool {
    let folders = ["backups/", THUMBNAILS, INCOMING, "scratch/", "uploads/.keepsake/"];
    let name = path.rsplit('/').next().unwrap_or_default();
    let key = Key::new(path).ok();
    folders.iter().any(|folder| path.starts_with(folder))
        || key.is_some_and(|key| parse_page(&key).or_else(|| parse_chunk(&key)).is_some())
        || [exported_digests(), exported_missing(), tokens(), root()].iter().any(|key| key.as_str() == path)
        || name.starts_with(".keepsake")
        || name.starts_with(Key::RESERVED_PREFIX)
}

/// A folder in which a start may write and delete, to test a store's capabilities.
pub fn scratch() -> Key {
    key("scratch")
}

/// An unused key in the folder of images, to test whether that folder can be used.
pub fn probe() -> Key {
    key("uploads/.probe")
}

/// An object that recovery could not explain, in the archive; by content, so that quarantining it twice stores it once.
pub fn quarantined(digest: &Digest, name: &str) -> Key {
    key(format!("{QUARANTINE}{digest}/{name}"))
}

/// Parses the content digest from the key of a [`quarantined`] object in the archive.
pub fn parse_quarantined(key: &Key) -> Option<Digest> {
    key.as_str().strip_prefix(QUARANTINE)?.split_once('/')?.0.parse().ok()
}

/// The extension in the ids of links.
const LINK: &str = "link";

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_uuid_that_is_written_otherwise_is_not_one_of_ours() {
        let telephone = ImageId::new("3F2504E0-4F89-11D3-9A0C-0305E82C3301.JPG").unwrap();
        assert_eq!(telephone.uuid(), None);
        let key = Key::new("incoming/3F2504E0-4F89-11D3-9A0C-0305E82C3301.json").unwrap();
        assert_eq!(parse_ticket(&key), None);
    }

    #[test]
    fn no_key_of_the_layout_is_a_path_prefix_of_another() {
        let (digest, name) = (Digest::of(b""), BackupName::at(Timestamp::UNIX_EPOCH));
        let archive = [
            metadata_file(),
            starts(),
            commit(Uuid::nil()),
            archived_image(&digest),
            chunk(&digest),
            manifest(name),
            intent(name, Uuid::nil()),
            sequence(),
            restore_lease(),
            verified(),
            pruned(),
            root(),
            page(&digest),
            quarantined(&digest, "x"),
        ];
        let mut all: Vec<String> = archive.iter().map(|k| format!("{}/{k}", default_archive())).collect();
        all.extend(
            [metadata_file(), starts(), tokens(), migration(), edit_lease(), commit(Uuid::nil())]
                .map(|k| k.to_string()),
        );
        let nil = Uuid::nil();
        all.extend([incoming(nil), ticket(nil), resumable(nil), part(nil, 0)].map(|k| k.to_string()));
        all.push(thumbnail(&digest, "1-w320-webp").to_string());
        all.push(image(&ImageId::new("a.jpg").unwrap()).to_string());
        all.push(format!("{}/{}", uploads_mirror(), metadata_file()));
        for a in &all {
            assert!(!all.iter().any(|b| b.starts_with(&format!("{a}/"))), "{a}");
        }
    }
}
