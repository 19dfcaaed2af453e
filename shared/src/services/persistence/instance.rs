//! Identifies the instance: its id changes whenever the instance's own disk would be lost, and stays the same when only
//! the process restarts.

use serde::{Deserialize, Serialize};

use super::Machine;
use crate::config::Platform;
use store::digest::Digest;

/// Characters of an id that are displayed.
const SHOWN_CHARS: usize = 8;
/// Characters of an id that are stored.
const MAX_STORED_CHARS: usize = 200;

/// A deployment, a container, a pod or a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The kind of instance, as one word for display.
    pub kind: String,
    /// Distinguishes it from other instances of its kind.
    pub id: String,
}

impl Instance {
    /// The instance as identified by the platform and the machine. `deployment` comes from the platform's environment.
    /// `None` if nothing distinguishes instances.
    pub fn of(platform: Option<Platform>, deployment: Option<&str>, machine: &Machine) -> Option<Self> {
        let (boot, hostname) = (machine.boot_id(), machine.hostname());
        let container = machine.container();
        let container = container.as_deref();
        let (kind, parts) = match platform {
            // These platforms set a new value with each deployment, whatever the machine is.
            Some(Platform::Railway | Platform::Fly | Platform::Render) if deployment.is_some() => {
                ("deployment", vec![deployment])
            }
            // A micro virtual machine boots for each instance, and in a sandbox the kernel belongs to the instance.
            Some(Platform::Fly | Platform::CloudRun) => ("deployment", vec![deployment, boot, container]),
            // Each start of a dyno is a new container with a new host name.
            Some(Platform::Heroku) => ("deployment", vec![deployment, hostname, container]),
            // A pod's containers are recreated while its volumes stay, so a new container proves nothing. Successive
            // pods may get the same host name; then persistence is never proven, which errs on the safe side.
            Some(Platform::Kubernetes) => ("pod", vec![machine.pod().or(hostname)]),
            Some(Platform::Railway | Platform::Render | Platform::Container) => {
                ("container", vec![container.or(hostname)])
            }
            Some(Platform::Lambda) => return None,
            None => ("boot", vec![boot, container]),
        };
        let parts: Vec<&str> = parts.into_iter().flatten().collect();
        let id = match parts[..] {
            [] => return None,
            // The machine's values are paths of the host, which must not be published.
            [one] if !one.contains('/') || deployment == Some(one) => one.chars().take(MAX_STORED_CHARS).collect(),
            _ => Digest::of(parts.join("\n").as_bytes()).to_string(),
        };
        Some(Self { kind: kind.to_owned(), id })
    }

    /// For display: its kind, and enough of its id to find it by.
    pub fn shown(&self) -> String {
        let id: String = self.id.chars().take(SHOWN_CHARS).collect();
        let cut = if id.len() < self.id.len() { "…" } else { "" };
        format!("{} {id}{cut}", self.kind)
    }
}
