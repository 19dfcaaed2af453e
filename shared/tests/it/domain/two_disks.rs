//! Two servers with a disk each and one archive, as the old and the new instance are while a deploy goes on.

use std::sync::Arc;

use super::{upload, upload_all};
use shared::clock::Clock;
use shared::images::Patch;
use shared::layout::ImageId;
use shared::store::Store;
use shared::store::testing::MemoryStore;
use shared::{Keepsake, Settings};

fn on_a_new_disk(archive: &Arc<MemoryStore>, clock: &Clock, archive_sync: bool) -> Keepsake {
    let whole = |memory: Arc<MemoryStore>| Store::new(memory as _, &std::env::temp_dir());
    let settings = Settings { archive_sync, ..Settings::default() };
    Keepsake::new(whole(Arc::default()), whole(Arc::clone(archive)), Vec::new(), clock.clone(), settings)
}

#[tokio::test]
async fn new_instance_receives_late_changes_of_old_instance() {
    for archive_sync in [true, false] {
        let (archive, clock) = (Arc::default(), Clock::manual("2026-11-20T08:00:00Z".parse().unwrap()));
        let old = on_a_new_disk(&archive, &clock, archive_sync);
        old.recovery.recover().await.unwrap();
        let ids = upload_all(&old, 0..3).await;
        old.replication.compact().await.unwrap();
        old.maintenance.catch_up().await.unwrap();
        let new = on_a_new_disk(&archive, &clock, archive_sync);
        new.recovery.recover().await.unwrap();

        let late = upload(&old, 3).await.unwrap().images[0].0.clone();
        let told = Patch { description: Some(Some("edited late".to_owned())), ..Patch::default() };
        old.images.edit(ids[1].as_str(), &told, shared::Any).await.unwrap();
        old.images.delete(ids[2].as_str(), shared::Any).await.unwrap();
        // The old instance stops, and does then what it left for later.
        old.replication.compact().await.unwrap();
        old.maintenance.catch_up().await.unwrap();

        new.recovery.look_at_archive_again().await.unwrap();
        holds(&new, &ids, &late).await;
        let own = upload(&new, 4).await.unwrap().images[0].0.clone();
        new.replication.compact().await.unwrap();
        new.maintenance.catch_up().await.unwrap();
        let again = on_a_new_disk(&archive, &clock, archive_sync);
        again.recovery.recover().await.unwrap();
        holds(&again, &ids, &own).await;
        holds(&again, &ids, &late).await;
    }
}

/// The first image, the edit of the second, the deletion of the third, and one more image.
async fn holds(keepsake: &Keepsake, ids: &[ImageId], more: &ImageId) {
    let (_, edited) = keepsake.images.get(ids[1].as_str()).await.unwrap();
    assert_eq!(edited.live().unwrap().description.as_deref(), Some("edited late"));
    assert!(keepsake.images.get(ids[2].as_str()).await.is_err());
    for id in [&ids[0], more] {
        let (_, entry) = keepsake.images.get(id.as_str()).await.unwrap();
        keepsake.bytes.verified(id, entry.live().unwrap().sha256.unwrap()).await.unwrap();
    }
}
