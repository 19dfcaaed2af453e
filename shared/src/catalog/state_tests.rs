//! The laws of the join and of the chunks.

use super::*;
use crate::catalog::record::{Content, Stamp};
use proptest::prelude::*;
use uuid::Uuid;

fn entry(version: u64, commit: u128, live: bool) -> Arc<Entry> {
    let content = if live {
        let upload_date = Some(format!("2026-11-2{version}T00:00:00Z"));
        let group_id = (commit > 0).then(|| format!("g{commit}"));
        Content::Live(Record { size: Some(version), upload_date, group_id, ..Record::default() })
    } else {
        Content::Deleted(Tombstone { deleted_at: Timestamp::UNIX_EPOCH, sha256: None })
    };
    Arc::new(Entry { stamp: Stamp { version, commit: Uuid::from_u128(commit) }, content })
}

fn pieces() -> impl Strategy<Value = Vec<(ImageId, Arc<Entry>)>> {
    let one = (0..60u32, 0..4u64, 0..3u128, any::<bool>());
    let image = |(n, version, commit, live)| (ImageId::new(&format!("{n}.jpg")).unwrap(), entry(version, commit, live));
    prop::collection::vec(one.prop_map(image), 0..80)
}

fn state(pieces: &[&[(ImageId, Arc<Entry>)]]) -> State {
    pieces.iter().flat_map(|p| p.iter().cloned()).collect()
}

proptest! {
    #[test]
    fn the_join_is_commutative_associative_and_idempotent(a in pieces(), b in pieces(), c in pieces()) {
        let left = state(&[&a, &b, &c]);
        prop_assert_eq!(&*left, &*state(&[&c, &b, &a]));
        let mut nested = state(&[&a]);
        nested.join_all(&state(&[&b, &c]));
        prop_assert_eq!(&*left, &*nested);
        prop_assert!(!nested.join_all(&left), "joining what is known changes nothing");
    }

    #[test]
    fn sums_and_indexes_follow_from_the_entries_alone(a in pieces(), b in pieces(), pick in 0..3u64) {
        let mut state = state(&[&a, &b]);
        state.expire_tombstones(|_| pick == 0);
        let live: Vec<_> = state.live().map(|(id, r)| (id.clone(), r.clone())).collect();
        prop_assert_eq!(state.totals().live, live.len() as u64);
        prop_assert_eq!(state.totals().bytes, live.iter().filter_map(|(_, r)| r.size).sum::<u64>());
        let newest: Vec<_> = state.newest(None).map(|(position, _)| position).collect();
        prop_assert!(newest.len() == live.len() && newest.is_sorted_by(|a, b| a > b));
        let group = |id: &ImageId| state.get(id.as_str())?.live()?.group_id.clone();
        let mut groups = HashSet::new();
        let leaders: Vec<_> = newest.iter().filter(|(_, id)| group(id).is_none_or(|g| groups.insert(g))).cloned().collect();
        prop_assert_eq!(state.leading(), leaders.len());
        prop_assert_eq!(state.leaders(None, None).map(|(position, _)| position).collect::<Vec<_>>(), leaders);
        let grouped: usize = groups.iter().map(|id| state.group(id).count()).sum();
        prop_assert_eq!(grouped, newest.iter().filter(|(_, id)| group(id).is_some()).count());
        prop_assert_eq!(state.span(), newest.first().zip(newest.last()).map(|(first, last)| (first.0, last.0)));
        let known: std::collections::BTreeSet<_> = a.iter().chain(&b).map(|(id, _)| id).collect();
        prop_assert_eq!(state.totals().uploads(), known.len() as u64);
    }

    #[test]
    fn chunks_depend_on_the_names_alone_and_not_on_the_order_of_arrival(
        names in prop::collection::hash_set(0..100_000u32, 0..3000), removed in 0..50u32,
    ) {
        let id = |n: &u32| ImageId::new(&format!("{n}.jpg")).unwrap();
        let dead = |n: &u32| n % 50 == removed;
        let mut arrived = State::default();
        for n in &names {
            arrived.join(&id(n), &entry(1, 1, !dead(n)));
        }
        arrived.expire_tombstones(|_| true);
        let mut sorted: Vec<_> = names.iter().filter(|n| !dead(n)).map(id).collect();
        sorted.sort();
        let rebuilt: State = sorted.into_iter().map(|id| (id, entry(1, 1, true))).collect();
        let summaries = |s: &State| s.chunks().iter().map(|c| c.summary()).collect::<Vec<_>>();
        prop_assert_eq!(summaries(&arrived), summaries(&rebuilt));
        let lengths: Vec<_> = arrived.chunks().iter().map(|c| (c.entries.len(), c.is_ended())).collect();
        let (last, others) = lengths.split_last().unwrap_or((&(1, true), &[]));
        prop_assert!((1..=CHUNK_RECORDS).contains(&last.0));
        prop_assert!(others.iter().all(|(length, ended)| *length == CHUNK_RECORDS || (*ended && *length < CHUNK_RECORDS)));
        for chunk in arrived.chunks() {
            let ends = chunk.entries.keys().filter(|id| ends_run(id)).count();
            prop_assert_eq!(ends, usize::from(chunk.is_ended()), "only the last name of a chunk ends one");
        }
    }
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let mut state = State::default();
    let id = ImageId::new("a.jpg").unwrap();
    state.join(&id, &entry(1, 1, true));
    let before = state.snapshot();
    state.join(&id, &entry(2, 1, false));
    assert!(before.get("a.jpg").unwrap().live().is_some() && state.get("a.jpg").unwrap().live().is_none());
}
