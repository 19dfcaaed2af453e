//! What things cost in requests to S3. `docs/cost.md` turns these counts into dollars.

use axum::http::StatusCode;
use serde_json::json;
use shared::layout;
use shared::testing::Answer;
use shared::testing::lambda::EventBody;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::bucket::Bucket;
use super::counts::{Counts, Kind, Target};
use super::lambda::{Function, Lambda};
use super::proxy::{Door, Proxy};
use super::queue;
use super::seed::bucket_of;
use crate::photos::small;

/// Functions on one bucket, and the doors that their requests go through.
struct Stage {
    lambda: Lambda,
    bucket: Bucket,
    proxy: Proxy,
    created: UnboundedReceiver<Target>,
    next_image: u32,
}

impl Stage {
    async fn on(bucket: Bucket) -> Self {
        let (sender, created) = unbounded_channel();
        let proxy = Proxy::new(&bucket.access.endpoint, false, sender);
        Self { lambda: Lambda::start().await, bucket, proxy, created, next_image: 0 }
    }

    /// A process of its own, and the door that it alone uses.
    async fn function(&self, name: &str) -> (Function, Door) {
        let door = self.proxy.door().await;
        (self.lambda.function(name, &self.bucket.access.through(&door.endpoint)), door)
    }

    /// Uploads an image that was not uploaded before.
    async fn upload(&mut self, function: &Function, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.next_image += 1;
        let headers = [&[("content-type", "image/png")], headers].concat();
        let answer = function.ask("POST", target, &headers, EventBody::Binary(&small(self.next_image))).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        answer
    }

    /// Uploads so many images, and hands what S3 tells of them to a maintenance function in one event.
    async fn upload_and_follow(&mut self, uploads: usize, upload: &Function, maintenance: &Function) {
        for _ in 0..uploads {
            self.upload(upload, "/api/upload", &[]).await;
        }
        let answer = maintenance.invoke(queue::event_of(&self.commits())).await.unwrap();
        assert_eq!(answer, json!({ "batchItemFailures": [] }));
    }

    /// The commits that S3 has told of since the last time.
    fn commits(&mut self) -> Vec<Target> {
        let created = std::iter::from_fn(|| self.created.try_recv().ok());
        created.filter(|target| target.key.starts_with(layout::COMMITS)).collect()
    }
}

/// Uploads whose cost is measured: ten backups, and five compacts at 1,000 images.
const UPLOADS: usize = 100;

fn writes(counts: &Counts) -> u64 {
    counts.of(|kind, _| matches!(kind, Kind::Put | Kind::Copy))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_two_writes_and_nothing_else() {
    let mut stage = Stage::on(bucket_of(100).await).await;
    let (function, door) = stage.function("upload").await;
    for upload in ["the first of a process", "a later one"] {
        let before = door.counts();
        stage.upload(&function, "/api/upload", &[]).await;
        let counts = door.counts().since(&before);
        assert_eq!((writes(&counts), counts.total()), (2, 2), "{upload}:\n{counts}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_with_a_key_or_into_a_group_reads_the_catalog_first() {
    let mut stage = Stage::on(bucket_of(100).await).await;
    for (target, headers) in [("/api/upload", &[("idempotency-key", "k")][..]), ("/api/upload?groupId=g", &[])] {
        let (function, door) = stage.function("upload").await;
        stage.upload(&function, "/api/upload?groupId=h", &[]).await;
        let before = door.counts();
        stage.upload(&function, target, headers).await;
        let counts = door.counts().since(&before);
        println!("{target} {headers:?}\n{counts}");
        // A listing and a look at the root.
        assert_eq!((writes(&counts), counts.total()), (2, 4), "{target} {headers:?}:\n{counts}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_list_is_two_requests_once_a_function_is_warm() {
    // A cold function reads the root and the pages on the way to the newest images and to the oldest: one page, or two
    // leaves and what is above them if a page ends among a hundred; and at most three leaves with one or two levels above.
    for (images, most_if_cold) in [(100, 3 + 3), (10_000, 3 + 6)] {
        let stage = Stage::on(bucket_of(images).await).await;
        let (function, door) = stage.function("images").await;
        for (page, most) in [("cold", most_if_cold), ("warm", 2), ("warm", 2)] {
            let before = door.counts();
            let answer = function.get("/api/images?limit=50").await;
            assert_eq!(answer.json()["images"].as_array().unwrap().len(), 50);
            let counts = door.counts().since(&before);
            println!("{page} page of {images} images\n{counts}");
            assert!(counts.total() <= most, "{page} page of {images} images:\n{counts}");
        }
    }
}

/// Whether a request is about images, pages, manifests or the sequence of the archive, not about commits and roots,
/// whose compaction depends on how many there are.
fn is_of_backups(_: Kind, place: &str) -> bool {
    place.starts_with("backups/") && !place.contains("image-metadata") && place != "backups/catalog.json"
}

#[tokio::test(flavor = "multi_thread")]
async fn automatic_backup_cost_is_independent_of_store_size() {
    let mut costs = Vec::new();
    for images in [100, 10_000] {
        let mut stage = Stage::on(bucket_of(images).await).await;
        let (upload, _) = stage.function("upload").await;
        let (maintenance, door) = stage.function("maintenance").await;
        let mut counts = Vec::new();
        for process in ["cold", "warm"] {
            let before = door.counts();
            stage.upload_and_follow(10, &upload, &maintenance).await;
            let all = door.counts().since(&before);
            println!("ten uploads followed by a {process} function, {images} images\n{all}");
            assert_eq!(
                all.of(|kind, place| kind == Kind::Put && place == "backups/backup-…/"),
                2,
                "an intent and a manifest of one backup:\n{all}"
            );
            let backup = all.without(|kind, place| !is_of_backups(kind, place));
            // The pages of one path are put, read back and compared with those that they follow.
            assert!(backup.of(|_, place| place == "backups/catalog/") <= 12, "{backup}");
            counts.push(backup.without(|_, place| place == "backups/catalog/"));
        }
        costs.push(counts);
    }
    assert_eq!(costs[0], costs[1]);
}

/// S3's prices in us-east-1, in dollars for one request.
fn dollars(counts: &Counts) -> f64 {
    let dear = counts.of(|kind, _| kind.is_dear());
    let cheap = counts.of(|kind, _| matches!(kind, Kind::Get | Kind::Head));
    dear as f64 * 0.005 / 1000.0 + cheap as f64 * 0.0004 / 1000.0
}

/// What a million uploads to a store of 1,000 images cost in requests to S3, on the way and for all that follows, if
/// the queue hands over so many commits at a time.
async fn dollars_for_a_million(batch: usize) -> f64 {
    let mut stage = Stage::on(bucket_of(1_000).await).await;
    let (upload, upload_door) = stage.function("upload").await;
    let (maintenance, maintenance_door) = stage.function("maintenance").await;
    // The first event finds out what there is.
    stage.upload_and_follow(10, &upload, &maintenance).await;
    let before = (upload_door.counts(), maintenance_door.counts());
    for _ in 0..UPLOADS / batch {
        stage.upload_and_follow(batch, &upload, &maintenance).await;
    }
    let counts = (upload_door.counts().since(&before.0), maintenance_door.counts().since(&before.1));
    let million = 1e6 / UPLOADS as f64;
    let prices = (dollars(&counts.0) * million, dollars(&counts.1) * million);
    println!("{UPLOADS} uploads:\n{}followed in batches of {batch}:\n{}", counts.0, counts.1);
    println!("dollars for a million: {:.2} + {:.2} = {:.2}", prices.0, prices.1, prices.0 + prices.1);
    prices.0 + prices.1
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_million_uploads_cost_what_the_documentation_says() {
    let text = include_str!("../../../../docs/cost.md");
    let row = text.lines().find_map(|line| line.strip_prefix("| Requests to S3, together |")).unwrap();
    let said: Vec<f64> = row.split('|').filter_map(|cell| cell.trim().strip_prefix('$')?.parse().ok()).collect();
    for (batch, said) in [10, 1].into_iter().zip(said) {
        let cost = dollars_for_a_million(batch).await;
        assert!((cost / said - 1.0).abs() < 0.05, "docs/cost.md says ${said} in batches of {batch}: it is ${cost:.2}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_by_hand_after_ten_uploads_costs_little() {
    let mut stage = Stage::on(bucket_of(1_000).await).await;
    let (upload, _) = stage.function("upload").await;
    let (backup, door) = stage.function("backup").await;
    for process in ["cold", "warm"] {
        for _ in 0..10 {
            stage.upload(&upload, "/api/upload", &[]).await;
        }
        let before = door.counts();
        let made = backup.ask("POST", "/api/backup", &[], EventBody::None).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        let counts = door.counts().since(&before);
        println!("a backup by a {process} function\n{counts}");
        // An intent, a manifest and the pages of one path; the rest is reading ten commits and the pages of that path, and
        // making the replicas of ten images, which no event has called for here.
        assert!(counts.of(|kind, _| kind == Kind::Put) <= 5 && counts.total() <= 6 * 10 + 25, "{counts}");
    }
}
