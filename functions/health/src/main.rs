//! The AWS Lambda function that says how the store is.

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    lambda_http::run(shared::http::lambda::start(health::router).await?).await
}
