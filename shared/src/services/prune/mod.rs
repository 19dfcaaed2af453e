//! Pruning: thins out older automatic backups, and removes objects that nothing references: replicas of images and
//! chunks in the archive, and pages of the catalog in every location.
//!
//! These objects are content-addressed and shared, so a writer may find the object that it needs already there, stored
//! by another process long ago. These rules keep a prune from removing an object that has just come into use:
//!
//! - **An object younger than [`SAFE_AGE`](crate::core::ages::SAFE_AGE) stays.** Every operation references the objects
//!   it relies on within a day.
//! - **Before referencing an existing object that may be older than [`AGING`](crate::core::ages::AGING), a writer
//!   stores it again.** That refreshes its age and changes its version. `Archive::put` and `Archive::verify` do so for
//!   images, `Catalog::archive_pages` for the pages of a backup. A compaction stores every page that its root has and
//!   the root that it replaces lacks, whether or not the page exists. A prune deletes only the version that it got from
//!   a listing or a head request, so when a prune and such a put race, one of them fails or comes second.
//! - **A root is replaced by compare-and-set.** The root before it references the pages that the new one takes over,
//!   and from then on the new one does. The same holds for the root of each mirror.
//! - **The versions of the candidates are read first, and references to them after that**, and again before each batch:
//!   the roots of all locations, manifests, intents, and the catalog, in which deleted images reference their contents
//!   until their tombstones expire. An object that was referenced before the last check stays. One that is referenced
//!   after it was stored again before.
//! - **A page that is referenced in one location stays in all of them**: the others hold its replicas.
//! - **A backup writes an *intent*, the tree that it will reference, before it looks for a base backup.** A prune
//!   deletes manifests first and then looks for intents, so either the backup does not find its base or the prune finds
//!   the intent. A new backup therefore need not rewrite what it takes over from its base.
//! - **A prune and the deletion of a backup take the lease that a restore takes.** A restore reads a backup for as long
//!   as it runs.
//! - **A prune removes nothing while a source of references cannot be read**: a root, a commit, a manifest, an intent,
//!   or a page above the lowest level of one of their trees. Pages of the lowest level, and chunks, reference images
//!   alone, so they are read only while there is a candidate image. Nor does a prune remove anything while the catalog
//!   has no image, while a damaged commit is in quarantine, or if a location with something to remove has no
//!   conditional deletes.
//!
//! These operations rely on an archived image. Uploads, the completion of a ticket, and recovery when it adopts a file
//! or completes a record store it again before their commit. `replicate_commits` and `catch_up` do so after it, and run
//! for each commit. A backup checks the images that live records reference. Deleting an image and finishing a delete
//! rely on the copy that a record, and then its tombstone, references. Repairs write the object. A restore holds the
//! lease, and its backup references what it restores.
//!
//! A process whose view is of an older root may need a page that was just removed. Its next refresh reads the present
//! root; a long read of the older view fails.
//!
//! # What a prune examines
//!
//! Pages and chunks are listed in every location: each compaction replaces some.
//!
//! A *sweep* also lists every image in the archive. Its cost grows with the archive. A
//! [scheduled](Pruner::prune_by_schedule) prune is therefore a sweep only once per [`SWEEP_EVERY`]. The prunes in
//! between examine only images that may have lost a reference since the last one. `pruned.json` names the trees that
//! were referenced when that one ended, and the contents of the commits that were not in a tree yet. An image is a
//! candidate if one of these trees, or a backup that now expires, has it and the present state does not have it under
//! the same name. An image that came and went in between has a tombstone, which is younger than [`SWEEP_EVERY`] and
//! references it.
//!
//! The trees in `pruned.json` are no references. If a page of one cannot be read, the prune is a sweep, and so it is if
//! `pruned.json` is missing, damaged or too old.
//!
//! Both kinds of prune check references in the same way, and the rules above hold for both; a sweep only has more
//! candidates. Without a sweep, the versions of candidate images are read one by one, after a first check has ruled out
//! most of them and before the check that precedes each batch.
//!
//! # Crashes
//!
//! A prune deletes manifests first, then images, then writes `pruned.json`, then deletes pages and chunks, and old
//! intents last. So a manifest never exists without its parts. A prune that is interrupted before it writes
//! `pruned.json` leaves the older one, with which the next prune finds the same images; pages are listed anyway.
//! Replicas that no state ever referenced, such as those of failed uploads, wait for the next sweep. If `pruned.json`
//! cannot be written because the disk is full, it is deleted, which makes the next prune a sweep.

mod candidates;
mod references;
mod run;
mod since;

pub use run::Pruned;
pub use since::SWEEP_EVERY;

use std::sync::Arc;

use crate::core::Core;
use crate::services::backup::Backups;

/// Thins out backups and removes unreferenced objects.
#[derive(Debug)]
pub struct Pruner {
    pub(crate) core: Arc<Core>,
    pub(crate) backups: Arc<Backups>,
}
