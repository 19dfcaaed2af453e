//! Many functions at once on one bucket, while S3 fails or does not: nothing that was acknowledged may be lost.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use futures::future::join_all;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::testing::Answer;
use shared::testing::lambda::EventBody;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;

use crate::bucket::Access;
use crate::checks;
use crate::lambda::{Function, Lambda};
use crate::photos::small;
use crate::proxy::{Door, Fault, Proxy};
use crate::queue::Queue;

/// Uploads that make an automatic backup.
pub const BACKUP_EVERY: usize = 10;
/// Processes that follow the events.
const MAINTAINERS: usize = 3;
const READERS: usize = 2;
/// Lists that each reader asks for, spread over the uploads.
const LISTS: usize = 20;
/// Backups by hand, likewise.
const BACKUPS: usize = 4;
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
    /// Uploads and backups that clients asked for again.
    again: Mutex<usize>,
}

/// Runs the plan on an empty bucket and checks everything that was promised.
pub async fn run(access: &Access, plan: Plan) {
    let (created, events) = unbounded_channel();
    let proxy = Proxy::new(&access.endpoint, plan.fails, created);
    let [uploading, reading, backing_up, maintaining] =
        [proxy.door().await, proxy.door().await, proxy.door().await, proxy.door().await];
    let stage = Stage {
        plan,
        lambda: Lambda::start().await,
        access: access.clone(),
        acknowledged: Acknowledged { ids: Mutex::default(), count: watch::Sender::new(0) },
        again: Mutex::default(),
    };
    let queue = Arc::new(Queue::default());
    let listener = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue.listen(events).await }
    });
    let clock = Clock::system();
    let began = clock.now();

    let maintainers: Vec<Function> = (0..MAINTAINERS).map(|_| stage.function("maintenance", &maintaining)).collect();
    let uploads = async {
        join_all((0..plan.writers).map(|writer| stage.write(writer, &uploading))).await;
        queue.close();
    };
    let readers = join_all((0..READERS).map(|reader| stage.read(reader, &reading)));
    let followers = join_all(maintainers.iter().map(|function| queue.feed(function)));
    let ((), _, by_hand, _) = futures::join!(uploads, readers, stage.back_up(&backing_up), followers);
    let uploaded = clock.now().duration_since(began);
    for task in ["fold", "recover"] {
        stage.perform(&maintainers[0], task).await;
    }
    let (upload_door, faults) = (uploading.seen(), proxy.faults());
    println!("{plan:?}: {uploaded:#} for uploads and all that follows them");
    println!("{:?}, faults {faults:?}, asked for again by clients {}", queue.passed(), stage.again.lock().unwrap());
    for (name, door) in [("upload", &uploading), ("images", &reading), ("backup", &backing_up), ("maintenance", &maintaining)]
    {
        let seen = door.seen();
        println!("{name}: {} requests, {} retries, refused {:?}", seen.counts.total(), seen.retries, seen.refusals);
        print!("{}", seen.counts);
    }

    let acknowledged: HashSet<String> = stage.acknowledged.ids().into_iter().collect();
    assert_eq!(acknowledged.len(), plan.uploads(), "each upload was acknowledged, and no two are the same image");
    checks::everything(access, &stage.lambda, &acknowledged, &by_hand).await;
    for door in [&uploading, &reading, &backing_up, &maintaining] {
        assert_eq!(door.seen().unanswered, 0, "S3 itself answered every request");
    }
    if plan.fails {
        assert_eq!(faults.keys().copied().collect::<Vec<_>>(), Fault::ALL, "each kind of fault happened");
        assert!(upload_door.retries <= upload_door.faults, "nothing but a fault makes the upload path try again");
    } else {
        let uploads = plan.uploads() as u64;
        assert_eq!((upload_door.retries, upload_door.refusals.len()), (0, 0), "no upload met another");
        assert_eq!(upload_door.counts.of(|_, place| place == "uploads/"), uploads);
        assert_eq!(upload_door.counts.of(|_, place| place == layout_commits()), uploads);
        assert_eq!(upload_door.counts.total(), 2 * uploads, "{}", upload_door.counts);
    }
    listener.abort();
}

fn layout_commits() -> &'static str {
    shared::layout::COMMITS
}

impl Stage {
    /// Starts a process whose requests to S3 go through a door.
    fn function(&self, name: &str, door: &Door) -> Function {
        self.lambda.function(name, &self.access.through(&door.endpoint))
    }

    /// One client of a process of its own: uploads, and asks again where it was told to.
    async fn write(&self, writer: usize, door: &Door) {
        let function = self.function("upload", door);
        for n in self.numbers(writer) {
            let image = small(u32::try_from(n).unwrap());
            let key = format!("upload-{n}");
            let mut headers = vec![("content-type", "image/png"), ("x-filename", "x.png")];
            if self.plan.fails {
                // A client that means to ask again says so with its first request.
                headers.push(("idempotency-key", &key));
            }
            let send = async || function.ask("POST", "/api/upload", &headers, EventBody::Binary(&image)).await;
            let answer = self.until_done(StatusCode::CREATED, send).await;
            self.acknowledged.add(answer["id"].as_str().unwrap().to_owned());
        }
    }

    fn numbers(&self, writer: usize) -> Range<usize> {
        writer * self.plan.each..(writer + 1) * self.plan.each
    }

    /// A reader: each list has every image that was acknowledged before it was asked for. One of the readers is a new
    /// process each time.
    async fn read(&self, reader: usize, door: &Door) {
        let mut function = self.function("images", door);
        for n in 1..=LISTS {
            self.acknowledged.reaches(n * self.plan.uploads() / LISTS).await;
            if reader == 0 {
                function = self.function("images", door);
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
                Err(answer) => assert!(self.plan.fails && is_temporary(&answer), "{answer:?}"),
            }
        }
        panic!("there was no list in {TRIES} tries");
    }

    /// Makes backups by hand; returns their names.
    async fn back_up(&self, door: &Door) -> Vec<String> {
        let function = self.function("backup", door);
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
    async fn perform(&self, function: &Function, task: &str) {
        for _ in 0..TRIES {
            match function.invoke(json!({ "task": task })).await {
                Ok(answer) => {
                    println!("{answer}");
                    return;
                }
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
            assert!(self.plan.fails && is_temporary(&answer), "{answer:?}");
            *self.again.lock().unwrap() += 1;
        }
        panic!("it was not done in {TRIES} tries");
    }
}

fn is_temporary(answer: &Answer) -> bool {
    answer.status == StatusCode::SERVICE_UNAVAILABLE
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
