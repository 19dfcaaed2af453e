//! Documents that lie in a store, where anything may have happened to them.

use futures::FutureExt;
use serde_json::{Map, Value};
use shared::catalog::{Entry, MetadataFile, Older, View, decode_metadata_file};
use shared::digest::Digest;
use shared::testing::catalog::entries_of;
use shared::testing::documents::{Document, sealed};

/// A root, which the first of all reads begin with.
pub fn root(data: &[u8]) {
    document(Document::Root, data);
}

/// The records as they are written for people, or as the older format has them.
pub fn metadata_file(data: &[u8]) {
    for bytes in [data, &sealed(data)] {
        match decode_metadata_file(bytes) {
            Ok(MetadataFile::Ours(ours)) => {
                let state = View::of(ours.entries);
                let entries = entries_of(&state).now_or_never().expect("they are in memory").expect("they can be read");
                let live = entries.values().filter(|entry| entry.live().is_some()).count() as u64;
                let totals = state.totals();
                assert_eq!((totals.live, totals.live + totals.deleted), (live, entries.len() as u64));
            }
            Ok(MetadataFile::Older(older)) => keeps_every_field(bytes, &older),
            Err(_) => {}
        }
    }
    document(Document::MetadataFile, data);
}

pub fn commit(data: &[u8]) {
    document(Document::Commit, data);
}

pub fn chunk(data: &[u8]) {
    document(Document::Chunk, data);
    // A chunk in which no name stands twice keeps all that it says of each live image.
    let Ok(said) = serde_json::from_slice::<Map<String, Value>>(data) else { return };
    let Some(kept) = Document::Chunk.rewritten(data) else { return };
    let kept: Value = serde_json::from_slice(&kept).expect("it was written as JSON");
    if serde_json::to_string(&said).map(|text| text.len()).ok() != Some(data.len()) {
        return;
    }
    for (id, record) in said.iter().filter_map(|(id, record)| Some((id, record.as_object()?))) {
        let own = |name: &str| matches!(name, "version" | "commit" | "deletedAt");
        for (name, value) in record.iter().filter(|(name, _)| !record.contains_key("deletedAt") && !own(name)) {
            // A documented field that is null is as good as one that is not there.
            assert_eq!(kept[id].get(name).unwrap_or(&Value::Null), value, "{id}: {name}");
        }
    }
}

pub fn manifest(data: &[u8]) {
    document(Document::Manifest, data);
}

/// The small documents; the first byte says which.
pub fn notes(data: &[u8]) {
    const KINDS: [Document; 4] = [Document::Sequence, Document::Verified, Document::Ticket, Document::Lease];
    if let Some((first, rest)) = data.split_first() {
        document(KINDS[usize::from(*first) % KINDS.len()], rest);
    }
}

/// What is read and written again reads the same from then on; and nothing that was sealed is taken once a byte of it
/// has changed or is missing.
fn document(kind: Document, data: &[u8]) {
    for bytes in [data, &sealed(data)] {
        let Some(once) = kind.rewritten(bytes) else { continue };
        let twice = kind.rewritten(&once).expect("what was written can be read");
        assert_eq!(String::from_utf8_lossy(&once), String::from_utf8_lossy(&twice), "it drifts");
        if kind.is_sealed() {
            notices_damage(kind, &once);
        }
    }
}

fn notices_damage(kind: Document, whole: &[u8]) {
    let taken = |bytes: &[u8]| match kind {
        // What is taken for the older format has not been noticed either.
        Document::MetadataFile => decode_metadata_file(bytes).is_ok(),
        _ => kind.rewritten(bytes).is_some(),
    };
    // All of the start, where the seal is, and some places of the rest.
    let digest = Digest::of(whole);
    let elsewhere = digest.as_bytes().iter().map(|byte| usize::from(*byte) * whole.len() / 256);
    for at in (0..whole.len().min(128)).chain(elsewhere) {
        let mut rotten = whole.to_vec();
        rotten[at] ^= 1 << (at % 8);
        assert!(!taken(&rotten), "a changed byte at {at} goes unnoticed in {}", String::from_utf8_lossy(&rotten));
        assert!(!taken(&whole[..at]), "the loss of all from {at} on goes unnoticed");
    }
}

/// No name and no field of the older format is lost.
fn keeps_every_field(bytes: &[u8], older: &Older) {
    let map: Map<String, Value> = serde_json::from_slice(bytes).expect("it was read as JSON");
    assert_eq!(older.records.len() + older.unusable.len(), map.len());
    for (id, entry) in &older.records {
        let Some(Value::Object(fields)) = map.get(id.as_str()) else { panic!("{id} is new") };
        for (name, value) in fields {
            let kept = kept(entry, name).unwrap_or_default();
            assert!(kept == *value, "{id}: {name} was {value}, and now {:?}", entry.live());
        }
    }
}

/// A field as it is kept; what the older format says under a name that is Keepsake's own has another one.
fn kept(entry: &Entry, name: &str) -> Option<Value> {
    let record = serde_json::to_value(entry.live()?).ok()?;
    let own = matches!(name, "version" | "commit" | "deletedAt");
    record.get(if own { format!("older:{name}") } else { name.to_owned() }).cloned()
}
