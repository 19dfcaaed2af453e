//! A tree behaves as an ordered map does, and equal maps are equal trees.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use tree::{Cursor, Difference, Direction, Tree};

use crate::memory::{Memory, Model, Numbers, collect, reader, tree_of};

fn key() -> impl Strategy<Value = Box<str>> {
    // Few enough that changes meet, many enough for three levels; some need escapes in JSON.
    prop_oneof![
        8 => (0..40_000_u32).prop_map(|n| format!("image-{n:05}.jpg").into()),
        1 => "[a-c\"\\\\\u{e9}]{0,3}".prop_map(Into::into),
    ]
}

fn changes(most: usize) -> impl Strategy<Value = Vec<(Box<str>, Option<u64>)>> {
    vec((key(), proptest::option::weighted(0.7, any::<u32>().prop_map(u64::from))), 0..most)
}

fn start() -> impl Strategy<Value = Model> {
    prop_oneof![
        btree_map(key(), any::<u32>().prop_map(u64::from), 0..40),
        (0..30_000_u32).prop_map(|n| (0..n).map(|i| (format!("image-{i:05}.jpg").into(), u64::from(i))).collect()),
    ]
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_tree_is_an_ordered_map_whatever_its_history(
        mut model in start(),
        batches in vec(changes(200), 1..6),
        after in key(),
    ) {
        run(async {
            let memory = Arc::new(Memory::default());
            let reader = reader(&memory);
            let mut tree = tree_of(&reader, &model).await;
            for batch in batches {
                for (key, value) in &batch {
                    match value {
                        Some(value) => drop(model.insert(key.clone(), *value)),
                        None => drop(model.remove(key)),
                    }
                }
                tree = reader.update(&tree, &batch.into_iter().collect()).await.unwrap().tree;
                assert_eq!(tree, tree_of(&reader, &model).await, "pages follow from the entries alone");
            }
            let sum = tree.summary();
            assert_eq!((tree.entries(), sum.sum), (model.len() as u64, model.values().sum()));
            assert_eq!(sum.odd, model.values().filter(|value| *value % 2 == 1).count() as u64);
            let all: Vec<(Box<str>, u64)> = model.iter().map(|(key, value)| (key.clone(), *value)).collect();
            assert_eq!(collect(&reader, &tree, Direction::Forward, None).await.unwrap(), all);
            let ahead: Vec<_> = all.iter().filter(|(key, _)| *key > after).cloned().collect();
            assert_eq!(collect(&reader, &tree, Direction::Forward, Some(&after)).await.unwrap(), ahead);
            let back: Vec<_> = all.iter().rev().filter(|(key, _)| *key < after).cloned().collect();
            assert_eq!(collect(&reader, &tree, Direction::Backward, Some(&after)).await.unwrap(), back);
            for key in [&after].into_iter().chain(model.keys().step_by(97)) {
                assert_eq!(reader.get(&tree, key).await.unwrap().as_deref().copied(), model.get(key).copied());
            }
        });
    }

    #[test]
    fn differences_are_those_of_the_maps(model in start(), batch in changes(200)) {
        run(async {
            let (here, there) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
            let (ours, theirs) = (reader(&here), reader(&there));
            let mut changed = model.clone();
            for (key, value) in batch {
                match value {
                    Some(value) => drop(changed.insert(key, value)),
                    None => drop(changed.remove(&key)),
                }
            }
            let before = tree_of(&ours, &model).await;
            let after = tree_of(&theirs, &changed).await;
            let keys: BTreeSet<_> = model.keys().chain(changed.keys()).collect();
            let expected = keys.into_iter().filter(|key| model.get(*key) != changed.get(*key));
            let expected: Vec<_> = expected
                .map(|key| Difference {
                    key: key.clone(),
                    before: model.get(key).copied(),
                    after: changed.get(key).copied(),
                })
                .collect();
            let mut found = Vec::new();
            let mut differences = ours.differences(&before, &theirs, &after);
            while let Some(difference) = differences.next().await.unwrap() {
                found.push(difference);
            }
            assert_eq!(found, expected);

            let beyond = theirs.pages_beyond(&after, &ours, &before).await.unwrap();
            let lacking: Vec<_> = there.pages().into_keys().filter(|page| !here.pages().contains_key(page)).collect();
            assert_eq!(beyond.iter().collect::<BTreeSet<_>>(), lacking.iter().collect::<BTreeSet<_>>());
            here.change(|pages| pages.extend(there.pages()));
            let all: Vec<_> = changed.into_iter().collect();
            assert_eq!(collect(&ours, &after, Direction::Forward, None).await.unwrap(), all);
        });
    }
}

#[tokio::test]
async fn a_cursor_reads_only_pages_that_are_wanted() {
    let memory = Arc::new(Memory::default());
    let model: Model = (0..20_000_u64).map(|n| (format!("{n:05}").into(), if n == 777 { 1 } else { 2 })).collect();
    let tree = tree_of(&reader(&memory), &model).await;
    let (cold, mut found) = (reader(&memory), Vec::new());
    memory.take_reads();
    let mut cursor = Cursor::new(&cold, &tree, Direction::Backward, None);
    while let Some((key, value)) = cursor.next(|link| link.summary.odd > 0).await.unwrap() {
        if *value % 2 == 1 {
            found.push(key);
        }
    }
    assert_eq!(found, [Box::from("00777")]);
    assert_eq!(memory.take_reads(), u64::from(tree.top().unwrap().level) + 1);
}

#[tokio::test]
async fn the_empty_map_is_the_empty_tree() {
    let memory = Arc::new(Memory::default());
    let reader = reader(&memory);
    let one: Model = [("a".into(), 1)].into();
    let tree = tree_of(&reader, &one).await;
    assert_eq!(reader.update(&tree, &[("a".into(), None)].into()).await.unwrap().tree, Tree::EMPTY);
    assert_eq!(reader.update(&Tree::EMPTY, &[("a".into(), None)].into()).await.unwrap().tree, Tree::EMPTY);
    assert_eq!(serde_json::to_string(&Tree::<Numbers>::EMPTY).unwrap(), "null");
    let again: Tree<Numbers> = serde_json::from_str(&serde_json::to_string(&tree).unwrap()).unwrap();
    assert_eq!(again, tree);
    assert_eq!(again.summary(), tree.summary());
}
