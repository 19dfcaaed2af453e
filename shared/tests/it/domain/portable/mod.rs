//! Backups in the hand: taken out as zips and folders, and taken in again, from here and from anywhere.

mod exports;
mod hostile;
mod imports;
mod library;

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::path::Path;

use serde_json::Value;
use zip::write::SimpleFileOptions;

use crate::world::live;
use shared::Keepsake;
use shared::catalog::Record;
use shared::layout::ImageId;
use shared::portable::{Exported, Imported, Source, What};
use shared::store::Body;

/// A zip with these entries, packed by deflate.
pub(crate) fn zip_of<'a>(entries: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, bytes) in entries {
        zip.start_file(name, options).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The entries of a zip by their names; reading them compares their checksums.
pub(crate) fn entries_of(zip: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut zip = zip::ZipArchive::new(Cursor::new(zip)).unwrap();
    let mut entries = BTreeMap::new();
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        entries.insert(entry.name().unwrap().into_owned(), bytes);
    }
    entries
}

pub(crate) async fn open(zip: &[u8]) -> shared::Result<Source> {
    Source::zip(Body::from(zip.to_vec())).await
}

pub(crate) async fn import(keepsake: &Keepsake, zip: &[u8]) -> Imported {
    keepsake.imports.import(&open(zip).await.unwrap()).await.unwrap()
}

pub(crate) async fn export(keepsake: &Keepsake, what: What) -> shared::Result<(Exported, Vec<u8>)> {
    let mut bytes = Vec::new();
    let exported = keepsake.exports.export_zip(what, &mut bytes).await?;
    Ok((exported, bytes))
}

/// Every live record.
pub(crate) async fn records(keepsake: &Keepsake) -> BTreeMap<ImageId, Record> {
    keepsake.core.catalog.refresh().await.unwrap();
    live(keepsake).await
}

pub(crate) fn id(name: &str) -> ImageId {
    ImageId::new(name).unwrap()
}

/// Writes files below a folder.
pub(crate) fn write_all<'a>(folder: &Path, files: impl IntoIterator<Item = (&'a str, Vec<u8>)>) {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// A checkpoint of the older format.
pub(crate) fn older(records: Value) -> Vec<u8> {
    serde_json::to_vec_pretty(&records).unwrap()
}
