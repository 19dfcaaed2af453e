//! Whether images will still be there: what the server says at its start and in health, and what it does where a volume is
//! not mounted.

use std::fs;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::photos::photo;
use crate::server::{self, Server, names};

/// As Railway sets it for a service of which this is a deployment.
fn railway(deployment: &str) -> Vec<(&str, &str)> {
    vec![("RAILWAY_PROJECT_ID", "p"), ("RAILWAY_DEPLOYMENT_ID", deployment), ("RAILWAY_REPLICA_ID", "r")]
}

fn says(server: &Server, what: &str) -> bool {
    server.greeting.iter().any(|line| line.contains(what))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn images_in_memory_are_warned_of_at_the_start_and_in_health() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let server = Server::start(folder.path());
    let health = server.get_json("/api/health").await;
    let persistence = &health["persistence"];
    assert_eq!((&health["status"], &persistence["verdict"]), (&json!("warn"), &json!("ephemeral")), "{health}");
    assert_eq!((&persistence["fileSystem"], &persistence["mount"]), (&json!("tmpfs"), &json!("/dev/shm")));
    let warning = persistence["warning"].as_str().unwrap();
    assert!(warning.starts_with("Storage may be ephemeral: the images lie on tmpfs"), "{warning}");
    assert!(says(&server, &format!("  warning   {warning}")), "{:?}", server.greeting);
    assert_eq!(health["checks"]["persistence"]["message"], *warning);
}

#[tokio::test]
async fn second_deployment_proves_persistence_and_restart_does_not() {
    let volume = tempfile::tempdir().unwrap();
    let mounted = [("RAILWAY_VOLUME_MOUNT_PATH", volume.path().to_str().unwrap())];
    let deploy = |id| Server::start_with(volume.path(), &[&railway(id)[..], &mounted].concat());
    let verdict = async |server: &Server| server.get_json("/api/health").await["persistence"]["verdict"].clone();
    for _ in 0..2 {
        let server = deploy("4f1c2d3e5a6b");
        assert_eq!(verdict(&server).await, "unproven");
        assert!(says(&server, "  outlives  unproven: ") && !says(&server, "warning"), "{:?}", server.greeting);
        server.kill();
    }
    let server = deploy("5a5b");
    let persistence = server.get_json("/api/health").await["persistence"].clone();
    let evidence = persistence["evidence"].as_str().unwrap();
    assert!(evidence.starts_with("data written by deployment 4f1c2d3e… on 2"), "{evidence}");
    assert!(evidence.ends_with("was still here after 1 restart"), "{evidence}");
    let reported = [&persistence["verdict"], &persistence["platform"], &persistence["warning"]];
    assert_eq!(reported, [&json!("proven"), &json!("railway"), &Value::Null]);
    assert!(says(&server, &format!("  outlives  proven: {evidence}")), "{:?}", server.greeting);
    server.stop();

    let without = tempfile::tempdir().unwrap();
    let server = Server::start_with(without.path(), &railway("5a5b"));
    assert!(says(&server, "Storage may be ephemeral") && says(&server, "Add a volume"), "{:?}", server.greeting);
}

#[tokio::test]
async fn unmounted_data_folder_is_not_written_until_declared_lost() {
    let (folder, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (volume, archive) = (folder.path().join("volume"), format!("file://{}", copies.path().display()));
    fs::create_dir(&volume).unwrap();
    let path = volume.to_str().unwrap();
    let start = |further: &[(&str, &str)]| {
        let places = [("DATA_DIR", path), ("BACKUP_URL", archive.as_str())];
        Server::start_with(folder.path(), &[&railway("one")[..], &places, further].concat())
    };
    let server = start(&[("RAILWAY_VOLUME_MOUNT_PATH", path)]);
    let (name, bytes) = photo(1);
    let item = server.upload(&name, &bytes, "kept").await;
    let (id, url) = (item["id"].as_str().unwrap(), item["url"].as_str().unwrap());
    server.kill();

    fs::remove_dir_all(&volume).unwrap();
    let before = names(copies.path().to_owned());
    // Reached from elsewhere it makes a token, but the store's own lies on the volume.
    start(&[("HOST", "0.0.0.0")]).kill();
    assert!(!volume.join(".keepsake-token").exists());
    let server = start(&[]);
    let health = server::json(server.get("/api/health").await, StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!((&health["status"], &health["persistence"]["writable"]), (&json!("error"), &json!(false)));
    let message = health["checks"]["persistence"]["message"].as_str().unwrap();
    assert!(message.contains("ACCEPT_UNMOUNTED=data") && says(&server, message), "{message} {:?}", server.greeting);
    assert_eq!(server.get("/readyz").await.status(), StatusCode::OK);
    assert!(server.get(url).await.bytes().await.unwrap() == bytes, "it is served from the archive");
    for (method, path) in [
        (reqwest::Method::DELETE, format!("/api/images/{id}")),
        (reqwest::Method::POST, "/api/backup".to_owned()),
        (reqwest::Method::POST, "/api/verify?repair=true".to_owned()),
        (reqwest::Method::POST, "/api/prune".to_owned()),
    ] {
        let refused = server::json(server.send(method, &path).await, StatusCode::SERVICE_UNAVAILABLE).await;
        assert_eq!(refused["type"], "storage-mismatch", "{path}");
    }
    let upload = reqwest::Client::new().post(server.url("/api/upload")).header("x-filename", &name).body(bytes.clone());
    let refused = server::json(upload.send().await.unwrap(), StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(refused["type"], "storage-mismatch");
    server.stop();
    let left: Vec<String> = names(volume.clone()).into_iter().filter(|name| !name.starts_with('.')).collect();
    assert!(left.is_empty() && names(copies.path().to_owned()) == before, "{left:?}");

    start(&[("ACCEPT_UNMOUNTED", "data")]).kill();
    assert!(fs::read(volume.join("uploads").join(id)).unwrap() == bytes, "it came back");
    let server = start(&[]);
    assert_eq!(server.get_json("/api/images").await["images"][0]["description"], "kept");
}
