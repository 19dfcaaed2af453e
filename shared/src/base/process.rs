//! [`Process`]: identifies a process of this machine, and detects whether it has ended.

use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

/// The identity of a process, unique across machines, containers and boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// The kernel's id of the boot.
    boot: String,
    /// The namespace of its process id: each container of a machine has its own.
    namespace: String,
    /// Its id in that namespace.
    pid: i32,
    /// When it started, in clock ticks since the boot: process ids are reused.
    started: u64,
}

impl Process {
    /// This process; `None` if the system does not provide all of this.
    pub(crate) fn this() -> Option<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?.to_str()?.to_owned();
        let pid = i32::try_from(std::process::id()).ok()?;
        // In a /proc of another namespace, the same ids belong to other processes.
        let own = fs::read_link("/proc/self").ok()?.to_str()?.parse() == Ok(pid);
        (own && !boot.is_empty()).then_some(Self { boot, namespace, pid, started: started(pid)? })
    }

    /// Whether it has certainly ended. False for a process of another machine, boot or namespace.
    pub(crate) fn has_ended(&self) -> bool {
        let Some(here) = Self::this() else { return false };
        if (&here.boot, &here.namespace) != (&self.boot, &self.namespace) {
            return false;
        }
        let Some(pid) = Some(self.pid).filter(|pid| *pid > 0).and_then(Pid::from_raw) else { return false };
        match test_kill_process(pid) {
            Err(Errno::SRCH) => true,
            // The id may belong to another user, whose processes /proc may hide.
            _ => started(self.pid).is_some_and(|started| started != self.started),
        }
    }
}

/// When a process started, in clock ticks since the boot; see proc_pid_stat(5).
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything. The start time is the 22nd field, the 20th after it.
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn of_child(pid: u32) -> Process {
        let pid = i32::try_from(pid).unwrap();
        Process { pid, started: started(pid).unwrap(), ..Process::this().unwrap() }
    }

    #[test]
    fn a_process_has_ended_once_it_was_killed_and_not_before() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = of_child(child.id());
        assert!(!process.has_ended() && !Process::this().unwrap().has_ended());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(process.has_ended());
    }

    #[test]
    fn a_process_whose_id_was_used_again_has_ended() {
        let this = Process::this().unwrap();
        assert!(Process { started: this.started - 1, ..this }.has_ended());
    }

    #[test]
    fn nothing_is_known_of_a_process_elsewhere() {
        let mut child = Command::new("true").spawn().unwrap();
        let process = of_child(child.id());
        child.wait().unwrap();
        let elsewhere = [
            Process { boot: "another".to_owned(), ..process.clone() },
            Process { namespace: "pid:[1]".to_owned(), ..process.clone() },
            Process { pid: 0, ..process.clone() },
            Process { pid: -1, ..process.clone() },
        ];
        assert!(process.has_ended() && elsewhere.iter().all(|process| !process.has_ended()));
    }
}
