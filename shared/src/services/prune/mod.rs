//! Pruning: thins out older automatic backups, and removes unreferenced objects from the archive.
//!
//! Chunks and images in the archive are content-addressed and shared, so a writer may find the object that it needs
//! already there, stored by another process long ago. These rules keep a prune from removing an object that has just
//! come into use:
//!
//! - **An object younger than [`SAFE_AGE`] stays.** Every operation references the objects it relies on within a day.
//! - **Before referencing an existing object older than [`AGING`](crate::core::ages::AGING), a writer stores it
//!   again.** That refreshes its age and changes its version. `Archive::put` and `Archive::verify` do so for images,
//!   `store_chunks` for chunks. A prune deletes only the version that it got from a listing or a head request, so when
//!   a prune and such a put race, one of them fails or comes second.
//! - **The versions of the candidates are read first, and references to them after that**, and again before each
//!   [`BATCH`]: manifests, intents, and the catalog, in which deleted images reference their contents until their
//!   tombstones expire. ObjectKind was referenced before the last check stays. ObjectKind is referenced after it was stored again
//!   before.
//! - **A backup writes an *intent*, the list of chunks it will reference, before it looks for a base backup.** A prune
//!   deletes manifests first and then looks for intents, so either the backup does not find its base or the prune finds
//!   the intent. A new backup therefore need not rewrite what it takes over from its base.
//! - **A prune and the deletion of a backup take the lease that a restore takes.** A restore reads a backup for as long
//!   as it runs.
//! - **A prune removes nothing while a source of references cannot be read**: a damaged manifest or commit, or a
//!   damaged chunk that might reference a candidate image. Chunks of the present state need not be read: their digests
//!   prove that they reference only what the catalog contains.
//!
//! These operations rely on an archived image. Uploads, the completion of a ticket, and recovery when it adopts a file
//! or completes a record store it again before their commit. `replicate_commits` and `catch_up` do so after it,
//! and run for each commit. A backup checks the images that live records reference. Deleting an image and finishing a
//! delete rely on the copy that a record, and then its tombstone, references. Repairs write the object. A restore holds
//! the lease, and its backup references what it restores.
//!
//! # ObjectKind a prune examines
//!
//! A *sweep* lists every chunk and image, and finds all unreferenced objects. Its cost grows with the archive. A
//! [scheduled](Keepsake::prune_by_schedule) prune is therefore a sweep only once per [`SWEEP_EVERY`]. The prunes in
//! between examine only the gc hints ([`crate::catalog::gc_hints`]), which every operation that drops references
//! leaves:
//!
//! - A chunk loses a reference when a backup is removed: by this prune, or by a delete, which leaves a list of the
//!   backup's chunks. The intent of an interrupted backup lists the chunks it may have stored.
//! - An image loses a reference when such a chunk is removed; the chunk lists its images. And when a compaction drops
//!   tombstones, which leaves a list of their contents.
//!
//! An object that is still referenced can be ignored: the operation that drops the reference will leave a hint. A hint
//! is processed once it is as old as [`SAFE_AGE`], so that the operation which wrote it has ended.
//!
//! Both kinds of prune check references in the same way, and the rules above hold for both; a sweep only has more
//! candidates. For hinted candidates, versions are read one by one, after a first check has ruled out most of them and
//! before the check that precedes each batch.
//!
//! # Crashes
//!
//! Before the first manifest is deleted, a prune writes a hint that lists what only the removed backups reference. It
//! deletes images before chunks, and hints and old intents last. So an interrupted prune leaves hints for the rest to
//! the next one, and a manifest never exists without its parts. Objects without a hint wait for the next sweep:
//! replicas of failed uploads, chunks of a failed backup, leftovers of older versions. If a hint cannot be written or
//! read, [`Swept`] is deleted, which makes the next prune a sweep.

mod candidates;
mod hints;
mod references;
mod run;

pub use hints::SWEEP_EVERY;
pub use run::Pruned;

use std::sync::Arc;

use crate::core::Core;
use crate::services::backup::Backups;

/// Thins out backups and removes unreferenced objects.
#[derive(Debug)]
pub struct Pruner {
    pub(crate) core: Arc<Core>,
    pub(crate) backups: Arc<Backups>,
}
