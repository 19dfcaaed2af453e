//! Servers that are ended and stopped again and again while clients use them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use fastrand::Rng;
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::clients::{Round, World, a_while};
use crate::model::State;
use crate::server::{self, Server};

const CLIENTS: usize = 4;

/// How a server comes to its end.
#[derive(Debug, Clone, Copy)]
enum End {
    Killed,
    Terminated,
    /// Stopped for a while, continued, and then killed.
    Paused,
    StoppedAndKilled,
}

/// What a run adds to the model's figures.
#[derive(Debug, Default)]
struct Counts {
    killed: u64,
    killed_while_starting: u64,
    terminated: u64,
    paused: u64,
}

pub struct Soak {
    folder: tempfile::TempDir,
    world: Arc<World>,
    rng: Rng,
    counts: Counts,
    /// A backup that was made while nothing else went on, and what it holds.
    backup: Option<(String, BTreeMap<String, State>)>,
}

impl Soak {
    pub fn new(seed: u64) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            world: World::new(false),
            rng: Rng::with_seed(seed),
            counts: Counts::default(),
            backup: None,
        }
    }

    /// Starts one or two servers, finds everything as it must be, uses them, and ends them.
    pub async fn cycle(&mut self, number: u32) {
        let after = format!("cycle {number}");
        if self.rng.u8(..3) == 0 {
            self.kill_while_starting().await;
        }
        let mut servers: Vec<Server> = (0..self.rng.u8(1..3)).map(|_| Server::start(self.folder.path())).collect();
        self.world.check(&servers, &after).await;
        match number % 6 {
            5 => self.restore(&mut servers).await,
            which => {
                if which == 3 {
                    self.back_up_alone(&servers).await;
                }
                self.use_and_end(&mut servers).await;
            }
        }
    }

    async fn kill_while_starting(&mut self) {
        let mut child = server::command(self.folder.path(), &[]).stdout(Stdio::null()).spawn().unwrap();
        a_while(&mut self.rng, 120).await;
        child.kill().unwrap();
        child.wait().unwrap();
        self.counts.killed_while_starting += 1;
    }

    /// Has clients work, and ends the servers meanwhile.
    async fn use_and_end(&mut self, servers: &mut Vec<Server>) {
        let round = Round::new(&self.world, servers);
        let tasks = self.begin(&round, |_| true);
        let answers = self.rng.u64(1..60);
        round.answers(answers).await;
        self.end_all(servers, &round).await;
        round.end();
        tasks.join_all().await;
    }

    /// Has clients work on the images that `theirs` names, and on new ones.
    fn begin(&mut self, round: &Arc<Round>, theirs: impl Fn(&String) -> bool) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let ids: Vec<String> = self.world.model().live().into_keys().filter(theirs).collect();
        for client in 0..CLIENTS {
            let mine = ids.iter().skip(client).step_by(CLIENTS).cloned().collect();
            tasks.spawn(Arc::clone(round).client(mine, self.rng.fork()));
        }
        tasks
    }

    /// Ends one server after the other, while those that are left are used.
    async fn end_all(&mut self, servers: &mut Vec<Server>, round: &Round) {
        for index in (0..servers.len()).rev() {
            a_while(&mut self.rng, 20).await;
            let server = servers.pop().unwrap();
            match self.rng.choice([End::Killed, End::Killed, End::Terminated, End::Paused, End::StoppedAndKilled]) {
                Some(End::Paused) => {
                    server.signal(Signal::STOP);
                    a_while(&mut self.rng, 300).await;
                    server.signal(Signal::CONT);
                    self.counts.paused += 1;
                    round.answers(3).await;
                    self.kill(round, index, server);
                }
                Some(End::StoppedAndKilled) => {
                    server.signal(Signal::STOP);
                    a_while(&mut self.rng, 100).await;
                    self.kill(round, index, server);
                }
                Some(End::Terminated) => {
                    round.leave(index);
                    server.terminate();
                    tokio::task::block_in_place(|| server.wait());
                    self.counts.terminated += 1;
                }
                _ => self.kill(round, index, server),
            }
            if index > 0 {
                let answers = self.rng.u64(1..20);
                round.answers(answers).await;
            }
        }
    }

    fn kill(&mut self, round: &Round, index: usize, server: Server) {
        round.leave(index);
        server.kill();
        self.counts.killed += 1;
    }

    /// Makes a backup while nothing else goes on, so that what it holds is known.
    async fn back_up_alone(&mut self, servers: &[Server]) {
        let made = server::json(servers[0].post("/api/backup").await, reqwest::StatusCode::CREATED).await;
        let name = made["backupName"].as_str().unwrap().to_owned();
        self.world.model().backups.insert(name.clone());
        self.backup = Some((name, self.world.model().live()));
    }

    /// Restores that backup, and ends the servers meanwhile: either all of it must have happened, or nothing.
    async fn restore(&mut self, servers: &mut Vec<Server>) {
        let Some((name, then)) = self.backup.clone() else { return };
        // As if the minute had passed after which the claim of a restore that was killed counts no more.
        let _ = fs::remove_file(self.folder.path().join("backups/restore.json"));
        let exact = self.rng.bool();
        let live = self.world.model().live();
        let is_later = |id: &&String| exact && !then.contains_key(*id);
        let concerned: Vec<String> = then.keys().chain(live.keys().filter(is_later)).cloned().collect();
        let of = |states: &BTreeMap<String, State>| -> BTreeMap<String, State> {
            concerned.iter().map(|id| (id.clone(), states.get(id).cloned().flatten())).collect()
        };
        let (before, after) = (of(&live), of(&then));
        let mode = if exact { "exact" } else { "merge" };
        let round = Round::new(&self.world, servers);
        // Others work meanwhile on what it leaves alone; an exact one would leave alone or remove what they upload.
        let mut tasks = if exact { JoinSet::new() } else { self.begin(&round, |id| !then.contains_key(id)) };
        let restoring = Arc::clone(&round);
        tasks.spawn(async move { restoring.restore(&name, mode, before, after).await });
        a_while(&mut self.rng, 250).await;
        round.end();
        for server in servers.drain(..) {
            server.kill();
            self.counts.killed += 1;
        }
        tasks.join_all().await;
    }

    /// After the last cycle: the loss of each place, and a look at every byte.
    pub async fn end(mut self) {
        let folder = self.folder.path().to_owned();
        let lose = |names: &[&str]| {
            for path in names.iter().map(|name| folder.join(name)) {
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
            }
        };
        self.starts_whole("the last cycle").await;
        lose(&["uploads"]);
        self.starts_whole("the loss of uploads/").await;
        lose(&["backups"]);
        self.world.model().forget_backups();
        self.starts_whole("the loss of backups/").await;
        lose(&["catalog.json", "catalog", "image-metadata.json", "image-metadata.d"]);
        self.starts_whole("the loss of the metadata").await;
        self.verify(&folder);
        self.print_figures();
    }

    pub fn print_figures(&self) {
        println!("{:?} {:?}", self.counts, self.world.model().figures);
    }

    async fn starts_whole(&mut self, after: &str) {
        let server = Server::start(self.folder.path());
        self.world.recall_all();
        self.world.check(std::slice::from_ref(&server), after).await;
        // What lacked may come back beside the requests; before it has, the loss of a second place is one too many.
        let mut asked = 0..60_000;
        while server.get_json("/api/health").await["checks"]["recovery"].is_null() {
            asked.next().unwrap_or_else(|| panic!("the recovery never ended ({after})"));
        }
        self.counts.killed += 1;
    }

    fn verify(&self, folder: &Path) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keepsake"));
        let output = command.current_dir(folder).env_clear().arg("verify").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
