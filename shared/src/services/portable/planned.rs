//! Zips of backups whose length is known before their first byte, and of which any range can be served.

use std::collections::BTreeSet;
use std::future::ready;
use std::io;
use std::pin::{Pin, pin};
use std::task::{self, Context, Poll};

use futures::stream::{StreamExt, TryStreamExt};
use tokio::io::AsyncWrite;

use super::contents::{Contents, Exports, What};
use super::export::{Exported, no_zip};
use super::text::texts;
use super::zip_writer::ZipWriter;
use crate::core::error::Result;
use crate::layout::{self, BackupName, ImageId};
use crate::services::images::files::{Paired, pair};
use store::digest::{Digest, Hasher};

/// Images checked concurrently.
pub(super) const LOOKS: usize = 16;

/// The plan of a backup's zip.
#[derive(Debug, Clone)]
pub struct ZipPlan {
    backup: BackupName,
    /// Images without an intact copy.
    left_out: BTreeSet<ImageId>,
    /// Its length in bytes.
    pub length: u64,
    /// Two zips with the same digest are identical byte for byte.
    pub digest: Digest,
}

impl Exports {
    /// Plans a zip of a backup. Reads no images, except those that a download found damaged before.
    pub async fn plan_zip(&self, backup: BackupName) -> Result<ZipPlan> {
        let contents = Contents::open(self, What::Backup(backup)).await?;
        let mut zip = ZipWriter::new(tokio::io::sink(), contents.moment);
        let mut left_out = BTreeSet::new();
        {
            // If the primary is unavailable, the archive has all images.
            let files = self.records.files().filter_map(async |file| file.ok().map(Ok));
            let with_entry = |Paired { id, entry, file }: Paired| entry.map(|entry| (id, entry, file.map(|f| f.size)));
            let images = pair(contents.each(), files).try_filter_map(|image| ready(Ok(with_entry(image))));
            let looked = images.map_ok(|(id, entry, length)| contents.look(id, entry, ready(length)));
            let mut looked = pin!(looked.try_buffered(LOOKS));
            while let Some(found) = looked.try_next().await? {
                match found {
                    Some((id, Some(size))) => {
                        zip.begin(layout::image(&id).as_str(), size, 0).await.map_err(no_zip)?;
                        zip.pass_over();
                    }
                    Some((id, None)) => _ = left_out.insert(id),
                    None => {}
                }
            }
        }
        let mut listed = Vec::new();
        for text in texts(&contents, &left_out) {
            let (size, _, digest) = text.measure(&listed).await?;
            zip.begin(text.name.as_str(), size, 0).await.map_err(no_zip)?;
            zip.pass_over();
            listed.push((text.name.clone(), digest));
        }
        // The last text contains the digests of all other files.
        let mut hasher = Hasher::default();
        hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
        hasher.update(contents.moment.to_string().as_bytes());
        listed.last().iter().for_each(|(_, digest)| hasher.update(digest.as_bytes()));
        let length = zip.finish().await.map_err(no_zip)?;
        Ok(ZipPlan { backup, left_out, length, digest: hasher.finish() })
    }

    /// Writes the zip as it was planned, without its first `before` bytes. An image that turns out to have no intact
    /// copy is [`Error::MissingBytes`](crate::Error::MissingBytes), and is left out of the next plan.
    pub async fn export_planned(&self, plan: &ZipPlan, before: u64, out: impl AsyncWrite + Unpin) -> Result<Exported> {
        let contents = Contents::open(self, What::Backup(plan.backup)).await?.leaving_out(plan.left_out.clone());
        self.write_zip(&contents, Rest { before, out }).await
    }
}

/// Passes on the written bytes from an offset on.
struct Rest<W> {
    /// Bytes that are still to be skipped.
    before: u64,
    out: W,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Rest<W> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let over = usize::try_from(self.before).unwrap_or(usize::MAX).min(bytes.len());
        let written = match &bytes[over..] {
            [] => 0,
            rest => task::ready!(Pin::new(&mut self.out).poll_write(context, rest))?,
        };
        self.before -= over as u64;
        Poll::Ready(Ok(over + written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.out).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.out).poll_shutdown(context)
    }
}
