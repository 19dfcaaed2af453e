//! How much processor time a read costs, beside nginx and Caddy on the same files, and behind nginx with the configuration in
//! `deploy/`, where nginx sends the files (`OFFLOAD`).
//!
//! `just bench-serve` installs both, runs this and prints a table of medians of five rounds. In each round, each server gets
//! the same requests over 64 connections for a second. The load comes from the same machine, so only the processor time of
//! a server is its own; requests a second are those of server and load together.

#[allow(dead_code, reason = "some of it is for the growth of stores")]
#[path = "../growth/seed.rs"]
mod seed;
#[allow(dead_code, reason = "likewise")]
#[path = "../growth/server.rs"]
mod server;

mod load;
mod process;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use serde_json::Value;

use crate::process::Measured;
use crate::server::{NEVER, OWN, Server, argument};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const KEEPSAKE: &str = "Keepsake";
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(1);
const CONNECTIONS: usize = 64;
/// Images of the list, besides those that are read.
const IMAGES: usize = 1_000;
const SMALL: usize = 5_000;
const LARGE: usize = 100_000_000;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("serve: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One kind of request, and what it needs of the servers that it is sent to.
struct Case {
    name: &'static str,
    path: String,
    headers: String,
    /// Whether the other servers can answer it.
    is_file: bool,
}

async fn run() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("serve-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let data = folder.path().join("data");
    std::fs::create_dir(&data)?;
    seed::fill_with(&data, IMAGES, seed::Bytes::All).await?;
    let client = reqwest::Client::new();
    let keepsake = Server::start(OWN, &data, &client, NEVER).await?;
    let mut files = Vec::new();
    for length in [100_000, SMALL, LARGE] {
        let mut bytes = seed::start_of_image(IMAGES as u64 + length as u64)?;
        bytes.resize(length, 7);
        let request = client.post(format!("{}/api/upload", keepsake.url)).header("Content-Type", "image/png");
        let answer: Value = request.body(bytes).send().await?.error_for_status()?.json().await?;
        files.push(answer["url"].as_str().or(answer["images"][0]["url"].as_str()).ok_or("no url")?.to_owned());
    }
    let list = format!("/api/images?limit={IMAGES}");
    let tag = |answer: &reqwest::Response| {
        answer.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(|tag| format!("If-None-Match: {tag}\r\n"))
    };

    let data = data.canonicalize()?;
    let mut servers = vec![(KEEPSAKE, Measured::of(&[keepsake.id()]), keepsake.url.clone())];
    let mut others = Vec::new();
    for (name, start) in [("caddy", caddy as fn(&Path, &Path, u16) -> Command), ("nginx", nginx)] {
        if let Some(program) = argument(&format!("--{name}")) {
            let port = free_port()?;
            let other = process::Other::start(start(Path::new(&program), &data, port), port).await?;
            servers.push((name, Measured::of(&[other.id()]), format!("http://127.0.0.1:{port}")));
            others.push(other);
        }
    }
    let never = NEVER.to_string();
    let variables = [("BACKUP_EVERY", never.as_str()), ("OFFLOAD", "x-accel-redirect:/internal-uploads/")];
    let offloading = Server::start_with(OWN, &data, &client, &variables).await?;
    if let Some(program) = argument("--nginx") {
        let port = free_port()?;
        let command = nginx_before(Path::new(&program), &data, port, &offloading.url);
        let other = process::Other::start(command, port).await?;
        servers.push(("both", Measured::of(&[offloading.id(), other.id()]), format!("http://127.0.0.1:{port}")));
        others.push(other);
    }

    println!("{:<26}{:<10}{:>12}{:>14}{:>10}", "", "", "CPU, µs", "requests/s", "MB");
    for case in cases(&files, &list) {
        let mut rounds = vec![Vec::new(); servers.len()];
        for _ in 0..ROUNDS {
            for ((name, process, url), rounds) in servers.iter().zip(&mut rounds) {
                if !case.is_file && *name != KEEPSAKE {
                    continue;
                }
                let headers = match case.headers.as_str() {
                    // Each server has tags of its own.
                    "tag" => tag(&client.get(format!("{url}{}", case.path)).send().await?).ok_or("no entity tag")?,
                    given => given.to_owned(),
                };
                let before = process.processor_time()?;
                let requests = load::run(url, &case.path, &headers, CONNECTIONS, ROUND).await?;
                let took = process.processor_time()? - before;
                rounds.push((took.as_secs_f64() * 1e6 / requests as f64, requests as f64 / ROUND.as_secs_f64()));
            }
        }
        for ((name, process, _), rounds) in servers.iter().zip(&rounds).filter(|(_, rounds)| !rounds.is_empty()) {
            let median = |of: fn(&(f64, f64)) -> f64| {
                let mut values: Vec<f64> = rounds.iter().map(of).collect();
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            };
            let (cpu, rate, memory) = (median(|r| r.0), median(|r| r.1), process.megabytes()?);
            println!("{:<26}{name:<10}{cpu:>12.1}{rate:>14.0}{memory:>10.0}", case.name);
        }
    }
    Ok(())
}

fn cases(files: &[String], list: &str) -> Vec<Case> {
    let case =
        |name, path: &str, headers: &str, is_file| Case { name, path: path.into(), headers: headers.into(), is_file };
    vec![
        case("GET 100 kB", &files[0], "", true),
        case("GET 5 kB", &files[1], "", true),
        case("304 of an image", &files[1], "tag", true),
        case("2 bytes of 100 MB", &files[2], "Range: bytes=50000000-50000001\r\n", true),
        case("list of 1,000", list, "", false),
        case("304 of that list", list, "tag", false),
    ]
}

fn caddy(program: &Path, data: &Path, port: u16) -> Command {
    let mut command = Command::new(program);
    command.args(["file-server", "--listen", &format!("127.0.0.1:{port}"), "--root"]).arg(data);
    command.env("XDG_DATA_HOME", data.join("caddy")).env("XDG_CONFIG_HOME", data.join("caddy"));
    command
}

fn nginx(program: &Path, data: &Path, port: u16) -> Command {
    let server = format!("server {{ listen 127.0.0.1:{port}; root {}; }}", data.display());
    nginx_with(program, &data.with_file_name("nginx"), &server)
}

/// nginx before a server that leaves files to it, with the configuration in `deploy/` but without TLS.
fn nginx_before(program: &Path, data: &Path, port: u16, url: &str) -> Command {
    let lines = include_str!("../../../deploy/nginx/keepsake.conf").lines();
    let plain: Vec<&str> = lines.filter(|line| !line.contains("ssl_") && !line.contains("[::]")).collect();
    let server = plain.join("\n").replace("443 ssl", &format!("127.0.0.1:{port}"));
    let server = server.replace("127.0.0.1:3000", url.trim_start_matches("http://"));
    let server = server.replace("/var/lib/keepsake", &data.display().to_string());
    nginx_with(program, &data.with_file_name("nginx-before"), &server)
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn nginx_with(program: &Path, own: &Path, server: &str) -> Command {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};", own.display()))
        .concat();
    let text = format!(
        "daemon off; user root; worker_processes 2; pid {own}/pid; error_log {own}/log; events {{}} http {{ access_log off; \
         sendfile on; keepalive_requests 10000000; {temporary} {server} }}",
        own = own.display(),
    );
    let conf = own.join("conf");
    std::fs::create_dir_all(own).and_then(|()| std::fs::write(&conf, text)).unwrap_or_else(|e| panic!("{e}"));
    let mut command = Command::new(program);
    command.arg("-c").arg(conf).arg("-e").arg(own.join("log"));
    command
}
