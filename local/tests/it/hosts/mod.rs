//! The real binary on the hosts that the guide speaks of, as far as these can be played: their environment, their mounts,
//! what they wipe at a deploy, and how they stop what runs.
//!
//! `.ci/hosts` runs the tests that mount something, in a mount namespace of their own. `KEEPSAKE_SOAK_SEED=7` makes other
//! clients.

mod deploy;
mod files;
mod image;
mod machine;
mod play;
mod proxies;
mod table;

#[expect(clippy::disallowed_methods, reason = "only who starts the test knows which one it shall be")]
fn seed() -> u64 {
    std::env::var("KEEPSAKE_SOAK_SEED").map_or(1, |value| value.parse().unwrap())
}

/// One test for each host.
macro_rules! on_hosts {
    ($($name:ident: $host:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        #[ignore = "mounts file systems; .ci/hosts runs it"]
        async fn $name() {
            play::play(table::$host(), seed()).await;
        }
    )*};
}

on_hosts! {
    railway_with_a_volume_keeps_everything: railway;
    railway_with_a_volume_and_without_a_delay_keeps_everything: railway_without_delay;
    railway_without_a_volume_is_called_ephemeral_and_is: railway_without_volume;
    fly_with_all_data_on_the_volume_keeps_everything: fly;
    fly_with_only_uploads_on_the_volume_keeps_images_and_records: fly_with_uploads_only;
    fly_without_a_volume_is_called_ephemeral_and_is: fly_without_volume;
    render_with_a_disk_keeps_everything: render;
    render_without_a_disk_is_called_ephemeral_and_is: render_without_disk;
    render_for_free_with_an_archive_elsewhere_comes_back_complete: render_free;
    docker_with_a_volume_keeps_everything: docker;
    docker_without_a_volume_is_called_ephemeral_and_is: docker_without_volume;
    kubernetes_with_a_claim_keeps_everything: kubernetes;
    heroku_is_called_ephemeral_and_is: heroku;
    heroku_with_an_archive_elsewhere_comes_back_complete: heroku_with_an_archive;
    a_machine_of_ones_own_keeps_everything: own_machine;
}
