//! Sending requests to Cloudinary, with retries.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use http::header::{CONTENT_LENGTH, LOCATION};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio_rustls::rustls::crypto::ring;

use crate::error::ErrorKind;

pub(super) type OutBody = UnsyncBoxBody<Bytes, io::Error>;
pub(super) type Opened = (Option<u64>, BoxStream<'static, io::Result<Bytes>>);

/// How many times a request is tried if its failure may be temporary; the waits double, starting with the first one.
const TRIES: u32 = 4;
const REDIRECTS: u32 = 3;
const CONNECT: Duration = Duration::from_secs(5);
/// How long to wait for the head of a response, or for the next piece of its body.
const SILENCE: Duration = Duration::from_secs(60);
/// A slower transfer is aborted.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 * 1024;
/// The largest JSON response: a page of a list has about 300 kB.
const LONGEST_JSON: usize = 16 << 20;

/// An HTTP client with timeouts and retries.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, OutBody>,
    first_wait: Duration,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub(super) struct Failed {
    pub(super) kind: ErrorKind,
    sentence: String,
}

/// The response to a request that Cloudinary carried out.
pub(super) struct Answer<T> {
    pub(super) value: T,
    /// Whether an earlier attempt got no response; it may have been carried out as well.
    pub(super) lost: bool,
}

#[derive(Deserialize)]
struct Problem {
    error: Message,
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

impl Failed {
    /// The same, with an unknown outcome.
    pub(super) fn unknown(self) -> Self {
        Self { kind: ErrorKind::Unavailable, ..self }
    }

    pub(super) fn unavailable(sentence: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Unavailable, sentence: sentence.into() }
    }

    /// Interprets a response that is not a success.
    fn of(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        // The delivery URL of an image reports errors in a header instead.
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let reason = serde_json::from_slice::<Problem>(body).map(|problem| problem.error.message).ok();
        let reason = reason.or(header("x-cld-error")).unwrap_or_else(|| "no reason is given".to_owned());
        let reason: String = reason.chars().take(300).collect();
        let (kind, sentence) = match status.as_u16() {
            // Any other 404 is about the product environment, or comes from a server that is not Cloudinary.
            404 if reason.starts_with("Resource not found") => (ErrorKind::NotFound, reason),
            401 => (
                ErrorKind::Refused,
                format!("Cloudinary does not accept the API key, its secret or the cloud name in the URL ({reason})"),
            ),
            420 | 429 => {
                let until =
                    header("x-featureratelimit-reset").map(|until| format!(" until {until}")).unwrap_or_default();
                (ErrorKind::Unavailable, format!("Cloudinary's limit of requests is used up{until} ({reason})"))
            }
            408 | 500.. => (ErrorKind::Unavailable, format!("Cloudinary answered {status} ({reason})")),
            _ => (ErrorKind::Refused, format!("Cloudinary refuses it with {status} ({reason})")),
        };
        Self { kind, sentence }
    }
}

impl Http {
    pub(super) fn new(first_wait: Duration) -> io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let tls = HttpsConnectorBuilder::new().with_provider_and_native_roots(ring::default_provider())?;
        let connector = tls.https_or_http().enable_http1().wrap_connector(tcp);
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), first_wait })
    }

    /// Waits as long as before the `n`th attempt.
    #[expect(clippy::disallowed_methods, reason = "Cloudinary asks to try again later and has no way to say when")]
    pub(super) async fn wait(&self, n: u32) {
        tokio::time::sleep(self.first_wait * 2_u32.pow(n - 1)).await;
    }

    /// Sends a request until it succeeds or fails permanently, and parses the response.
    pub(super) async fn json<T: for<'a> Deserialize<'a>>(
        &self,
        size: u64,
        request: impl Fn() -> Request<OutBody>,
    ) -> Result<Answer<T>, Failed> {
        let (mut lost, mut tries) = (false, 1);
        loop {
            let failed = match self.once(size, request()).await {
                Ok((status, _, body)) if status.is_success() => match serde_json::from_slice(&body) {
                    Ok(value) => return Ok(Answer { value, lost }),
                    Err(e) => {
                        lost = true;
                        Failed::unavailable(format!("Cloudinary's answer makes no sense ({e})"))
                    }
                },
                Ok((status, headers, body)) => {
                    lost |= status.is_server_error();
                    Failed::of(status, &headers, &body)
                }
                Err(failed) => {
                    lost = true;
                    failed
                }
            };
            if failed.kind != ErrorKind::Unavailable || tries == TRIES {
                // A request that may have been carried out has an unknown outcome.
                return Err(if lost { failed.unknown() } else { failed });
            }
            self.wait(tries).await;
            tries += 1;
        }
    }

    async fn once(&self, size: u64, request: Request<OutBody>) -> Result<(StatusCode, HeaderMap, Bytes), Failed> {
        let patience = SILENCE + Duration::from_secs(size / SLOWEST_BYTES_PER_SECOND);
        let whole = async {
            let response = self.client.request(request).await.map_err(|e| unanswered(&e))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, LONGEST_JSON).collect().await;
            let body = body.map_err(|e| Failed::unavailable(format!("Cloudinary's answer broke off ({e})")))?;
            Ok((head.status, head.headers, body.to_bytes()))
        };
        tokio::time::timeout(patience, whole).await.unwrap_or_else(|_| Err(silent()))
    }

    /// Opens `url`: its length, if the response has one, and its bytes.
    pub(super) async fn open(&self, url: &str) -> Result<Opened, Failed> {
        let (mut url, mut tries, mut redirects) = (url.to_owned(), 1, 0);
        loop {
            let request = Request::get(&url).body(empty());
            let request = request.map_err(|e| Failed::unavailable(format!("Cloudinary gave no usable URL ({e})")))?;
            let failed = match tokio::time::timeout(SILENCE, self.client.request(request)).await {
                Ok(Ok(response)) if response.status() == StatusCode::OK => return Ok(opened(response)),
                Ok(Ok(response)) if response.status() == StatusCode::NOT_FOUND => {
                    return Err(Failed {
                        kind: ErrorKind::NotFound,
                        sentence: "nothing is delivered there".to_owned(),
                    });
                }
                Ok(Ok(response)) if response.status().is_redirection() && redirects < REDIRECTS => {
                    let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).map(str::to_owned);
                    url = to.ok_or_else(|| Failed::unavailable("Cloudinary leads to nowhere"))?;
                    redirects += 1;
                    continue;
                }
                Ok(Ok(response)) => Failed::of(response.status(), response.headers(), b""),
                Ok(Err(e)) => unanswered(&e),
                Err(_) => silent(),
            };
            if failed.kind != ErrorKind::Unavailable || tries == TRIES {
                return Err(failed);
            }
            self.wait(tries).await;
            tries += 1;
        }
    }
}

/// A response's length and bytes; a stalled body ends with an error.
fn opened<B>(response: Response<B>) -> Opened
where
    B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let length = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let bytes = response.into_body().into_data_stream().map_err(io::Error::other).boxed();
    let bytes = stream::unfold(bytes, |mut bytes| async move {
        let next = tokio::time::timeout(SILENCE, bytes.next()).await;
        Some((next.unwrap_or_else(|_| Some(Err(io::ErrorKind::TimedOut.into())))?, bytes))
    });
    (length, bytes.boxed())
}

pub(super) fn empty() -> OutBody {
    Full::default().map_err(|never| match never {}).boxed_unsync()
}

fn silent() -> Failed {
    Failed::unavailable("Cloudinary did not answer in time")
}

/// The whole error chain, since only its last cause tells what happened. No part of it contains request data.
fn unanswered(error: &dyn std::error::Error) -> Failed {
    let mut sentence = format!("Cloudinary could not be reached ({error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        sentence.push_str(&format!(": {error}"));
        cause = error.source();
    }
    Failed::unavailable(sentence + ")")
}
