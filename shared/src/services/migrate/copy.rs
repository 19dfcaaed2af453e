//! Copies what a state needs, in an order in which every object is copied before those that reference it.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use futures::stream::{self, TryStreamExt};

use super::Migrated;
use super::lacking::{Wanted, lacking};
use crate::base::seal;
use crate::catalog::{Entry, View};
use crate::core::ages::IN_FLIGHT;
use crate::core::error::{Error, Result};
use crate::core::{COPIES, Core};
use crate::layout::{self, BackupName, ImageId};
use crate::services::backup::{Manifest, Sequence};
use crate::services::tokens;
use store::digest::Digest;
use store::{Body, Key, Optional, PutMode, StoreError};

/// Copies everything that `state` and `backups` consist of, except for the state itself.
pub(super) async fn round(
    from: &Core,
    to: &Core,
    state: &View,
    backups: &[BackupName],
    report: &mut Migrated,
) -> Result<()> {
    let round = Round { from, to, state };
    round.images(report).await?;
    round.files_without_a_record().await?;
    round.replicas_of_images(report).await?;
    round.other_replicas(report).await?;
    report.chunks += round.objects_by_digest(layout::CATALOG, parse_part, "pages of the catalog").await?.copied;
    report.set_aside +=
        round.objects_by_digest(layout::QUARANTINE, layout::parse_quarantined, "quarantine").await?.copied;
    round.backups(backups, report).await?;
    round.sequence().await?;
    round.tokens().await
}

struct Round<'a> {
    from: &'a Core,
    to: &'a Core,
    state: &'a View,
}

/// The source of an image's bytes.
enum Source {
    Primary,
    Replica,
    Missing,
}

/// The result of copying content-addressed objects.
#[derive(Default)]
struct Copied {
    copied: u64,
    wrong: Vec<Digest>,
}

impl Round<'_> {
    /// Copies the bytes of every live image.
    async fn images(&self, report: &mut Migrated) -> Result<()> {
        self.to.progress.begin("images", self.state.totals().live);
        let file = |(id, entry): (ImageId, Arc<Entry>)| {
            let record = entry.live()?;
            Some(Wanted { key: layout::image(&id), size: record.size, what: (id, record.sha256, record.size) })
        };
        let wanted = self.state.live().map_err(Error::from).try_filter_map(async |live| Ok(file(live)));
        let copy = async |wanted: Wanted<(ImageId, Option<Digest>, Option<u64>)>| {
            let (id, digest, size) = wanted.what;
            let came = match digest {
                Some(digest) => self.image(&id, digest).await?,
                // A link has none, and records of the older format may not have been completed yet.
                None => {
                    self.copy_unchanged(&layout::image(&id)).await?;
                    return Ok(None);
                }
            };
            Ok::<_, Error>(Some((id, came, size)))
        };
        let lacking = lacking(wanted, &self.to.primary, layout::UPLOADS, &self.to.progress);
        let mut copies = std::pin::pin!(lacking.map_ok(copy).try_buffer_unordered(COPIES));
        while let Some(copied) = copies.try_next().await? {
            let Some((id, came, size)) = copied else { continue };
            if matches!(came, Source::Missing) {
                report.missing.insert(id);
                continue;
            }
            report.copied += 1;
            report.bytes += size.unwrap_or(0);
            if matches!(came, Source::Replica) {
                report.repaired.insert(id);
            }
        }
        Ok(())
    }

    async fn image(&self, id: &ImageId, digest: Digest) -> Result<Source, StoreError> {
        let (key, copy) = (layout::image(id), layout::archived_image(&digest));
        if self.from.primary.copy_if_right(&key, &self.to.primary, &key, digest).await? {
            return Ok(Source::Primary);
        }
        let came = self.from.archive.store().copy_if_right(&copy, &self.to.primary, &key, digest).await?;
        Ok(if came { Source::Replica } else { Source::Missing })
    }

    /// Copies files without a record, so that a start adopts them or sets them aside as it would have in FROM. Skips
    /// files that may belong to an upload in progress, which are copied with its record.
    async fn files_without_a_record(&self) -> Result<()> {
        self.to.progress.begin("files without a record", 0);
        let young = self.from.clock.now() - IN_FLIGHT;
        let files = self.from.primary.list(layout::UPLOADS, None).map_err(Error::from).try_filter_map(async |meta| {
            let Some(id) = layout::parse_image(&meta.key) else { return Ok(None) };
            let may_be_under_way = id.uuid().is_some() && meta.modified > young;
            let is_unexplained = !may_be_under_way && self.state.get(id.as_str()).await?.is_none();
            Ok(is_unexplained.then_some(Wanted { key: meta.key, size: Some(meta.size), what: id }))
        });
        let mut lacking = std::pin::pin!(lacking(files, &self.to.primary, layout::UPLOADS, &self.to.progress));
        while let Some(file) = lacking.try_next().await? {
            self.copy_unchanged(&file.key).await?;
        }
        Ok(())
    }

    /// Makes the replicas of live images, from wherever their primary copy is now.
    async fn replicas_of_images(&self, report: &mut Migrated) -> Result<()> {
        let replica = |(id, entry): (ImageId, Arc<Entry>)| {
            let record = entry.live()?;
            Some((record.sha256?, id, record.size))
        };
        let live = self.state.live().try_filter_map(async |live| Ok(replica(live)));
        let mut live: Vec<(Digest, ImageId, Option<u64>)> = live.try_collect().await?;
        live.sort();
        live.dedup_by_key(|(digest, _, _)| *digest);
        self.to.progress.begin("replicas", live.len() as u64);
        let wanted = live
            .into_iter()
            .map(|(digest, id, size)| Ok(Wanted { key: layout::archived_image(&digest), size, what: (digest, id) }));
        let archive = self.to.archive.store();
        let copy = async |wanted: Wanted<(Digest, ImageId)>| {
            let (digest, id) = wanted.what;
            if self.to.primary.copy_if_right(&layout::image(&id), archive, &wanted.key, digest).await? {
                return Ok(true);
            }
            // Two records may share these bytes, and the primary's copy for this record may be the missing one.
            Ok::<_, Error>(self.from.archive.store().copy_if_right(&wanted.key, archive, &wanted.key, digest).await?)
        };
        let lacking = lacking(stream::iter(wanted), archive, layout::ARCHIVED_IMAGES, &self.to.progress);
        let mut copies = std::pin::pin!(lacking.map_ok(copy).try_buffer_unordered(COPIES));
        while let Some(copied) = copies.try_next().await? {
            report.second_copies += u64::from(copied);
        }
        Ok(())
    }

    /// Copies the remaining replicas: those of deleted images and those that older backups reference.
    async fn other_replicas(&self, report: &mut Migrated) -> Result<()> {
        let others =
            self.objects_by_digest(layout::ARCHIVED_IMAGES, layout::parse_archived_image, "older images").await?;
        report.second_copies += others.copied;
        // A live image without a copy in TO is already reported as missing.
        let mut lost: BTreeSet<Digest> = others.wrong.into_iter().collect();
        let mut live = self.state.live();
        while !lost.is_empty()
            && let Some((_, entry)) = live.try_next().await?
        {
            if let Some(digest) = entry.content_digest() {
                lost.remove(&digest);
            }
        }
        report.lost_copies.append(&mut lost);
        Ok(())
    }

    /// Copies the objects below `prefix` of the archive, whose names contain their digests.
    async fn objects_by_digest(
        &self,
        prefix: &'static str,
        parse: fn(&Key) -> Option<Digest>,
        step: &'static str,
    ) -> Result<Copied> {
        self.to.progress.begin(step, 0);
        let (from, to) = (self.from.archive.store(), self.to.archive.store());
        let wanted = from.list(prefix, None).map_err(Error::from).try_filter_map(async |meta| {
            Ok(parse(&meta.key).map(|digest| Wanted { key: meta.key, size: Some(meta.size), what: digest }))
        });
        let copy = async |wanted: Wanted<Digest>| {
            let came = from.copy_if_right(&wanted.key, to, &wanted.key, wanted.what).await?;
            // An object that disappeared meanwhile was pruned, and is unreferenced.
            let wrong = !came && from.head(&wanted.key).await.optional()?.is_some();
            Ok::<_, Error>((wanted.what, came, wrong))
        };
        let mut copies =
            std::pin::pin!(lacking(wanted, to, prefix, &self.to.progress).map_ok(copy).try_buffer_unordered(COPIES));
        let mut all = Copied::default();
        while let Some((digest, came, wrong)) = copies.try_next().await? {
            all.copied += u64::from(came);
            all.wrong.extend(wrong.then_some(digest));
        }
        Ok(all)
    }

    /// Copies the manifests of these backups, each once all its pages exist.
    async fn backups(&self, names: &[BackupName], report: &mut Migrated) -> Result<()> {
        self.to.progress.begin("backups", names.len() as u64);
        let (from, to) = (self.from.archive.store(), self.to.archive.store());
        let parts: HashSet<Digest> =
            to.list(layout::CATALOG, None).try_filter_map(async |meta| Ok(parse_part(&meta.key))).try_collect().await?;
        let wanted = names.iter().map(|name| Ok(Wanted { key: layout::manifest(*name), size: None, what: *name }));
        let mut lacking = std::pin::pin!(lacking(stream::iter(wanted), to, layout::BACKUPS, &self.to.progress));
        while let Some(Wanted { key, what: name, .. }) = lacking.try_next().await? {
            let read = from.read(&key).await;
            if matches!(&read, Err(e) if e.is_not_found()) {
                // The backup has been deleted since.
                continue;
            }
            let manifest = read.intact()?.map(|(bytes, _)| (Manifest::decode(&bytes), bytes));
            match manifest {
                Some((Ok(manifest), bytes)) if manifest.name == name && self.has_parts(&manifest, &parts).await? => {
                    to.put(&key, &Body::from(bytes), &PutMode::Overwrite).await?;
                    report.backups += 1;
                }
                _ => _ = report.damaged_backups.insert(name),
            }
        }
        Ok(())
    }

    /// Whether `parts` has all pages or chunks of a backup.
    async fn has_parts(&self, manifest: &Manifest, parts: &HashSet<Digest>) -> Result<bool> {
        let mut pages = HashSet::new();
        if let Some(entries) = manifest.entries() {
            match self.from.catalog.reach_archived(entries, &mut pages).await {
                Err(error) if error.is_damage() => return Ok(false),
                reached => reached?,
            }
        }
        pages.extend(manifest.chunks.iter().map(|chunk| chunk.sha256));
        Ok(pages.is_subset(parts))
    }

    /// Copies which automatic backups are due. If it cannot be read, TO starts the count again, as FROM would.
    async fn sequence(&self) -> Result<()> {
        let key = layout::sequence();
        let Some((bytes, _)) = self.from.archive.store().read(&key).await.intact()? else { return Ok(()) };
        let there = self.to.archive.store().read(&key).await.intact()?;
        if seal::open::<Sequence>(&bytes).is_some() && there.is_none_or(|(there, _)| there != bytes) {
            self.to.archive.store().put(&key, &Body::from(bytes), &PutMode::Overwrite).await?;
        }
        Ok(())
    }

    /// Copies the tokens of clients, so that they work in TO too, and revoked ones no longer do. Damaged tokens work
    /// nowhere, and are not copied.
    async fn tokens(&self) -> Result<()> {
        let key = layout::tokens();
        let Some((bytes, _)) = self.from.primary.read(&key).await.intact()? else { return Ok(()) };
        let there = self.to.primary.read(&key).await.intact()?;
        if tokens::are_intact(&bytes) && there.is_none_or(|(there, _)| there != bytes) {
            self.to.primary.put(&key, &Body::from(bytes), &PutMode::Overwrite).await?;
        }
        Ok(())
    }

    /// Copies a file of unknown content, if it exists.
    async fn copy_unchanged(&self, key: &Key) -> Result<(), StoreError> {
        let Some(body) = self.from.primary.fetch(key).await.intact()? else { return Ok(()) };
        self.to.primary.put(key, &body, &PutMode::Overwrite).await.map(drop)
    }
}

/// The digest of a page of the catalog, or of a chunk of a backup of format 1.
fn parse_part(key: &Key) -> Option<Digest> {
    layout::parse_page(key).or_else(|| layout::parse_chunk(key))
}
