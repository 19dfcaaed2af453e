//! What changes cost: pages read and written do not grow with the number of entries, but for the height.

use std::sync::Arc;

use tree::{Changes, Tree};

use crate::memory::{Memory, Model, Numbers, reader, tree_of};

fn value(n: u64) -> u64 {
    n * 7919 % 1_000_003
}

fn numbers(count: u64) -> Model {
    (0..count).map(|n| (format!("{n:08}").into(), value(n))).collect()
}

#[tokio::test]
async fn no_page_exceeds_its_limit_and_most_are_full() {
    let memory = Arc::new(Memory::default());
    let tree = tree_of(&reader(&memory), &numbers(100_000)).await;
    let leaves = memory.pages().len() as u64;
    assert!((100_000 / 128..100_000 / 90).contains(&leaves), "{leaves} pages for 100,000 entries");
    assert_eq!(tree.top().unwrap().level, 2);
}

#[tokio::test]
async fn one_change_writes_a_few_pages_of_each_level_wherever_it_is() {
    let memory = Arc::new(Memory::default());
    let reader = reader(&memory);
    let tree = tree_of(&reader, &numbers(100_000)).await;
    let (mut most, mut all) = (0, 0);
    for n in (0..100_000).step_by(1_009) {
        for changes in [
            Changes::<Numbers>::from([(format!("{n:08}").into(), Some(1))]),
            Changes::<Numbers>::from([(format!("{n:08}").into(), None)]),
            Changes::<Numbers>::from([(format!("{n:08}-new").into(), Some(1))]),
        ] {
            let pages = reader.update(&tree, &changes).await.unwrap().pages;
            (most, all) = (most.max(pages), all + pages);
        }
    }
    let mean = all as f64 / 300.0;
    assert!(most <= 40 && mean <= 8.0, "at most {most} pages, {mean} on average");
}

#[tokio::test]
async fn an_append_writes_one_page_of_each_level_or_two() {
    let memory = Arc::new(Memory::default());
    let reader = reader(&memory);
    let mut tree = tree_of(&reader, &numbers(50_000)).await;
    let mut pages = 0;
    for n in 50_000..50_500 {
        let updated = reader.update(&tree, &[(format!("{n:08}").into(), Some(value(n)))].into()).await.unwrap();
        pages += updated.pages;
        tree = updated.tree;
    }
    assert_eq!(tree, tree_of(&reader, &numbers(50_500)).await);
    assert!(pages <= 500 * 3 + 30, "{pages} pages for 500 appends to a tree of three levels");
}

#[tokio::test]
async fn an_update_without_a_change_writes_no_new_page() {
    let memory = Arc::new(Memory::default());
    let reader = reader(&memory);
    let tree = tree_of(&reader, &numbers(1_000)).await;
    let before = memory.pages();
    let same = Changes::<Numbers>::from([("00000500".into(), Some(value(500))), ("x".into(), None)]);
    let updated = reader.update(&tree, &same).await.unwrap();
    assert_eq!((updated.tree, memory.pages()), (tree, before));
    assert_eq!(reader.update(&Tree::EMPTY, &Changes::<Numbers>::new()).await.unwrap().pages, 0);
}
