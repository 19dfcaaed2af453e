//! The AWS Lambda function that restores backups.

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    lambda_http::run(shared::http::lambda::start(restore::router).await?).await
}
