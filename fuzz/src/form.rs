//! Bodies of uploads.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::Request;
use futures::stream;
use serde_json::{Value, json};
use shared::digest::Digest;
use shared::http::Access;
use shared::testing::{Answer, png, request};

use super::http::{ask, everything, run, served};

/// What separates the parts; the inputs of the corpus have it too.
const BOUNDARY: &str = "X";

/// A form as anyone may send it: the first byte says in what pieces it arrives, the rest is the body.
pub fn form(data: &[u8]) {
    let Some((seed, body)) = data.split_first() else { return };
    let whole = run(uploaded(vec![body.to_vec()]));
    let in_pieces = run(uploaded(pieces(body, *seed)));
    assert_eq!(whole, in_pieces, "it depends on how the bytes arrive");
}

/// A form as it should be, made of what `data` tells: all of it is found again.
pub fn parts(data: &[u8]) {
    let Some((seed, mut rest)) = data.split_first() else { return };
    let mut body = Vec::new();
    let (mut fields, mut images) = (json!({"category": "fun", "description": "", "groupId": null}), Vec::new());
    while let [kind, length, tail @ ..] = rest {
        let (content, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        let name = ["category", "description", "groupId"].get(usize::from(*kind % 4));
        let (head, content) = match name {
            Some(name) => (format!("name=\"{name}\""), String::from_utf8_lossy(content).into_owned().into_bytes()),
            None => {
                let image = [&png(images.len() as u32)[..], content].concat();
                ("name=\"image\"; filename=\"a.png\"".to_owned(), image)
            }
        };
        if String::from_utf8_lossy(&content).contains(&format!("\r\n--{BOUNDARY}")) {
            continue;
        }
        body.extend(format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n").bytes());
        body.extend(&content);
        body.extend(b"\r\n");
        match name {
            Some(name) if !content.is_empty() => fields[name] = String::from_utf8_lossy(&content).into(),
            Some(_) => {}
            None => images.push(Digest::of(&content).to_string()),
        }
    }
    body.extend(format!("--{BOUNDARY}--").bytes());
    let answer = run(uploaded(pieces(&body, *seed)));
    if images.is_empty() {
        assert_eq!(answer.problem(), (400, "no-file".to_owned()));
        return;
    }
    assert_eq!(answer.status, 201, "{answer:?}");
    let stored = stored(&answer);
    let digests: Vec<_> = stored.iter().map(|image| image["sha256"].as_str().unwrap_or_default()).collect();
    assert_eq!(digests, images);
    for image in &stored {
        for name in ["category", "description", "groupId"] {
            assert_eq!(image[name], fields[name], "{name}");
        }
    }
}

/// Sends a form to a new store. Either all that the answer names is stored, or nothing at all.
async fn uploaded(pieces: Vec<Vec<u8>>) -> Answer {
    let (app, router) = served(Access::default());
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    let body = Body::from_stream(stream::iter(pieces.into_iter().map(|piece| Ok::<_, Infallible>(Bytes::from(piece)))));
    let request: Request<Body> = request("POST", "/api/upload", &[("content-type", &content_type)], body);
    let answer = ask(&router, request).await;
    if answer.status != 201 {
        assert_eq!(everything(&app.keepsake).await, [], "{answer:?}");
        return answer;
    }
    let images = stored(&answer);
    for image in &images {
        let path = image["url"].as_str().expect("an image has a URL").trim_start_matches('/').parse().expect("a key");
        let (bytes, _) = app.keepsake.core.primary.read(&path).await.expect("what was acknowledged is there");
        assert_eq!(image["sha256"], Digest::of(&bytes).to_string());
    }
    assert_eq!(app.keepsake.core.catalog.view().totals().live, images.len() as u64);
    answer
}

/// The images that an answer names.
fn stored(answer: &Answer) -> Vec<Value> {
    let mut json = answer.json();
    match json["images"].take() {
        Value::Array(images) => images,
        _ => vec![json],
    }
}

/// The same bytes in pieces of 1 to 61 bytes, some of them empty.
fn pieces(body: &[u8], seed: u8) -> Vec<Vec<u8>> {
    let (mut rest, mut pieces, mut length) = (body, Vec::new(), usize::from(seed));
    while !rest.is_empty() {
        length = (length * 31 + 7) % 62;
        let (piece, tail) = rest.split_at(length.min(rest.len()));
        pieces.push(piece.to_vec());
        rest = tail;
    }
    pieces
}
