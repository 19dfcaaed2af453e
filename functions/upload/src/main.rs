//! The AWS Lambda function that stores new images.

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    lambda_http::run(shared::http::lambda::start(upload::router).await?).await
}
