//! The same server on a bucket: `STORE_URL=s3://…` and `AWS_ENDPOINT_URL`.

use std::fs;

use reqwest::StatusCode;
use serde_json::json;

use crate::photos::photo;
use crate::s3_server::{self, BUCKET};
use crate::server::{self, Server, names};

fn on_bucket(folder: &std::path::Path, endpoint: &str, store: &str) -> Server {
    let credentials = [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_REGION", "us-east-1")];
    let place = [("STORE_URL", store), ("AWS_ENDPOINT_URL", endpoint)];
    Server::start_with(folder, &[&credentials[..], &place[..]].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_holds_the_same_keys_and_bytes_as_a_folder_and_survives_the_same_losses() {
    let (bucket, endpoint) = s3_server::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let store = bucket.path().join(BUCKET).join("gallery");
    let server = on_bucket(elsewhere.path(), &endpoint, &format!("s3://{BUCKET}/gallery"));
    let mut items = Vec::new();
    for n in 0..12 {
        let (name, bytes) = photo(n);
        items.push((server.upload(&name, &bytes, "in a bucket").await, bytes));
    }
    let gone = items.pop().unwrap().0["id"].as_str().unwrap().to_owned();
    server.delete(&gone).await;
    assert_eq!(server.get_json("/api/backups").await["backups"].as_array().unwrap().len(), 1);
    server::json(server.post("/api/backup").await, StatusCode::CREATED).await;
    assert_eq!(names(store.join("uploads")).len(), 11);
    assert_eq!(server.get_json("/api/health").await["persistence"]["writable"], true);
    let listed = server.get_json("/api/images").await;
    server.stop();
    assert!(names(elsewhere.path().to_owned()).is_empty(), "nothing is left on the disk");

    fs::remove_dir_all(store.join("uploads")).unwrap();
    fs::remove_file(store.join("image-metadata.json")).unwrap();
    let again = on_bucket(elsewhere.path(), &endpoint, &format!("s3://{BUCKET}/gallery"));
    assert_eq!(again.get_json("/api/images").await, listed, "{:?}", again.greeting);
    for (item, bytes) in &items {
        // The server sends a client to a signed address of the bucket, which the client follows.
        assert!(again.get(item["url"].as_str().unwrap()).await.bytes().await.unwrap() == bytes);
    }
    again.stop();

    // The bucket, copied into a folder, is a store on a disk.
    let copy = tempfile::tempdir().unwrap();
    let copied = std::process::Command::new("cp").arg("-r").arg(store.join(".")).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    let on_disk = Server::start(copy.path());
    assert_eq!(on_disk.get_json("/api/images").await, listed);
    for (item, bytes) in &items {
        assert!(on_disk.get(item["url"].as_str().unwrap()).await.bytes().await.unwrap() == bytes);
    }
    let edited = on_disk.edit(items[0].0["id"].as_str().unwrap(), &json!({ "description": "on disk" })).await;
    assert_eq!(edited["description"], "on disk");
}
