//! What the server writes to its log: JSON, one object a line, that a request can be found in and that gives nothing away.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use reqwest::multipart::{Form, Part};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use shared::digest::Digest;
use tempfile::TempDir;

use crate::photos::photo;
use crate::s3_server::{self, BUCKET, OTHER_KEY};
use crate::server::{self, Server, command, eventually, names};

const ID: HeaderName = HeaderName::from_static("x-request-id");

/// A server whose log goes into a file.
struct Logged {
    server: Server,
    data: TempDir,
    log: PathBuf,
    _log_folder: TempDir,
}

impl Logged {
    fn start(variables: &[(&str, &str)]) -> Self {
        let (data, log_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let log = log_folder.path().join("log");
        let mut command = command(data.path(), &[&[("LOG_FORMAT", "json"), ("RUST_LOG", "info")], variables].concat());
        let server = Server::started(command.stderr(Stdio::from(File::create(&log).unwrap())));
        Self { server, data, log, _log_folder: log_folder }
    }

    fn data(&self) -> &Path {
        self.data.path()
    }

    /// Stops the server and returns its log.
    fn stop(self) -> String {
        self.server.stop();
        fs::read_to_string(self.log).unwrap()
    }

    async fn get_as(&self, id: HeaderValue, path: &str) -> Response {
        Client::new().get(self.server.url(path)).header(ID, id).send().await.unwrap()
    }
}

fn parsed(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"))).collect()
}

/// The lines of one request.
fn of<'a>(lines: &'a [Value], id: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["request_id"] == id).collect()
}

#[tokio::test]
async fn every_line_that_a_request_causes_has_its_id() {
    let logged = Logged::start(&[]);
    let (name, bytes) = photo(0);
    let form = Form::new().part("image", Part::bytes(bytes).file_name(name));
    let upload = Client::new().post(logged.server.url("/api/upload")).header(ID, "upload-1").multipart(form);
    let item = server::json(upload.send().await.unwrap(), StatusCode::CREATED).await;
    let url = item["url"].as_str().unwrap();

    // Another byte in its place: the replica is served, and that is a line of its own.
    let file = logged.data().join(url.trim_start_matches('/'));
    let mut rotten = fs::read(&file).unwrap();
    *rotten.last_mut().unwrap() ^= 1;
    fs::write(&file, rotten).unwrap();
    let answer = logged.get_as(HeaderValue::from_static("rotten-1"), url).await;
    assert_eq!((answer.status(), &answer.headers()[&ID]), (StatusCode::OK, &HeaderValue::from_static("rotten-1")));

    let lines = parsed(&logged.stop());
    let uploaded = of(&lines, "upload-1");
    assert_eq!(uploaded.len(), 1, "{lines:#?}");
    assert_eq!((&uploaded[0]["status"], &uploaded[0]["path"]), (&json!(201), &json!("/api/upload")));
    let served = of(&lines, "rotten-1");
    assert_eq!(served.iter().map(|line| &line["level"]).collect::<Vec<_>>(), ["ERROR", "INFO"], "{served:#?}");
    let without: Vec<_> =
        lines.iter().filter(|line| line["target"] != "keepsake::server" && line["level"] == "INFO").collect();
    assert!(without.iter().all(|line| line["request_id"].is_string()), "{without:#?}");
}

#[tokio::test]
async fn a_failure_is_logged_once_with_its_causes() {
    let logged = Logged::start(&[]);
    let (name, bytes) = photo(1);
    logged.server.upload(&name, &bytes, "").await;
    let commits = logged.data().join("image-metadata.d");
    eventually("the commits are folded", || names(commits.clone()).is_empty()).await;
    // Where the pages of backups belong is a file, and nothing can be put below it.
    fs::remove_dir_all(logged.data().join("backups/catalog")).unwrap();
    fs::write(logged.data().join("backups/catalog"), "in the way").unwrap();
    let request = Client::new().post(logged.server.url("/api/backup")).header(ID, "fails-1");
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_server_error(), "{}", answer.status());
    let text = answer.text().await.unwrap();

    let lines = parsed(&logged.stop());
    let failed: Vec<_> = of(&lines, "fails-1").into_iter().filter(|line| line["level"] != "INFO").collect();
    assert_eq!(failed.len(), 1, "{failed:#?}");
    let error = failed[0]["error"].as_str().unwrap();
    assert!(error.contains("put \"backups/catalog/"), "{error}");
    assert!(error.ends_with("the store refuses the operation: a file lies where a folder is needed"), "{error}");
    assert!(!text.contains("catalog/") && !text.contains("a file lies"), "the client does not see it: {text}");
}

#[tokio::test]
async fn an_id_is_taken_over_only_if_it_is_short_and_plain() {
    let logged = Logged::start(&[]);
    let longest = "a".repeat(128);
    for fit in ["1", "01a20e84-aa8e-7ae7-8fb9-9b48081a3077", "1-67891233:abc/DEF+._=", &longest] {
        let answer = logged.get_as(HeaderValue::from_str(fit).unwrap(), "/livez").await;
        assert_eq!(answer.headers()[&ID], fit);
    }
    let too_long = "a".repeat(129);
    for unfit in
        [too_long.as_bytes(), b"", b"two words", b"a\"b", b"a\\u0022", b"{}", b"a\tb", b"\xc3\xa9", b"\x1b[31mred"]
    {
        // What no header may hold never arrives.
        let Ok(id) = HeaderValue::from_bytes(unfit) else { continue };
        let answer = logged.get_as(id, "/livez").await;
        let given = answer.headers()[&ID].to_str().unwrap();
        assert_eq!(given.len(), 36, "{unfit:?} became {given}");
    }
    let twice = Client::new().get(logged.server.url("/livez")).header(ID, "first").header(ID, "second");
    assert_eq!(twice.send().await.unwrap().headers()[&ID].len(), 36);
    let path = format!("/nothing/{}", "x".repeat(5_000));
    assert_eq!(logged.get_as(HeaderValue::from_static("long"), &path).await.status(), StatusCode::NOT_FOUND);

    let log = logged.stop();
    let lines = parsed(&log);
    assert!(lines.iter().all(|line| line["request_id"].as_str().is_none_or(|id| id.len() <= 128)), "{lines:#?}");
    assert!(log.lines().all(|line| line.len() < 1_000), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_comes_into_the_log_whatever_its_level() {
    let (_bucket, endpoint) = s3_server::start().await;
    let (archive, (key, key_secret)) = (format!("s3://{BUCKET}"), OTHER_KEY);
    let (token, guess) = ("tok-9d1e6a", "tok-guessed");
    let logged = Logged::start(&[
        ("RUST_LOG", "trace"),
        ("API_TOKEN", token),
        ("BACKUP_URL", &archive),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("AWS_ACCESS_KEY_ID", key),
        ("AWS_SECRET_ACCESS_KEY", key_secret),
        ("AWS_REGION", "us-east-1"),
    ]);
    let client = Client::new();
    let url = |path: &str| logged.server.url(path);
    let (name, bytes) = photo(2);
    let digest = Digest::of(&bytes).to_string();
    let image = json!({ "filename": name, "contentType": "image/png", "size": bytes.len(), "sha256": digest });
    let announce = client.post(url("/api/upload/tickets")).json(&image);
    let announced = async |token: &str| announce.try_clone().unwrap().bearer_auth(token).send().await.unwrap();
    assert_eq!(announced(guess).await.status(), StatusCode::UNAUTHORIZED);
    let ticket = server::json(announced(token).await, StatusCode::CREATED).await;

    let upload = ticket["uploadUrl"].as_str().unwrap();
    let put = |to: &str| client.put(url(to)).header(CONTENT_TYPE, "image/png").body(bytes.clone()).send();
    assert!(put(&format!("{upload}0")).await.unwrap().status().is_client_error());
    assert!(put(upload).await.unwrap().status().is_success());
    let complete = client.post(url(ticket["completeUrl"].as_str().unwrap())).bearer_auth(token);
    server::json(complete.send().await.unwrap(), StatusCode::CREATED).await;
    let scrape = client.get(url("/metrics")).bearer_auth(token).send().await.unwrap();
    assert_eq!(scrape.status(), StatusCode::OK);

    let log = logged.stop();
    // A release build has nothing below `info`.
    let lowest = if cfg!(debug_assertions) { r#""level":"TRACE""# } else { r#""level":"INFO""# };
    assert!(log.contains(lowest), "{log}");
    let (_, ticket_secret) = upload.split_once("secret=").unwrap();
    for secret in [token, guess, key_secret, ticket_secret] {
        assert_eq!(log.lines().find(|line| line.contains(secret)), None, "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_the_bucket_that_are_signed_do_not_come_into_the_log() {
    let (_bucket, endpoint) = s3_server::start().await;
    let store = format!("s3://{BUCKET}");
    let logged = Logged::start(&[
        ("RUST_LOG", "trace"),
        ("STORE_URL", &store),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("AWS_ACCESS_KEY_ID", OTHER_KEY.0),
        ("AWS_SECRET_ACCESS_KEY", OTHER_KEY.1),
        ("AWS_REGION", "us-east-1"),
    ]);
    let (name, bytes) = photo(3);
    let item = logged.server.upload(&name, &bytes, "").await;
    let client = Client::builder().redirect(Policy::none()).build().unwrap();
    let answer = client.get(logged.server.url(item["url"].as_str().unwrap())).send().await.unwrap();
    let address = answer.headers()[LOCATION].to_str().unwrap();
    let (_, signature) = address.split_once("X-Amz-Signature=").unwrap();
    let signature = &signature[..64];
    let log = logged.stop();
    for secret in [signature, OTHER_KEY.1] {
        assert_eq!(log.lines().find(|line| line.contains(secret)), None, "{secret}");
    }
}

#[test]
fn a_start_that_fails_does_not_show_a_password() {
    for (name, value) in [
        ("BACKUP_URL", "s3://key:hush-77@bucket"),
        ("BACKUP_URL", "ftp://key:hush-77@cloud"),
        ("BACKUP_URL", "key:hush-77@cloud"),
        ("STORE_URL", "s3:/key:hush-77@bucket"),
        ("API_TOKEN", "hush-77 and more"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = command(folder.path(), &[(name, value)]).output().unwrap();
        assert!(!output.status.success(), "{name}={value}");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains(name) && !said.contains("hush-77"), "{said}");
        assert!(names(folder.path().to_owned()).is_empty(), "nothing is made");
    }
}
