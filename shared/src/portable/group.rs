//! A group's images as a zip for people.

use std::sync::Arc;

use futures::stream::TryStreamExt;
use tokio::io::AsyncWrite;

use super::export::{Contents, unwritten};
use super::zip_writer::ZipWriter;
use crate::catalog::Record;
use crate::error::Result;
use crate::file_name;
use crate::groups::Group;
use crate::keepsake::Keepsake;

/// What says where the links of a group lead.
const LINKS: &str = "links.txt";
/// What names the images whose bytes are nowhere to be found.
const MISSING: &str = "missing.txt";

impl Keepsake {
    /// Writes a zip of a group's images under their original names, in the group's order. Each is read through and compared
    /// with its digest before it is written. Of an error all that follows is missing, the directory included, so that what
    /// was written is no zip. With `strip_gps` they do not say where they were taken.
    pub async fn zip_group(&self, group: &Group, strip_gps: bool, out: impl AsyncWrite + Unpin) -> Result<()> {
        let contents = Contents::of_single_images(self);
        let mut zip = ZipWriter::new(out, self.clock.now());
        let digits = group.images.len().to_string().len();
        let (mut links, mut missing) = (String::new(), String::new());
        for (number, (id, entry)) in (1_usize..).zip(&group.images) {
            // Its number makes each name one of its kind, and keeps the order where files are sorted by their names.
            let original = entry.live().and_then(|record| record.original_name.as_deref());
            let name = format!("{number:0digits$} {}", file_name::safe(original, id));
            let found = contents.find(id.clone(), Arc::clone(entry)).await?;
            let Some((_, mut sound)) = found else {
                links += &format!("{}\n", entry.live().map(where_it_leads).unwrap_or_default());
                continue;
            };
            if strip_gps && let (Some(whole), Some(record)) = (sound.take(), entry.live()) {
                sound = Some(whole.without_places(self, id, record).await?);
            }
            let Some(sound) = sound else {
                missing += &format!("{name}\n");
                continue;
            };
            zip.begin(&name, sound.size, sound.crc).await.map_err(unwritten)?;
            let mut bytes = sound.stream(id).await?;
            while let Some(chunk) = bytes.try_next().await? {
                zip.write(&chunk).await.map_err(unwritten)?;
            }
        }
        for (name, text) in [(LINKS, links), (MISSING, missing)].iter().filter(|(_, text)| !text.is_empty()) {
            zip.begin(name, text.len() as u64, crc32fast::hash(text.as_bytes())).await.map_err(unwritten)?;
            zip.write(text.as_bytes()).await.map_err(unwritten)?;
        }
        zip.finish().await.map_err(unwritten)
    }
}

fn where_it_leads(record: &Record) -> &str {
    record.extra.get("url").and_then(|url| url.as_str()).unwrap_or_default()
}
