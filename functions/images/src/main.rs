//! The AWS Lambda function that lists, shows, edits, deletes and serves images.

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    lambda_http::run(shared::http::lambda::start(images::router).await?).await
}
