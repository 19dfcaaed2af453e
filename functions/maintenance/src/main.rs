//! The AWS Lambda function that does the deferred work after a change.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use maintenance::Maintenance;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let (keepsake, config) = shared::http::lambda::open().await?;
    let maintenance = &Maintenance::new(keepsake, config.metrics_stack);
    run(service_fn(|event: LambdaEvent<_>| maintenance.handle(event.payload))).await
}
