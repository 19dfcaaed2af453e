//! The AWS Lambda function that makes and lists backups.

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    lambda_http::run(shared::http::lambda::start(backup::router).await?).await
}
