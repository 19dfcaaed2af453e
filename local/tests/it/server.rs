//! A running server, and what a client asks of it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::multipart::{Form, Part};
use reqwest::{Client, Response, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The binary, serving one folder; killed when dropped.
pub struct Server {
    child: Child,
    url: String,
    /// What it printed when it started.
    pub greeting: Vec<String>,
    client: Client,
}

impl Server {
    /// Starts the binary on a free port, with `folder` as its current folder, and waits until it serves.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    /// Likewise, with further variables in its environment.
    pub fn start_with(folder: &Path, variables: &[(&str, &str)]) -> Self {
        Self::started(&mut command(folder, variables))
    }

    /// Starts what serves on a free port, and waits until it does.
    pub fn started(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut greeting = Vec::new();
        while !greeting.last().is_some_and(|line: &String| line.contains("  recovery ")) {
            let line = lines.next().unwrap_or_else(|| panic!("it stopped after {greeting:?}"));
            greeting.push(line.unwrap());
        }
        let url = greeting[0].split_once("serves ").unwrap().1.to_owned();
        Self { child, url, greeting, client: Client::new() }
    }

    /// Kills it as the system does when it has had enough: at once.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to stop, and waits until it has.
    pub fn stop(self) {
        self.terminate();
        self.wait();
    }

    /// Tells it to stop.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What the system calls it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has stopped, as it was told to.
    pub fn wait(mut self) {
        assert!(self.child.wait().unwrap().success());
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub async fn get_json(&self, path: &str) -> Value {
        json(self.get(path).await, StatusCode::OK).await
    }

    pub async fn post(&self, path: &str) -> Response {
        self.client.post(self.url(path)).send().await.unwrap()
    }

    pub async fn send(&self, method: reqwest::Method, path: &str) -> Response {
        self.client.request(method, self.url(path)).send().await.unwrap()
    }

    pub async fn post_json(&self, path: &str, body: &Value) -> Response {
        self.client.post(self.url(path)).json(body).send().await.unwrap()
    }

    pub async fn delete(&self, id: &str) {
        let answer = self.client.delete(self.url(&format!("/api/images/{id}"))).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }

    pub async fn edit(&self, id: &str, patch: &Value) -> Value {
        let request = self.client.patch(self.url(&format!("/api/images/{id}"))).json(patch);
        json(request.send().await.unwrap(), StatusCode::OK).await
    }

    /// Uploads an image and returns the answer.
    pub async fn upload(&self, name: &str, bytes: &[u8], description: &str) -> Value {
        json(self.send_image(name, bytes, description).await.unwrap(), StatusCode::CREATED).await
    }

    /// Uploads an image, which may fail.
    pub async fn send_image(&self, name: &str, bytes: &[u8], description: &str) -> reqwest::Result<Response> {
        let image = Part::bytes(bytes.to_vec()).file_name(name.to_owned());
        let form =
            Form::new().part("image", image).text("description", description.to_owned()).text("category", "test");
        self.client.post(self.url("/api/upload")).multipart(form).send().await
    }

    /// Edits an image, which may fail.
    pub async fn send_edit(&self, id: &str, patch: &Value) -> reqwest::Result<Response> {
        self.client.patch(self.url(&format!("/api/images/{id}"))).json(patch).send().await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary on a free port, with `folder` as its current folder and these variables in its environment.
pub fn command(folder: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keepsake"));
    command.current_dir(folder).env_clear().envs([("PORT", "0"), ("HOST", "127.0.0.1"), ("RUST_LOG", "warn")]);
    command.envs(variables.iter().copied());
    command
}

pub async fn json(answer: Response, expected: StatusCode) -> Value {
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(status, expected, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Waits until something holds, which it must within a minute even on a busy machine with a slow disk.
#[expect(clippy::disallowed_methods, reason = "the one place that looks again until a condition holds")]
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to pass that {what}");
}

/// The folders of a store into which the server writes, below the current folder; it makes others for each backup.
pub const STORE_FOLDERS: [&str; 8] = [
    "",
    "uploads",
    "catalog",
    "image-metadata.d",
    "backups",
    "backups/catalog",
    "backups/images",
    "backups/image-metadata.d",
];

/// The names in a folder, none where it is not there.
pub fn names(folder: PathBuf) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// How many records the metadata file of a folder shows to whoever opens it; `None` while it cannot be read as JSON.
pub fn records(folder: &Path) -> Option<usize> {
    let text = std::fs::read_to_string(folder.join("image-metadata.json")).ok()?;
    let json: Value = serde_json::from_str(&text).ok()?;
    Some(json.as_object()?.keys().filter(|name| *name != "$keepsake").count())
}
