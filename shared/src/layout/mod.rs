//! Every key of the layout: the one module that builds and parses them.
//!
//! ```text
//! uploads/<id>                          image bytes
//! image-metadata.json                   the checkpoint
//! image-metadata.d/<commit-id>.json     commits not yet compacted into it
//! incoming/<ticket-id>[.json]           bytes that came under a ticket, and the ticket
//! incoming/<id>.part-<offset>           a part of a resumable upload, and beside it <id>.resumable.json
//! thumbnails/<sha256>/<version>-<form> thumbnails of images, which anyone may remove at any time
//! migration.json                        the marker of a migration into this store that has not ended
//! starts.json                           which instances started here; in every place that holds metadata
//! tokens.json                           the tokens of clients, hashed
//! backups/…                             the archive, a store of its own (below)
//! ```
//!
//! Inside the archive, which by default is `backups/` in the primary:
//!
//! ```text
//! image-metadata.json, image-metadata.d/…   replicas of the above
//! images/<sha256>                           replica of each image, once per content
//! catalog/<sha256>.json                     catalog chunks, shared between backups
//! <backup-name>/manifest.json               a backup
//! <backup-name>/intent-<uuid>.json          what a backup that is being made will name
//! sequence.json                             which automatic backups are due
//! restore.json                              the lease of a running restore or prune
//! verified.json                             what verifications found
//! leftovers/<uuid>.json                     what may be named by nothing any more, for the next prune
//! swept.json                                when a prune last looked at everything
//! quarantine/<sha256>/<file name>           what recovery could not explain
//! ```
//!
//! The checkpoint and the commits have the same keys in every place that holds metadata, so one code reads them all.

pub mod file_name;
mod names;

use uuid::Uuid;

pub use names::{BackupName, ImageId, InvalidName};

use store::Key;
use store::digest::Digest;

/// The folder of images, with the slash that ends it, as a listing prefix.
pub const UPLOADS: &str = "uploads/";
/// The folder of commits, likewise.
pub const COMMITS: &str = "image-metadata.d/";
/// The folder of tickets and of the bytes that came under them, likewise. Nobody lists it but who clears it away.
pub const INCOMING: &str = "incoming/";
/// The folder of thumbnails of images, likewise.
pub const THUMBNAILS: &str = "derivatives/";
/// The archive's folder of replicas of images, likewise.
pub const ARCHIVED_IMAGES: &str = "images/";
/// The archive's folder of catalog chunks, likewise.
pub const CHUNKS: &str = "catalog/";
/// The archive's folder of lists of what may be named by nothing any more, likewise.
pub const LEFTOVERS: &str = "leftovers/";
/// The archive's folder of what could not be explained, likewise.
pub const QUARANTINE: &str = "quarantine/";
/// What the name of every backup starts with.
pub const BACKUPS: &str = "backup-";
/// The name under which a checkpoint keeps what is not a record.
pub const RESERVED_NAME: &str = "$keepsake";

/// Builds a key out of parts that were checked when they were made.
fn key(raw: impl Into<String>) -> Key {
    Key::new(raw).unwrap_or_else(|e| unreachable!("the layout makes valid keys only: {e}"))
}

/// The folder of images itself.
pub fn uploads_folder() -> Key {
    key("uploads")
}

/// Where the archive lies in the primary when no other place is configured.
pub fn default_archive() -> Key {
    key("backups")
}

/// Where a further copy of the metadata lies when `uploads/` is a file system of its own.
pub fn uploads_mirror() -> Key {
    key("uploads/.keepsake")
}

/// An image's bytes, in the primary.
pub fn image(id: &ImageId) -> Key {
    key(format!("{UPLOADS}{id}"))
}

/// The image whose bytes lie under this key of the primary, if any do.
pub fn parse_image(key: &Key) -> Option<ImageId> {
    ImageId::new(key.as_str().strip_prefix(UPLOADS)?).ok()
}

/// The bytes that came under a ticket and are no image yet, in the primary.
pub fn incoming(ticket: Uuid) -> Key {
    key(format!("{INCOMING}{ticket}"))
}

/// A ticket, in the primary.
pub fn ticket(id: Uuid) -> Key {
    key(format!("{INCOMING}{id}.json"))
}

/// The ticket that lies under this key of the primary, if one does.
pub fn parse_ticket(key: &Key) -> Option<Uuid> {
    parse_uuid(key.as_str().strip_prefix(INCOMING)?.strip_suffix(".json")?)
}

/// What the first request of a resumable upload said, in the primary.
pub fn resumable(id: Uuid) -> Key {
    key(format!("{INCOMING}{id}.resumable.json"))
}

/// What the parts of a resumable upload start with, as a listing prefix.
pub fn parts(id: Uuid) -> String {
    format!("{INCOMING}{id}.part-")
}

/// The part of a resumable upload that begins at this byte, in the primary. Parts sort by where they begin.
pub fn part(id: Uuid, offset: u64) -> Key {
    key(format!("{}{offset:020}", parts(id)))
}

/// Where the part begins that lies under this key of the primary, if one does.
pub fn parse_part(key: &Key) -> Option<u64> {
    let (_, offset) = key.as_str().strip_prefix(INCOMING)?.split_once(".part-")?;
    offset.parse().ok().filter(|_| offset.len() == 20)
}

/// A thumbnail of the images that have this content, in the primary; `form` is one segment.
pub fn thumbnail(content: &Digest, form: &str) -> Key {
    key(format!("{THUMBNAILS}{content}/{form}"))
}

/// Where all thumbnails of this content lie, as a listing prefix.
pub fn thumbnails_of(content: &Digest) -> String {
    format!("{THUMBNAILS}{content}/")
}

/// The content of which a thumbnail lies under this key of the primary, if one does.
pub fn parse_thumbnail(key: &Key) -> Option<Digest> {
    key.as_str().strip_prefix(THUMBNAILS)?.split_once('/')?.0.parse().ok()
}

/// The checkpoint, in any place that holds metadata.
pub fn checkpoint() -> Key {
    key("image-metadata.json")
}

/// The marker of a migration into this store that has not ended, in the primary.
pub fn migration() -> Key {
    key("migration.json")
}

/// Which instances started with a place, in any place that holds metadata.
pub fn starts() -> Key {
    key("starts.json")
}

/// The tokens of clients, in the primary.
pub fn tokens() -> Key {
    key("tokens.json")
}

/// A commit, in any place that holds metadata.
pub fn commit(id: Uuid) -> Key {
    key(format!("{COMMITS}{id}.json"))
}

/// The commit that lies under this key, if one does.
pub fn parse_commit(key: &Key) -> Option<Uuid> {
    parse_uuid(key.as_str().strip_prefix(COMMITS)?.strip_suffix(".json")?)
}

/// A UUID in the one form in which Keepsake writes it: others name files by UUIDs too, telephones in capital letters.
fn parse_uuid(text: &str) -> Option<Uuid> {
    Uuid::parse_str(text).ok().filter(|uuid| uuid.to_string() == text)
}

/// The replica of an image, in the archive.
pub fn archived_image(digest: &Digest) -> Key {
    key(format!("{ARCHIVED_IMAGES}{digest}"))
}

/// The content whose replica lies under this key of the archive, if one does.
pub fn parse_archived_image(key: &Key) -> Option<Digest> {
    key.as_str().strip_prefix(ARCHIVED_IMAGES)?.parse().ok()
}

/// A catalog chunk, in the archive.
pub fn chunk(digest: &Digest) -> Key {
    key(format!("{CHUNKS}{digest}.json"))
}

/// The chunk that lies under this key of the archive, if one does.
pub fn parse_chunk(key: &Key) -> Option<Digest> {
    key.as_str().strip_prefix(CHUNKS)?.strip_suffix(".json")?.parse().ok()
}

/// A backup's manifest, in the archive.
pub fn manifest(name: BackupName) -> Key {
    key(format!("{name}/manifest.json"))
}

/// The backup whose manifest lies under this key of the archive, if one does.
pub fn parse_manifest(key: &Key) -> Option<BackupName> {
    key.as_str().strip_suffix("/manifest.json")?.parse().ok()
}

/// What a backup that is being made will name, in the archive. Sorts before its manifest, so that a listing that misses
/// the one for being too late finds the other.
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

/// What verifications found, in the archive.
pub fn verified() -> Key {
    key("verified.json")
}

/// A list of what may be named by nothing any more, in the archive.
pub fn leftovers(id: Uuid) -> Key {
    key(format!("{LEFTOVERS}{id}.json"))
}

/// When a prune last looked at everything, in the archive.
pub fn swept() -> Key {
    key("swept.json")
}

/// The commit whose damaged bytes lie under this key of the archive's quarantine, if any do.
pub fn parse_quarantined_commit(key: &Key) -> Option<Uuid> {
    let (_, name) = key.as_str().strip_prefix(QUARANTINE)?.split_once('/')?;
    parse_uuid(name.strip_suffix(".json")?)
}

/// The lease of a running restore or prune, in the archive.
pub fn restore_lease() -> Key {
    key("restore.json")
}

/// In what was taken out: the digests of all other files, as `sha256sum --check` takes them.
pub fn exported_digests() -> Key {
    key("SHA256SUMS")
}

/// In what was taken out: the names of images whose bytes are in it neither.
pub fn exported_missing() -> Key {
    key("missing.txt")
}

/// Whether a path in a folder that Keepsake has served, or that was taken out, is Keepsake's own affair.
pub fn is_own(path: &str) -> bool {
    let folders = ["backups/", THUMBNAILS, INCOMING, "scratch/", "uploads/.keepsake/"];
    let name = path.rsplit('/').next().unwrap_or_default();
    folders.iter().any(|folder| path.starts_with(folder))
        || [exported_digests(), exported_missing(), tokens()].iter().any(|key| key.as_str() == path)
        || name.starts_with(".keepsake")
        || name.starts_with(Key::RESERVED_PREFIX)
}

/// A folder that a start may write to and delete from, to try what a store can do.
pub fn scratch() -> Key {
    key("scratch")
}

/// A key in the folder of images that holds nothing, to see whether that folder can be used.
pub fn probe() -> Key {
    key("uploads/.probe")
}

/// Something that recovery could not explain, in the archive; by content, so that setting it aside twice is once.
pub fn quarantined(digest: &Digest, name: &str) -> Key {
    key(format!("{QUARANTINE}{digest}/{name}"))
}

/// The content that lies under this key of the archive's quarantine, if any does.
pub fn parse_quarantined(key: &Key) -> Option<Digest> {
    key.as_str().strip_prefix(QUARANTINE)?.split_once('/')?.0.parse().ok()
}

/// What the ids of links end in, as those of images do in the extension of their format.
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
            checkpoint(),
            starts(),
            commit(Uuid::nil()),
            archived_image(&digest),
            chunk(&digest),
            manifest(name),
            intent(name, Uuid::nil()),
            sequence(),
            restore_lease(),
            verified(),
            leftovers(Uuid::nil()),
            swept(),
            quarantined(&digest, "x"),
        ];
        let mut all: Vec<String> = archive.iter().map(|k| format!("{}/{k}", default_archive())).collect();
        all.extend([checkpoint(), starts(), tokens(), migration(), commit(Uuid::nil())].map(|k| k.to_string()));
        let nil = Uuid::nil();
        all.extend([incoming(nil), ticket(nil), resumable(nil), part(nil, 0)].map(|k| k.to_string()));
        all.push(thumbnail(&digest, "1-w320-webp").to_string());
        all.push(image(&ImageId::new("a.jpg").unwrap()).to_string());
        all.push(format!("{}/{}", uploads_mirror(), checkpoint()));
        for a in &all {
            assert!(!all.iter().any(|b| b.starts_with(&format!("{a}/"))), "{a}");
        }
    }
}
