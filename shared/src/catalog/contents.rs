//! Which contents the entries of a [`View`] have, for a prune.

use std::collections::{BTreeSet, HashSet};

use tokio::task::coop::consume_budget;

use super::CatalogError;
use super::note::prefix;
use super::root::Entries;
use super::view::View;
use store::digest::Digest;
use tree::{Cursor, Direction, Link};

/// About how many entries a leaf has.
const LEAF: u64 = 100;

impl View {
    /// Takes the contents of all entries, deleted ones included, out of `candidates`, except of entries on pages in
    /// `compared`, to which it adds the pages. Reads the leaves whose notes have a candidate, and those with deleted
    /// images.
    pub(crate) async fn remove_contents(
        &self,
        candidates: &mut BTreeSet<Digest>,
        compared: &mut HashSet<Digest>,
    ) -> Result<(), CatalogError> {
        for (_, overlaid) in self.overlay.iter() {
            overlaid.entry.content_digest().map(|digest| candidates.remove(&digest));
        }
        let (names, leading, following) = (&self.root.names, &self.root.leading, &self.root.following);
        // With so many candidates, most leaves have one, and the notes would only cost time.
        let by_note = (candidates.len() as u64) < names.entries() / LEAF;
        let mut prefixes: Vec<u32> = candidates.iter().map(prefix).collect();
        prefixes.sort_unstable();
        for tree in [leading, following] {
            let mut leaves = Cursor::new(&self.reader, tree, Direction::Forward, None);
            while let Some(leaf) = leaves.next_leaf(|link| compared.insert(link.page)).await? {
                if !by_note || self.reader.note(&leaf).await?.has_one(&prefixes) {
                    leaves.enter(leaf).await?;
                    remove(candidates, &mut leaves)?;
                }
                consume_budget().await;
            }
        }
        // The trees by time have every live image, so what is left are the deleted ones.
        let has_all = leading.entries() + following.entries() == names.summary().live;
        let mut leaves = Cursor::new(&self.reader, names, Direction::Forward, None);
        let is_left = |link: &Link<Entries>| (!has_all || link.summary.deleted > 0) && !compared.contains(&link.page);
        while let Some(leaf) = leaves.next_leaf(is_left).await? {
            leaves.enter(leaf).await?;
            remove(candidates, &mut leaves)?;
            consume_budget().await;
        }
        if names.top().is_some_and(|top| !compared.contains(&top.page)) {
            let mut pages = HashSet::new();
            self.reader.reach(names, &mut pages).await?;
            compared.extend(pages);
        }
        Ok(())
    }
}

/// Takes the contents of the entries on the page where `leaves` is out of `candidates`.
fn remove(candidates: &mut BTreeSet<Digest>, leaves: &mut Cursor<Entries>) -> Result<(), CatalogError> {
    while let Some((_, entry)) = leaves.next_here()? {
        entry.content_digest().map(|digest| candidates.remove(&digest));
    }
    Ok(())
}
