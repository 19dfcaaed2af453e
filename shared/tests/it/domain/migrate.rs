//! Making another place hold a store: what it carries, what it refuses, and what it makes of damage.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32};

use futures::TryStreamExt;
use jiff::SignedDuration;

use super::{World, png, seen, upload, upload_all};
use crate::world::{catalog_of, entries, found_nothing, parts_of};
use shared::backup::Kind;
use shared::images::Patch;
use shared::layout::{self, ImageId};
use shared::migrate::{Migrated, migrate};
use shared::restore::Mode;
use shared::store::ObjectMeta;
use shared::store::testing::{FaultStore, Operation};
use shared::testing::catalog::stored_pages;
use shared::verify::Slice;
use shared::{Error, Keepsake};

/// A store with images, one that was edited, one that was deleted, an automatic backup and one made by hand.
pub(crate) async fn filled(world: &World) -> Vec<ImageId> {
    let keepsake = world.open();
    keepsake.recovery.recover().await.unwrap();
    let ids = upload_all(&keepsake, 0..12).await;
    keepsake.images.edit(ids[1].as_str(), &described("another"), shared::Any).await.unwrap();
    keepsake.backups.create(Kind::Manual).await.unwrap();
    keepsake.images.delete(ids[0].as_str(), shared::Any).await.unwrap();
    keepsake.core.catalog.compact().await.unwrap();
    upload(&keepsake, 100).await.unwrap();
    ids
}

/// Another place, with another clock, so that its processes make other names.
pub(crate) fn elsewhere() -> World {
    let world = World::new();
    world.pass(SignedDuration::from_mins(1));
    world
}

fn described(text: &str) -> Patch {
    Patch { description: Some(Some(text.to_owned())), ..Patch::default() }
}

/// Every object with its version: what must not change in the place that is migrated from.
pub(crate) async fn versions(world: &World) -> Vec<ObjectMeta> {
    world.raw().list("", None).try_collect().await.unwrap()
}

async fn run(from: &World, to: &World) -> Result<Migrated, Error> {
    migrate(&from.open().core, &to.open().core).await
}

async fn backups(keepsake: &Keepsake) -> Vec<String> {
    keepsake.backups.list().await.unwrap().into_iter().map(|backup| backup.name.to_string()).collect()
}

/// Demands that `to` is the store that `from` is, and that a start finds nothing amiss in it.
pub(crate) async fn assert_same(from: &World, to: &World) {
    let (ours, theirs) = (to.open(), from.open());
    let report = ours.recovery.recover().await.unwrap();
    assert!(found_nothing(&report) && report.missing.is_empty() && !report.is_new, "{report:?}");
    assert_eq!(seen(&ours).await, seen(&theirs).await);
    assert_eq!(backups(&ours).await, backups(&theirs).await);
    assert_eq!(entries(&ours).await, entries(&theirs).await, "records and deleted images are the same");
    let totals = [&ours, &theirs].map(|keepsake| keepsake.core.catalog.view().totals());
    assert_eq!(totals[0], totals[1], "counts are the same");
    let found = ours.verifier.verify(Slice::WHOLE, false).await.unwrap();
    assert!(!found.needs_attention(), "{found:?}");
}

#[tokio::test]
async fn migration_copies_everything_and_leaves_source_unchanged() {
    let (from, to) = (World::new(), elsewhere());
    let ids = filled(&from).await;
    let before = versions(&from).await;
    let done = run(&from, &to).await.unwrap();
    assert_eq!(versions(&from).await, before);
    assert_eq!((done.images, done.copied, done.second_copies, done.backups), (12, 12, 13, 2), "{done:?}");
    assert!(!done.needs_attention(), "{done:?}");
    assert_same(&from, &to).await;
    let there = to.open();
    let oldest = there.backups.list().await.unwrap().last().unwrap().name;
    let restored = there.restores.restore(oldest, Mode::Merge).await.unwrap();
    assert!(restored.plan.restored.contains(&ids[0]), "the bytes of a deleted image came along");
    // The count of automatic backups goes on where it was.
    upload_all(&there, 200..206).await;
    assert_eq!(backups(&there).await.len(), 3, "two and the safety backup: thirteen and six are nineteen uploads");
    upload(&there, 206).await.unwrap();
    assert_eq!(backups(&there).await.len(), 4);
}

#[tokio::test]
async fn repeated_migration_copies_only_changes_in_both_directions() {
    let (from, to) = (World::new(), elsewhere());
    let ids = filled(&from).await;
    run(&from, &to).await.unwrap();
    let unchanged = versions(&to).await;
    let again = run(&from, &to).await.unwrap();
    assert_eq!(versions(&to).await, unchanged, "{again:?}");
    assert_eq!((again.copied, again.second_copies, again.backups, again.images), (0, 0, 0, 12));

    upload(&from.open(), 300).await.unwrap();
    from.open().images.delete(ids[2].as_str(), shared::Any).await.unwrap();
    let more = run(&from, &to).await.unwrap();
    assert_eq!((more.copied, more.second_copies), (1, 1), "{more:?}");
    // What its record has deleted goes when a start finds it a day later, as what any interrupted delete leaves.
    to.pass(SignedDuration::from_hours(25));
    let there = to.open();
    assert_eq!(there.recovery.recover().await.unwrap().deletes_finished, 1);
    assert_same(&from, &to).await;

    upload(&there, 301).await.unwrap();
    there.images.delete(ids[3].as_str(), shared::Any).await.unwrap();
    there.backups.create(Kind::Manual).await.unwrap();
    let refusal = run(&from, &to).await.unwrap_err().to_string();
    assert!(refusal.contains("the other way round"), "{refusal}");
    let back = run(&to, &from).await.unwrap();
    assert_eq!((back.copied, back.backups), (1, 1), "{back:?}");
    from.pass(SignedDuration::from_hours(26));
    assert_eq!(from.open().recovery.recover().await.unwrap().deletes_finished, 1);
    assert_same(&to, &from).await;
}

#[tokio::test]
async fn places_that_hold_anything_else_are_refused_and_left_alone() {
    let from = World::new();
    filled(&from).await;
    let (other, strewn, same_names) = (elsewhere(), elsewhere(), elsewhere());
    filled(&other).await;
    strewn.put("holiday.jpg", b"a photo").await;
    same_names.put("uploads/a.png", &png(1)).await;
    for (place, reason) in [(&other, "is not this store"), (&strewn, "is not empty"), (&same_names, "is not empty")] {
        let before = versions(place).await;
        let refusal = run(&from, place).await.unwrap_err().to_string();
        assert!(refusal.contains(reason), "{refusal}");
        assert_eq!(versions(place).await, before);
    }
    let refusal = run(&World::new(), &World::new()).await.unwrap_err().to_string();
    assert!(refusal.contains("it has no root"), "{refusal}");
    // A server that was started in the wrong place first is no hindrance.
    let started = elsewhere();
    started.open().recovery.recover().await.unwrap();
    run(&from, &started).await.unwrap();
    assert_same(&from, &started).await;
}

#[tokio::test]
async fn changes_on_both_sides_are_refused() {
    let (from, to) = (World::new(), elsewhere());
    let ids = filled(&from).await;
    run(&from, &to).await.unwrap();
    from.open().images.edit(ids[4].as_str(), &described("here"), shared::Any).await.unwrap();
    to.open().images.edit(ids[5].as_str(), &described("there"), shared::Any).await.unwrap();
    for (a, b) in [(&from, &to), (&to, &from)] {
        let before = versions(b).await;
        assert!(matches!(run(a, b).await, Err(Error::MigrationRefused(_))));
        assert_eq!(versions(b).await, before);
    }
}

#[tokio::test]
async fn deletes_that_the_source_has_forgotten_do_not_come_back_by_a_migration() {
    let (from, to) = (World::new(), elsewhere());
    let ids = filled(&from).await;
    from.open().images.delete(ids[6].as_str(), shared::Any).await.unwrap();
    run(&from, &to).await.unwrap();
    for world in [&from, &to] {
        world.pass(SignedDuration::from_hours(24 * 40));
        world.open().recovery.recover().await.unwrap();
    }
    assert_eq!(from.open().recovery.recover().await.unwrap().images, 11);
    let forgot = run(&from, &to).await.unwrap();
    assert!(!forgot.needs_attention(), "{forgot:?}");
    assert_same(&from, &to).await;

    // Nobody can tell an image that was deleted and forgotten from one that was uploaded there.
    from.open().images.delete(ids[7].as_str(), shared::Any).await.unwrap();
    from.pass(SignedDuration::from_hours(24 * 40));
    from.open().recovery.recover().await.unwrap();
    let keepsake = from.open();
    keepsake.core.catalog.load().await.unwrap();
    keepsake.core.catalog.compact().await.unwrap();
    assert!(keepsake.core.catalog.view().get(ids[7].as_str()).await.unwrap().is_none(), "it is forgotten");
    assert!(matches!(run(&from, &to).await, Err(Error::MigrationRefused(_))));
}

#[tokio::test]
async fn bit_rot_in_migration_source_is_repaired_or_reported() {
    let (from, to) = (World::new(), elsewhere());
    let ids = filled(&from).await;
    let digest = |id: &ImageId| {
        let id = id.clone();
        let keepsake = from.open();
        async move {
            keepsake.core.catalog.refresh().await.unwrap();
            entries(&keepsake).await[&id].content_digest().unwrap()
        }
    };
    let rotten = |bytes: Vec<u8>| bytes.into_iter().map(|byte| !byte).collect::<Vec<u8>>();
    let copy = async |n: usize| format!("backups/{}", layout::archived_image(&digest(&ids[n]).await));
    from.put(&format!("uploads/{}", ids[1]), &rotten(png(1))).await;
    from.put(&copy(2).await, &rotten(png(2))).await;
    from.put(&format!("uploads/{}", ids[3]), &rotten(png(3))).await;
    from.put(&copy(3).await, &rotten(png(3))).await;
    from.put(&copy(0).await, &rotten(png(0))).await;
    from.remove(&format!("uploads/{}", ids[4])).await;
    let deleted = digest(&ids[0]).await;
    let done = run(&from, &to).await.unwrap();
    assert!(done.needs_attention());
    assert_eq!(done.repaired, BTreeSet::from([ids[1].clone(), ids[4].clone()]));
    assert_eq!(done.missing, BTreeSet::from([ids[3].clone()]));
    assert_eq!(done.lost_copies, BTreeSet::from([deleted]));
    let there = to.open();
    let report = there.recovery.recover().await.unwrap();
    assert_eq!((report.missing.as_slice(), report.images, report.archived), (&ids[3..4], 12, 0), "{report:?}");
    let found = there.verifier.verify(Slice::WHOLE, false).await.unwrap();
    assert_eq!(found.lost, BTreeSet::from([ids[3].clone()]), "{found:?}");
    assert!(found.damaged.is_empty());
}

#[tokio::test]
async fn a_backup_that_lacks_a_part_stays_behind_and_is_named() {
    let (from, to) = (World::new(), elsewhere());
    filled(&from).await;
    let whole = backups(&from.open()).await;
    let newest = from.open().backups.manifest(whole[0].parse().unwrap()).await.unwrap();
    let older = from.open().backups.manifest(whole[1].parse().unwrap()).await.unwrap();
    let [newest, older] = [parts_of(&from, &newest).await.0, parts_of(&from, &older).await.0];
    // Neither the present state nor another location has a copy.
    let present = stored_pages(catalog_of(&from, "backups/").await).unwrap();
    let only_newest = newest.iter().find(|page| !older.contains(page)).unwrap();
    assert!(!present.contains(only_newest));
    from.spoil_page(only_newest, b"{}").await;
    let done = run(&from, &to).await.unwrap();
    assert_eq!(done.damaged_backups.iter().map(ToString::to_string).collect::<Vec<_>>(), whole[..1]);
    assert_eq!(backups(&to.open()).await, whole[1..]);
}

#[tokio::test]
async fn what_a_start_would_take_in_comes_along() {
    let (from, to) = (World::new(), elsewhere());
    filled(&from).await;
    from.put("uploads/dropped in.png", &png(400)).await;
    let digest = shared::digest::Digest::of(b"what nobody could explain");
    from.put(&format!("backups/quarantine/{digest}/odd.jpg"), b"what nobody could explain").await;
    let young = format!("uploads/{}.png", from.clock.new_id());
    from.put(&young, &png(401)).await;
    // A record that was never looked at has no digest to compare with.
    let done = run(&from, &to).await.unwrap();
    assert_eq!(done.set_aside, 1);
    assert!(to.keys(&young).await.is_empty(), "it belongs to an upload under way");
    assert_eq!(to.open().recovery.recover().await.unwrap().adopted, 1);
    assert_eq!(to.keys("backups/quarantine/").await.len(), 1);
}

#[tokio::test]
async fn a_change_that_only_the_archive_of_the_source_holds_is_told() {
    let (from, to) = (World::new(), elsewhere());
    filled(&from).await;
    from.remove("image-metadata.d/").await;
    let done = run(&from, &to).await.unwrap();
    assert_eq!((done.unreadable_commits, done.images), (1, 11), "{done:?}");
    assert!(done.needs_attention());
    from.open().recovery.recover().await.unwrap();
    assert!(!run(&from, &to).await.unwrap().needs_attention());
    assert_same(&from, &to).await;
}

#[tokio::test]
async fn uploads_and_backups_beside_a_migration_come_along_or_are_told_of() {
    let (from, to) = (World::new(), elsewhere());
    filled(&from).await;
    // Uploads begin with the first copy, and the copies go on after half of them.
    let (copying, uploaded) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let plan = {
        let copying = Arc::clone(&copying);
        move |operation: &Operation| {
            copying.fetch_or(operation.name == "put" && operation.key.starts_with(layout::UPLOADS), SeqCst);
            None
        }
    };
    let gate = {
        let (copying, uploaded) = (Arc::clone(&copying), Arc::clone(&uploaded));
        move || !copying.load(SeqCst) || uploaded.load(SeqCst) >= 6
    };
    let calm = || from.open_on(Arc::new(FaultStore::new(Arc::clone(&from.memory) as _)));
    let (busy, reading) = (calm(), calm());
    let writing = to.open_on(Arc::new(FaultStore::with_gate(Arc::clone(&to.memory) as _, plan, gate)));
    let uploads = async {
        while !copying.load(SeqCst) {
            tokio::task::yield_now().await;
        }
        for n in 500..512 {
            let id = upload(&busy, n).await.unwrap().images[0].0.clone();
            if n % 4 == 0 {
                busy.images.delete(id.as_str(), shared::Any).await.unwrap();
            }
            if n % 3 == 0 {
                busy.core.catalog.compact().await.unwrap();
            }
            uploaded.fetch_add(1, SeqCst);
        }
    };
    let (done, ()) = futures::join!(migrate(&reading.core, &writing.core), uploads);
    let done = done.unwrap();
    assert!(done.caught_up > 0, "{done:?}");
    assert!(done.missing.is_empty() && done.damaged_backups.is_empty(), "{done:?}");
    assert_eq!(run(&from, &to).await.unwrap().behind, 0);
    to.open().recovery.recover().await.unwrap();
    assert_same(&from, &to).await;
}

#[tokio::test]
async fn a_delete_that_only_the_target_has_forgotten_is_not_counted_twice() {
    let (from, to) = (World::new(), elsewhere());
    filled(&from).await;
    run(&from, &to).await.unwrap();
    to.pass(SignedDuration::from_hours(24 * 40));
    let uploads = async |world: &World| {
        let keepsake = world.open();
        keepsake.core.catalog.load().await.unwrap();
        keepsake.core.catalog.compact().await.unwrap();
        keepsake.core.catalog.view().totals().uploads()
    };
    assert_eq!(uploads(&to).await, 13);
    assert!(found_nothing(&to.open().recovery.recover().await.unwrap()));
    run(&from, &to).await.unwrap();
    assert_eq!((uploads(&to).await, uploads(&from).await), (13, 13));
}
