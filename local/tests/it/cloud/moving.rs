//! Moving a store from a folder into a bucket and back with the `aws` client, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use axum::http::StatusCode;
use futures::TryStreamExt;
use serde_json::{Value, json};
use shared::digest::Digest;

use super::bucket::{Access, Bucket, from_environment};
use crate::photos::photo;
use crate::server::{self, Server};

/// What a folder holds that is no object: the lock, the token, and files that are not finished.
const NO_OBJECTS: [&str; 6] = ["--exclude", ".keepsake.lock", "--exclude", ".keepsake-token", "--exclude", "*.tmp-*"];

/// Everything that a client can see of a store.
#[derive(Debug, PartialEq)]
struct View {
    images: Value,
    backups: Vec<Value>,
    /// Of the bytes of each image, in the order of the list.
    digests: Vec<Digest>,
}

impl View {
    async fn of(server: &Server) -> Self {
        let images = server.get_json("/api/images").await;
        let mut digests = Vec::new();
        for image in images["images"].as_array().unwrap() {
            let answer = server.get(image["url"].as_str().unwrap()).await;
            assert_eq!(answer.status(), StatusCode::OK, "{image}");
            digests.push(Digest::of(&answer.bytes().await.unwrap()));
        }
        let listed = server.get_json("/api/backups").await;
        let mut backups = listed["backups"].as_array().unwrap().clone();
        // When the manifest was written to where it lies now.
        backups.iter_mut().for_each(|backup| drop(backup.as_object_mut().unwrap().remove("modified")));
        Self { images, backups, digests }
    }
}

async fn back_up(server: &Server) {
    server::json(server.post("/api/backup").await, StatusCode::CREATED).await;
}

fn serve(access: &Access, folder: &Path) -> Server {
    let variables = access.variables();
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Server::start_with(folder, &variables)
}

/// `aws s3 sync`, which must succeed and say nothing.
fn sync(access: &Access, home: &Path, arguments: &[&str]) {
    let output = Command::new(from_environment("KEEPSAKE_TEST_AWS"))
        .args(["s3", "sync", "--no-follow-symlinks", "--only-show-errors"])
        .args(arguments)
        .args(NO_OBJECTS)
        .env_clear()
        .envs(access.variables())
        .env("HOME", home)
        .output()
        .unwrap();
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

/// The files below a folder that are objects, as keys.
fn files(folder: &Path) -> BTreeSet<String> {
    fn walk(folder: &Path, root: &Path, keys: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, keys);
            } else {
                keys.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut keys = BTreeSet::new();
    walk(folder, folder, &mut keys);
    keys.remove(".keepsake.lock");
    keys
}

async fn keys(access: &Access) -> BTreeSet<String> {
    access.store().list("", None).map_ok(|meta| meta.key.to_string()).try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs LocalStack and the aws client: .ci/localstack run"]
async fn store_survives_aws_s3_sync_to_bucket_and_back() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().to_str().unwrap();
    fs::create_dir(folder.path().join("uploads")).unwrap();
    fs::write(folder.path().join("uploads/Été à la mer + 1.png"), photo(1000).1).unwrap();
    let on_disk = Server::start(folder.path());
    let mut ids = Vec::new();
    for n in 0..12 {
        let (name, bytes) = photo(n);
        let uploaded = on_disk.upload(&name, &bytes, "a summer long ago").await;
        ids.push(uploaded["id"].as_str().unwrap().to_owned());
    }
    on_disk.delete(&ids[0]).await;
    back_up(&on_disk).await;
    let before = View::of(&on_disk).await;
    assert_eq!((before.digests.len(), before.backups.len()), (12, 3), "{before:?}");
    on_disk.stop();

    let access = Bucket::in_localstack("moving").await.access;
    let url = format!("s3://{}", access.bucket);
    sync(&access, elsewhere.path(), &[path, &url]);
    assert_eq!(keys(&access).await, files(folder.path()));
    let in_bucket = serve(&access, elsewhere.path());
    assert_eq!(View::of(&in_bucket).await, before);

    // A text of the same length: a sync that compares lengths alone would leave the old one.
    in_bucket.edit(&ids[1], &json!({ "description": "a winter long ago" })).await;
    in_bucket.delete(&ids[2]).await;
    let (name, bytes) = photo(100);
    in_bucket.upload(&name, &bytes, "in a bucket").await;
    back_up(&in_bucket).await;
    let changed = View::of(&in_bucket).await;
    assert_eq!((changed.digests.len(), changed.backups.len()), (12, 4), "{changed:?}");
    in_bucket.stop();

    sync(&access, elsewhere.path(), &[&url, path, "--delete", "--exact-timestamps"]);
    assert_eq!(files(folder.path()), keys(&access).await);
    let again = Server::start(folder.path());
    assert_eq!(View::of(&again).await, changed);
    let first = before.backups.iter().map(|backup| backup["name"].as_str().unwrap()).max().unwrap();
    let restored = server::json(again.post(&format!("/api/restore/{first}")).await, StatusCode::OK).await;
    assert_eq!((&restored["restored"], &restored["changed"]), (&json!(1), &json!(1)), "{restored}");
}
