//! The command `prune`.

use shared::clock::Clock;
use shared::config::Config;
use shared::prune::Pruned;

use crate::server::{open, sentence};

/// Prunes the store, or says what that would remove; an error where it was held back.
pub async fn prune(config: &Config, dry_run: bool) -> Result<(), String> {
    let keepsake = open(config, Clock::system()).await?;
    let pruned = keepsake.prune(dry_run).await.map_err(|error| sentence("The store could not be pruned", &error))?;
    for line in lines(dry_run, &pruned) {
        println!("{line}");
    }
    pruned.held_back.map_or(Ok(()), |reason| Err(format!("nothing more is removed: {reason}")))
}

fn lines(dry_run: bool, pruned: &Pruned) -> Vec<String> {
    let verb = if dry_run { "would go" } else { "removed" };
    let mut lines: Vec<String> = pruned.removed.iter().map(|name| format!("{verb:<9} {name}")).collect();
    lines.push(format!("kept      {} backups", pruned.kept.len()));
    let (chunks, images) = (pruned.chunks.len(), pruned.images.len());
    lines.push(format!("{verb:<9} {chunks} catalog chunks and {images} second copies, {} bytes", pruned.bytes));
    lines
}
