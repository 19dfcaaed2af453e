//! Power cuts under load: what was acknowledged had reached the medium.

use std::process::{Command, Stdio};
use std::sync::Arc;

use fastrand::Rng;
use tokio::task::JoinSet;

use super::mounts::Mount;
use crate::clients::{Round, World, a_while};
use crate::server::{self, Server};

/// Uses a store, cuts the power, and finds everything that was acknowledged; so many times.
pub async fn cuts(kind: &'static str, (rounds, seed): (u64, u64)) {
    let mount = Mount::new(kind, 512);
    let world = World::new(true);
    let mut rng = Rng::with_seed(seed);
    let (mut in_flight, mut while_starting) = (0, 0);
    for number in 0..rounds {
        if rng.u8(..4) == 0 {
            let mut child =
                server::command(&mount.data(), &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            a_while(&mut rng, 150).await;
            mount.cut_power();
            child.kill().unwrap();
            child.wait().unwrap();
            mount.power_on();
            while_starting += 1;
        }
        // Where replicas come later, no other write follows the last one of an upload.
        let archive = rng.choice(["sync", "async"]).unwrap();
        let server = Server::start_with(&mount.data(), &[("RUST_LOG", "off"), ("ARCHIVE", archive)]);
        world.check(std::slice::from_ref(&server), &format!("{kind}, power cut {number}")).await;
        let round = Round::new(&world, std::slice::from_ref(&server));
        let mut clients = JoinSet::new();
        let ids: Vec<String> = world.model().live().into_keys().collect();
        let count = rng.usize(1..8);
        for client in 0..count {
            let mine = ids.iter().skip(client).step_by(count).cloned().collect();
            clients.spawn(Arc::clone(&round).client(mine, rng.fork()));
        }
        round.answers(rng.u64(1..40)).await;
        if rng.bool() {
            in_flight += round.uploading();
            mount.cut_power();
            // What is answered from now on must not be claimed to be stored either.
            a_while(&mut rng, 20).await;
            round.end();
            server.kill();
            clients.join_all().await;
        } else {
            // Right after the last answer, so that no other write takes to the medium what this one did not.
            round.end();
            clients.join_all().await;
            if rng.bool() {
                round.back_up().await;
            }
            mount.cut_power();
            server.kill();
        }
        mount.power_on();
    }
    let server = Server::start_with(&mount.data(), &[("RUST_LOG", "off")]);
    world.recall_all();
    world.check(&[server], &format!("{kind}, the last power cut")).await;
    let mut verify = Command::new(env!("CARGO_BIN_EXE_keepsake"));
    let output = verify.current_dir(mount.data()).env_clear().arg("verify").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    println!(
        "{kind}: {rounds} cuts under load or just after it, {while_starting} during a start; {in_flight} uploads were \
         in flight; {:?}",
        world.model().figures
    );
}
