//! Tokens made and revoked on the command line, beside a server that takes them.

use serde_json::json;

use super::run::run;
use crate::photos::photo;
use crate::server::Server;

#[tokio::test]
async fn token_from_command_line_grants_its_scope_on_a_running_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let server = Server::start_with(path, &[("API_TOKEN", "owner"), ("READ", "token")]);
    assert!(run(path, &["token", "list"]).ends(0).said.contains("There are no tokens"));
    let made = run(path, &["token", "new", "phone", "--scope", "upload", "--json"]).ends(0).json();
    assert_eq!((&made["name"], &made["scope"]), (&json!("phone"), &json!("upload")));
    let token = made["token"].as_str().unwrap();
    let client = reqwest::Client::new();
    let ask = async |method: reqwest::Method, path: &str, token: &str, body: Vec<u8>| {
        let request = client.request(method, server.url(path)).header("content-type", "image/png").bearer_auth(token);
        request.body(body).send().await.unwrap()
    };
    let uploaded = ask(reqwest::Method::POST, "/api/upload", token, photo(1).1).await;
    assert_eq!(uploaded.status(), 201);
    let id = uploaded.json::<serde_json::Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    let image = format!("/api/images/{id}");
    assert_eq!(ask(reqwest::Method::GET, &image, token, Vec::new()).await.status(), 200);
    assert_eq!(ask(reqwest::Method::DELETE, &image, token, Vec::new()).await.status(), 403);
    assert_eq!(server.get(&image).await.status(), 401);

    let refused = run(path, &["token", "new", "phone", "--scope", "admin"]).ends(1);
    assert!(refused.complained.contains("There is a token \"phone\" already"), "{refused:?}");
    let listed = run(path, &["token", "list", "--json"]).ends(0);
    assert!(!listed.said.contains(token) && !listed.said.contains("sha256"), "{listed:?}");
    assert_eq!(listed.json()["tokens"][0]["id"], made["id"]);
    assert!(run(path, &["token", "list"]).ends(0).said.contains("upload  phone"));
    assert!(run(path, &["token", "revoke", "phone"]).ends(0).said.contains("5 more seconds"));
    assert_eq!(run(path, &["token", "revoke", "phone", "--json"]).ends(1).json()["type"], "no-such-token");
    // A server that starts after that has never known it.
    server.stop();
    let again = Server::start_with(path, &[("API_TOKEN", "owner"), ("READ", "token")]);
    let refused = client.get(again.url(&image)).bearer_auth(token).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(client.get(again.url(&image)).bearer_auth("owner").send().await.unwrap().status(), 200);
}
