//! What a new user does on the first day.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::photos::photo;
use crate::server::{self, Server, eventually, names, records};

#[tokio::test]
async fn twenty_five_uploads_leave_their_files_and_two_automatic_backups() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let mut completed = Vec::new();
    for n in 0..25 {
        let (name, bytes) = photo(n);
        let answer = server.upload(&name, &bytes, "first day").await;
        completed.extend(answer.get("backup").filter(|b| !b.is_null()).map(|b| (n + 1, b.clone())));
    }
    assert_eq!(names(folder.path().join("uploads")).len(), 25);
    eventually("25 records are in image-metadata.json", || records(folder.path()) == Some(25)).await;
    assert_eq!(completed.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [10, 20], "each tenth upload names its backup");

    let backups = server.get_json("/api/backups").await["backups"].clone();
    assert_eq!(backups.as_array().unwrap().len(), 2);
    assert_eq!(backups[0]["name"], completed[1].1, "newest first");
    assert_eq!((&backups[0]["kind"], &backups[0]["fileCount"]), (&json!("auto"), &json!(20)));

    let made = server::json(server.post("/api/backup").await, StatusCode::CREATED).await;
    assert_eq!((&made["success"], &made["fileCount"]), (&json!(true), &json!(25)));
    assert_eq!(server.get_json("/api/backups").await["backups"].as_array().unwrap().len(), 3);
    let health = server.get_json("/api/health").await;
    assert_eq!(health["persistence"]["writable"], true);
    server.stop();
    assert!(names(folder.path().join("image-metadata.d")).is_empty(), "stopping folds");
}

#[tokio::test]
async fn a_restore_brings_back_what_was_deleted_and_can_be_undone() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let mut items: Vec<Value> = Vec::new();
    for n in 0..3 {
        let (name, bytes) = photo(n);
        items.push(server.upload(&name, &bytes, "before").await);
    }
    let backup = server::json(server.post("/api/backup").await, StatusCode::CREATED).await;
    let id = |n: usize| items[n]["id"].as_str().unwrap();
    server.delete(id(0)).await;
    server.edit(id(1), &json!({ "description": "after" })).await;
    let (name, bytes) = photo(9);
    let late = server.upload(&name, &bytes, "late").await;

    let path = format!("/api/restore/{}", backup["backupName"].as_str().unwrap());
    let plan = server::json(server.post(&format!("{path}?dryRun=true")).await, StatusCode::OK).await;
    assert_eq!((&plan["restored"], &plan["changed"], &plan["removed"]), (&json!(1), &json!(1), &json!(0)));
    assert_eq!(
        server.get(&format!("/uploads/{}", id(0))).await.status(),
        StatusCode::NOT_FOUND,
        "a plan changes nothing"
    );

    let exact = server::json(server.post(&format!("{path}?mode=exact")).await, StatusCode::OK).await;
    assert_eq!((&exact["restored"], &exact["changed"], &exact["removed"]), (&json!(1), &json!(1), &json!(1)));
    for (n, item) in items.iter().enumerate() {
        let now = server.get_json(&format!("/api/images/{}", id(n))).await;
        assert_eq!(now["description"], item["description"]);
        assert_eq!(server.get(&format!("/uploads/{}", id(n))).await.bytes().await.unwrap(), photo(n as u32).1);
    }
    assert_eq!(server.get_json("/api/images").await["images"].as_array().unwrap().len(), 3);

    let undo = format!("/api/restore/{}?mode=exact", exact["safetyBackup"].as_str().unwrap());
    server::json(server.post(&undo).await, StatusCode::OK).await;
    assert_eq!(server.get_json(&format!("/api/images/{}", id(1))).await["description"], "after");
    assert_eq!(server.get(&format!("/uploads/{}", id(0))).await.status(), StatusCode::NOT_FOUND);
    let back = server.get(late["url"].as_str().unwrap()).await;
    assert_eq!(back.bytes().await.unwrap(), bytes);
}

#[tokio::test]
async fn a_folder_of_the_older_format_is_imported_and_no_field_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (_, bytes) = photo(3);
    std::fs::create_dir(folder.path().join("uploads")).unwrap();
    std::fs::write(folder.path().join("uploads/old one.jpg"), &bytes).unwrap();
    std::fs::write(folder.path().join("uploads/orphan.jpg"), photo(4).1).unwrap();
    let older = json!({
        "old one.jpg": { "category": "cats", "description": "Tom", "uploadDate": "2023-05-01T10:00:00Z", "type": "image",
            "groupId": "g1", "order": 3, "camera": { "make": "Box" } },
        "gone.jpg": { "category": "dogs", "uploadDate": "2022-01-01T00:00:00.000Z" },
    });
    std::fs::write(folder.path().join("image-metadata.json"), serde_json::to_vec_pretty(&older).unwrap()).unwrap();
    let server = Server::start(folder.path());
    let item = server.get_json("/api/images/old%20one.jpg").await;
    for (name, value) in older["old one.jpg"].as_object().unwrap() {
        assert_eq!(&item[name], value, "{name}");
    }
    assert_eq!(item["size"], bytes.len());
    assert_eq!(server.get("/uploads/old%20one.jpg").await.bytes().await.unwrap(), bytes);
    assert_eq!(server.get_json("/api/images/gone.jpg").await["category"], "dogs", "a record without a file is kept");
    assert_eq!(
        server.get_json("/api/images").await["images"].as_array().unwrap().len(),
        3,
        "a file without one is adopted"
    );
    let all = server.get_json("/api/images").await;
    server.kill();
    let again = Server::start(folder.path());
    assert_eq!(again.get_json("/api/images").await, all, "a second start changes nothing");
}

#[tokio::test]
async fn stop_finishes_an_upload_in_flight_and_compacts_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let (_, bytes) = photo(3);
    let address = server.url("").replace("http://", "");
    let mut client = TcpStream::connect(&address).unwrap();
    let head = format!(
        "POST /api/upload HTTP/1.1\r\nHost: {address}\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\nConnection: close\r\n\r\n",
        bytes.len()
    );
    client.write_all(head.as_bytes()).unwrap();
    // The server asks for the body once the handler reads it: from then on the upload is in flight.
    let mut go_on = [0; 25];
    client.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    let (first, second) = bytes.split_at(bytes.len() / 2);
    client.write_all(first).unwrap();
    server.terminate();
    client.write_all(second).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    let item: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    server.wait();
    assert!(names(folder.path().join("image-metadata.d")).is_empty(), "its commit is folded");
    assert_eq!(records(folder.path()), Some(1));
    let again = Server::start(folder.path());
    assert_eq!(again.get(item["url"].as_str().unwrap()).await.bytes().await.unwrap(), bytes);
}

#[tokio::test]
async fn nobody_has_to_read_what_it_prints_at_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let port = address.port().to_string();
    let mut child = server::command(folder.path(), &[("PORT", &port)]).stdout(writer).spawn().unwrap();
    let lives = move || {
        let mut answer = String::new();
        let asked = TcpStream::connect(address).and_then(|mut client| {
            client.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            client.read_to_string(&mut answer)
        });
        asked.is_ok() && answer.starts_with("HTTP/1.1 200 OK\r\n")
    };
    let served = tokio::spawn(eventually("it serves", lives)).await;
    child.kill().unwrap();
    child.wait().unwrap();
    served.unwrap();
}

#[test]
fn a_folder_of_images_that_is_a_link_stops_the_start_with_the_reason() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("uploads")).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_keepsake"))
        .current_dir(folder.path())
        .env_clear()
        .envs([("PORT", "0"), ("HOST", "127.0.0.1")])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("symbolic link"), "{said}");
}
