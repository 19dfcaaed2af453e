//! The text files of an export: the metadata, the list of digests and the list of missing images.

use std::collections::BTreeSet;
use std::pin::pin;

use futures::stream::{self, Stream, StreamExt, TryStreamExt};

use super::contents::Contents;
use crate::catalog::Record;
use crate::core::error::Result;
use crate::layout::{self, ImageId};
use store::Key;
use store::digest::{Digest, Hasher};

/// The text files of an export, in order.
pub(super) fn texts<'a>(contents: &'a Contents<'a>, missing: &'a BTreeSet<ImageId>) -> Vec<Text<'a>> {
    let kinds: &[_] = if missing.is_empty() {
        &[(TextKind::Metadata, layout::metadata_file()), (TextKind::Digests, layout::exported_digests())]
    } else {
        &[
            (TextKind::Missing, layout::exported_missing()),
            (TextKind::Metadata, layout::metadata_file()),
            (TextKind::Digests, layout::exported_digests()),
        ]
    };
    kinds.iter().map(|(kind, name)| Text { contents, missing, kind: *kind, name: name.clone() }).collect()
}

/// Records in a piece of a text.
const RECORDS: usize = 256;

/// A text file of an export. It is generated each time it is read, piece by piece, so that it is never in memory as a
/// whole.
pub(super) struct Text<'a> {
    contents: &'a Contents<'a>,
    missing: &'a BTreeSet<ImageId>,
    kind: TextKind,
    pub(super) name: Key,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TextKind {
    /// The names of the missing images, one per line.
    Missing,
    /// The records, keyed by file name.
    Metadata,
    /// The digests of all other files, in the format of `sha256sum --check`.
    Digests,
}

impl Text<'_> {
    /// The text in pieces; `listed` are the texts before this one.
    pub(super) fn pieces<'b>(&'b self, listed: &'b [(Key, Digest)]) -> impl Stream<Item = Result<Vec<u8>>> + 'b {
        let mut first = true;
        let entries = self.contents.each().try_chunks(RECORDS).map_err(|failed| failed.1);
        let middle = entries.map_ok(move |entries| {
            let live = entries.iter().filter_map(|(id, entry)| Some((id, entry.live()?)));
            let mut piece = Vec::new();
            live.for_each(|(id, record)| self.write(id, record, &mut first, &mut piece));
            piece
        });
        let end = match self.kind {
            TextKind::Metadata => b"\n}\n".to_vec(),
            TextKind::Missing => Vec::new(),
            TextKind::Digests => {
                listed.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect::<String>().into_bytes()
            }
        };
        let start = if self.kind == TextKind::Metadata { b"{".to_vec() } else { Vec::new() };
        stream::iter([Ok(start)]).chain(middle).chain(stream::iter([Ok(end)]))
    }

    fn write(&self, id: &ImageId, record: &Record, first: &mut bool, piece: &mut Vec<u8>) {
        match (self.kind, record.sha256) {
            (TextKind::Metadata, _) => {
                let separator = if std::mem::take(first) { "\n  " } else { ",\n  " };
                piece.extend(separator.as_bytes());
                let json = |text: Result<String, serde_json::Error>| {
                    text.unwrap_or_else(|e| unreachable!("records serialise: {e}"))
                };
                piece.extend(json(serde_json::to_string(id)).as_bytes());
                piece.extend(b": ");
                // Line breaks inside a text are escaped, so each of these ends a line of the layout.
                piece.extend(json(serde_json::to_string_pretty(record)).replace('\n', "\n  ").as_bytes());
            }
            (TextKind::Missing, _) if self.missing.contains(id) => piece.extend(format!("{id}\n").as_bytes()),
            (TextKind::Digests, Some(digest)) if !self.missing.contains(id) => {
                piece.extend(format!("{digest}  {}\n", layout::image(id)).as_bytes());
            }
            _ => {}
        }
    }

    pub(super) async fn measure(&self, listed: &[(Key, Digest)]) -> Result<(u64, u32, Digest)> {
        let (mut size, mut crc, mut hasher) = (0, crc32fast::Hasher::new(), Hasher::default());
        let mut pieces = pin!(self.pieces(listed));
        while let Some(piece) = pieces.try_next().await? {
            size += piece.len() as u64;
            crc.update(&piece);
            hasher.update(&piece);
        }
        Ok((size, crc.finalize(), hasher.finish()))
    }
}
