//! What a process and its children use.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::server::{megabytes_of, pause};

/// Ticks of the kernel's clock for each second, as Linux reports processor time.
const TICKS: f64 = 100.0;

/// Processes that are measured together, each with its children.
pub struct Measured(Vec<u32>);

impl Measured {
    pub fn of(processes: &[u32]) -> Self {
        Self(processes.to_vec())
    }

    /// The processor time that they have used, for themselves and in the kernel.
    pub fn processor_time(&self) -> Result<Duration> {
        self.all().into_iter().map(|process| time_of(process, OWN)).sum()
    }

    /// The memory that they have now, in MB.
    pub fn megabytes(&self) -> Result<f64> {
        self.all().into_iter().map(|process| megabytes_of(process, "VmRSS:")).sum()
    }

    fn all(&self) -> Vec<u32> {
        let mut all = self.0.clone();
        for process in &self.0 {
            let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        all
    }
}

/// The fields of a process's own processor time, in user mode and in the kernel.
const OWN: [usize; 2] = [11, 12];
/// Those of its children that have ended.
const ENDED: [usize; 2] = [13, 14];

/// The processor time that a process has used without its children.
#[allow(dead_code, reason = "the benchmark of reads measures servers only")]
pub fn time_alone(process: u32) -> Result<Duration> {
    time_of(process, OWN)
}

/// The processor time of the children of a process that have ended.
#[allow(dead_code, reason = "likewise")]
pub fn time_of_ended(process: u32) -> Result<Duration> {
    time_of(process, ENDED)
}

fn time_of(process: u32, fields: [usize; 2]) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // Behind the name, which may contain anything.
    let all: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let mut ticks = 0;
    for at in fields {
        ticks += all.get(at).ok_or("no such field")?.parse::<u64>()?;
    }
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS))
}

/// Another server; ended when dropped.
pub struct Other(Child);

impl Other {
    /// Starts it, and waits until it listens.
    pub async fn start(mut command: Command, port: u16) -> Result<Self> {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let other = Self(quiet.spawn()?);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            pause().await;
        }
        Ok(other)
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // So that nginx ends its workers.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}
