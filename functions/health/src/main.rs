//! The AWS Lambda function that reports the state of the store.

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    lambda_http::run(shared::http::lambda::start(health::router).await?).await
}
