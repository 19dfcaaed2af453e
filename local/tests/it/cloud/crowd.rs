//! Many functions at once on one bucket, while S3 fails or does not: nothing that was acknowledged may be lost.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use futures::future::join_all;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::layout;
use shared::testing::Answer;
use shared::testing::lambda::EventBody;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;

use super::bucket::Access;
use super::checks;
use super::counts::Kind;
use super::lambda::{Function, Lambda};
use super::proxy::{Door, Fault, Proxy, Seen};
use super::queue::{Passed, Queue};
use crate::photos::small;

/// Uploads that make an automatic backup.
pub const BACKUP_EVERY: usize = 10;
/// Processes that follow the events.
const MAINTAINERS: usize = 3;
const READERS: usize = 2;
/// Lists that each reader asks for, spread over the uploads.
const LISTS: usize = 20;
/// A reader is a new process, which knows nothing yet, at one list in so many.
const COLD: usize = 10;
/// One writer in so many has clients that send an idempotency key, for which a function reads the whole catalog first.
const KEYED: usize = 16;
/// Backups by hand, likewise.
const BACKUPS: usize = 4;
/// Requests to S3 that a process makes before it is killed: in the small run too, it has then begun its work.
const REQUESTS_BEFORE_DEATH: u64 = 40;
/// What a client does not get done in so many tries has failed.
const TRIES: usize = 10;

/// How many functions do what.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Processes that take in images.
    pub writers: usize,
    /// Images that each of them is sent, one after the other.
    pub each: usize,
    /// Whether every tenth request to S3 fails.
    pub fails: bool,
}

impl Plan {
    fn uploads(self) -> usize {
        self.writers * self.each
    }
}

/// What was acknowledged so far.
struct Acknowledged {
    ids: Mutex<Vec<String>>,
    count: watch::Sender<usize>,
}

impl Acknowledged {
    fn add(&self, id: String) {
        self.ids.lock().unwrap().push(id);
        self.count.send_modify(|count| *count += 1);
    }

    fn ids(&self) -> Vec<String> {
        self.ids.lock().unwrap().clone()
    }

    async fn reaches(&self, count: usize) {
        self.count.subscribe().wait_for(|reached| *reached >= count).await.unwrap();
    }
}

/// Everything that runs on one bucket.
struct Stage {
    plan: Plan,
    lambda: Lambda,
    access: Access,
    acknowledged: Acknowledged,
    /// Answers of 503 that clients got, by the type of the problem.
    refused: Mutex<BTreeMap<String, u64>>,
    uploading: Door,
    /// For uploads with a key.
    keyed: Door,
    reading: Door,
    backing_up: Door,
    maintaining: Door,
    /// For the process that is killed.
    killed: Door,
}

/// Runs the plan on an empty bucket and checks everything that was promised.
pub async fn run(access: &Access, plan: Plan) {
    let (created, events) = unbounded_channel();
    let proxy = Proxy::new(&access.endpoint, plan.fails, created);
    let stage = Stage {
        plan,
        lambda: Lambda::start().await,
        access: access.clone(),
        acknowledged: Acknowledged { ids: Mutex::default(), count: watch::Sender::new(0) },
        refused: Mutex::default(),
        uploading: proxy.door().await,
        keyed: proxy.door().await,
        reading: proxy.door().await,
        backing_up: proxy.door().await,
        maintaining: proxy.door().await,
        killed: proxy.door().await,
    };
    let queue = Arc::new(Queue::default());
    let listener = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue.listen(events).await }
    });
    let clock = Clock::system();
    let began = clock.now();

    let maintainers: Vec<Function> =
        (0..MAINTAINERS).map(|_| stage.function("maintenance", &stage.maintaining)).collect();
    let uploads = async {
        let looking = stage.function("images", &stage.reading);
        join_all((0..plan.writers).map(|writer| stage.write(writer, &looking))).await;
        queue.close();
    };
    let readers = join_all((0..READERS).map(|_| stage.read()));
    let followers = join_all(maintainers.iter().map(|function| queue.feed(function)));
    let ((), _, by_hand, _, ()) =
        futures::join!(uploads, readers, stage.back_up(), followers, stage.maintain_in_vain(&queue));
    stage.perform(&maintainers[0], "fold").await;
    let recovered = stage.perform(&maintainers[0], "recover").await;
    assert_eq!((&recovered["archived"], &recovered["broughtBack"]), (&json!(0), &json!(0)), "nothing was left to do");
    println!("{plan:?}: {:#}", clock.now().duration_since(began));
    println!("faults {:?}, refused to clients {:?}", proxy.faults(), stage.refused.lock().unwrap());
    let Passed { commits, messages, batches, redelivered } = queue.passed();
    println!(
        "{commits} commits announced in {messages} messages, {batches} batches, {redelivered} messages came again"
    );
    assert!(commits >= plan.uploads() as u64 && messages > commits, "each commit was announced, some twice");
    stage.report();

    let acknowledged: HashSet<String> = stage.acknowledged.ids().into_iter().collect();
    assert_eq!(acknowledged.len(), plan.uploads(), "each upload was acknowledged, and no two are the same image");
    let strays = stage.refused.lock().unwrap().values().sum::<u64>() as usize;
    checks::everything(access, &stage.lambda, &acknowledged, &by_hand, strays).await;
    if plan.fails {
        let happened: Vec<Fault> = proxy.faults().into_keys().collect();
        assert_eq!(happened, Fault::ALL, "each kind of fault happened");
        assert!(!stage.refused.lock().unwrap().is_empty(), "some clients were asked to try again");
    }
    stage.check_uploading();
    listener.abort();
}

impl Stage {
    /// Starts a process whose requests to S3 go through a door.
    fn function(&self, name: &str, door: &Door) -> Function {
        self.lambda.function(name, &self.access.through(&door.endpoint))
    }

    fn doors(&self) -> [(&'static str, &Door); 6] {
        [
            ("upload", &self.uploading),
            ("upload with a key", &self.keyed),
            ("images", &self.reading),
            ("backup", &self.backing_up),
            ("maintenance", &self.maintaining),
            ("maintenance that was killed", &self.killed),
        ]
    }

    fn report(&self) {
        for (name, door) in self.doors() {
            let Seen { counts, retries, faults, refusals, unanswered } = door.seen();
            if counts.total() == 0 {
                continue;
            }
            println!("{name}: {} requests, {retries} retries, {faults} faults", counts.total());
            println!("  S3 refused {refusals:?} and left {unanswered} unanswered");
            print!("{counts}");
        }
    }

    /// An upload is two requests, and nothing but a failure of S3 makes it try again: no upload met another.
    fn check_uploading(&self) {
        let Seen { counts, retries, faults, refusals, unanswered } = self.uploading.seen();
        let failures =
            faults + unanswered + refusals.iter().filter(|(status, _)| **status >= 500).map(|(_, n)| n).sum::<u64>();
        assert!(retries <= failures, "{retries} retries after {failures} failures");
        assert!(!refusals.contains_key(&409), "no put met another one");
        if failures == 0 {
            let uploads = self.plan.uploads() as u64;
            assert_eq!(refusals, BTreeMap::new());
            assert_eq!(counts.of(|kind, place| kind == Kind::Put && place == layout::UPLOADS), uploads);
            assert_eq!(counts.of(|kind, place| kind == Kind::Put && place == layout::COMMITS), uploads);
            assert_eq!(counts.total(), 2 * uploads, "{counts}");
        }
    }

    /// One client of a process of its own: uploads, and asks again where it was told to.
    async fn write(&self, writer: usize, looking: &Function) {
        // Without failures, no key is needed.
        let keyed = self.plan.fails && writer.is_multiple_of(KEYED);
        let function = self.function("upload", if keyed { &self.keyed } else { &self.uploading });
        for n in writer * self.plan.each..(writer + 1) * self.plan.each {
            let name = format!("upload-{n}.png");
            let mut headers = vec![("content-type", "image/png"), ("x-filename", &name)];
            if keyed {
                headers.push(("idempotency-key", &name));
            }
            let id = self.upload(&function, &headers, &small(u32::try_from(n).unwrap()), looking).await;
            self.acknowledged.add(id);
        }
    }

    /// Uploads an image until that is acknowledged. Where it is not known what became of an attempt, a client that sent
    /// no key looks before it tries again.
    async fn upload(&self, function: &Function, headers: &[(&str, &str)], image: &[u8], looking: &Function) -> String {
        let name = headers[1].1;
        for _ in 0..TRIES {
            let answer = function.ask("POST", "/api/upload", headers, EventBody::Binary(image)).await;
            if answer.status == StatusCode::CREATED {
                return answer.json()["id"].as_str().unwrap().to_owned();
            }
            let kind = self.note_refusal(&answer);
            if kind == "outcome-unknown" && headers.len() == 2 {
                let target = format!("/api/images?q={name}");
                let found = self.until_done(StatusCode::OK, async || looking.get(&target).await).await;
                if let Some(item) = found["images"].as_array().unwrap().first() {
                    return item["id"].as_str().unwrap().to_owned();
                }
            }
        }
        panic!("{name} was not stored in {TRIES} tries");
    }

    /// A process that Lambda ends in the middle of its work, as it does at the time limit; another gets the events.
    async fn maintain_in_vain(&self, queue: &Queue) {
        if self.plan.fails {
            let function = self.function("maintenance", &self.killed);
            queue.feed_in_vain(&function, self.killed.reaches(REQUESTS_BEFORE_DEATH)).await;
        }
    }

    /// A reader: each list has every image that was acknowledged before it was asked for.
    async fn read(&self) {
        let mut function = self.function("images", &self.reading);
        for n in 1..=LISTS {
            self.acknowledged.reaches(n * self.plan.uploads() / LISTS).await;
            if n.is_multiple_of(COLD) {
                function = self.function("images", &self.reading);
            }
            let (before, listed) = self.list(&function).await;
            let missing: Vec<_> = before.iter().filter(|id| !listed.contains(*id)).collect();
            assert!(missing.is_empty(), "acknowledged before a list was asked for, and not in it: {missing:?}");
        }
    }

    /// What was acknowledged before, and what a list then holds.
    async fn list(&self, function: &Function) -> (Vec<String>, HashSet<String>) {
        for _ in 0..TRIES {
            let before = self.acknowledged.ids();
            match list_all(function).await {
                Ok(listed) => return (before, listed),
                Err(answer) => drop(self.note_refusal(&answer)),
            }
        }
        panic!("there was no list in {TRIES} tries");
    }

    /// Makes backups by hand; returns their names.
    async fn back_up(&self) -> Vec<String> {
        let function = self.function("backup", &self.backing_up);
        let mut names = Vec::new();
        for n in 1..=BACKUPS {
            self.acknowledged.reaches(n * self.plan.uploads() / BACKUPS).await;
            let send = async || function.ask("POST", "/api/backup", &[], EventBody::None).await;
            let answer = self.until_done(StatusCode::CREATED, send).await;
            names.push(answer["backupName"].as_str().unwrap().to_owned());
        }
        names
    }

    /// Has a scheduled task done, again where it failed.
    async fn perform(&self, function: &Function, task: &str) -> Value {
        for _ in 0..TRIES {
            match function.invoke(json!({ "task": task })).await {
                Ok(answer) => return answer,
                Err(error) => assert!(self.plan.fails, "{error}"),
            }
        }
        panic!("{task} failed {TRIES} times");
    }

    /// Sends a request until it is answered with `wanted`; where S3 fails, 503 says to try again.
    async fn until_done(&self, wanted: StatusCode, send: impl AsyncFn() -> Answer) -> Value {
        for _ in 0..TRIES {
            let answer = send().await;
            if answer.status == wanted {
                return answer.json();
            }
            self.note_refusal(&answer);
        }
        panic!("it was not done in {TRIES} tries");
    }

    /// Takes note of an answer that says to try again, which it must where S3 fails; returns the type of the problem.
    fn note_refusal(&self, answer: &Answer) -> String {
        let (status, kind) = answer.problem();
        assert_eq!(status, 503, "{answer:?}");
        assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
        *self.refused.lock().unwrap().entry(kind.clone()).or_default() += 1;
        kind
    }
}

/// The ids in a list, over all of its pages.
pub async fn list_all(function: &Function) -> Result<HashSet<String>, Answer> {
    let mut ids = HashSet::new();
    let mut target = "/api/images".to_owned();
    loop {
        let answer = function.get(&target).await;
        if answer.status != StatusCode::OK {
            return Err(answer);
        }
        let page = answer.json();
        ids.extend(page["images"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => target = format!("/api/images?cursor={}", utf8_percent_encode(next, NON_ALPHANUMERIC)),
            None => return Ok(ids),
        }
    }
}
