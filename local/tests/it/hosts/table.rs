//! The hosts that the guide in `docs/hosting/` speaks of: what each sets, mounts, wipes and waits for, with its files in
//! `deploy/`.

use std::time::Duration;

use serde_json::Value;

use super::deploy::{documents, image, tree};
use super::play::{Host, Kept, Volume};

/// What becomes of most hosts without a place that lasts.
const LOSES_EVERYTHING: (Kept, [&str; 2]) = (Kept::Nothing, ["ephemeral", "ephemeral"]);
const PROVEN: (Kept, [&str; 2]) = (Kept::Everything, ["unproven", "proven"]);
/// Who the image runs as.
const NOBODY: u32 = 65532;
const ROOT: u32 = 0;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn host(
    platform: &'static str,
    variables: fn(u32) -> Vec<(&'static str, String)>,
    fate: (Kept, [&'static str; 2]),
) -> Host {
    Host {
        platform,
        image: image(&[]),
        variables,
        volume: None,
        engine: &[],
        read_only: false,
        is_machine: false,
        archive: false,
        grace: secs(30),
        kept: fate.0,
        verdicts: fate.1,
    }
}

fn each(variables: &[(&'static str, &str)], deployment: u32) -> Vec<(&'static str, String)> {
    variables.iter().map(|(name, value)| (*name, value.replace("{n}", &deployment.to_string()))).collect()
}

// Railway: a volume is owned by root, which is what RAILWAY_RUN_UID is for; without draining seconds there is no delay
// between SIGTERM and SIGKILL.

pub fn railway() -> Host {
    let variables = |n| {
        let mut variables = railway_variables(n);
        variables.extend(each(
            &[("RAILWAY_VOLUME_NAME", "images"), ("RAILWAY_VOLUME_MOUNT_PATH", "/volume"), ("RAILWAY_RUN_UID", "0")],
            n,
        ));
        variables
    };
    let mut host = Host { volume: Some(Volume::Disk("/volume", ROOT)), ..host("railway", variables, PROVEN) };
    (host.image.user, host.image.group) = (ROOT, ROOT);
    host.grace = secs(tree("railway.json")["deploy"]["drainingSeconds"].as_u64().unwrap());
    host
}

pub fn railway_without_delay() -> Host {
    Host { grace: Duration::ZERO, ..railway() }
}

pub fn railway_without_volume() -> Host {
    Host { grace: Duration::ZERO, ..host("railway", railway_variables, LOSES_EVERYTHING) }
}

fn railway_variables(n: u32) -> Vec<(&'static str, String)> {
    each(
        &[
            ("RAILWAY_PROJECT_ID", "3ab1d3c1-8f1a-4c08-8a54-7c50d6a1a001"),
            ("RAILWAY_SERVICE_ID", "3ab1d3c1-8f1a-4c08-8a54-7c50d6a1a002"),
            ("RAILWAY_ENVIRONMENT_ID", "3ab1d3c1-8f1a-4c08-8a54-7c50d6a1a003"),
            ("RAILWAY_DEPLOYMENT_ID", "3ab1d3c1-8f1a-4c08-8a54-7c50d6a1b00{n}"),
            ("RAILWAY_REPLICA_ID", "3ab1d3c1-8f1a-4c08-8a54-7c50d6a1c00{n}"),
        ],
        n,
    )
}

// Fly.io: a volume belongs to the image's user; a deploy gives the same machine another version.

pub fn fly() -> Host {
    let variables = |n| [fly_variables(n), fly_file("fly.toml")].concat();
    Host { grace: fly_grace(), ..host("fly", variables, PROVEN) }.with_fly_volume("fly.toml")
}

pub fn fly_with_uploads_only() -> Host {
    let variables = |n| [fly_variables(n), fly_file("fly.uploads-only.toml")].concat();
    let fate = (Kept::ImagesAndRecords, PROVEN.1);
    Host { grace: fly_grace(), ..host("fly", variables, fate) }.with_fly_volume("fly.uploads-only.toml")
}

pub fn fly_without_volume() -> Host {
    let variables = |n| [fly_variables(n), fly_file("fly.toml")].concat();
    Host { grace: secs(5), ..host("fly", variables, LOSES_EVERYTHING) }
}

impl Host {
    fn with_fly_volume(self, file: &str) -> Self {
        let at = tree(file)["mounts"]["destination"].as_str().unwrap().to_owned();
        Self { volume: Some(Volume::Disk(at.leak(), NOBODY)), ..self }
    }
}

fn fly_grace() -> Duration {
    secs(tree("fly.toml")["kill_timeout"].as_u64().unwrap())
}

fn fly_variables(n: u32) -> Vec<(&'static str, String)> {
    each(
        &[
            ("FLY_APP_NAME", "keepsake"),
            ("FLY_MACHINE_ID", "e286de4f711e86"),
            ("FLY_MACHINE_VERSION", "01J0000000000000000000000{n}"),
            ("FLY_IMAGE_REF", "registry.fly.io/keepsake:deployment-{n}"),
            ("FLY_REGION", "fra"),
        ],
        n,
    )
}

fn fly_file(name: &str) -> Vec<(&'static str, String)> {
    let value = tree(name)["env"]["DATA_DIR"].as_str().unwrap().to_owned();
    vec![("DATA_DIR", value)]
}

// Render: zero-downtime deploys without a disk, none with one.

pub fn render() -> Host {
    let service = tree("render.yaml")["services"][0].clone();
    let at = service["disk"]["mountPath"].as_str().unwrap().to_owned();
    let mut host = Host { volume: Some(Volume::Disk(at.leak(), NOBODY)), ..host("render", render_variables, PROVEN) };
    host.grace = secs(service["maxShutdownDelaySeconds"].as_u64().unwrap());
    host
}

pub fn render_without_disk() -> Host {
    host("render", render_variables, LOSES_EVERYTHING)
}

/// Every deploy starts empty and comes back complete.
pub fn render_free() -> Host {
    Host { archive: true, ..host("render", render_free_variables, PROVEN) }
}

fn render_variables(n: u32) -> Vec<(&'static str, String)> {
    let own = each(
        &[
            ("RENDER", "true"),
            ("RENDER_SERVICE_ID", "srv-c0000000000000000000"),
            ("RENDER_INSTANCE_ID", "srv-c0000000000000000000-hibernate-{n}"),
            ("RENDER_GIT_COMMIT", "00000000000000000000000000000000000000{n}"),
        ],
        n,
    );
    [own, values(&tree("render.yaml")["services"][0]["envVars"])].concat()
}

fn render_free_variables(n: u32) -> Vec<(&'static str, String)> {
    [render_variables(n), values(&tree("render-free.yaml")["services"][0]["envVars"])].concat()
}

/// The variables of a list that have values.
fn values(list: &Value) -> Vec<(&'static str, String)> {
    let list = list.as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().map(|text| text.to_owned());
    list.filter_map(|variable| {
        let name = text(&variable["key"]).or_else(|| text(&variable["name"])).unwrap();
        Some((&*name.leak(), text(&variable["value"])?))
    })
    .collect()
}

// Docker: a volume is a folder of the machine, which belongs to whom it belonged in the image; Compose has the root
// read-only.

const DOCKER: &[(&str, &str)] = &[("var/lib/docker/containers/c0ffee00000{n}/hostname", "/etc/hostname")];

pub fn docker() -> Host {
    let variables = |n| [docker_variables(n), each(&[("DATA_DIR", "/data")], n)].concat();
    let volume = Some(Volume::Folder("/data", NOBODY));
    Host { volume, engine: DOCKER, read_only: true, ..host("container", variables, PROVEN) }
}

pub fn docker_without_volume() -> Host {
    Host { engine: DOCKER, grace: secs(10), ..host("container", docker_variables, LOSES_EVERYTHING) }
}

fn docker_variables(n: u32) -> Vec<(&'static str, String)> {
    each(&[("HOSTNAME", "c0ffee00000{n}")], n)
}

// Kubernetes: the pod of a StatefulSet keeps its name, and each pod has files of its own.

const KUBELET: &[(&str, &str)] = &[
    ("var/lib/kubelet/pods/4f0d9a3e-0000-4000-8000-00000000000{n}/etc-hosts", "/etc/hosts"),
    ("var/lib/kubelet/pods/4f0d9a3e-0000-4000-8000-00000000000{n}/volumes/kubernetes.io~empty-dir/tmp/", "/tmp"),
];

pub fn kubernetes() -> Host {
    let variables = |n| {
        let set = &documents("kubernetes/keepsake.yaml")[1];
        let own = each(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("HOSTNAME", "keepsake-0")], n);
        [own, values(&set["spec"]["template"]["spec"]["containers"][0]["env"])].concat()
    };
    let volume = Some(Volume::Disk("/data", NOBODY));
    Host { volume, engine: KUBELET, read_only: true, ..host("kubernetes", variables, PROVEN) }
}

// Heroku: no volumes at all, and a user that the image does not know, who may write in /tmp only.

pub fn heroku() -> Host {
    let variables =
        |n| each(&[("DYNO", "web.1"), ("HEROKU_RELEASE_VERSION", "v{n}"), ("DATA_DIR", "/tmp/keepsake")], n);
    let mut host = host("heroku", variables, LOSES_EVERYTHING);
    (host.image.user, host.image.group) = (41234, 41234);
    host
}

pub fn heroku_with_an_archive() -> Host {
    Host { archive: true, kept: PROVEN.0, verdicts: PROVEN.1, ..heroku() }
}

// A machine of one's own: a deploy is a reboot; systemd has everything read-only but the StateDirectory.

pub fn own_machine() -> Host {
    let variables =
        |n| each(&[("DATA_DIR", "/var/lib/keepsake"), ("INVOCATION_ID", "0000000000000000000000000000000{n}")], n);
    let volume = Some(Volume::Folder("/var/lib/keepsake", 61234));
    let mut host = Host { volume, read_only: true, is_machine: true, ..host("host", variables, PROVEN) };
    (host.image.user, host.image.group) = (61234, 61234);
    host.image.folder = "/".to_owned();
    host
}
