//! Clients that use servers until these are gone, and take note of every request and every answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::model::{Doubt, Model, Sent, State};
use crate::photos;
use crate::server::Server;

/// So many images a run keeps about; where there are more, deletes become frequent.
const POPULATION: usize = 120;
/// What no request may take, however busy the machine.
const HANGS: Duration = Duration::from_secs(60);

/// A server as the clients know it.
struct Endpoint {
    url: String,
    /// Unset before the server is ended.
    alive: AtomicBool,
}

/// What all clients of a round share.
pub struct World {
    model: Mutex<Model>,
    /// Makes names and contents different throughout a run.
    counter: AtomicU32,
    client: Client,
    /// Whether the store under the servers may fail, so that they may answer 5xx.
    failing: bool,
}

/// One round: some servers, and the clients that use them.
pub struct Round {
    world: Arc<World>,
    endpoints: Vec<Endpoint>,
    /// How many requests have been answered.
    answered: watch::Sender<u64>,
    over: AtomicBool,
    uploading: AtomicU32,
}

/// Lets some time pass, so that what comes next comes at another moment each time.
#[expect(clippy::disallowed_methods, reason = "chooses the moment of a fault; whatever it is, the store must be right")]
pub async fn a_while(rng: &mut Rng, most_ms: u64) {
    tokio::time::sleep(Duration::from_micros(rng.u64(..most_ms * 1000))).await;
}

/// What a client learns.
enum Answer {
    Json(Value),
    /// No answer came, or none that says what became of it.
    Unknown,
}

impl World {
    pub fn new(failing: bool) -> Arc<Self> {
        let client = Client::builder().timeout(HANGS).build().unwrap();
        Arc::new(Self { model: Mutex::default(), counter: AtomicU32::new(0), client, failing })
    }

    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    /// Compares what each server shows with what it must show.
    pub async fn check(&self, servers: &[Server], after: &str) {
        let mut model = std::mem::take(&mut *self.model());
        for server in servers {
            model.check(server, after).await;
        }
        *self.model() = model;
    }

    /// Lets the next check look for all images that were ever deleted, not only for those of late.
    pub fn recall_all(&self) {
        let mut model = self.model();
        let all = model.images.clone();
        model.changed(all);
    }

    /// One to three images that differ from all others in their names, and in most cases in their bytes.
    fn new_upload(&self, rng: &mut Rng) -> Sent {
        let count = if rng.u8(..4) == 0 { rng.usize(2..4) } else { 1 };
        let images = (0..count).map(|_| {
            let n = self.counter.fetch_add(1, Ordering::Relaxed);
            let bytes = match rng.u8(..16) {
                0 => photos::large(n),
                // Some images have the same bytes: to delete one must not harm the other.
                1..3 => photos::small(n % 16),
                _ => photos::small(n),
            };
            (format!("image {n}"), Arc::new(bytes))
        });
        let images: Vec<_> = images.collect();
        let group = format!("group {}", rng.u8(..4));
        let fields = vec![
            ("category", "soak".to_owned()),
            ("description", format!("of {}, {}", images[0].0, "été ".repeat(rng.usize(..40)))),
            ("groupId", group),
        ];
        Sent { images, fields }
    }
}

impl Round {
    pub fn new(world: &Arc<World>, servers: &[Server]) -> Arc<Self> {
        let endpoint = |server: &Server| Endpoint { url: server.url(""), alive: AtomicBool::new(true) };
        Arc::new(Self {
            world: Arc::clone(world),
            endpoints: servers.iter().map(endpoint).collect(),
            answered: watch::Sender::new(0),
            over: AtomicBool::new(false),
            uploading: AtomicU32::new(0),
        })
    }

    /// From now on nobody asks this server any more; what is under way stays so.
    pub fn leave(&self, server: usize) {
        self.endpoints[server].alive.store(false, Ordering::SeqCst);
    }

    /// Tells the clients to stop after what they are doing.
    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Waits until so many more requests have been answered.
    pub async fn answers(&self, more: u64) {
        let target = *self.answered.borrow() + more;
        let mut answered = self.answered.subscribe();
        let waited = tokio::time::timeout(HANGS, answered.wait_for(|n| *n >= target)).await;
        waited.expect("the clients get no answers any more").unwrap();
    }

    /// How many uploads have been sent and not answered.
    pub fn uploading(&self) -> u32 {
        self.uploading.load(Ordering::SeqCst)
    }

    fn endpoint(&self, rng: &mut Rng) -> Option<&Endpoint> {
        let alive: Vec<_> = self.endpoints.iter().filter(|e| e.alive.load(Ordering::SeqCst)).collect();
        rng.choice(alive).filter(|_| !self.over.load(Ordering::SeqCst))
    }

    async fn ask(&self, request: RequestBuilder, expected: StatusCode) -> Answer {
        self.world.model().figures.requests += 1;
        let Ok(answer) = request.send().await else { return Answer::Unknown };
        let status = answer.status();
        let Ok(text) = answer.text().await else { return Answer::Unknown };
        if status.is_server_error() && self.world.failing {
            return Answer::Unknown;
        }
        assert_eq!(status, expected, "{text}");
        self.answered.send_modify(|n| *n += 1);
        Answer::Json(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// A client that owns some images, which nobody else changes meanwhile. It ends when it is told to, or no server is
    /// left.
    pub async fn client(self: Arc<Self>, mut mine: Vec<String>, mut rng: Rng) {
        while let Some(endpoint) = self.endpoint(&mut rng) {
            let many = self.world.model().population() > POPULATION;
            match rng.u8(..20) {
                0..8 if !many => self.upload(endpoint, &mut mine, &mut rng).await,
                0..11 => self.delete(endpoint, &mut mine, &mut rng).await,
                11..14 => self.edit(endpoint, &mut mine, &mut rng).await,
                14..18 => self.read(endpoint, &mine, &mut rng).await,
                18 => self.list(endpoint, &mine).await,
                _ => self.back_up_by(endpoint).await,
            }
        }
    }

    fn request(&self, endpoint: &Endpoint, method: Method, path: &str) -> RequestBuilder {
        self.world.client.request(method, format!("{}{path}", endpoint.url))
    }

    async fn upload(&self, endpoint: &Endpoint, mine: &mut Vec<String>, rng: &mut Rng) {
        let sent = self.world.new_upload(rng);
        self.world.model().sending(&sent);
        let mut form = Form::new();
        for (name, bytes) in &sent.images {
            form = form.part("images", Part::bytes(bytes.to_vec()).file_name(name.clone()));
        }
        for (field, value) in &sent.fields {
            form = form.text(*field, value.clone());
        }
        let request = self.request(endpoint, Method::POST, "/api/upload").multipart(form);
        self.uploading.fetch_add(1, Ordering::SeqCst);
        let answer = self.ask(request, StatusCode::CREATED).await;
        self.uploading.fetch_sub(1, Ordering::SeqCst);
        match answer {
            Answer::Json(answer) => mine.extend(self.world.model().uploaded(&sent, answer)),
            Answer::Unknown => self.world.model().upload_unanswered(sent),
        }
    }

    /// An image of this client, taken out of its list until the answer is there.
    fn take(&self, mine: &mut Vec<String>, rng: &mut Rng) -> Option<(String, Value)> {
        if mine.is_empty() {
            return None;
        }
        let id = mine.swap_remove(rng.usize(..mine.len()));
        let item = self.world.model().images[&id].clone()?;
        Some((id, item))
    }

    fn note(&self, id: &str, what: &str, before: Value, after: State, answer: &Answer) -> bool {
        let state = |state: State| BTreeMap::from([(id.to_owned(), state)]);
        let (before, after) = (state(Some(before)), state(after));
        let mut model = self.world.model();
        match answer {
            Answer::Json(_) => model.changed(after),
            Answer::Unknown => model.doubt(Doubt { what: format!("{what} of {id}"), before, after }),
        }
        matches!(answer, Answer::Json(_))
    }

    async fn edit(&self, endpoint: &Endpoint, mine: &mut Vec<String>, rng: &mut Rng) {
        let Some((id, before)) = self.take(mine, rng) else { return };
        let patch = json!({ "description": format!("edited {}", rng.u32(..)), "order": rng.i32(..1000) });
        let mut after = before.clone();
        after.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        let request = self.request(endpoint, Method::PATCH, &format!("/api/images/{id}")).json(&patch);
        let answer = self.ask(request, StatusCode::OK).await;
        if let Answer::Json(shown) = &answer {
            assert_eq!(*shown, after);
        }
        if self.note(&id, "an edit", before, Some(after), &answer) {
            self.world.model().figures.edits += 1;
            mine.push(id);
        }
    }

    async fn delete(&self, endpoint: &Endpoint, mine: &mut Vec<String>, rng: &mut Rng) {
        let Some((id, before)) = self.take(mine, rng) else { return };
        let request = self.request(endpoint, Method::DELETE, &format!("/api/images/{id}"));
        let answer = self.ask(request, StatusCode::OK).await;
        if self.note(&id, "a delete", before, None, &answer) {
            self.world.model().figures.deletes += 1;
            let gone = self.request(endpoint, Method::GET, &format!("/api/images/{id}"));
            self.ask(gone, StatusCode::NOT_FOUND).await;
        }
    }

    async fn read(&self, endpoint: &Endpoint, mine: &[String], rng: &mut Rng) {
        let Some(id) = rng.choice(mine) else { return };
        let Some(item) = self.world.model().images[id].clone() else { return };
        let shown = self.ask(self.request(endpoint, Method::GET, &format!("/api/images/{id}")), StatusCode::OK).await;
        if let Answer::Json(shown) = shown {
            assert_eq!(shown, item);
        }
        let request = self.request(endpoint, Method::GET, item["url"].as_str().unwrap());
        if let Ok(answer) = request.send().await
            && !(answer.status().is_server_error() && self.world.failing)
        {
            assert_eq!(answer.status(), StatusCode::OK, "{item}");
            // What is cut off by the end of the server is seen to be.
            if let Ok(bytes) = answer.bytes().await {
                assert!(bytes == *self.world.model().content(&item), "OTHER BYTES: {item}");
            }
        }
    }

    async fn list(&self, endpoint: &Endpoint, mine: &[String]) {
        let request = self.request(endpoint, Method::GET, "/api/images?limit=1000&flat=true");
        if let Answer::Json(answer) = self.ask(request, StatusCode::OK).await {
            let listed: BTreeMap<&str, &Value> =
                answer["images"].as_array().unwrap().iter().map(|item| (item["id"].as_str().unwrap(), item)).collect();
            let model = self.world.model();
            for id in mine {
                assert_eq!(model.images[id].as_ref(), listed.get(id.as_str()).copied(), "in a list");
            }
        }
    }

    /// Makes a backup when the clients are gone.
    pub async fn back_up(&self) {
        self.back_up_by(&self.endpoints[0]).await;
    }

    async fn back_up_by(&self, endpoint: &Endpoint) {
        if let Answer::Json(answer) =
            self.ask(self.request(endpoint, Method::POST, "/api/backup"), StatusCode::CREATED).await
        {
            let mut model = self.world.model();
            model.figures.backups += 1;
            model.backups.insert(answer["backupName"].as_str().unwrap().to_owned());
        }
    }

    /// Restores a backup; `after` is what it must lead to, if it does.
    pub async fn restore(
        &self,
        name: &str,
        mode: &str,
        before: BTreeMap<String, State>,
        after: BTreeMap<String, State>,
    ) {
        let Some(endpoint) = self.endpoint(&mut Rng::new()) else { return };
        let request = self.request(endpoint, Method::POST, &format!("/api/restore/{name}?mode={mode}"));
        match self.ask(request, StatusCode::OK).await {
            Answer::Json(_) => {
                let mut model = self.world.model();
                model.figures.restores += 1;
                model.changed(after);
            }
            Answer::Unknown => {
                let what = format!("a restore of {name}");
                self.world.model().doubt(Doubt { what, before, after });
            }
        }
    }
}
