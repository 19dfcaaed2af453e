//! Migrating by the real binary: from a disk into a bucket and back, while both serve, and killed on the way.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use shared::digest::Digest;

use super::run::{run, run_with};
use crate::photos::photo;
use crate::s3_server::{self, BUCKET};
use crate::server::{self, Server};

const KEYS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_REGION", "us-east-1")];

/// Everything that a client can see of a store.
async fn view(server: &Server) -> (Value, Vec<Value>, Vec<Digest>) {
    let images = server.get_json("/api/images").await;
    let mut digests = Vec::new();
    for image in images["images"].as_array().unwrap() {
        digests.push(Digest::of(&server.get(image["url"].as_str().unwrap()).await.bytes().await.unwrap()));
    }
    let mut backups = server.get_json("/api/backups").await["backups"].as_array().unwrap().clone();
    // When the manifest was written to where it lies now.
    backups.iter_mut().for_each(|backup| drop(backup.as_object_mut().unwrap().remove("modified")));
    (images, backups, digests)
}

async fn upload(server: &Server, n: u32) -> String {
    let (name, bytes) = photo(n);
    server.upload(&name, &bytes, "before the move").await["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_from_a_disk_into_a_bucket_and_back_while_it_is_served() {
    let (_bucket, endpoint) = s3_server::start().await;
    let (folder, elsewhere, third) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = format!("s3://{BUCKET}/gallery");
    let variables = [&KEYS[..], &[("AWS_ENDPOINT_URL", endpoint.as_str())]].concat();
    let migrate = |from: &str, to: &str| run_with(elsewhere.path(), &variables, &["migrate", from, to, "--json"]);
    let path = |folder: &tempfile::TempDir| folder.path().to_str().unwrap().to_owned();

    let on_disk = Server::start(folder.path());
    let mut ids = Vec::new();
    for n in 0..12 {
        ids.push(upload(&on_disk, n).await);
    }
    on_disk.delete(&ids[0]).await;
    server::json(on_disk.post("/api/backup").await, reqwest::StatusCode::CREATED).await;
    let first = migrate(&path(&folder), &url).ends(0).json();
    assert_eq!((&first["images"], &first["copied"], &first["backups"]), (&json!(11), &json!(11), &json!(2)), "{first}");
    // It is served on, and what changes follows.
    on_disk.edit(&ids[1], &json!({ "description": "meanwhile" })).await;
    upload(&on_disk, 20).await;
    let before = view(&on_disk).await;
    on_disk.stop();
    let second = migrate(&path(&folder), &url).ends(0).json();
    assert_eq!(second["copied"], 1, "{second}");

    let place = [("STORE_URL", url.as_str())];
    let in_bucket = Server::start_with(elsewhere.path(), &[&variables[..], &place].concat());
    assert_eq!(view(&in_bucket).await, before);
    in_bucket.delete(&ids[2]).await;
    upload(&in_bucket, 30).await;
    server::json(in_bucket.post("/api/backup").await, reqwest::StatusCode::CREATED).await;
    let changed = view(&in_bucket).await;
    in_bucket.stop();
    let refused = migrate(&path(&folder), &url).ends(1).json();
    assert_eq!(refused["type"], "migration-refused", "{refused}");
    for back in [&folder, &third] {
        migrate(&url, &path(back)).ends(0);
        let again = Server::start(back.path());
        assert_eq!(view(&again).await, changed, "{:?}", again.greeting);
        assert!(run(back.path(), &["verify"]).ends(0).complained.is_empty());
    }
}

/// Kills a migration once so many files stand in TO; returns whether it was still running.
fn killed(from: &Path, to: &Path, files: usize) -> bool {
    let mut command = server::command(from, &[]);
    let mut child = command
        .args(["migrate", ".", to.to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if server::names(to.join("uploads")).len() >= files {
            child.kill().unwrap();
            return !child.wait().unwrap().success();
        }
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn killed_migration_is_no_store_until_finished() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for n in 0..40 {
        upload(&server, n).await;
    }
    let before = view(&server).await;
    let outside = tempfile::tempdir().unwrap();
    let to = outside.path().join("new");
    let mut kills = 0;
    for files in [1, 5, 15, 30] {
        kills += u32::from(killed(folder.path(), &to, files));
        if to.join("migration.json").exists() {
            let zip = outside.path().join("half.zip");
            let zip = zip.to_str().unwrap();
            for command in [&["serve"][..], &["status"], &["backup"], &["backups"], &["import", "."], &["export", zip]]
            {
                let refused = run(&to, command).ends(1);
                assert!(refused.complained.contains("Run `migrate` again"), "{command:?}: {refused:?}");
            }
            assert_eq!(run(&to, &["status", "--json"]).ends(1).json()["type"], "migration-unfinished");
        }
    }
    assert!(kills > 0, "none of them was quick enough");
    run(folder.path(), &["migrate", ".", to.to_str().unwrap()]).ends(0);
    let moved = Server::start(&to);
    assert_eq!(view(&moved).await, before);
    assert!(moved.greeting.iter().any(|line| line.contains("nothing to repair")), "{:?}", moved.greeting);
}
