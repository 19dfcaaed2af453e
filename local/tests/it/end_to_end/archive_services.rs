//! A server on a disk whose archive lies at another service.

use std::fs;
use std::path::Path;
use std::process::Command;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::cloudinary_server::{self, CLOUD, Fake, KEY, SECRET};
use crate::photos::photo;
use crate::s3_server::{self, BUCKET};
use crate::server::{Server, command, json as answered};

/// Uses a server with this archive, takes its disk away, and finds everything as it was; twice, since the first start must
/// not have broken anything.
async fn everything_comes_back(variables: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), variables);
    let mut items = Vec::new();
    for n in 0..12 {
        let (name, bytes) = photo(n);
        let mut item = server.upload(&name, &bytes, &format!("number {n}")).await;
        assert_eq!(item["copies"], 2);
        for passing in ["copies", "backup"] {
            item.as_object_mut().unwrap().remove(passing);
        }
        items.push((item, bytes));
    }
    let gone = items.remove(4).0;
    server.delete(gone["id"].as_str().unwrap()).await;
    let id = items[2].0["id"].as_str().unwrap().to_owned();
    items[2].0 = server.edit(&id, &json!({ "description": "edited" })).await;
    let backup = answered(server.post("/api/backup").await, StatusCode::CREATED).await;
    assert_eq!(server.get_json("/api/backups").await["backups"].as_array().unwrap().len(), 2);
    let (name, bytes) = photo(40);
    let mut last = server.upload(&name, &bytes, "after the backup").await;
    last.as_object_mut().unwrap().remove("copies");
    items.push((last, bytes));
    assert_eq!(server.get_json("/api/health").await["checks"]["archive"]["status"], "ok");
    server.kill();

    for _ in 0..2 {
        empty(folder.path());
        let server = Server::start_with(folder.path(), variables);
        for (item, bytes) in &items {
            let id = item["id"].as_str().unwrap();
            let shown = server.get_json(&format!("/api/images/{id}")).await;
            assert_eq!(&shown, item, "{:?}", server.greeting);
            assert!(server.get(item["url"].as_str().unwrap()).await.bytes().await.unwrap() == bytes);
        }
        assert_eq!(server.get_json("/api/images").await["images"].as_array().unwrap().len(), items.len());
        let deleted = server.get(gone["url"].as_str().unwrap()).await;
        assert_eq!(deleted.status(), StatusCode::NOT_FOUND);
        let listed = server.get_json("/api/backups").await;
        let names: Vec<&Value> = listed["backups"].as_array().unwrap().iter().map(|backup| &backup["name"]).collect();
        assert!(names.contains(&&backup["backupName"]), "{names:?}");
        server.stop();
    }
    let server = Server::start_with(folder.path(), variables);
    let path = format!("/api/restore/{}", backup["backupName"].as_str().unwrap());
    answered(server.post(&path).await, StatusCode::OK).await;
    answered(server.post("/api/verify").await, StatusCode::OK).await;
}

/// What a deploy does to a disk that is not a volume.
fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
}

fn at(server: &Fake) -> String {
    format!("cloudinary://{KEY}:{SECRET}@{CLOUD}/photos?endpoint={}", server.endpoint())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_emptied_comes_back_from_cloudinary() {
    let cloudinary = cloudinary_server::start().await;
    everything_comes_back(&[("BACKUP_URL", &at(&cloudinary))]).await;
    let (images, raw) = (cloudinary.ids("image"), cloudinary.ids("raw"));
    for name in ["photos/catalog.json", "photos/image-metadata.json"] {
        assert!(raw.contains(&name.to_owned()), "{name}");
    }
    // This Cloudinary reads no WebP.
    let plain = raw.iter().filter(|id| id.starts_with("photos/images/")).count();
    assert!(plain > 0 && images.len() + plain == 13, "{images:?} {raw:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_disk_recovers_from_s3_archive_with_separate_credentials() {
    let (folder, endpoint) = s3_server::start().await;
    let url = format!("s3://{BUCKET}/photos?endpoint={endpoint}&region=auto");
    everything_comes_back(&[
        ("BACKUP_URL", &url),
        ("BACKUP_AWS_ACCESS_KEY_ID", "key"),
        ("BACKUP_AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_ACCESS_KEY_ID", "someone"),
        ("AWS_SECRET_ACCESS_KEY", "else"),
    ])
    .await;
    for name in ["photos/catalog.json", "photos/image-metadata.json"] {
        assert!(folder.path().join(BUCKET).join(name).exists(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_at_one_service_has_its_archive_at_another() {
    let ((here, first), (there, second)) = (s3_server::start().await, s3_server::start().await);
    let folder = tempfile::tempdir().unwrap();
    let (store, backup) = (format!("s3://{BUCKET}?endpoint={first}"), format!("s3://{BUCKET}?endpoint={second}"));
    let variables = [
        ("STORE_URL", store.as_str()),
        ("BACKUP_URL", &backup),
        ("ARCHIVE", "sync"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let server = Server::start_with(folder.path(), &variables);
    let (name, bytes) = photo(1);
    let item = server.upload(&name, &bytes, "").await;
    server.stop();
    let digest = item["sha256"].as_str().unwrap();
    assert!(here.path().join(BUCKET).join("uploads").join(item["id"].as_str().unwrap()).exists());
    assert!(there.path().join(BUCKET).join("images").join(digest).exists());
    // The first service loses everything.
    empty(&here.path().join(BUCKET));
    let server = Server::start_with(folder.path(), &variables);
    let back = server.get(item["url"].as_str().unwrap()).await;
    assert!(back.bytes().await.unwrap() == bytes, "{:?}", server.greeting);
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_cloudinary_archive_stops_start_without_leaking_secret() {
    let cloudinary = cloudinary_server::start().await;
    let url = at(&cloudinary);
    let as_store = url.as_str();
    let wrong = url.replace(SECRET, "hunter2");
    for (variable, reason) in [
        (("STORE_URL", as_store), "name Cloudinary in BACKUP_URL instead"),
        (("BACKUP_URL", &wrong), "does not accept the API key, its secret or the cloud name"),
        (("BACKUP_URL", "cloudinary://hunter2"), "write it as cloudinary://key:secret@cloud/folder"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let said = refused(&mut command(folder.path(), &[variable]));
        assert!(said.starts_with("keepsake: ") && said.contains(reason), "{said}");
        assert!(!said.contains("hunter2") && !said.contains(SECRET), "{said}");
    }
}

fn refused(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}
