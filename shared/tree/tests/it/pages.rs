//! Pages that are missing, damaged or of a newer format, and what their bytes are.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use flate2::{Compression, GzBuilder, read::GzDecoder};
use store::digest::Digest;
use tree::{Direction, TreeError};

use crate::memory::{Memory, Model, collect, reader, tree_of};

fn numbers(count: u64) -> Model {
    (0..count).map(|n| (format!("{n:06}").into(), n)).collect()
}

#[tokio::test]
async fn a_page_is_gzip_of_readable_json_and_named_by_its_digest() {
    let memory = Arc::new(Memory::default());
    let tree = tree_of(&reader(&memory), &[("b".into(), 2), ("a".into(), 1)].into()).await;
    let pages = memory.pages();
    let (name, bytes) = pages.first_key_value().unwrap();
    assert_eq!((pages.len(), Digest::of(bytes), tree.top().unwrap().page), (1, *name, *name));
    let mut text = String::new();
    GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    assert_eq!(text, r#"{"format":1,"level":0,"entries":{"a":1,"b":2}}"#);
    assert_eq!(bytes[4..8], [0; 4], "no time of modification, so that equal pages have equal bytes");
}

#[tokio::test]
async fn a_missing_page_is_an_error_that_names_it() {
    let memory = Arc::new(Memory::default());
    let tree = tree_of(&reader(&memory), &numbers(1_000)).await;
    let (gone, _) = memory.pages().into_iter().find(|(page, _)| *page != tree.top().unwrap().page).unwrap();
    memory.change(|pages| drop(pages.remove(&gone)));
    let error = collect(&reader(&memory), &tree, Direction::Forward, None).await.unwrap_err();
    assert!(matches!(error, TreeError::Missing(page) if page == gone), "{error}");
}

#[tokio::test]
async fn a_damaged_page_is_an_error_and_is_read_again() {
    let memory = Arc::new(Memory::default());
    let tree = tree_of(&reader(&memory), &numbers(10)).await;
    let page = tree.top().unwrap().page;
    let bytes = memory.pages()[&page].clone();
    for at in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1;
        memory.change(|pages| drop(pages.insert(page, Bytes::from(damaged))));
        let error = reader(&memory).get(&tree, "000001").await.unwrap_err();
        assert!(matches!(error, TreeError::Damaged { .. }), "byte {at}: {error}");
    }
    let reader = reader(&memory);
    reader.get(&tree, "000001").await.unwrap_err();
    memory.change(|pages| drop(pages.insert(page, bytes)));
    assert_eq!(reader.get(&tree, "000001").await.unwrap().as_deref(), Some(&1), "an error is not kept");
}

#[tokio::test]
async fn pages_of_another_format_level_or_order_are_refused() {
    let memory = Arc::new(Memory::default());
    for (json, expected) in [
        (r#"{"format":2,"level":0,"entries":{"a":1}}"#, "which this version does not know"),
        (r#"{"format":1,"level":1,"entries":{"a":1}}"#, "it has level 1, not 0"),
        (r#"{"format":1,"level":0,"entries":{"b":1,"a":1}}"#, "not in order"),
        (r#"{"format":1,"level":0,"entries":{"a":1,"a":1}}"#, "not in order"),
        (r#"{"format":1,"level":0,"entries":{}}"#, "no entries"),
        (r#"{"format":1,"level":0}"#, "missing field"),
    ] {
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::default());
        gzip.write_all(json.as_bytes()).unwrap();
        let bytes = Bytes::from(gzip.finish().unwrap());
        let page = Digest::of(&bytes);
        memory.change(|pages| drop(pages.insert(page, bytes)));
        let link = format!(r#"{{"level":0,"page":"{page}","entries":1,"summary":{{"sum":1,"odd":1}}}}"#);
        let error = reader(&memory).get(&serde_json::from_str(&link).unwrap(), "a").await.unwrap_err();
        assert!(error.to_string().contains(expected), "{json}: {error}");
    }
}

#[tokio::test]
async fn a_walk_visits_each_page_once_and_leaves_out_known_ones() {
    let memory = Arc::new(Memory::default());
    let reader = reader(&memory);
    let model = numbers(20_000);
    let before = tree_of(&reader, &model).await;
    let mut seen = std::collections::BTreeSet::new();
    let mut entries = 0;
    reader.walk(&before, |page| seen.insert(*page), |_, _| entries += 1).await.unwrap();
    assert_eq!((seen.len(), entries), (memory.pages().len(), 20_000));
    let updated = reader.update(&before, &[("010000".into(), Some(7))].into()).await.unwrap();
    let (mut new, mut entries) = (0, Vec::new());
    let enter = |page: &Digest| {
        seen.insert(*page) && {
            new += 1;
            true
        }
    };
    reader.walk(&updated.tree, enter, |key, value| entries.push((key.to_owned(), value))).await.unwrap();
    assert_eq!(new, updated.pages);
    assert!(entries.contains(&("010000".into(), 7)) && entries.len() <= 128, "{}", entries.len());
}
