//! The plan of an import: the outcome for each record and each file of a source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::dates::{Arrival, FileTime, upload_dates};
use super::names;
use super::source::Source;
use super::source_file::SourceFile;
use super::source_layout::SourceLayout;
use super::text_budget::TextBudget;
use crate::base::clock::format_millis;
use crate::catalog::{Change, Commit, Content, MetadataFile, Record, Stamp, View, decode_metadata_file};
use crate::core::error::{Error, Result};
use crate::core::lease::Lease;
use crate::core::{COPIES, Core, blocking};
use crate::layout::{self, ImageId};
use crate::media::{self, Format, Media, MediaError};
use crate::services::backup::Backups;
use crate::services::images::records::{ImageRecords, completed};
use crate::services::room::Room;
use store::Optional;
use store::digest::Digest;

/// The highest version that is imported: more than any number of edits reaches, with room above it for as many more. A
/// source with a higher one may be an attempt to leave no next version.
const MAX_VERSION: u64 = 1 << 48;

/// What an import would do, or did.
#[derive(Debug, Default)]
pub struct ImportPlan {
    /// Unknown or deleted images that are imported with their record, and those of which only the bytes return.
    pub restored: BTreeSet<ImageId>,
    /// Files without a record that are imported as new images.
    pub adopted: BTreeSet<ImageId>,
    /// Images of the source that already exist here, and stay as they are.
    pub kept: u64,
    /// Images whose record is imported, but whose bytes are unavailable.
    pub missing: BTreeSet<ImageId>,
    /// Images that are imported under a new name, because theirs cannot be an id or another image has it.
    pub renamed: BTreeMap<String, ImageId>,
    /// Files that are read under another path than in the zip, sorted by path: the path in the zip and the new one.
    pub renamed_files: Vec<(String, String)>,
    /// Adopted images whose file had a date in the future, by the path of their file; their upload date is that of the
    /// import.
    pub redated: BTreeMap<ImageId, String>,
    /// Adopted images whose file had no date; their upload date is that of the import.
    pub undated: BTreeSet<ImageId>,
    /// Names in the metadata without a valid record. The metadata are set aside, so that they are not lost.
    pub unusable: Vec<String>,
    /// Files whose bytes do not match their record. They are set aside.
    pub damaged: Vec<String>,
    /// Files that are not imported: not images, links, or unrelated to the metadata.
    pub skipped: Vec<String>,
    pub(super) takes: BTreeMap<ImageId, Take>,
    arrivals: Vec<Arrival>,
    pub(super) set_aside: Vec<SourceFile>,
}

/// What to do for one image.
#[derive(Debug)]
pub(super) struct Take {
    /// Its new state, and the one that the change was planned from; `None` if only its bytes return.
    pub(super) change: Option<(Option<Stamp>, Change)>,
    pub(super) bytes: TakenBytes,
}

/// The source of an image's bytes.
#[derive(Debug)]
pub(super) enum TakenBytes {
    /// It has none.
    Nowhere,
    /// From a file that was read and has this digest and format.
    File { file: SourceFile, digest: Digest, format: Option<Format> },
    /// From the archive, which already has them.
    Archive(Digest),
}

/// A record, a file or both, under one name.
struct Subject {
    name: String,
    /// The record, and its version in a metadata file of Keepsake.
    record: Option<(Record, u64)>,
    file: Option<SourceFile>,
    /// It is a file in an arbitrary folder, whose name carries no meaning.
    plain: bool,
}

/// The facts about a subject.
struct Facts {
    seen: Option<Seen>,
    /// Whether the archive has the bytes that the record references and the source lacks.
    archived: bool,
    /// The id that it gets or has.
    id: ImageId,
    /// Whether the primary has a file of the right length, if an image with this id is live.
    has_file: bool,
}

impl Subject {
    /// The content that its record references.
    fn promised(&self) -> Option<Digest> {
        self.record.as_ref().and_then(|(record, _)| record.sha256)
    }
}

/// A file that was read.
struct Seen {
    digest: Digest,
    size: u64,
    media: Result<Media, MediaError>,
}

/// Imports images and their records from plain files.
#[derive(Debug)]
pub struct Imports {
    pub(super) core: Arc<Core>,
    pub(super) room: Arc<Room>,
    pub(super) records: Arc<ImageRecords>,
    pub(super) backups: Arc<Backups>,
    /// Allows one import or plan at a time: each holds all records of its source in memory.
    pub(super) importing: tokio::sync::Mutex<()>,
}

impl Imports {
    /// Imports into the stores of `core`.
    pub fn new(core: Arc<Core>, room: Arc<Room>, records: Arc<ImageRecords>, backups: Arc<Backups>) -> Self {
        Self { core, room, records, backups, importing: tokio::sync::Mutex::default() }
    }

    /// What importing a source would do. Reads all of it that does not exist here, and changes nothing.
    /// [`Error::RestoreRunning`] beside another plan or an import of this process.
    pub async fn plan(&self, source: &Source) -> Result<ImportPlan> {
        let _guard = self.importing.try_lock().map_err(|_| Error::RestoreRunning)?;
        self.plan_import_leased(source, None).await
    }

    pub(super) async fn plan_import_leased(&self, source: &Source, lease: Option<&Lease<'_>>) -> Result<ImportPlan> {
        let mut plan = ImportPlan { skipped: source.passed_over.clone(), ..ImportPlan::default() };
        let renamed = |file: &SourceFile| Some((file.stored_name.clone()?, file.path.clone()));
        plan.renamed_files = source.files.iter().filter_map(renamed).collect();
        let subjects = self.subjects(source, &mut plan).await?;
        self.core.catalog.refresh().await?;
        let view = self.core.catalog.view();
        let files = subjects.iter().filter(|subject| subject.file.is_some()).count() as u64;
        self.core.progress.begin("reading", files);
        let look = async |subject: Subject| {
            let facts = self.examine(source, &subject, &view).await?;
            if subject.file.is_some() {
                self.core.progress.advance();
            }
            if let Some(lease) = lease {
                lease.renew_if_due().await?;
            }
            Ok::<_, Error>((subject, facts))
        };
        let mut looked = stream::iter(subjects).map(look).buffered(COPIES);
        while let Some((subject, facts)) = looked.try_next().await? {
            Self::decide(&mut plan, &view, subject, facts).await?;
        }
        plan.date_arrivals(self.core.clock.now());
        Ok(plan)
    }

    /// Everything in a source that has a record or may be an image, by name.
    async fn subjects(&self, source: &Source, plan: &mut ImportPlan) -> Result<Vec<Subject>> {
        let mut sources = SourceLayout::of(source);
        plan.skipped.append(&mut sources.without_role);
        let (mut found, mut odd) = (Vec::new(), Vec::new());
        let (mut subjects, mut budget) = (Vec::new(), TextBudget::of(source));
        if let Some(file) = &sources.metadata {
            let bytes = budget.read(source, file, self.core.primary.spool()).await?;
            let decoded = blocking(move || decode_metadata_file(&bytes)).await?;
            match decoded.map_err(|error| unreadable(file, &error))? {
                MetadataFile::Ours(ours) => found = ours.entries,
                MetadataFile::Older(older) => {
                    found = older.records;
                    odd = older.unusable;
                }
            }
        }
        // The commits in a folder that Keepsake has served, which are not in its metadata file yet.
        for file in &sources.commits {
            let bytes = budget.read(source, file, self.core.primary.spool()).await?;
            let commit = Commit::decode(&bytes).map_err(|error| unreadable(file, &error))?;
            found.extend(commit.entries);
        }
        let mut joined = View::of(found).entries();
        while let Some((id, entry)) = joined.try_next().await? {
            let (name, file) = (id.to_string(), sources.uploads.remove(id.as_str()));
            match entry.live() {
                Some(record) => {
                    let record = Some((record.clone(), entry.stamp.version.min(MAX_VERSION)));
                    subjects.push(Subject { name, record, file, plain: false });
                }
                // An image that was deleted in the source is not imported from it.
                None => plan.skipped.extend(file.map(|file| file.path)),
            }
        }
        for (name, value) in odd {
            match value {
                serde_json::Value::Object(fields) => {
                    let file = sources.uploads.remove(&name);
                    let record = Some((Record::from_older(fields), 0));
                    subjects.push(Subject { name, record, file, plain: false });
                }
                _ => plan.unusable.push(name),
            }
        }
        if !plan.unusable.is_empty() {
            plan.set_aside.extend(sources.metadata.clone());
        }
        let hidden = |name: &str| name.split('/').any(|segment| segment.starts_with('.'));
        for (name, file) in sources.uploads {
            if hidden(&name) {
                plan.skipped.push(file.path);
            } else {
                subjects.push(Subject { name, record: None, file: Some(file), plain: false });
            }
        }
        let plain = |file: SourceFile| Subject { name: file.path.clone(), record: None, file: Some(file), plain: true };
        subjects.extend(sources.plain.into_iter().map(plain));
        Ok(subjects)
    }

    async fn examine(&self, source: &Source, subject: &Subject, now: &View) -> Result<Facts> {
        let own = ImageId::new(&subject.name).ok().filter(|_| !subject.plain);
        let entry = match &own {
            Some(id) => now.get(id.as_str()).await?,
            None => None,
        };
        let live = entry.as_ref().and_then(|entry| entry.live());
        let promised = subject.promised();
        // The same image is intact here: its file need not be read.
        let whole_here = match own.as_ref().zip(live).filter(|(_, live)| promised.is_some() && live.sha256 == promised)
        {
            Some((id, live)) => self.has_file(id, live).await?,
            None => false,
        };
        let mut seen = None;
        if let Some(file) = subject.file.as_ref().filter(|_| !whole_here) {
            let body = source.read(file, self.core.primary.spool()).await?;
            let (limits, inspected) = (self.core.settings.media, body.clone());
            let media = blocking(move || media::inspect(&inspected, &limits)).await?;
            if let Err(MediaError::Read(error)) = media {
                return Err(MediaError::Read(error).into());
            }
            seen = Some(Seen { digest: body.digest(), size: body.size(), media });
        }
        let mut archived = false;
        if let Some((record, _)) = &subject.record
            && let Some(digest) = record.sha256
            && seen.as_ref().is_none_or(|seen| seen.digest != digest)
            && live.is_none()
        {
            archived = self.core.archive.has(&digest, record.size).await?;
        }
        // An image keeps its name, unless another has it: a live one, or a file whose record is unknown.
        let there = match (&own, live) {
            (_, Some(live)) => live.sha256,
            (Some(id), None) => self.core.primary.digest(&layout::image(id)).await.intact()?.map(|(_, digest)| digest),
            (None, None) => None,
        };
        let right = seen.as_ref().filter(|seen| promised.is_none_or(|digest| digest == seen.digest));
        let content = right.map(|seen| seen.digest).or(promised);
        let id = own.filter(|_| there.zip(content).is_none_or(|(there, content)| there == content));
        let id = id.unwrap_or_else(|| {
            let named = || names::extension(&subject.name).unwrap_or_else(|| "bin".to_owned());
            let media = right.and_then(|seen| seen.media.as_ref().ok());
            let extension = media.map_or_else(named, |media| media.format.extension().to_owned());
            names::new_id(&subject.name, content, &extension)
        });
        let has_file = whole_here
            || match now.get_live(id.as_str()).await?.as_ref().and_then(|entry| entry.live()) {
                Some(live) => self.has_file(&id, live).await?,
                None => false,
            };
        Ok(Facts { seen, archived, id, has_file })
    }

    /// Whether a file of the right length is in `uploads/`. One request for each image of the source: a listing would
    /// have to be held in memory, since a plain file gets its id only from its bytes.
    async fn has_file(&self, id: &ImageId, record: &Record) -> Result<bool> {
        let file = self.core.primary.head(&layout::image(id)).await.optional()?;
        Ok(file.is_some_and(|file| record.size.is_none_or(|size| size == file.size)))
    }

    async fn decide(plan: &mut ImportPlan, now: &View, subject: Subject, facts: Facts) -> Result<()> {
        let promised = subject.promised();
        let (Subject { name, record, file, plain }, id) = (subject, facts.id);
        let mut brought = facts.seen.zip(file);
        if let Some((_, file)) = brought.take_if(|(seen, _)| promised.is_some_and(|digest| digest != seen.digest)) {
            plan.damaged.push(file.path.clone());
            plan.set_aside.push(file);
        }
        if record.is_none()
            && let Some((_, file)) = brought.take_if(|(seen, _)| seen.media.is_err())
        {
            plan.skipped.push(file.path);
            return Ok(());
        }
        if !plain && id.as_str() != name {
            plan.renamed.insert(name.clone(), id.clone());
        }
        if plan.takes.contains_key(&id) {
            plan.kept += 1;
            return Ok(());
        }

        let entry = now.get(id.as_str()).await?;
        let planned_from = entry.as_ref().map(|entry| entry.stamp);
        if let Some((entry, live)) = entry.as_ref().and_then(|entry| Some((entry, entry.live()?))) {
            let lacking = !facts.has_file && !live.is_link();
            let Some((seen, file)) =
                brought.filter(|(seen, _)| lacking && live.sha256.is_none_or(|d| d == seen.digest))
            else {
                plan.kept += 1;
                return Ok(());
            };
            let change = live.sha256.is_none().then(|| {
                let content = Content::Live(completed(live.clone(), seen.size, seen.digest, seen.media.as_ref().ok()));
                (planned_from, Change { version: entry.stamp.version + 1, content })
            });
            plan.restored.insert(id.clone());
            plan.takes.insert(id, Take { change, bytes: seen.bytes(file) });
            return Ok(());
        }

        let (mut record, version) = match record {
            Some((record, version)) => {
                plan.restored.insert(id.clone());
                (record, version)
            }
            None => {
                plan.adopted.insert(id.clone());
                if let Some((_, file)) = &brought {
                    plan.arrivals.push(Arrival { id: id.clone(), path: file.path.clone(), modified: file.modified });
                }
                (Record::adopted(), 0)
            }
        };
        if record.original_name.is_none() && id.as_str() != name {
            record.original_name = Some(name);
        }
        let bytes = match brought {
            Some((seen, file)) => {
                record = completed(record, seen.size, seen.digest, seen.media.as_ref().ok());
                seen.bytes(file)
            }
            None => match record.sha256 {
                Some(digest) if facts.archived => TakenBytes::Archive(digest),
                None if record.is_link() => TakenBytes::Nowhere,
                _ => {
                    plan.missing.insert(id.clone());
                    TakenBytes::Nowhere
                }
            },
        };
        // It supersedes the tombstone here, and any that was dropped.
        let version = now.next_version(id.as_str()).await?.max(version + 1);
        let change = Change { version, content: Content::Live(record) };
        plan.takes.insert(id, Take { change: Some((planned_from, change)), bytes });
        Ok(())
    }
}

impl ImportPlan {
    /// Gives adopted images their upload dates.
    fn date_arrivals(&mut self, now: Timestamp) {
        let arrivals = std::mem::take(&mut self.arrivals);
        for arrival in &arrivals {
            match arrival.file_time(now) {
                FileTime::Unknown => _ = self.undated.insert(arrival.id.clone()),
                FileTime::Future => _ = self.redated.insert(arrival.id.clone(), arrival.path.clone()),
                FileTime::Past(_) => {}
            }
        }
        for (id, date) in upload_dates(arrivals, now) {
            let change = self.takes.get_mut(&id).and_then(|take| take.change.as_mut());
            if let Some((_, Change { content: Content::Live(record), .. })) = change {
                record.upload_date = Some(format_millis(date));
            }
        }
    }
}

impl Seen {
    fn bytes(&self, file: SourceFile) -> TakenBytes {
        let format = self.media.as_ref().ok().map(|media| media.format);
        TakenBytes::File { file, digest: self.digest, format }
    }
}

fn unreadable(file: &SourceFile, error: &dyn std::error::Error) -> Error {
    Error::UnusableArchive(format!("{:?} cannot be read: {error}.", file.path))
}
