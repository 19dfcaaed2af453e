//! Exports the present state or a backup, as a zip or as a folder.

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use futures::stream::TryStreamExt;
use tokio::io::AsyncWrite;

use super::contents::{Contents, Exports, What};
use super::text::texts;
use super::verified_image::{VerifiedImage, spooled};
use super::zip_writer::ZipWriter;
use crate::core::error::{Error, Result};
use crate::layout::{self, ImageId};
use store::{Body, DiskStore, ErrorKind, Key, PutMode, Store, StoreError};

/// What was exported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// Records, links included.
    pub records: u64,
    /// Images with their bytes.
    pub images: u64,
    /// Length of those images in bytes.
    pub bytes: u64,
    /// Images with their record, but without an intact copy of their bytes.
    pub missing: BTreeSet<ImageId>,
}

impl Exports {
    /// Writes a zip of `what`. Memory does not grow with the size of the images, but by some hundred bytes for each of
    /// them.
    ///
    /// Every image is read in full and compared with its digest before it is written, from the archive if the primary's
    /// copy is damaged. After an error the rest is missing, including the directory, so that the written bytes are no
    /// valid zip. This also happens if the backup is deleted meanwhile, and with it an object that it references.
    pub async fn export_zip(&self, what: What, out: impl AsyncWrite + Unpin) -> Result<Exported> {
        self.write_zip(&Contents::open(self, what).await?, out).await
    }

    pub(super) async fn write_zip(&self, contents: &Contents<'_>, out: impl AsyncWrite + Unpin) -> Result<Exported> {
        let mut zip = ZipWriter::new(out, contents.moment);
        let mut exported = Exported { records: contents.records, ..Exported::default() };
        self.core.progress.begin("exporting", contents.records);
        let mut images = pin!(contents.images());
        while let Some((id, found)) = images.try_next().await? {
            exported.count(&id, found.as_ref());
            self.core.progress.advance();
            let Some(image) = found else { continue };
            let key = layout::image(&id);
            zip.begin(key.as_str(), image.size, image.crc).await.map_err(no_zip)?;
            let mut bytes = image.stream(&id).await?;
            while let Some(chunk) = bytes.try_next().await? {
                zip.write(&chunk).await.map_err(no_zip)?;
            }
        }
        let mut listed = Vec::new();
        for text in texts(contents, &exported.missing) {
            let (size, crc, digest) = text.measure(&listed).await?;
            zip.begin(text.name.as_str(), size, crc).await.map_err(no_zip)?;
            {
                let mut pieces = pin!(text.pieces(&listed));
                while let Some(piece) = pieces.try_next().await? {
                    zip.write(&piece).await.map_err(no_zip)?;
                }
            }
            listed.push((text.name.clone(), digest));
        }
        zip.finish().await.map_err(no_zip)?;
        Ok(exported)
    }

    /// Writes `what` into a folder, which is created if it does not exist. Existing files with the same bytes are left
    /// alone, so an interrupted export can be repeated; others are never replaced ([`Error::Invalid`]). The metadata
    /// are written after the images, and the list of digests last. A folder that cannot be written is
    /// [`Error::Unwritable`]: the store is not at fault.
    pub async fn export_folder(&self, what: What, folder: &Path) -> Result<Exported> {
        let contents = Contents::open(self, what).await?;
        let target = {
            let path = folder.to_owned();
            let opened = crate::core::blocking(move || DiskStore::open(&path)).await?;
            let opened = opened.map_err(|error| no_file(folder, &error))?;
            Store::new(Arc::new(opened), &std::env::temp_dir())
        };
        let mut exported = Exported { records: contents.records, ..Exported::default() };
        self.core.progress.begin("exporting", contents.records);
        let mut images = pin!(contents.images());
        while let Some((id, found)) = images.try_next().await? {
            exported.count(&id, found.as_ref());
            self.core.progress.advance();
            let Some(image) = found else { continue };
            put_file(&target, folder, &layout::image(&id), &image.body(&id, &target).await?).await?;
        }
        let mut listed = Vec::new();
        for text in texts(&contents, &exported.missing) {
            let body = spooled(target.spool(), text.pieces(&listed)).await?;
            put_file(&target, folder, &text.name, &body).await?;
            listed.push((text.name.clone(), body.digest()));
        }
        Ok(exported)
    }
}

/// Puts a file into the target, which is this folder; an existing file must have the same bytes.
async fn put_file(target: &Store, folder: &Path, key: &Key, body: &Body) -> Result<()> {
    let failed = |error: StoreError| no_file(&folder.join(key.as_str()), &error);
    match target.put(key, body, &PutMode::Create).await {
        Err(e) if e.kind == ErrorKind::AlreadyExists => match target.hash(key).await.map_err(failed)? {
            (_, digest) if digest == body.digest() => Ok(()),
            _ => Err(Error::Invalid(format!(
                "A different file {:?} exists already, and nothing is replaced.",
                key.as_str()
            ))),
        },
        put => put.map(drop).map_err(failed),
    }
}

fn no_file(path: &Path, error: &StoreError) -> Error {
    let why = error.source.as_ref().map_or_else(|| error.kind.to_string(), ToString::to_string);
    Error::Unwritable(path.display().to_string(), why)
}

pub(super) fn no_zip(error: std::io::Error) -> Error {
    Error::Unwritable("The zip".to_owned(), error.to_string())
}

impl Exported {
    fn count(&mut self, id: &ImageId, found: Option<&VerifiedImage>) {
        match found {
            Some(image) => {
                self.images += 1;
                self.bytes += image.size;
            }
            None => _ = self.missing.insert(id.clone()),
        }
    }
}
