//! What `POST /api/upload` does, row by row of the contract.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod access;
mod good;
mod lambda;
mod links;
mod refused;
mod resumed;
mod stores;
mod tickets;
mod unfinished;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use futures::TryStreamExt;
use shared::http::App;
use shared::testing::{Answer, request, send};

const BOUNDARY: &str = "----a-boundary";

/// A form in the making.
#[derive(Default)]
struct Form(Vec<u8>);

impl Form {
    fn new() -> Self {
        Self::default()
    }

    fn part(mut self, disposition: &str, content: &[u8]) -> Self {
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n");
        self.0.extend([head.as_bytes(), content, b"\r\n"].concat());
        self
    }

    fn text(self, name: &str, value: &str) -> Self {
        self.part(&format!("name=\"{name}\""), value.as_bytes())
    }

    fn file(self, name: &str, file_name: &str, content: &[u8]) -> Self {
        self.part(&format!("name=\"{name}\"; filename=\"{file_name}\""), content)
    }

    fn bytes(mut self) -> Vec<u8> {
        self.0.extend(format!("--{BOUNDARY}--\r\n").as_bytes());
        self.0
    }

    fn request(self, headers: &[(&str, &str)]) -> Request<Body> {
        form_request(self.bytes(), headers)
    }

    async fn send(self, app: &App) -> Answer {
        send(&router(app), self.request(&[])).await
    }
}

fn form_type() -> String {
    format!("multipart/form-data; boundary={BOUNDARY}")
}

fn form_request(body: impl Into<Body>, headers: &[(&str, &str)]) -> Request<Body> {
    let content_type = form_type();
    let headers = [&[("content-type", content_type.as_str())], headers].concat();
    request("POST", "/api/upload", &headers, body)
}

async fn send_raw(app: &App, target: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    send(&router(app), request("POST", target, headers, body)).await
}

fn router(app: &App) -> Router {
    upload::router(app.clone())
}

/// Every key in the store.
async fn keys(app: &App) -> Vec<String> {
    let listing = app.keepsake.core.primary.list("", None);
    listing.map_ok(|meta| meta.key.to_string()).try_collect().await.unwrap()
}
