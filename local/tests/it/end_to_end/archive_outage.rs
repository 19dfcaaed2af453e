//! The archive in a bucket: away for a while, and all that is left when the disk is wiped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::photos::{medium, photo};
use crate::s3_server::{self, BUCKET};
use crate::server::{self, Server, eventually, names};

/// An S3 service that can be taken away: whoever connects then is turned away, and open connections break.
struct Elsewhere {
    folder: tempfile::TempDir,
    endpoint: String,
    away: watch::Sender<bool>,
}

impl Elsewhere {
    async fn start() -> Self {
        let (folder, service) = s3_server::start().await;
        let service = service.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let away = watch::Sender::new(false);
        let mut away_seen = away.subscribe();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                if *away_seen.borrow_and_update() {
                    continue;
                }
                let (service, mut away_seen) = (service.clone(), away_seen.clone());
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(service).await.unwrap();
                    server.set_nodelay(true).unwrap();
                    client.set_nodelay(true).unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = away_seen.wait_for(|away| *away) => {}
                    }
                });
            }
        });
        Self { folder, endpoint, away }
    }

    fn goes(&self, away: bool) {
        self.away.send_replace(away);
    }

    /// How many replicas of images it holds.
    fn copies(&self) -> usize {
        names(self.folder.path().join(BUCKET).join("copies/images")).len()
    }

    fn variables<'a>(&'a self, archive: &'a str) -> Vec<(&'a str, &'a str)> {
        let credentials = [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        let place = [("BACKUP_URL", "s3://bucket/copies"), ("AWS_ENDPOINT_URL", self.endpoint.as_str())];
        [&credentials[..], &place[..], &[("ARCHIVE", archive), ("RUST_LOG", "off")]].concat()
    }

    fn serve(&self, folder: &Path, archive: &str) -> Server {
        Server::start_with(folder, &self.variables(archive))
    }
}

impl Server {
    async fn archive(&self) -> Value {
        // Its status is that of the store.
        self.get("/api/health").await.json::<Value>().await.unwrap()["archive"].clone()
    }

    async fn caught_up(&self) {
        self.until("nothing is behind", |archive| archive["behindImages"] == 0).await;
    }

    #[expect(clippy::disallowed_methods, reason = "looks again until a condition holds")]
    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        for _ in 0..600 {
            if holds(&self.archive().await) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("it never came to pass that {what}: {}", self.archive().await);
    }
}

/// Everything in a folder goes, as where each deploy begins with an empty disk.
fn wipe(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
    fs::create_dir(folder).unwrap();
}

async fn is_served(server: &Server, items: &[(Value, Vec<u8>)]) {
    for (item, bytes) in items {
        let answer = server.get(item["url"].as_str().unwrap()).await;
        assert_eq!(answer.status(), StatusCode::OK, "{item}");
        assert!(answer.bytes().await.unwrap() == bytes, "{item}");
    }
}

async fn upload(server: &Server, numbers: std::ops::Range<u32>) -> Vec<(Value, Vec<u8>)> {
    let mut items = Vec::new();
    for n in numbers {
        let (name, bytes) = photo(n);
        items.push((server.upload(&name, &bytes, &format!("number {n}")).await, bytes));
    }
    items
}

#[tokio::test(flavor = "multi_thread")]
async fn async_replication_recovers_after_outage_and_kill() {
    let (elsewhere, folder) = (Elsewhere::start().await, tempfile::tempdir().unwrap());
    let server = elsewhere.serve(folder.path(), "async");
    let mut items = upload(&server, 0..3).await;
    assert_eq!(items[0].0["copies"], 1);
    server.caught_up().await;

    elsewhere.goes(true);
    items.extend(upload(&server, 3..8).await);
    server.edit(items[0].0["id"].as_str().unwrap(), &json!({ "description": "edited" })).await;
    let health = server.get_json("/api/health").await;
    assert_eq!(health["status"], "warn");
    let expected = json!({ "mode": "async", "reachable": false, "behindImages": 6, "restoring": null });
    let mut archive = health["archive"].clone();
    assert!(archive.as_object_mut().unwrap().remove("behindSeconds").unwrap().as_f64().unwrap() > 0.0);
    assert_eq!((archive, &health["backups"]["singleCopies"]), (expected, &json!(6)));
    server.kill();

    let again = elsewhere.serve(folder.path(), "async");
    assert!(again.greeting.iter().any(|line| line.contains("postponed")), "{:?}", again.greeting);
    assert_eq!(again.archive().await["behindImages"], Value::Null, "what it lacks is not known before it is asked");
    is_served(&again, &items).await;
    items.extend(upload(&again, 8..9).await);
    elsewhere.goes(false);
    again.caught_up().await;
    assert_eq!(elsewhere.copies(), 9);
    let listed = again.get_json("/api/images").await;
    again.kill();

    wipe(folder.path());
    let anew = elsewhere.serve(folder.path(), "async");
    let line = "metadata restored from its replica; 9 images brought back from the archive";
    assert!(anew.greeting.iter().any(|text| text.contains(line)), "{:?}", anew.greeting);
    assert_eq!(anew.get_json("/api/images").await, listed);
    is_served(&anew, &items).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_replication_starts_during_outage_and_accepts_uploads_after_it() {
    let (elsewhere, folder) = (Elsewhere::start().await, tempfile::tempdir().unwrap());
    let server = elsewhere.serve(folder.path(), "sync");
    let items = upload(&server, 0..2).await;
    assert_eq!(items[0].0["copies"], 2);
    server.stop();
    elsewhere.goes(true);
    let again = elsewhere.serve(folder.path(), "sync");
    is_served(&again, &items).await;
    let (name, bytes) = photo(7);
    let refused = again.send_image(&name, &bytes, "refused").await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(names(folder.path().join("uploads")).len(), 2, "nothing is left of it");
    elsewhere.goes(false);
    again.until("the archive was compared", |archive| archive["behindImages"] == 0).await;
    assert_eq!(again.send_image(&name, &bytes, "taken").await.unwrap().status(), StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_without_metadata_waits_for_its_archive_at_start() {
    let (elsewhere, folder) = (Elsewhere::start().await, tempfile::tempdir().unwrap());
    elsewhere.goes(true);
    let output = server::command(folder.path(), &elsewhere.variables("async")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("The catalog cannot be read"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_archive_key_does_not_stop_serving_from_disk() {
    let (elsewhere, folder) = (Elsewhere::start().await, tempfile::tempdir().unwrap());
    for (mode, status) in [("async", StatusCode::CREATED), ("sync", StatusCode::SERVICE_UNAVAILABLE)] {
        let server = elsewhere.serve(folder.path(), mode);
        let items = upload(&server, 0..2).await;
        server.caught_up().await;
        server.stop();
        let variables = [elsewhere.variables(mode), vec![("AWS_SECRET_ACCESS_KEY", "expired")]].concat();
        let again = Server::start_with(folder.path(), &variables);
        assert!(again.greeting.iter().any(|line| line.contains("postponed")), "{:?}", again.greeting);
        is_served(&again, &items).await;
        let (name, bytes) = photo(7);
        assert_eq!(again.send_image(&name, &bytes, mode).await.unwrap().status(), status, "{mode}");
        again.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_not_there_or_lets_nobody_in_stops_the_start() {
    let (elsewhere, folder) = (Elsewhere::start().await, tempfile::tempdir().unwrap());
    for mistake in [("BACKUP_URL", "s3://another-bucket"), ("AWS_SECRET_ACCESS_KEY", "wrong")] {
        let variables = [elsewhere.variables("async"), vec![mistake]].concat();
        let output = server::command(folder.path(), &variables).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("The archive cannot be used"), "{mistake:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_disk_serves_many_images_at_once_and_has_them_all_back_soon() {
    let (elsewhere, folder) = (Elsewhere::start().await, tempfile::tempdir().unwrap());
    let server = elsewhere.serve(folder.path(), "async");
    let items = upload(&server, 0..110).await;
    let gone = items[5].0["id"].as_str().unwrap();
    server.delete(gone).await;
    server.caught_up().await;
    let listed = server.get_json("/api/images?limit=1000").await;
    server.kill();
    wipe(folder.path());

    for _ in 0..3 {
        // Whatever has come back by then, a kill loses nothing of it.
        let anew = elsewhere.serve(folder.path(), "async");
        assert_eq!(anew.get_json("/api/images?limit=1000").await, listed);
        is_served(&anew, &items[50..52]).await;
        anew.kill();
    }
    let anew = elsewhere.serve(folder.path(), "async");
    anew.until("nothing is restored any more", |archive| archive["restoring"].is_null()).await;
    // Unfinished files of those that were killed lie about for a day.
    let back = names(folder.path().join("uploads")).into_iter().filter(|name| !name.starts_with(".tmp-"));
    assert_eq!(back.count(), 109);
    assert_eq!(anew.get(&format!("/uploads/{gone}")).await.status(), StatusCode::NOT_FOUND);
    elsewhere.goes(true);
    is_served(&anew, &items[..5]).await;
    is_served(&anew, &items[6..]).await;
}

/// Changes images without a pause until asked to stop; returns what was acknowledged, and what was under way at the end.
async fn change(
    server: Arc<Server>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<std::sync::Mutex<Vec<(String, String)>>>,
    client: u32,
) {
    let mut last: Option<String> = None;
    for n in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let said = format!("{client}-{n}");
        let sent = match (&last, n % 3) {
            (Some(id), 2) => server.send_edit(id, &json!({ "description": said })).await,
            _ => server.send_image("medium.png", &medium(client * 1_000 + n), &said).await,
        };
        // A change that was cut off is the last one, and what became of it is not known.
        let Ok(answer) = sent else { return };
        assert!(answer.status().is_success(), "{}", answer.status());
        let Ok(item) = answer.json::<Value>().await else { return };
        let id = item["id"].as_str().unwrap().to_owned();
        last = Some(id.clone());
        acknowledged.lock().unwrap().push((id, said));
    }
}

/// Wipes the disk under load, and compares what comes back with what was acknowledged.
async fn wiped_under_load(archive: &str) {
    const CLIENTS: u32 = 3;
    let (elsewhere, folder) = (Elsewhere::start().await, tempfile::tempdir().unwrap());
    let mut truth: BTreeMap<String, String> = BTreeMap::new();
    let mut ever_true: BTreeSet<(String, String)> = BTreeSet::new();
    for round in 0..4_u32 {
        let server = Arc::new(elsewhere.serve(folder.path(), archive));
        let acknowledged = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let number = round * CLIENTS + client;
                tokio::spawn(change(Arc::clone(&server), Arc::clone(&stop), Arc::clone(&acknowledged), number))
            })
            .collect();
        let so_far = || acknowledged.lock().unwrap().len();
        let enough = 20 + 17 * round as usize;
        eventually("some changes are acknowledged", || so_far() >= enough).await;
        let before = so_far();
        let lag = server.archive().await;
        let behind = lag["behindImages"].as_u64().unwrap() as usize;
        server.signal(rustix::process::Signal::KILL);
        stop.store(true, Ordering::SeqCst);
        for client in clients {
            client.await.unwrap();
        }
        let changes = acknowledged.lock().unwrap().clone();
        let since = changes.len() - before;
        ever_true.extend(changes.iter().cloned());
        truth.extend(changes);
        drop(server);
        wipe(folder.path());

        let anew = elsewhere.serve(folder.path(), archive);
        let listed = anew.get_json("/api/images?limit=1000").await;
        let mut back = BTreeMap::new();
        for item in listed["images"].as_array().unwrap() {
            let answer = anew.get(item["url"].as_str().unwrap()).await;
            assert_eq!(answer.status(), StatusCode::OK, "a record without its bytes: {item}");
            back.insert(item["id"].as_str().unwrap().to_owned(), item["description"].as_str().unwrap().to_owned());
        }
        let lost: Vec<_> = truth.iter().filter(|(id, said)| back.get(*id) != Some(said)).collect();
        // What was under way when the process died may have become true.
        let newer = |id: &String| back.get(id).is_some_and(|said| !ever_true.contains(&(id.clone(), said.clone())));
        let lost = lost.into_iter().filter(|(id, _)| !newer(id)).count();
        let most = if archive == "sync" { 0 } else { behind + since };
        assert!(lost <= most, "round {round}: {lost} were lost; {behind} were behind, {since} came since");
        ever_true.extend(back.clone());
        truth = back;
        anew.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn async_replication_loses_only_reported_lag_when_disk_is_wiped() {
    wiped_under_load("async").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_sync_a_disk_wiped_under_load_loses_nothing() {
    wiped_under_load("sync").await;
}
