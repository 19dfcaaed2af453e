//! The catalog as it is stored in one location, read without a [`Catalog`](crate::catalog::Catalog).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, TryStreamExt};

use crate::catalog::{Entry, Position, Root, View};
use crate::layout::{self, ImageId};
use crate::services::backup::Manifest;
use store::digest::Digest;
use store::{Key, StoreError};
use tree::{Pages, Reader};

/// Entries by the names of their images.
pub type Entries = BTreeMap<ImageId, Arc<Entry>>;

struct Read<F>(F);

#[async_trait]
impl<F: Fn(&Key) -> Option<Bytes> + Send + Sync> Pages for Read<F> {
    async fn read(&self, page: &Digest) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0(&layout::page(page)))
    }

    async fn write(&self, _: &Digest, _: Bytes) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The entries of the root of a location, whose objects `read` returns; an error if there is no root, or a page of the
/// entries is missing or damaged.
pub fn stored_entries(read: impl Fn(&Key) -> Option<Bytes> + Send + Sync + 'static) -> Result<Entries, String> {
    let bytes = read(&layout::root()).ok_or("there is no root")?;
    let view = View::stored(&bytes, Arc::new(Read(read)))?;
    entries_of(&view).now_or_never().ok_or("pages in memory are there at once")?
}

/// Like [`stored_entries`]; an error also if any other part of the root is missing or damaged, or if its lists are not
/// those of its entries.
pub fn checked_entries(read: impl Fn(&Key) -> Option<Bytes> + Send + Sync + 'static) -> Result<Entries, String> {
    let bytes = read(&layout::root()).ok_or("there is no root")?;
    let view = View::stored(&bytes, Arc::new(Read(read)))?;
    let entries = async {
        let entries = entries_of(&view).await?;
        check_lists(&view, &entries).await.map(|()| entries)
    };
    entries.now_or_never().ok_or("pages in memory are there at once")?
}

/// The entries of a backup of format 2, given its manifest; `None` if the manifest is not valid.
pub fn backup_entries(
    manifest: &[u8],
    read: impl Fn(&Key) -> Option<Bytes> + Send + Sync + 'static,
) -> Result<Option<Entries>, String> {
    let Ok(manifest) = Manifest::decode(manifest) else { return Ok(None) };
    let entries = manifest.entries().cloned().ok_or("it has format 1")?;
    let view = View::stored_names(entries, Arc::new(Read(read)));
    entries_of(&view).now_or_never().ok_or("pages in memory are there at once")?.map(Some)
}

/// The entries of a state whose pages are among the objects that `read` returns.
pub fn entries_in(
    view: &View,
    read: impl Fn(&Key) -> Option<Bytes> + Send + Sync + 'static,
) -> Result<Entries, String> {
    let view = view.with_pages(Arc::new(Read(read)));
    entries_of(&view).now_or_never().ok_or("pages in memory are there at once")?
}

/// The pages of the trees of the root of a location, whose objects `read` returns, each of which is intact; none if
/// there is no root.
pub fn stored_pages(read: impl Fn(&Key) -> Option<Bytes> + Send + Sync + 'static) -> Result<HashSet<Digest>, String> {
    let Some(bytes) = read(&layout::root()) else { return Ok(HashSet::new()) };
    let (root, _) = Root::decode(&bytes).map_err(|error| error.to_string())?;
    let (reader, mut pages) = (Reader::new(Arc::new(Read(read)), 0), HashSet::new());
    for tree in root.trees() {
        let walked = reader.walk(tree, |page| pages.insert(*page), |_, _| ()).now_or_never();
        walked.ok_or("pages in memory are there at once")?.map_err(|error| error.to_string())?;
    }
    Ok(pages)
}

/// The pages of a backup in the archive, whose objects `read` returns, each of which is intact, and its entries.
pub fn backup_parts(
    manifest: &Manifest,
    read: impl Fn(&Key) -> Option<Bytes> + Send + Sync + 'static,
) -> Result<(HashSet<Digest>, Entries), String> {
    let tree = manifest.entries().ok_or("it is of format 1")?;
    let (reader, mut pages, mut entries) = (Reader::new(Arc::new(Read(read)), 0), HashSet::new(), Vec::new());
    let walked = reader.walk(tree, |page| pages.insert(*page), |key, entry| entries.push((ImageId::new(key), entry)));
    walked.now_or_never().ok_or("pages in memory are there at once")?.map_err(|error| error.to_string())?;
    let named = entries.into_iter().map(|(id, entry)| Ok((id.map_err(|error| error.to_string())?, Arc::new(entry))));
    Ok((pages, named.collect::<Result<_, String>>()?))
}

/// The entries of a state.
pub async fn entries_of(view: &View) -> Result<Entries, String> {
    view.entries().try_collect().await.map_err(|error| error.to_string())
}

/// Whether the lists, groups and totals of a state are those of its entries.
async fn check_lists(view: &View, entries: &Entries) -> Result<(), String> {
    let failed = |error: crate::catalog::CatalogError| error.to_string();
    let plain = View::of(entries.clone());
    let names = |listed: Vec<(Position, Arc<Entry>)>| listed.into_iter().map(|((_, id), _)| id).collect::<Vec<_>>();
    let newest: Vec<_> = view.newest(None).try_collect().await.map_err(failed)?;
    let expected: Vec<_> = plain.newest(None).try_collect().await.map_err(failed)?;
    if newest != expected {
        return Err(format!("it lists {:?} instead of {:?}", names(newest), names(expected)));
    }
    let leaders: Vec<_> = view.leaders(None, None).try_collect().await.map_err(failed)?;
    let expected: Vec<_> = plain.leaders(None, None).try_collect().await.map_err(failed)?;
    if leaders != expected || view.leading().await.map_err(failed)? != expected.len() as u64 {
        return Err(format!("its leaders are {:?} instead of {:?}", names(leaders), names(expected)));
    }
    for (_, leader) in leaders {
        if let Some(group) = leader.live().and_then(|record| record.group())
            && view.group(group).await.map_err(failed)? != plain.group(group).await.map_err(failed)?
        {
            return Err(format!("group {group:?} has other images"));
        }
    }
    let (totals, mut expected) = (view.totals(), plain.totals());
    expected.dropped = totals.dropped;
    if totals == expected { Ok(()) } else { Err(format!("its totals are {totals:?} instead of {expected:?}")) }
}
