//! What becomes of a store that has lost pages of its catalog.

use super::{World, seen, upload_all};
use shared::images::Filter;
use shared::layout;
use shared::testing::catalog::stored_pages;
use shared::verify::Slice;

use crate::world::catalog_of;

#[tokio::test]
async fn a_lost_page_is_put_back_from_the_other_location() {
    for location in ["", "backups/"] {
        let world = World::new();
        let keepsake = world.open();
        let ids = upload_all(&keepsake, 0..4).await;
        keepsake.core.catalog.compact().await.unwrap();
        let pages = world.pages(location).await;
        for page in &pages {
            world.remove(&format!("{location}{}", layout::page(page))).await;
        }

        let again = world.open();
        again.recovery.recover().await.unwrap();
        assert_eq!(seen(&again).await.keys().collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
        again.verifier.verify(Slice::WHOLE, true).await.unwrap();
        stored_pages(catalog_of(&world, location).await).unwrap_or_else(|error| panic!("{location:?}: {error}"));
    }
}

#[tokio::test]
async fn records_of_pages_that_every_location_lost_come_back_from_the_metadata_file() {
    let world = World::new();
    let keepsake = world.open();
    upload_all(&keepsake, 0..4).await;
    keepsake.core.catalog.compact().await.unwrap();
    let before = seen(&world.open()).await;
    for location in ["catalog/", "backups/catalog/"] {
        world.remove(location).await;
    }

    let again = world.open();
    again.recovery.recover().await.unwrap();
    assert_eq!(seen(&again).await, before);
    assert_eq!(seen(&world.open()).await, before, "and stay");
    for location in ["", "backups/"] {
        stored_pages(catalog_of(&world, location).await).unwrap_or_else(|error| panic!("{location:?}: {error}"));
    }
}

#[tokio::test]
async fn a_verification_rebuilds_lists_whose_pages_every_location_lost() {
    let world = World::new();
    let keepsake = world.open();
    upload_all(&keepsake, 0..4).await;
    keepsake.core.catalog.compact().await.unwrap();
    let before = seen(&world.open()).await;
    // Without a group, every image is in the tree by name and in one by time.
    for page in world.pages("").await {
        let copy = world.copy().await;
        for location in ["", "backups/"] {
            copy.remove(&format!("{location}{}", layout::page(&page))).await;
        }
        let again = copy.open();
        let _ = again.recovery.recover().await;
        again.verifier.verify(Slice::WHOLE, true).await.unwrap();
        again.core.catalog.compact().await.unwrap();
        assert_eq!(seen(&copy.open()).await, before, "without {page}");
        let list = copy.open().images.list(&Filter::default(), None, 10).await.unwrap();
        assert_eq!(list.images.len(), 4, "without {page}");
    }
}
