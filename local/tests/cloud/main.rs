//! Keepsake as it runs on AWS: processes of the functions' binaries, each under a Runtime API, on one bucket. And the
//! server where only its archive is in a bucket, and its disk does not last.
//!
//! `cargo test --workspace` runs this on a service in the test's own process. `.ci/localstack run` runs the ignored tests
//! as well, on LocalStack and at full size.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod bucket;
mod checks;
#[path = "../soak/clients.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod clients;
mod costs;
mod counts;
mod crowd;
mod free_tier;
mod lambda;
#[path = "../soak/model.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod model;
mod moving;
#[path = "../end_to_end/photos.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod photos;
mod proxy;
mod queue;
#[path = "../../../shared/store/tests/it/s3_server.rs"]
mod s3_server;
mod seed;
#[path = "../end_to_end/server.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod server;
mod tickets;

use bucket::Bucket;
use crowd::Plan;

const FEW: Plan = Plan { writers: 8, each: 5, fails: true };
const MANY: Plan = Plan { writers: 64, each: 20, fails: true };

#[tokio::test(flavor = "multi_thread")]
async fn forty_uploads_of_eight_functions_are_kept_while_s3_fails() {
    crowd::run(&Bucket::in_process().await.access, FEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_uploads_of_eight_functions_take_two_requests_each() {
    crowd::run(&Bucket::in_process().await.access, Plan { fails: false, ..FEW }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs LocalStack: .ci/localstack run"]
async fn uploads_of_sixty_four_functions_are_kept_while_s3_fails() {
    crowd::run(&Bucket::in_localstack("failing").await.access, MANY).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs LocalStack: .ci/localstack run"]
async fn uploads_of_sixty_four_functions_take_two_requests_each() {
    crowd::run(&Bucket::in_localstack("calm").await.access, Plan { fails: false, ..MANY }).await;
}
