//! Many clients at once, on one server and on two that share a folder.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::Value;

use crate::photos::small;
use crate::server::{self, Server, eventually, names, records};

const CLIENTS: u32 = 16;
const UPLOADS_EACH: u32 = 25;
const UPLOADS: usize = (CLIENTS * UPLOADS_EACH) as usize;

/// Sixteen clients upload 25 images each, spread over the servers; returns the ids that were acknowledged.
async fn crowd(servers: &[Arc<Server>]) -> HashSet<String> {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let server = Arc::clone(&servers[client as usize % servers.len()]);
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for n in 0..UPLOADS_EACH {
                    let answer = server.upload("x.png", &small(client * UPLOADS_EACH + n), "crowd").await;
                    ids.push(answer["id"].as_str().unwrap().to_owned());
                }
                ids
            })
        })
        .collect();
    let mut all = HashSet::new();
    for client in clients {
        all.extend(client.await.unwrap());
    }
    all
}

fn ids(list: &Value) -> HashSet<String> {
    list["images"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

async fn automatic_backups(server: &Server) -> usize {
    let listed = server.get_json("/api/backups").await;
    listed["backups"].as_array().unwrap().iter().filter(|backup| backup["kind"] == "auto").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_folder_lose_no_upload_of_four_hundred() {
    let folder = tempfile::tempdir().unwrap();
    let servers = [Arc::new(Server::start(folder.path())), Arc::new(Server::start(folder.path()))];
    let acknowledged = crowd(&servers).await;
    assert_eq!(acknowledged.len(), UPLOADS);
    assert_eq!(names(folder.path().join("uploads")).len(), UPLOADS);
    for server in &servers {
        assert_eq!(ids(&server.get_json("/api/images").await), acknowledged);
        assert_eq!(automatic_backups(server).await, UPLOADS / 10, "one for each ten, whoever uploads");
    }
    eventually("every record is in image-metadata.json", || records(folder.path()) == Some(UPLOADS)).await;
}

/// `KEEPSAKE_EDIT_ROUNDS=200` asks for more.
#[expect(clippy::disallowed_methods, reason = "a test reads its own setting")]
#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_edits_with_one_etag_at_two_servers_one_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let servers = [Server::start(folder.path()), Server::start(folder.path())];
    let id = servers[0].upload("one.png", &small(1), "one").await["id"].as_str().unwrap().to_owned();
    let path = format!("/api/images/{id}");
    let tag = |response: &reqwest::Response| response.headers()["etag"].to_str().unwrap().to_owned();
    let mut etag = tag(&servers[0].get(&path).await);
    let rounds = std::env::var("KEEPSAKE_EDIT_ROUNDS").map_or(5, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let edits = (0..20).map(|n| {
            let body = serde_json::json!({ "description": format!("{round}/{n}") });
            let request = reqwest::Client::new().patch(servers[n % 2].url(&path)).header("if-match", &etag);
            request.header("content-type", "application/merge-patch+json").body(body.to_string()).send()
        });
        let responses: Vec<_> = join_all(edits).await.into_iter().map(Result::unwrap).collect();
        let edited: Vec<_> = responses.iter().filter(|response| response.status() == StatusCode::OK).collect();
        let refused = responses.iter().filter(|response| response.status() == StatusCode::PRECONDITION_FAILED).count();
        assert_eq!((edited.len(), refused), (1, 19), "round {round}");
        etag = tag(edited[0]);
        for server in &servers {
            assert_eq!(tag(&server.get(&path).await), etag, "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_go_on_while_backups_and_a_restore_run() {
    let folder = tempfile::tempdir().unwrap();
    let server = Arc::new(Server::start(folder.path()));
    let first = server.upload("first.png", &small(9999), "first").await;
    let backup = server::json(server.post("/api/backup").await, StatusCode::CREATED).await;
    server.delete(first["id"].as_str().unwrap()).await;

    let others = {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            for _ in 0..5 {
                server::json(server.post("/api/backup").await, StatusCode::CREATED).await;
            }
            let path = format!("/api/restore/{}", backup["backupName"].as_str().unwrap());
            server::json(server.post(&path).await, StatusCode::OK).await
        })
    };
    let mut acknowledged = crowd(&[Arc::clone(&server)]).await;
    assert_eq!(others.await.unwrap()["restored"], 1);
    acknowledged.insert(first["id"].as_str().unwrap().to_owned());

    assert_eq!(acknowledged.len(), UPLOADS + 1);
    assert_eq!(ids(&server.get_json("/api/images").await), acknowledged);
    assert_eq!(names(folder.path().join("uploads")).len(), UPLOADS + 1);
    assert_eq!(automatic_backups(&server).await, UPLOADS / 10);
    eventually("every record is in image-metadata.json", || records(folder.path()) == Some(UPLOADS + 1)).await;
}
