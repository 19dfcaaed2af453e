//! The Runtime API of AWS Lambda, as far as a function needs it, and a function that it feeds.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::Result;

/// The `API_TOKEN` of every function.
pub const TOKEN: &str = "a-token-for-the-bench-alone";
/// No answer takes this long.
const LIMIT: Duration = Duration::from_secs(60);

/// What was measured.
pub struct Outcome {
    /// From the start of the process to its first answer.
    pub first: Duration,
    /// Memory that it had when it asked for more after its last answer.
    pub resident_megabytes: f64,
}

enum Said {
    /// An answer arrived at this moment.
    Answer(Instant, Value),
    /// The function failed.
    Failure(String),
    /// The function asked for a request, and there was none left.
    Idle,
}

#[derive(Clone)]
struct Api {
    events: Arc<Mutex<VecDeque<Value>>>,
    said: UnboundedSender<Said>,
}

/// Starts a function, hands it the events one after the other, checks that each is answered with this status (`None`: as a batch
/// of messages of which none is to be sent again), and ends it.
pub async fn run(
    binary: &Path,
    settings: &[(&str, String)],
    events: Vec<Value>,
    status: Option<u16>,
) -> Result<Outcome> {
    let expected = events.len();
    let (said, mut heard) = unbounded_channel();
    let api = Api { events: Arc::new(Mutex::new(events.into())), said };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let serving = tokio::spawn(async move { axum::serve(listener, router(api)).await });
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cold_start.log");
    let mut command = Command::new(binary);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
    command.envs([
        ("AWS_LAMBDA_RUNTIME_API", address.as_str()),
        ("AWS_LAMBDA_FUNCTION_NAME", "keepsake-bench"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
        ("API_TOKEN", TOKEN),
        // A store's copies are all of one size: a backup now and then would make some starts longer than others.
        ("BACKUP_EVERY", "1000000"),
    ]);
    command.envs(settings.iter().map(|(name, value)| (name, value)));
    let outcome = measure(command, &mut heard, expected, status).await;
    serving.abort();
    outcome.map_err(|error| format!("{error}; its log is {}", log.display()).into())
}

#[expect(clippy::disallowed_methods, reason = "measures time")]
async fn measure(
    mut command: Command,
    heard: &mut UnboundedReceiver<Said>,
    expected: usize,
    status: Option<u16>,
) -> Result<Outcome> {
    let begin = Instant::now();
    let mut function = Ended(command.spawn()?);
    let mut moments = Vec::new();
    loop {
        match tokio::time::timeout(LIMIT, heard.recv()).await.map_err(|_| "it does not answer")? {
            Some(Said::Answer(moment, answer)) if is_right(&answer, status) => moments.push(moment),
            Some(Said::Answer(_, answer)) => return Err(format!("it answered {answer}").into()),
            Some(Said::Failure(error)) => return Err(format!("it failed: {error}").into()),
            Some(Said::Idle) if moments.len() == expected => break,
            Some(Said::Idle) | None => return Err("an answer is missing".into()),
        }
    }
    let first = moments.first().ok_or("nothing was asked")?.duration_since(begin);
    Ok(Outcome { first, resident_megabytes: function.resident_megabytes()? })
}

/// Whether an answer has this status, or leaves no message to be sent again where that is what it tells.
fn is_right(answer: &Value, status: Option<u16>) -> bool {
    match status {
        Some(status) => answer["statusCode"] == status,
        None => answer["batchItemFailures"].as_array().is_some_and(Vec::is_empty),
    }
}

fn router(api: Api) -> Router {
    const BASE: &str = "/2018-06-01/runtime";
    Router::new()
        .route(&format!("{BASE}/invocation/next"), get(next))
        .route(&format!("{BASE}/invocation/{{id}}/response"), post(answer))
        .route(&format!("{BASE}/invocation/{{id}}/error"), post(failure))
        .route(&format!("{BASE}/init/error"), post(failure))
        .with_state(api)
}

async fn next(State(api): State<Api>) -> Response {
    let event = api.events.lock().map(|mut events| events.pop_front()).unwrap_or_default();
    let Some(event) = event else {
        // As on Lambda, the function waits until something comes; here that is its end.
        let _ = api.said.send(Said::Idle);
        return std::future::pending().await;
    };
    let headers = [
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
        ("lambda-runtime-deadline-ms", "4102444800000"),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:keepsake-bench"),
        ("lambda-runtime-trace-id", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0"),
    ];
    (headers, Json(event)).into_response()
}

#[expect(clippy::disallowed_methods, reason = "measures time")]
async fn answer(State(api): State<Api>, body: axum::body::Bytes) -> StatusCode {
    let moment = Instant::now();
    let _ = api.said.send(match serde_json::from_slice(&body) {
        Ok(answer) => Said::Answer(moment, answer),
        Err(error) => Said::Failure(error.to_string()),
    });
    StatusCode::ACCEPTED
}

async fn failure(State(api): State<Api>, body: String) -> StatusCode {
    let _ = api.said.send(Said::Failure(body));
    StatusCode::ACCEPTED
}

/// A process that is ended when dropped.
struct Ended(std::process::Child);

impl Ended {
    fn resident_megabytes(&mut self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1024.0 / 1e6)
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
