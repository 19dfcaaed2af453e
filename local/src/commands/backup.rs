//! The command `backup`.

use axum::http::Method;

use super::fields::text;
use crate::api::Api;
use crate::output::{Failure, Output};

pub async fn run(api: &Api, output: &Output) -> Result<u8, Failure> {
    let made = api.ask(Method::POST, "/api/backup").await?;
    output.print(&made, |made| vec![text(made, "message").to_owned()]);
    Ok(output.end(made["missing"].as_array().is_some_and(|missing| !missing.is_empty())))
}
