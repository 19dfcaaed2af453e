//! The server as a process of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use reqwest::StatusCode;

use crate::Result;

/// The program of this build.
pub const OWN: &str = env!("CARGO_BIN_EXE_keepsake");

/// For [`Server::start`]: no automatic backup is made.
pub const NEVER: u32 = 1_000_000_000;

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    /// Open as long as the server may write to it.
    _stdout: BufReader<ChildStdout>,
    /// Where it listens, such as `http://127.0.0.1:3000`.
    pub url: String,
}

impl Server {
    /// Starts the server on a folder and waits until it is ready.
    pub async fn start(program: &str, folder: &Path, client: &reqwest::Client, backup_every: u32) -> Result<Self> {
        Self::start_with(program, folder, client, &[("BACKUP_EVERY", &backup_every.to_string())]).await
    }

    /// Likewise, with these variables in its environment.
    pub async fn start_with(
        program: &str,
        folder: &Path,
        client: &reqwest::Client,
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let mut child = Command::new(program)
            .current_dir(folder)
            .env("DATA_DIR", folder)
            .envs(variables.iter().copied())
            .envs([("HOST", "127.0.0.1"), ("PORT", "0"), ("LOG_FORMAT", "json"), ("RUST_LOG", "warn")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the server has no output")?;
        let mut server = Self { child, _stdout: BufReader::new(stdout), url: String::new() };
        let mut line = String::new();
        server._stdout.read_line(&mut line)?;
        let (_, address) = line.trim().split_once("http://").ok_or("the server did not start")?;
        server.url = format!("http://{address}");
        let ready = format!("{}/readyz", server.url);
        while client.get(&ready).send().await.map(|answer| answer.status()).ok() != Some(StatusCode::OK) {
            pause().await;
        }
        Ok(server)
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory it ever had, in MB.
    pub fn peak_megabytes(&self) -> Result<f64> {
        self.megabytes("VmHWM:")
    }

    /// The memory it has now, in MB.
    pub fn megabytes_now(&self) -> Result<f64> {
        self.megabytes("VmRSS:")
    }

    fn megabytes(&self, field: &str) -> Result<f64> {
        megabytes_of(self.child.id(), field)
    }

    /// Bytes that it has had written to a disk.
    pub fn written(&self) -> Result<u64> {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id()))?;
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:")).ok_or("no write_bytes")?;
        Ok(line.trim().parse()?)
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) -> Result<()> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the server stopped with {status}").into()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Of one that was stopped already there is nothing left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A field of the status of a process that is a length in kibibytes, in MB.
pub fn megabytes_of(process: u32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).ok_or("no such field")?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024.0 / 1e6)
}

/// The value of an option of the command line.
pub fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

/// Between two looks at whether something has happened.
#[expect(clippy::disallowed_methods, reason = "another process can only be asked again and again")]
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}
