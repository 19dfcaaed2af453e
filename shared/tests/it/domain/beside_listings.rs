//! What happens while the files are listed and compared with the records.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use futures::executor::block_on;

use super::{World, png, upload_all};
use shared::Keepsake;
use shared::backup::Kind;
use shared::catalog::{Change, Content, Record};
use shared::digest::Digest;
use shared::layout::{self, ImageId};
use shared::restore::Mode;
use shared::store::PutMode;

/// When something happens beside a listing of `uploads/`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    Before,
    After,
}

/// A process in which something happens once, just before its next listing of `uploads/` or just after it, when the
/// returned cell has that process.
fn open_acting(
    world: &World,
    when: When,
    act: impl Fn(&Keepsake) + Send + Sync + 'static,
) -> (Arc<Keepsake>, Arc<OnceLock<Arc<Keepsake>>>) {
    let (cell, since_listing) = (Arc::new(OnceLock::<Arc<Keepsake>>::new()), AtomicUsize::new(0));
    let armed = Arc::clone(&cell);
    let keepsake = world.open_failing(move |operation| {
        let keepsake = armed.get()?;
        let is_listing = operation.name == "list" && operation.key == layout::UPLOADS;
        if is_listing || since_listing.load(Ordering::SeqCst) > 0 {
            let nth = since_listing.fetch_add(1, Ordering::SeqCst);
            if nth == usize::from(when == When::After) {
                act(keepsake);
            }
        }
        None
    });
    (Arc::new(keepsake), cell)
}

fn live(record: Record, version: u64) -> Change {
    Change { version, content: Content::Live(record) }
}

#[tokio::test]
async fn file_that_gets_its_record_beside_a_recovery_is_not_adopted() {
    for when in [When::Before, When::After] {
        let world = World::new();
        world.open().recovery.recover().await.unwrap();
        world.put("uploads/camera.png", &png(1)).await;
        world.put(&format!("backups/images/{}", Digest::of(&png(1))), &png(1)).await;
        let id = ImageId::new("camera.png").unwrap();
        let record = Record { sha256: Some(Digest::of(&png(1))), kind: Some("image".to_owned()), ..Record::default() };
        let change = (id.clone(), live(record, 1));
        let (keepsake, cell) = open_acting(&world, when, move |keepsake| {
            block_on(keepsake.core.catalog.commit(vec![change.clone()])).unwrap();
        });
        assert!(cell.set(Arc::clone(&keepsake)).is_ok());
        let report = keepsake.recovery.recover().await.unwrap();
        assert_eq!((report.adopted, report.set_aside, report.images), (0, 0, 1), "{when:?}");
    }
}

#[tokio::test]
async fn image_replaced_beside_a_recovery_keeps_its_new_bytes() {
    let world = World::new();
    let id = upload_all(&world.open(), 0..1).await.remove(0);
    let key = layout::image(&id);
    let new = [png(1), b"longer".to_vec()].concat();
    let digest = Digest::of(&new);
    world.put(&format!("backups/images/{digest}"), &new).await;
    let (raw, bytes, image) = (world.raw(), new.clone(), id.clone());
    let (keepsake, cell) = open_acting(&world, When::Before, move |keepsake| {
        block_on(raw.put(&layout::image(&image), &bytes.clone().into(), &PutMode::Overwrite)).unwrap();
        let size = Some(bytes.len() as u64);
        let record = Record { sha256: Some(digest), size, kind: Some("image".to_owned()), ..Record::default() };
        block_on(keepsake.core.catalog.commit(vec![(image.clone(), live(record, 5))])).unwrap();
    });
    assert!(cell.set(Arc::clone(&keepsake)).is_ok());
    let report = keepsake.recovery.recover().await.unwrap();
    assert_eq!((report.brought_back, report.set_aside, report.missing.len()), (0, 0, 0));
    assert_eq!(world.raw().read(&key).await.unwrap().0, new);
}

#[tokio::test]
async fn image_deleted_beside_the_plan_of_a_restore_comes_back() {
    for when in [When::Before, When::After] {
        let world = World::new();
        let ids = upload_all(&world.open(), 0..2).await;
        let backup = world.open().backups.create(Kind::Manual).await.unwrap().name;
        let (deleted, other) = (ids[0].clone(), Arc::new(world.open()));
        let (keepsake, cell) = open_acting(&world, when, move |_| {
            block_on(other.images.delete(deleted.as_str(), shared::Any)).unwrap();
        });
        assert!(cell.set(Arc::clone(&keepsake)).is_ok());
        let [merge, exact] = keepsake.restores.plan_each(backup, [Mode::Merge, Mode::Exact]).await.unwrap();
        for plan in [merge, exact] {
            assert_eq!(plan.restored.iter().collect::<Vec<_>>(), [&ids[0]], "{when:?}");
            assert_eq!(plan.bytes_to_bring.iter().collect::<Vec<_>>(), [&ids[0]], "{when:?}");
            assert_eq!(plan.kept, 1);
        }
        assert_eq!(world.keys("uploads/").await, [format!("uploads/{}", ids[1])]);
    }
}
