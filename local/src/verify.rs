//! The command `verify`.

use shared::clock::Clock;
use shared::config::Config;
use shared::verify::{Findings, Slice};

use crate::server::{open, sentence};

/// Verifies a slice of the store, or all of it, and says what was found; an error where something needs attention.
pub async fn verify(config: &Config, slice: Option<&str>, repair: bool) -> Result<(), String> {
    let slice = slice.map_or(Ok(Slice::WHOLE), str::parse).map_err(|error: shared::Error| error.to_string())?;
    let keepsake = open(config, Clock::system()).await?;
    let found = keepsake.verify(slice, repair).await.map_err(|error| sentence("Nothing was verified", &error))?;
    for line in lines(slice, &found) {
        println!("{line}");
    }
    if found.needs_attention() { Err("something needs attention".to_owned()) } else { Ok(()) }
}

fn lines(slice: Slice, found: &Findings) -> Vec<String> {
    let mut lines = vec![
        format!("slice     {slice}"),
        format!("images    {} read in both places, {} bytes each", found.images, found.bytes),
        format!("deleted   {} images read, of which the archive keeps a copy", found.deleted),
        format!("backups   {} manifests and chunks read, {} written again", found.pieces, found.rewritten),
    ];
    for (what, ids) in
        [("repaired", &found.repaired), ("copied", &found.copied), ("damaged", &found.damaged), ("lost", &found.lost)]
    {
        lines.extend(ids.iter().map(|id| format!("{what:<9} {id}")));
    }
    lines.extend(found.lost_copies.iter().map(|digest| format!("lost      backups/images/{digest}")));
    lines.extend(found.damaged_backups.iter().map(|name| format!("damaged   {name}")));
    lines
}
