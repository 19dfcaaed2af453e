//! The tenth sentence: listings are complete, sorted, and can be taken up anywhere.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream::{self, StreamExt, TryStreamExt};
use store::Store;

use crate::backend::{Backend, key, put};

/// Names of which a listing by folders, by characters or without regard to case would make another order.
const NAMES: &[&str] = &[
    "B",
    "Z/a",
    "a!/x",
    "a-b",
    "a.txt",
    "a/b",
    "a/b.c",
    "a/bc/d",
    "a0",
    "aa/x",
    "a~",
    "b/1",
    "b/10",
    "b/2",
    "b.d/x",
    "c/d/e/f/g",
    "c/d/e-f",
    "c/d.e",
    "é",
    "z",
    "\u{ffff}",
];

async fn list(store: &Store, prefix: &str, start_after: Option<&str>) -> Vec<String> {
    store.list(prefix, start_after).map_ok(|meta| meta.key.to_string()).try_collect().await.unwrap()
}

async fn fill<'a>(store: &Store, names: impl IntoIterator<Item = &'a str>) {
    stream::iter(names).for_each_concurrent(8, async |name| drop(put(store, name, b"x").await)).await;
}

pub async fn s10_a_listing_is_sorted_by_the_bytes_of_the_key(backend: &Backend) {
    fill(&backend.store, NAMES.iter().copied()).await;
    let sorted: BTreeSet<_> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(list(&backend.store, "", None).await, sorted.into_iter().collect::<Vec<_>>());
}

pub async fn s10_a_listing_can_be_taken_up_anywhere(backend: &Backend) {
    fill(&backend.store, NAMES.iter().copied()).await;
    let sorted: BTreeSet<_> = NAMES.iter().copied().collect();
    let prefixes = ["", "a", "a/", "a/b", "a/b.", "b", "b/", "b/1", "c/", "c/d", "c/d/", "c/d/e/f/g", "é"];
    let starts =
        ["", "A", "a", "a!", "a.txt", "a/", "a/b", "a/b/", "a/bc", "a/bc/d", "b/1", "c/d/e", "c/d/e/", "z", "\u{ffff}"];
    for prefix in prefixes {
        for start in [None].into_iter().chain(starts.map(Some)) {
            let wanted =
                sorted.iter().filter(|name| name.starts_with(prefix) && start.is_none_or(|start| **name > start));
            let wanted: Vec<_> = wanted.copied().collect();
            assert_eq!(list(&backend.store, prefix, start).await, wanted, "prefix {prefix:?} after {start:?}");
        }
    }
}

pub async fn s10_a_listing_of_many_pages_is_complete(backend: &Backend) {
    let names: Vec<_> = (0..1_050).map(|n| format!("many/{}/{n:04}", n / 600)).collect();
    fill(&backend.store, names.iter().map(String::as_str)).await;
    assert_eq!(list(&backend.store, "many/", None).await, names);
    assert_eq!(list(&backend.store, "", Some(&names[20])).await, names[21..]);
    // A listing that is not read to its end costs nothing more and disturbs nothing.
    let first = backend.store.list("", None).next().await.unwrap().unwrap();
    assert_eq!(first.key, key(&names[0]));
}

pub async fn s10_a_listing_of_nothing_is_empty(backend: &Backend) {
    let odd = ["a//b", "/", "/a", "../", "a/../", "..", "a\\", ".tmp-", "a/.tmp-x", "no/such/folder/"];
    for prefix in odd {
        assert_eq!(list(&backend.store, prefix, None).await, Vec::<String>::new(), "{prefix:?} of nothing");
    }
    fill(&backend.store, ["a/b", "b"]).await;
    for prefix in odd {
        assert_eq!(list(&backend.store, prefix, None).await, Vec::<String>::new(), "{prefix:?} of something");
    }
    assert_eq!(list(&backend.store, "", Some("b")).await, Vec::<String>::new());
    assert_eq!(list(&backend.store, "a/b/", None).await, Vec::<String>::new());
}

pub async fn s10_a_listing_during_puts_and_deletes_has_what_was_there_throughout(backend: &Backend) {
    let lasting: Vec<_> = (0..60).map(|n| format!("folder/{n:03}")).collect();
    fill(&backend.store, lasting.iter().map(String::as_str)).await;
    let done = AtomicBool::new(false);
    let writer = async {
        for round in 0..15 {
            let passing = format!("folder/{:03}-{round}", round * 4);
            put(&backend.store, &passing, b"passing").await;
            put(&backend.store, &lasting[round * 3], format!("again {round}").as_bytes()).await;
            backend.store.delete(&key(&passing)).await.unwrap();
        }
        done.store(true, Ordering::Relaxed);
    };
    let reader = async {
        while !done.load(Ordering::Relaxed) {
            let listed = list(&backend.store, "folder/", None).await;
            assert!(listed.is_sorted_by(|a, b| a < b), "{listed:?}");
            let listed: BTreeSet<_> = listed.into_iter().collect();
            let lost: Vec<_> = lasting.iter().filter(|name| !listed.contains(*name)).collect();
            assert!(lost.is_empty(), "lost {lost:?}");
        }
    };
    tokio::join!(writer, reader);
}
