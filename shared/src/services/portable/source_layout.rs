//! [`SourceLayout`]: the role of each file of a source.

use std::collections::BTreeMap;

use super::source::Source;
use super::source_file::SourceFile;
use crate::layout;

/// The files of a source by their role.
#[derive(Default)]
pub(super) struct SourceLayout {
    pub(super) metadata: Option<SourceFile>,
    pub(super) commits: Vec<SourceFile>,
    /// Files below `uploads/`, by their name there.
    pub(super) uploads: BTreeMap<String, SourceFile>,
    pub(super) plain: Vec<SourceFile>,
    /// Paths without a role.
    pub(super) without_role: Vec<String>,
}

impl SourceLayout {
    pub(super) fn of(source: &Source) -> Self {
        let metadata = layout::metadata_file();
        let is_root = |root: &str| {
            let below = source.files.iter().filter_map(|file| file.path.strip_prefix(root));
            below.into_iter().any(|path| path == metadata.as_str() || path.starts_with(layout::UPLOADS))
        };
        // A zipped folder has that folder's name before each of its paths.
        let wrapped = source.files.first().and_then(|file| file.path.split_inclusive('/').next());
        let wrapped = wrapped.filter(|root| source.files.iter().all(|file| file.path.starts_with(*root)));
        let root = if is_root("") { "" } else { wrapped.filter(|root| is_root(root)).unwrap_or_default() };

        let mut sources = Self::default();
        for file in &source.files {
            let path = file.path.strip_prefix(root).unwrap_or(&file.path);
            if path == metadata.as_str() {
                sources.metadata = Some(file.clone());
            } else if path.starts_with(layout::COMMITS) {
                sources.commits.push(file.clone());
            } else if let Some(name) = path.strip_prefix(layout::UPLOADS) {
                sources.uploads.insert(name.to_owned(), file.clone());
            } else if !layout::is_own(path) {
                sources.plain.push(file.clone());
            }
        }
        if sources.metadata.is_some() {
            // Files beside a library are unrelated to it.
            sources.without_role.extend(std::mem::take(&mut sources.plain).into_iter().map(|file| file.path));
        }
        sources.uploads.retain(|name, _| !layout::is_own(&format!("{}{name}", layout::UPLOADS)));
        sources
    }
}
