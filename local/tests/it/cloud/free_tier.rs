//! A disk that is emptied at any moment, as on Render's free tier, and an archive in a bucket, which everything comes
//! back from.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use tokio::task::JoinSet;

use super::bucket::{Access, Bucket};
use crate::clients::{Round, World, a_while};
use crate::model::State;
use crate::server::Server;

/// How large a run is.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// So many images are uploaded; others are edited and deleted meanwhile.
    images: usize,
    /// So often the disk is emptied, at random moments.
    wipes: u32,
    archive: &'static str,
}

const FEW: Plan = Plan { images: 40, wipes: 2, archive: "sync" };
const MANY: Plan = Plan { images: 200, wipes: 5, archive: "sync" };

#[tokio::test(flavor = "multi_thread")]
async fn emptied_disk_loses_nothing_with_sync_archive() {
    play(&Bucket::in_process().await.access, FEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_disk_loses_only_reported_lag_with_async_archive() {
    play(&Bucket::in_process().await.access, Plan { archive: "async", ..FEW }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs LocalStack: .ci/localstack run"]
async fn sync_archive_loses_nothing_over_five_emptied_disks() {
    play(&Bucket::in_localstack("free-sync").await.access, MANY).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs LocalStack: .ci/localstack run"]
async fn async_archive_loses_only_reported_lag_over_five_emptied_disks() {
    play(&Bucket::in_localstack("free-async").await.access, Plan { archive: "async", ..MANY }).await;
}

/// What health said last, and what had been acknowledged when it was asked.
type Reported = Arc<Mutex<(u64, BTreeMap<String, State>)>>;

async fn play(access: &Access, plan: Plan) {
    let world = World::new(false);
    let mut rng = Rng::with_seed(1);
    let reported = Reported::default();
    let (mut lost, mut behind, mut unsaid) = (0, 0, 0);
    for instance in 0..=plan.wipes {
        let after = format!("{plan:?}, wipe {instance}");
        // A disk of its own, which goes with it.
        let disk = tempfile::tempdir().unwrap();
        let server = start(disk.path(), access, plan, instance);
        if plan.archive == "async" && instance > 0 {
            let mut model = std::mem::take(&mut *world.model());
            let now = model.images.clone();
            let gone = model.give_up(&server, &after).await as u64;
            *world.model() = model;
            let (reported, then) = std::mem::take(&mut *reported.lock().unwrap());
            let since = now.iter().filter(|(id, state)| then.get(*id) != Some(state)).count() as u64;
            assert!(
                gone <= reported + since,
                "{gone} lost; {reported} were behind, and {since} came after that ({after})"
            );
            (lost, behind, unsaid) = (lost + gone, behind + reported, unsaid + since);
        }
        world.recall_all();
        world.check(std::slice::from_ref(&server), &after).await;
        if instance < plan.wipes {
            let images = plan.images * (instance as usize + 1) / plan.wipes as usize;
            use_and_kill(&world, server, images, &reported, &mut rng).await;
        }
    }
    let figures = format!("{:?}", world.model().figures);
    println!("{plan:?}: {lost} lost, {behind} reported to be behind, {unsaid} acknowledged after that; {figures}");
}

/// Has clients work until so many images were uploaded in all, and kills the server meanwhile.
async fn use_and_kill(world: &Arc<World>, server: Server, images: usize, reported: &Reported, rng: &mut Rng) {
    let round = Round::new(world, std::slice::from_ref(&server));
    let asking = tokio::spawn(ask_for_health(server.url("/api/health"), Arc::clone(world), Arc::clone(reported)));
    let ids: Vec<String> = world.model().live().into_keys().collect();
    let mut clients = JoinSet::new();
    for client in 0..4 {
        let mine = ids.iter().skip(client).step_by(4).cloned().collect();
        clients.spawn(Arc::clone(&round).client(mine, rng.fork()));
    }
    while world.model().images.len() < images {
        round.answers(1).await;
    }
    round.leave(0);
    if rng.bool() {
        // It is killed before it is done with what it does then.
        server.terminate();
        a_while(rng, 20).await;
    }
    server.kill();
    round.end();
    clients.join_all().await;
    asking.await.unwrap();
}

fn start(disk: &std::path::Path, access: &Access, plan: Plan, instance: u32) -> Server {
    let mut variables = access.variables();
    variables.retain(|(name, _)| *name != "STORE_URL");
    variables.extend([
        ("BACKUP_URL", format!("s3://{}/archive", access.bucket)),
        ("ARCHIVE", plan.archive.to_owned()),
        ("RENDER", "true".to_owned()),
        ("RENDER_INSTANCE_ID", format!("srv-0-{instance}")),
        ("RUST_LOG", "off".to_owned()),
    ]);
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Server::start_with(disk, &variables)
}

/// Asks again and again how far the archive is behind.
async fn ask_for_health(url: String, world: Arc<World>, reported: Reported) {
    let client = reqwest::Client::new();
    loop {
        let then = world.model().images.clone();
        let Ok(answer) = client.get(&url).send().await else { return };
        let Ok(health) = answer.json::<serde_json::Value>().await else { return };
        // Not known before both places have been compared.
        let Some(behind) = health["archive"]["behindImages"].as_u64() else { continue };
        *reported.lock().unwrap() = (behind, then);
    }
}
