//! A store on a host: used, deployed anew, and compared with what was acknowledged; each way in which a host may end what
//! runs there.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::deploy::Image;
use super::machine::{Disk, Layer, Root};
use crate::clients::{Round, World, a_while};
use crate::s3_server;
use crate::server::Server;

/// What of a store is there after a deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Everything,
    /// But not the backups, and so no deleted image.
    ImagesAndRecords,
    Nothing,
}

/// What is mounted in each container of a host.
#[derive(Debug, Clone, Copy)]
pub enum Volume {
    /// A file system of its own, which belongs to this user.
    Disk(&'static str, u32),
    /// A folder of the machine's disk, which belongs to this user.
    Folder(&'static str, u32),
}

/// A host as far as a store notices it.
pub struct Host {
    /// As health names it.
    pub platform: &'static str,
    pub image: Image,
    /// What is in the environment of the deployment of this number, besides what the image sets.
    pub variables: fn(u32) -> Vec<(&'static str, String)>,
    pub volume: Option<Volume>,
    /// Files and folders (those end with a slash) of the machine that the engine mounts into the container `{n}`, and where.
    pub engine: &'static [(&'static str, &'static str)],
    /// Whether only the volume takes writes.
    pub read_only: bool,
    /// Whether it is a machine, which stays the same and is started anew, rather than a container.
    pub is_machine: bool,
    /// Whether there is an archive in a bucket elsewhere.
    pub archive: bool,
    /// How long a stop may take before the process is killed.
    pub grace: Duration,
    pub kept: Kept,
    /// The verdict at first, and after a deploy.
    pub verdicts: [&'static str; 2],
}

/// How a deploy ends what runs.
#[derive(Debug, Clone, Copy)]
enum End {
    /// As the host does it: it is told to stop, and killed once its time is over.
    Stopped,
    /// It is told to stop, and killed before it has.
    KilledWhileStopping,
    Killed,
}

/// A host with a store on it. What was mounted later is unmounted first.
struct Place {
    root: Option<Root>,
    volume: Option<Disk>,
    machine: Disk,
    layer: Layer,
    bucket: Option<(TempDir, String)>,
    host: Host,
    deployment: u32,
}

impl Place {
    async fn new(host: Host) -> Self {
        let volume = match host.volume {
            Some(Volume::Disk(_, owner)) => Some(Disk::of(owner)),
            _ => None,
        };
        let bucket = if host.archive { Some(s3_server::start().await) } else { None };
        let (layer, machine) = (Layer::of(&host.image), Disk::new());
        Self { root: None, volume, machine, layer, bucket, host, deployment: 0 }
    }

    /// Replaces the container by a new one, or starts the machine anew. What ran there has ended.
    fn deploy(&mut self) {
        self.root = None;
        self.deployment += 1;
        let mut root = if self.host.is_machine {
            Root::machine(&self.layer, &self.machine)
        } else {
            Root::container(&self.layer, &self.machine)
        };
        match self.host.volume {
            Some(Volume::Disk(at, _)) => root.bind(self.volume.as_ref().unwrap().path(), at),
            Some(Volume::Folder(at, owner)) => root.bind(&self.machine.folder_of("volumes/images", owner), at),
            None => {}
        }
        for (source, at) in self.host.engine {
            root.bind(&self.machine.made(&source.replace("{n}", &self.deployment.to_string())), at);
        }
        if self.host.is_machine {
            root.show("/proc/sys/kernel/random/boot_id", &format!("00000000-0000-4000-8000-{:012}\n", self.deployment));
        } else {
            root.show("/proc/sys/kernel/hostname", &format!("{}\n", self.hostname()));
        }
        if self.host.platform == "container" {
            // As Docker does.
            root.write("/.dockerenv");
        }
        if self.host.read_only {
            root.make_read_only();
        }
        self.root = Some(root);
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        (self.host.variables)(self.deployment)
    }

    fn hostname(&self) -> String {
        let named = self.variables().into_iter().find(|(name, _)| *name == "HOSTNAME");
        named.map_or_else(|| format!("host{}", self.deployment), |(_, name)| name)
    }

    /// Starts the server in the container that is there.
    fn start(&self) -> Server {
        let image = &self.host.image;
        let mut command = self.root.as_ref().unwrap().command((image.user, image.group), &image.folder, &image.command);
        command.envs(&image.variables).envs(self.variables());
        if let Some((_, endpoint)) = &self.bucket {
            command.env("BACKUP_URL", format!("s3://{}/archive", s3_server::BUCKET)).env("AWS_ENDPOINT_URL", endpoint);
            command
                .env("AWS_REGION", "us-east-1")
                .env("AWS_ACCESS_KEY_ID", "key")
                .env("AWS_SECRET_ACCESS_KEY", "secret");
        }
        // Tests stay on the loopback address, and many run at once.
        command.envs([("HOST", "127.0.0.1"), ("PORT", "0"), ("RUST_LOG", "error")]);
        Server::started(&mut command)
    }

    /// What health says of persistence.
    async fn expect_verdict(&self, server: &Server, expected: &str, when: &str) {
        let health = recovered(server).await;
        let persistence = &health["persistence"];
        assert_eq!(persistence["verdict"], expected, "{when}: {persistence}");
        assert_eq!(persistence["platform"].as_str().unwrap_or("host"), self.host.platform, "{when}");
        assert_eq!(persistence["writable"], true, "{when}: {health}");
        let warning = persistence["warning"].as_str().unwrap_or_default();
        assert_eq!(warning.starts_with("Storage may be ephemeral"), expected == "ephemeral", "{when}: {persistence}");
        println!("{when}: {expected}, {}", persistence["evidence"]);
    }
}

/// What health says once everything is back that comes back.
async fn recovered(server: &Server) -> Value {
    let ask = async || loop {
        let health = server.get_json("/api/health").await;
        if health["archive"]["restoring"].is_null() {
            return health;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ask()).await.expect("it never came to its end")
}

/// Uses a store on a host through several deploys.
pub async fn play(host: Host, seed: u64) {
    let kept = host.kept;
    let [first, later] = host.verdicts;
    let mut place = Place::new(host).await;
    let mut world = World::new(false);
    let mut rng = Rng::with_seed(seed);
    place.deploy();
    let mut server = place.start();
    place.expect_verdict(&server, first, "at first").await;
    use_and_end(&world, server, End::Killed, place.host.grace, &mut rng).await;

    // Another process in the same container shows nothing.
    server = place.start();
    world.check(std::slice::from_ref(&server), "a restart").await;
    place.expect_verdict(&server, first, "after a restart").await;

    for end in [End::Stopped, End::KilledWhileStopping, End::Killed, End::Stopped] {
        let when = format!("after deploy {}, {end:?}", place.deployment);
        use_and_end(&world, server, end, place.host.grace, &mut rng).await;
        place.deploy();
        server = place.start();
        match kept {
            Kept::Everything => {}
            Kept::ImagesAndRecords => world.model().forget_backups(),
            Kept::Nothing => world = World::new(false),
        }
        world.recall_all();
        world.check(std::slice::from_ref(&server), &when).await;
        place.expect_verdict(&server, later, &when).await;
    }
    println!("{:?}", world.model().figures);
}

/// Has clients upload, edit, delete and read, and ends the server meanwhile.
async fn use_and_end(world: &Arc<World>, server: Server, end: End, grace: Duration, rng: &mut Rng) {
    let round = Round::new(world, std::slice::from_ref(&server));
    let ids: Vec<String> = world.model().live().into_keys().collect();
    let mut clients = JoinSet::new();
    for client in 0..4 {
        let mine = ids.iter().skip(client).step_by(4).cloned().collect();
        clients.spawn(Arc::clone(&round).client(mine, rng.fork()));
    }
    round.answers(rng.u64(30..60)).await;
    round.leave(0);
    match end {
        End::Killed => server.kill(),
        End::KilledWhileStopping => {
            server.terminate();
            a_while(rng, 10).await;
            server.kill();
        }
        End::Stopped if grace.is_zero() => {
            server.terminate();
            server.kill();
        }
        End::Stopped => {
            server.terminate();
            let ended = tokio::time::timeout(grace, tokio::task::spawn_blocking(move || server.wait())).await;
            ended.expect("the host would have killed it").unwrap();
        }
    }
    round.end();
    clients.join_all().await;
}
