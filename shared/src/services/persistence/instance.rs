//! Which instance this is: something that changes where a disk of the instance's own would be gone, and that stays while
//! only the process is started again.

use serde::{Deserialize, Serialize};

use super::Machine;
use crate::config::Platform;
use store::digest::Digest;

/// Characters of an id that are shown to people.
const SHOWN: usize = 8;
/// Characters of an id that are kept.
const KEPT: usize = 200;

/// A deployment, a container, a pod or a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// What it is, as one word for people.
    pub kind: String,
    /// What tells it from others of its kind.
    pub id: String,
}

impl Instance {
    /// The instance that a platform and the machine tell of. `deployment` is what the platform's environment says; `None`
    /// where nothing tells instances apart.
    pub fn of(platform: Option<Platform>, deployment: Option<&str>, machine: &Machine) -> Option<Self> {
        let (boot, hostname) = (machine.boot_id(), machine.hostname());
        let container = machine.container();
        let container = container.as_deref();
        let (kind, parts) = match platform {
            // What they set is new with each deployment, whatever the machine is.
            Some(Platform::Railway | Platform::Fly | Platform::Render) if deployment.is_some() => {
                ("deployment", vec![deployment])
            }
            // A micro virtual machine boots for each instance, and in a sandbox the kernel is the instance's own.
            Some(Platform::Fly | Platform::CloudRun) => ("deployment", vec![deployment, boot, container]),
            // Each start of a dyno is a new container with a new host name.
            Some(Platform::Heroku) => ("deployment", vec![deployment, hostname, container]),
            // A pod's containers are made anew while its volumes stay, so that they prove nothing. A host name may be given
            // to one pod after another; then nothing is ever proven, which is the safe side.
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
            // What the machine says of itself are paths of the host, which are nobody's business.
            [one] if !one.contains('/') || deployment == Some(one) => one.chars().take(KEPT).collect(),
            _ => Digest::of(parts.join("\n").as_bytes()).to_string(),
        };
        Some(Self { kind: kind.to_owned(), id })
    }

    /// What people are told: its kind, and enough of its id to find it by.
    pub fn shown(&self) -> String {
        let id: String = self.id.chars().take(SHOWN).collect();
        let cut = if id.len() < self.id.len() { "…" } else { "" };
        format!("{} {id}{cut}", self.kind)
    }
}
