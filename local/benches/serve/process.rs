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
        let mut ticks = 0;
        for process in self.all() {
            let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
            // Behind the name, which may contain anything.
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            for at in [11, 12] {
                ticks += fields.get(at).ok_or("no such field")?.parse::<u64>()?;
            }
        }
        Ok(Duration::from_secs_f64(ticks as f64 / TICKS))
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
