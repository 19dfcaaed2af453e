//! The command `clear-uploads`.

use axum::http::Method;

use super::fields::text;
use crate::api::Api;
use crate::output::{Failure, Output};

pub async fn run(api: &Api, output: &Output) -> Result<u8, Failure> {
    let cleared = api.ask(Method::DELETE, "/api/upload").await?;
    output.print(&cleared, |cleared| vec![text(cleared, "message").to_owned()]);
    Ok(output.end(false))
}
