//! Pruning: older automatic backups are thinned out, and what nothing names any more is removed from the archive.
//!
//! Chunks and images lie in the archive by digest and are shared, so that who stores one may find it there, put by
//! another long ago. What keeps a prune from removing an object on which someone has just begun to rely:
//!
//! - **An object younger than [`SAFE_AGE`] stays.** Nothing relies on an object for a day without being seen to name it.
//! - **Who relies on an object of more than [`AGING`](crate::core::ages::AGING) before anything names it puts it anew**, which makes it young and
//!   another version: `Archive::put` and `Archive::verify` for images, `store_chunks` for chunks. A prune deletes only
//!   the version that it was told of, by a listing or a head, so of a prune and such a put one fails or comes after the
//!   other.
//! - **The versions that might go are taken first, and what names them is read after that**, and again before each
//!   [`BATCH`]: the manifests, the intents, and the catalog, in which deleted images name their contents for as long as
//!   their tombstones are kept. What was named before the last look stays. What is named after it was put anew before.
//! - **A backup writes down what it will name before it looks for one to be based on** (an *intent*). A prune deletes
//!   manifests first and then looks for intents, so either the backup does not find its base or the prune finds the intent.
//!   So nothing that a new backup takes over from its base has to be touched.
//! - **A prune and the delete of a backup take the lease of a restore**, which reads a backup for as long as it runs.
//! - **Nothing goes where something that names contents cannot be read**: a damaged manifest or commit, or a damaged chunk
//!   that might name an image which is to go. Chunks of the state as it is need no reading: their digests say that they name
//!   what is known here.
//!
//! Who relies on an archived image, and why that is safe: an upload, the completion of a ticket and recovery, where it
//! adopts a file or completes a record, put it anew before their commit; `replicate_commits` and `catch_up` after it, and
//! they run for each commit. A backup checks images that live records name. Deleting an image and finishing a delete rely
//! on the copy of what a record and then its tombstone names. Repairs write. A restore holds the lease, and its backup
//! names what it brings back.
//!
//! # What a prune looks at
//!
//! A *sweep* lists every chunk and image, and finds whatever nothing names. That costs what the archive holds. So
//! [by schedule](Keepsake::prune_by_schedule) it is made once in [`SWEEP_EVERY`], and a prune in between looks only at
//! what it is told of by those who take names away ([`crate::catalog::gc_hints`]):
//!
//! - Chunks lose a name where a backup goes: in this prune, or where one is deleted, which leaves a list of its chunks. And
//!   where a backup was cut off, whose intent tells which chunks it may have stored.
//! - Images lose one where such a chunk goes; the chunk tells which. And where a compaction drops tombstones, which leaves a list
//!   of their contents.
//!
//! What still is named then needs no looking after: who takes that name away will tell. A list is dealt with once it is as
//! old as [`SAFE_AGE`], so that who wrote it has done by then what he wrote it for.
//!
//! How names are looked up is one and the same for both, and so is all that is said above: a sweep only has more to ask
//! for. Of the few, the versions are asked for one by one, after a first look has told most of them to be named, and
//! before the look that precedes each batch.
//!
//! # Crashes
//!
//! Before the first manifest goes, a list of what only those that go name is put. Images go before chunks, and lists and
//! old intents last. So a prune that is cut off leaves to the next one what tells it of the rest, and no manifest ever
//! stands without its parts. What nobody could tell of waits for the next sweep: replicas of uploads that failed, chunks
//! of a backup that failed, what an older version left. Where a list cannot be written or read, [`Swept`] is deleted, so that
//! the next prune is a sweep.

mod candidates;
mod hints;
mod pruner;
mod references;
mod run;

pub use hints::SWEEP_EVERY;
pub use pruner::Pruner;
pub use run::Pruned;
