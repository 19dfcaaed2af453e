//! Keepsake as it runs on AWS: processes of the functions' binaries, each under a Runtime API, on one bucket. And the
//! server where only its archive is in a bucket, and its disk does not last.
//!
//! `cargo test --workspace` runs this on a service in the test's own process. `.ci/localstack run` runs the ignored tests
//! as well, on LocalStack and at full size.

mod bucket;
mod checks;
mod costs;
mod counts;
mod crowd;
mod free_tier;
mod lambda;
mod moving;
mod proxy;
mod queue;
mod seed;
mod tickets;

use bucket::Bucket;
use crowd::Plan;

const FEW: Plan = Plan { writers: 8, each: 5, fails: true };

/// A crowd for LocalStack. `.ci/nightly` has each function take 20 uploads.
#[expect(clippy::disallowed_methods, reason = "whoever starts the tests decides how long they may take")]
fn many() -> Plan {
    let each = std::env::var("KEEPSAKE_CROWD_UPLOADS").map_or(5, |value| value.parse().unwrap());
    Plan { writers: 64, each, fails: true }
}

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
    crowd::run(&Bucket::in_localstack("failing").await.access, many()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs LocalStack: .ci/localstack run"]
async fn uploads_of_sixty_four_functions_take_two_requests_each() {
    crowd::run(&Bucket::in_localstack("calm").await.access, Plan { fails: false, ..many() }).await;
}
