//! A view answers as a plain map does, whatever of it is in a root and whatever is in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use store::Store;
use store::testing::MemoryStore;

use super::listed::listed_at;
use super::*;
use crate::base::clock::{Clock, format_millis};

/// One change: of which image, at which minute it was uploaded, in which group, with which word; a deletion without.
#[derive(Debug, Clone)]
struct Step {
    image: u16,
    minute: i64,
    group: Option<u8>,
    word: Option<u8>,
    compacts: bool,
}

const WORDS: [&str; 4] = ["harbour", "garden", "Sunset", "müll"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..200u16, 0..50i64, prop::option::of(0..6u8), prop::option::weighted(0.9, 0..4u8), 0..12u8);
    let step = step.prop_map(|(image, minute, group, word, compacts)| {
        let compacts = compacts == 0;
        Step { image, minute, group, word, compacts }
    });
    prop::collection::vec(step, 1..300)
}

type Model = BTreeMap<ImageId, Entry>;
type Listed = Vec<(Position, Entry)>;

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn content(step: &Step) -> Content {
    match step.word {
        Some(word) => Content::Live(Record {
            upload_date: Some(format_millis(start() + SignedDuration::from_mins(step.minute))),
            group_id: step.group.map(|group| format!("g{group}")),
            description: Some(format!("A {} at {}", WORDS[usize::from(word)], step.image)),
            category: step.group.map(|group| format!("c{}", group % 2)),
            size: Some(u64::from(step.image)),
            ..Record::default()
        }),
        None => Content::Deleted(Tombstone { deleted_at: start(), sha256: None }),
    }
}

fn newest(model: &Model) -> Listed {
    let live = model.iter().filter_map(|(id, entry)| Some(((listed_at(entry.live()?), id.clone()), entry.clone())));
    let mut listed: Listed = live.collect();
    listed.sort_by(|(a, _), (b, _)| b.cmp(a));
    listed
}

fn group_of(entry: &Entry) -> Option<&str> {
    entry.live()?.group()
}

/// The newest of each group, by the images until `started`.
fn leaders(model: &Model, started: Option<Timestamp>) -> Listed {
    let mut seen = BTreeSet::new();
    let until = |at: &Timestamp| started.is_none_or(|started| *at <= started);
    let listed = newest(model).into_iter().filter(|((at, _), _)| until(at));
    listed.filter(|(_, entry)| group_of(entry).is_none_or(|group| seen.insert(group.to_owned()))).collect()
}

async fn all(stream: PositionStream) -> Listed {
    let listed: Vec<(Position, Arc<Entry>)> = stream.try_collect().await.unwrap();
    listed.into_iter().map(|(position, entry)| (position, (*entry).clone())).collect()
}

async fn check(view: &View, model: &Model) {
    let entries: Vec<(ImageId, Arc<Entry>)> = view.entries().try_collect().await.unwrap();
    assert!(entries.iter().map(|(id, entry)| (id, &**entry)).eq(model.iter()));
    let listed = newest(model);
    assert_eq!(all(view.newest(None)).await, listed);
    assert_eq!(all(view.leaders(None, None)).await, leaders(model, None));
    assert_eq!(view.leading().await.unwrap(), leaders(model, None).len() as u64);
    if let Some((position, _)) = listed.get(listed.len() / 3) {
        let after = |listed: Listed| listed.into_iter().filter(|(at, _)| at < position).collect::<Listed>();
        assert_eq!(all(view.newest(Some(position))).await, after(listed.clone()));
        let paged = all(view.leaders(Some(position), Some(position.0))).await;
        assert_eq!(paged, after(leaders(model, Some(position.0))));
    }
    let ends = listed.first().zip(listed.last()).map(|(newest, oldest)| (newest.0.0, oldest.0.0));
    assert_eq!(view.span().await.unwrap(), ends);
    for group in ["g0", "g5", "none"] {
        let members = view.group(group).await.unwrap().into_iter().map(|(at, entry)| (at, (*entry).clone()));
        let expected = listed.iter().filter(|(_, entry)| group_of(entry) == Some(group)).cloned();
        assert!(members.eq(expected), "{group}");
    }
    let totals = view.totals();
    let bytes: u64 = listed.iter().filter_map(|(_, entry)| entry.live()?.size).sum();
    let (live, deleted) = (listed.len() as u64, (model.len() - listed.len()) as u64);
    assert_eq!((totals.live, totals.deleted, totals.undigested, totals.bytes), (live, deleted, live, bytes));
    for word in ["harbour", "sunset", "müll", "at 1", "rden", "nowhere"] {
        let mut tokens = Tokens::default();
        tokens.word(word);
        let has = |(_, entry): &(Position, Entry)| {
            entry.live().is_some_and(|record| record.searched_text().any(|text| text.contains(word)))
        };
        let found = all(view.newest_with(None, &tokens)).await.into_iter().filter(has);
        assert!(found.eq(listed.iter().filter(|item| has(item)).cloned()), "{word}");
        let unit_has = |item: &(Position, Entry)| match group_of(&item.1) {
            Some(group) => listed.iter().any(|item| group_of(&item.1) == Some(group) && has(item)),
            None => has(item),
        };
        let found = all(view.leaders_with(None, None, &tokens)).await.into_iter().filter(unit_has);
        assert!(found.eq(leaders(model, None).into_iter().filter(unit_has)), "{word}, of leaders");
    }
    let mut usage = Usage::default();
    listed.iter().filter_map(|(_, entry)| entry.live()).for_each(|record| usage.add(record));
    assert_eq!(view.usage().await.unwrap(), usage);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_view_answers_as_a_plain_map_does(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let store = || Store::new(Arc::new(MemoryStore::new()), Path::new("bodies here never leave memory"));
            let clock = Clock::manual(start());
            let catalog = Catalog::new(store(), vec![store()], true, clock.clone());
            let mut model = Model::new();
            let (mut earlier, mut then) = (catalog.view(), model.clone());
            catalog.refresh().await.unwrap();
            for (number, step) in steps.iter().enumerate() {
                let id = ImageId::new(&format!("{:03}.jpg", step.image)).unwrap();
                let version = catalog.view().next_version(id.as_str()).await.unwrap();
                let content = content(step);
                let commit = catalog.commit(vec![(id.clone(), Change { version, content: content.clone() })]).await;
                let stamp = Stamp { version, commit: commit.unwrap() };
                model.insert(id, Entry { stamp, content });
                if step.compacts {
                    catalog.compact().await.unwrap();
                }
                if number == steps.len() / 2 {
                    (earlier, then) = (catalog.view(), model.clone());
                }
            }
            let view = catalog.view();
            check(&view, &model).await;
            // Once more with what was noted about pages.
            check(&view, &model).await;
            check(&earlier, &then).await;
            let found: Vec<Difference> = earlier.differences(&view).try_collect().await.unwrap();
            let names: BTreeSet<&ImageId> = then.keys().chain(model.keys()).collect();
            let differs = |id: &&&ImageId| then.get(**id) != model.get(**id);
            prop_assert!(found.iter().map(|difference| &difference.id).eq(names.iter().filter(differs).copied()));
            catalog.compact().await.unwrap();
            let entries = model.iter().map(|(id, entry)| (id.clone(), Arc::new(entry.clone())));
            prop_assert!(catalog.view().overlay.is_empty());
            // The same entries in any order have the same root.
            let other = Catalog::new(store(), vec![store()], true, clock.clone());
            let at_once = View { reader: Arc::clone(&other.readers[0]), ..View::of(entries) };
            prop_assert_eq!(at_once.compacted(&[]).await.unwrap(), (*catalog.view().root).clone());
            Ok(())
        })?;
    }
}

/// Counts the pages that are read.
#[derive(Debug)]
struct Counting(Arc<LocatedPages>, AtomicU64);

#[async_trait::async_trait]
impl tree::Pages for Counting {
    async fn read(&self, page: &store::digest::Digest) -> Result<Option<bytes::Bytes>, StoreError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.read(page).await
    }

    async fn write(&self, page: &store::digest::Digest, bytes: bytes::Bytes) -> Result<(), StoreError> {
        self.0.write(page, bytes).await
    }
}

#[tokio::test]
async fn a_second_search_reads_only_pages_that_may_have_what_it_looks_for() {
    let store = || Store::new(Arc::new(MemoryStore::new()), Path::new("bodies here never leave memory"));
    let catalog = Catalog::new(store(), vec![store()], true, Clock::manual(start()));
    let image = |number: u16| {
        let group = number.is_multiple_of(3).then_some((number / 30) as u8);
        let step = Step { image: number, minute: number.into(), group, word: Some(0), compacts: false };
        let id = ImageId::new(&format!("{number:05}.jpg")).unwrap();
        (id, Change { version: 1, content: content(&step) })
    };
    catalog.commit((0..6_000).map(image).collect()).await.unwrap();
    catalog.compact().await.unwrap();
    let pages = Arc::new(Counting(Arc::clone(&catalog.pages[0]), AtomicU64::new(0)));
    let few_pages_in_memory = EntryReader::new(Arc::clone(&pages) as Arc<dyn tree::Pages>, 256 * 1024);
    let view = View { reader: few_pages_in_memory, ..catalog.view() };
    let search = async |word: &str| {
        let mut tokens = Tokens::default();
        tokens.word(word);
        let found = all(view.leaders_with(None, None, &tokens)).await.len();
        let found_alone = all(view.newest_with(None, &tokens)).await.len();
        (found, found_alone, pages.1.swap(0, Ordering::Relaxed))
    };
    let (.., reads) = search("nowhere").await;
    assert!(reads > 60, "the first search read {reads} pages");
    let (found, found_alone, reads) = search("zebra").await;
    assert!((found, found_alone) == (0, 0) && reads <= 4, "a search for nothing read {reads} pages");
    let (found, found_alone, reads) = search("at 5999").await;
    let is_one_page = |found: usize| (1..=128).contains(&found);
    assert!(is_one_page(found) && is_one_page(found_alone) && reads <= 8, "a search for one image read {reads} pages");
    view.usage().await.unwrap();
    let reads = pages.1.load(Ordering::Relaxed);
    assert!(reads <= 4, "the used storage read {reads} pages");
}

#[tokio::test]
async fn commit_that_was_compacted_meanwhile_hides_no_other_that_waits() {
    let store = Store::new(Arc::new(MemoryStore::new()), Path::new("bodies here never leave memory"));
    let catalog = Catalog::new(store, vec![], true, Clock::manual(start()));
    let step = Step { image: 1, minute: 1, group: None, word: Some(0), compacts: false };
    let id = ImageId::new("001.jpg").unwrap();
    let waits = catalog.commit(vec![(id.clone(), Change { version: 1, content: content(&step) })]).await.unwrap();
    assert_eq!(catalog.images_of(&BTreeSet::from([waits, Uuid::nil()])), BTreeSet::from([id]));
}

#[test]
fn keys_sort_as_positions_do() {
    let id = |name| ImageId::new(name).unwrap();
    let moments = [Timestamp::MIN, "-000044-03-15T12:00:00Z".parse().unwrap(), start(), Timestamp::MAX];
    let positions = moments.iter().flat_map(|at| [(*at, id("a.jpg")), (*at, id("b.jpg"))]);
    let keys: Vec<String> = positions.map(|position| root::time_key(&position)).collect();
    assert!(keys.is_sorted(), "{keys:?}");
}

#[test]
fn states_with_other_entries_have_other_versions() {
    let entry = |description: &str, commit: u128| {
        let record = Record { description: Some(description.to_owned()), ..Record::default() };
        Change { version: 1, content: Content::Live(record) }.stamped(Uuid::from_u128(commit))
    };
    let state = |entries: &[(&str, &str, u128)]| {
        View::of(entries.iter().map(|(id, text, commit)| (ImageId::new(id).unwrap(), entry(text, *commit)))).version()
    };
    assert_eq!(state(&[("a", "one", 0)]), state(&[("a", "one", 0)]));
    // An entry of a file of an older format has no commit.
    let states = [&[("a", "one", 0)][..], &[("a", "two", 0)], &[("a", "one", 5)], &[("b", "one", 0)], &[]];
    let versions: BTreeSet<_> = states.iter().map(|entries| state(entries)).collect();
    assert_eq!(versions.len(), states.len());
}
