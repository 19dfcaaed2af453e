//! The same server on a bucket: `STORE_URL=s3://…` and `AWS_ENDPOINT_URL`.

use std::fs;
use std::process::Command;

use reqwest::StatusCode;
use serde_json::json;

use crate::photos::photo;
use crate::s3_server::{self, BUCKET};
use crate::server::{self, Server, eventually, names};

fn on_bucket(folder: &std::path::Path, endpoint: &str, store: &str) -> Server {
    let credentials = [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_REGION", "us-east-1")];
    let place = [("STORE_URL", store), ("AWS_ENDPOINT_URL", endpoint)];
    Server::start_with(folder, &[&credentials[..], &place[..]].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn bucket_equals_folder_in_keys_bytes_and_survived_losses() {
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
    // Over a bucket an upload is answered before its replica and its backup are made.
    let backups = || names(store.join("backups")).into_iter().filter(|name| name.starts_with("backup-")).count();
    eventually("the automatic backup is there", || backups() == 1).await;
    server::json(server.post("/api/backup").await, StatusCode::CREATED).await;
    assert_eq!(names(store.join("uploads")).len(), 11);
    assert_eq!(server.get_json("/api/health").await["persistence"]["writable"], true);
    let listed = server.get_json("/api/images").await;
    server.stop();
    assert!(names(elsewhere.path().to_owned()).is_empty(), "nothing is left on the disk");

    fs::remove_dir_all(store.join("uploads")).unwrap();
    fs::remove_file(store.join("catalog.json")).unwrap();
    fs::remove_dir_all(store.join("catalog")).unwrap();
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
    let copied = Command::new("cp").arg("-r").arg(store.join(".")).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    let on_disk = Server::start(copy.path());
    assert_eq!(on_disk.get_json("/api/images").await, listed);
    for (item, bytes) in &items {
        assert!(on_disk.get(item["url"].as_str().unwrap()).await.bytes().await.unwrap() == bytes);
    }
    let edited = on_disk.edit(items[0].0["id"].as_str().unwrap(), &json!({ "description": "on disk" })).await;
    assert_eq!(edited["description"], "on disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_may_load_what_the_server_redirects_to() {
    let (_bucket, endpoint) = s3_server::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let server = on_bucket(elsewhere.path(), &endpoint, &format!("s3://{BUCKET}/gallery"));
    for page in ["/", "/safety", "/assets/style.css"] {
        let answer = server.get(page).await;
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        for directive in ["img-src 'self' blob: data:", "media-src 'self' blob:", "connect-src 'self'"] {
            assert!(policy.contains(&format!("{directive} {endpoint};")), "{page}: {policy}");
        }
    }
}

/// Starts the server with these variables and no others, which must fail, and returns what it says.
fn refusal(variables: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_keepsake"))
        .current_dir(folder.path())
        .env_clear()
        .envs([("PORT", "0"), ("HOST", "127.0.0.1"), ("AWS_EC2_METADATA_DISABLED", "true")])
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_cannot_be_used_stops_the_start_with_the_reason() {
    let (_folder, endpoint) = s3_server::start().await;
    let (id, secret) = (("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret"));
    let (at, bucket) = (("AWS_ENDPOINT_URL", endpoint.as_str()), ("STORE_URL", "s3://bucket"));
    for (variables, reason) in
        [(&[bucket, id, secret][..], "AWS_REGION"), (&[bucket, at], "The store cannot be opened")]
    {
        let said = refusal(variables);
        assert!(said.starts_with("keepsake: ") && said.contains(reason), "{said}");
    }
}
