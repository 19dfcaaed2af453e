//! Places that are empty: lost, or only not mounted.

use super::*;

#[tokio::test]
async fn unmounted_uploads_are_served_from_archive_without_writes() {
    let world = World::new();
    let keepsake = start(&world, with_uploads(on_the_root("one"))).await;
    let ids = upload_all(&keepsake, 0..3).await;
    keepsake.images.delete(ids[2].as_str(), shared::Any).await.unwrap();
    upload_all(&keepsake, 3..4).await;
    let unmounted = without(&world, "uploads/").await;
    // What lay in the folder before anything was mounted over it.
    unmounted.put("uploads/older.png", &png(77)).await;
    let before = all(&unmounted).await;
    let keepsake = start(&unmounted, on_the_root("two")).await;
    assert_eq!(keepsake.persistence.fenced(), Some(Fenced::NotMounted(Location::Uploads)));
    assert_eq!(served(&keepsake, &ids[0]).await, png(0));
    let errors = [
        upload(&keepsake, 9).await.unwrap_err(),
        keepsake.images.delete(ids[0].as_str(), shared::Any).await.unwrap_err(),
        keepsake.backups.create(shared::backup::Kind::Manual).await.unwrap_err(),
        keepsake.pruner.prune(false).await.unwrap_err(),
        keepsake.recovery.recover().await.unwrap_err(),
        keepsake.core.catalog.compact().await.unwrap_err().into(),
    ];
    for error in errors {
        assert_eq!(error.store_kind(), Some(ErrorKind::Fenced), "{error:?}");
    }
    let health = keepsake.health.report().await;
    assert!(health.status == Status::Error && !health.writable);
    let (_, message) = check(&health, "persistence");
    assert!(
        message.contains("ACCEPT_UNMOUNTED=uploads") && message.starts_with("uploads/ was on a volume"),
        "{message}"
    );
    assert_eq!(all(&unmounted).await, before, "nothing was written, adopted, set aside or deleted");

    // Mounted again, all is as it was.
    let mounted = start(&world, with_uploads(on_the_root("two"))).await;
    assert_eq!((mounted.persistence.fenced(), seen(&mounted).await.len()), (None, 3));

    // Gone for good, all comes back, and once is enough.
    let accepted = Deployment { accepted: vec![Location::Uploads], ..on_the_root("three") };
    let keepsake = start(&unmounted, accepted.clone()).await;
    assert_eq!((keepsake.persistence.fenced(), served(&keepsake, &ids[1]).await), (None, png(1)));
    assert_eq!(check(&keepsake.health.report().await, "persistence").0, Status::Ok, "it is needed for this start");
    let health = start(&unmounted, accepted).await.health.report().await;
    let (status, message) = check(&health, "persistence");
    assert!(status == Status::Warn && message.starts_with("ACCEPT_UNMOUNTED is set for uploads"), "{message}");
    assert_eq!(health.persistence.warning.as_deref(), Some(message), "the start-up lines have it from here");
    assert_eq!(unmounted.raw().read(&layout::image(&ids[1])).await.unwrap().0.to_vec(), png(1));
    assert_eq!(start(&unmounted, on_the_root("three")).await.persistence.fenced(), None);
}

#[tokio::test]
async fn uploads_that_are_lost_come_back() {
    for known in [on_the_root as fn(&str) -> Deployment, |id| with_uploads(on_the_root(id))] {
        let world = World::new();
        let keepsake = start(&world, known("one")).await;
        let ids = upload_all(&keepsake, 0..2).await;
        world.remove("uploads/").await;
        let keepsake = start(&world, known("one")).await;
        assert_eq!(keepsake.persistence.fenced(), None, "a new volume, or a folder that never was one");
        assert_eq!(world.raw().read(&layout::image(&ids[0])).await.unwrap().0.to_vec(), png(0));
    }
}

#[tokio::test]
async fn a_volume_that_was_copied_into_a_plain_folder_is_taken_for_what_it_is() {
    let world = World::new();
    upload_all(&start(&world, with_uploads(on_the_root("one"))).await, 0..2).await;
    let keepsake = start(&world, on_the_root("two")).await;
    assert_eq!(keepsake.persistence.fenced(), None);
    assert!(upload(&keepsake, 5).await.is_ok());
}

#[tokio::test]
async fn a_data_folder_that_is_not_mounted_is_served_from_an_archive_elsewhere() {
    let (disk, archive) = (World::new(), World::new());
    let keepsake = start_beside(&disk, &archive, with_archive(MountPoint::Service, on_a_volume("one"))).await;
    let ids = upload_all(&keepsake, 0..3).await;
    let before = (without(&disk, "").await, all(&archive).await);
    let unmounted = before.0;
    let keepsake = start_beside(&unmounted, &archive, with_archive(MountPoint::Service, on_the_root("two"))).await;
    assert_eq!(keepsake.persistence.fenced(), Some(Fenced::NotMounted(Location::Data)));
    assert_eq!(served(&keepsake, &ids[2]).await, png(2), "also what was not folded yet");
    assert_eq!(upload(&keepsake, 9).await.unwrap_err().store_kind(), Some(ErrorKind::Fenced));
    assert!(all(&unmounted).await.is_empty() && all(&archive).await == before.1);
    let accepted = Deployment { accepted: vec![Location::Data], ..on_the_root("three") };
    let keepsake = start_beside(&unmounted, &archive, with_archive(MountPoint::Service, accepted)).await;
    assert_eq!(seen(&keepsake).await.len(), 3);
}

#[tokio::test]
async fn an_archive_that_is_not_mounted_gets_no_second_archive_beneath_it() {
    let (disk, archive) = (World::new(), World::new());
    let known = |id: &str, point: &str| with_archive(folder_on("/mnt/disk2/copies", point, "ext4"), on_the_root(id));
    let keepsake = start_beside(&disk, &archive, known("one", "/mnt/disk2")).await;
    let ids = upload_all(&keepsake, 0..2).await;
    let (unmounted, before) = (World::new(), all(&disk).await);
    let keepsake = start_beside(&disk, &unmounted, known("two", "/")).await;
    assert_eq!(keepsake.persistence.fenced(), Some(Fenced::NotMounted(Location::Archive)));
    assert_eq!(served(&keepsake, &ids[0]).await, png(0));
    assert!(upload(&keepsake, 9).await.is_err());
    // It would write the primary first.
    assert!(keepsake.core.catalog.compact().await.is_err());
    assert!(all(&unmounted).await.is_empty() && all(&disk).await == before);
}

#[tokio::test]
async fn archive_moved_off_its_volume_is_not_treated_as_unmounted() {
    let (disk, archive) = (World::new(), World::new());
    let known = |at: &str, point: &str| with_archive(folder_on(at, point, "ext4"), on_the_root("one"));
    upload_all(&start_beside(&disk, &archive, known("/mnt/disk2/copies", "/mnt/disk2")).await, 0..2).await;
    for moved in [Some(known("/srv/copies", "/")), None] {
        let (world, elsewhere) = (without(&disk, "nothing").await, World::new());
        let keepsake = match moved {
            Some(known) => start_beside(&world, &elsewhere, known).await,
            None => start(&world, on_the_root("one")).await,
        };
        assert_eq!(keepsake.persistence.fenced(), None);
        upload(&keepsake, 9).await.unwrap();
    }
}
