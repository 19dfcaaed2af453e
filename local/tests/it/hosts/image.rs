//! The image that `deploy/Dockerfile` describes, as far as it can be made without an engine: its files in a root of their
//! own that takes no writes, its user, its environment, its command and its health check.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use super::deploy::image;
use super::machine::{Disk, Layer, Root};
use crate::photos;
use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "mounts file systems; .ci/hosts runs it"]
async fn the_image_serves_on_a_read_only_root_and_tells_that_it_is_healthy() {
    let image = image(&[]);
    let (layer, machine) = (Layer::of(&image), Disk::new());
    let volume = machine.folder_of("volume", image.user);
    let mut root = Root::container(&layer, &machine);
    root.bind(&volume, "/data");
    root.make_read_only();
    assert!(fs::write(root.at("/written"), "").is_err(), "the root takes writes");

    let run = |command: &[String], variables: &[(&str, &str)]| {
        let mut run = root.command((image.user, image.group), &image.folder, command);
        run.envs(&image.variables).envs([("RUST_LOG", "error")]).envs(variables.iter().copied());
        run
    };
    // On the loopback address and a free port, since tests share a machine.
    let server = Server::started(&mut run(&image.command, &[("HOST", "127.0.0.1"), ("PORT", "0")]));
    let port = server.url("").rsplit_once(':').unwrap().1.to_owned();
    let is_healthy = || {
        let mut check = run(&image.healthcheck, &[("PORT", &port)]);
        check.stderr(Stdio::null()).status().unwrap().code()
    };
    assert_eq!(is_healthy(), Some(0), "the image's own HOST is every address");

    // One that is kept in memory while it comes in, and one that is not.
    for bytes in [photos::medium(1), photos::large(2)] {
        let item = server.upload("photo", &bytes, "in a container").await;
        assert!(server.get(item["url"].as_str().unwrap()).await.bytes().await.unwrap() == bytes);
        let stored = fs::metadata(volume.join("uploads").join(item["id"].as_str().unwrap())).unwrap();
        assert_eq!(stored.uid(), image.user);
    }
    server.post("/api/backup").await.error_for_status().unwrap();
    server.stop();
    assert_eq!(is_healthy(), Some(1));
}
