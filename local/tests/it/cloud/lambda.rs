//! AWS Lambda, played: one Runtime API for any number of processes of the functions' binaries.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use shared::testing::Answer;
use shared::testing::lambda::{EventBody, event};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::bucket::Access;

/// The longest that Lambda lets a function run. Nothing here takes as long; who waits longer has failed.
const LIMIT: Duration = Duration::from_secs(900);
const BASE: &str = "/{function}/2018-06-01/runtime";

/// What a function made of an event: its answer, or the error that it reported.
pub type Outcome = Result<Value, Value>;

type Invocation = (Value, oneshot::Sender<Outcome>);

/// The Runtime API. Each process has a path of its own on it.
pub struct Lambda {
    address: String,
    lines: Lines,
    server: JoinHandle<()>,
}

type Lines = Arc<Mutex<HashMap<String, Arc<Line>>>>;

/// Events on their way to one process, and answers on their way back.
struct Line {
    waiting: tokio::sync::Mutex<UnboundedReceiver<Invocation>>,
    running: Mutex<Option<oneshot::Sender<Outcome>>>,
}

impl Lambda {
    pub async fn start() -> Self {
        let lines = Lines::default();
        let app = Router::new()
            .route(&format!("{BASE}/invocation/next"), get(next))
            .route(&format!("{BASE}/invocation/{{id}}/response"), post(respond))
            .route(&format!("{BASE}/invocation/{{id}}/error"), post(fail))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&lines));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, lines, server }
    }

    /// Starts a process of the function with this name on a bucket.
    pub fn function(&self, name: &str, access: &Access) -> Function {
        let (sender, waiting) = unbounded_channel();
        let line = Arc::new(Line { waiting: waiting.into(), running: Mutex::default() });
        let path = {
            let mut lines = self.lines.lock().unwrap();
            let path = format!("{name}-{}", lines.len());
            lines.insert(path.clone(), line);
            path
        };
        let mut child = Command::new(binary(name))
            .env_clear()
            .envs(access.variables())
            .env("AWS_LAMBDA_RUNTIME_API", format!("{}/{path}", self.address))
            .env("AWS_LAMBDA_FUNCTION_NAME", format!("keepsake-{name}"))
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            // What fails on purpose would fill the screen. What is left are the words of a panic.
            .env("RUST_LOG", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (ended, watch) = watch::channel(None);
        let process = tokio::spawn(async move {
            let status = child.wait().await.unwrap();
            let _ = ended.send(Some(status));
        });
        Function { name: path, sender, process, ended: watch }
    }
}

impl Drop for Lambda {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The binary of a function, which lies beside that of the server once the whole workspace is built.
fn binary(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_keepsake")).with_file_name(name);
    assert!(path.is_file(), "{} is missing: run `cargo build --workspace` before this test", path.display());
    path
}

/// One process of a function; killed when dropped.
pub struct Function {
    name: String,
    sender: UnboundedSender<Invocation>,
    process: JoinHandle<()>,
    ended: watch::Receiver<Option<std::process::ExitStatus>>,
}

impl Drop for Function {
    fn drop(&mut self) {
        self.process.abort();
    }
}

impl Function {
    /// Hands an event to the process and waits for what it makes of it.
    pub async fn invoke(&self, event: Value) -> Outcome {
        let (sender, outcome) = oneshot::channel();
        self.sender.send((event, sender)).unwrap();
        let mut ended = self.ended.clone();
        tokio::select! {
            outcome = tokio::time::timeout(LIMIT, outcome) => {
                outcome.unwrap_or_else(|_| panic!("{} did not answer within {LIMIT:?}", self.name)).unwrap()
            }
            status = ended.wait_for(Option::is_some) => panic!("{} ended: {status:?}", self.name),
        }
    }

    /// Sends a request, as API Gateway passes it on, and returns what a client sees.
    pub async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: EventBody<'_>) -> Answer {
        let outcome = self.invoke(event(method, target, headers, body)).await;
        decode(&outcome.unwrap_or_else(|error| panic!("{} failed: {error}", self.name)))
    }

    /// Sends a GET.
    pub async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[], EventBody::None).await
    }
}

async fn next(State(lines): State<Lines>, Path(function): Path<String>) -> Response {
    let line = Arc::clone(&lines.lock().unwrap()[&function]);
    let Some((event, sender)) = line.waiting.lock().await.recv().await else {
        // The test has let go of this process, which is about to be killed.
        return std::future::pending().await;
    };
    *line.running.lock().unwrap() = Some(sender);
    let headers = [
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
        ("lambda-runtime-deadline-ms", "4102444800000"),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:123456789012:function:test"),
        ("lambda-runtime-trace-id", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0"),
    ];
    (headers, Json(event)).into_response()
}

async fn respond(State(lines): State<Lines>, Path((function, _)): Path<(String, String)>, answer: Bytes) -> StatusCode {
    record(&lines, &function, Ok(serde_json::from_slice(&answer).unwrap()))
}

async fn fail(State(lines): State<Lines>, Path((function, _)): Path<(String, String)>, error: Bytes) -> StatusCode {
    record(&lines, &function, Err(serde_json::from_slice(&error).unwrap()))
}

fn record(lines: &Lines, function: &str, outcome: Outcome) -> StatusCode {
    let line = Arc::clone(&lines.lock().unwrap()[function]);
    if let Some(sender) = line.running.lock().unwrap().take() {
        // Nobody waits any more where the test has failed meanwhile.
        let _ = sender.send(outcome);
    }
    StatusCode::ACCEPTED
}

/// What API Gateway sends to the client for a function's answer.
fn decode(answer: &Value) -> Answer {
    let header = |(name, value): (&String, &Value)| {
        (HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value.as_str().unwrap()).unwrap())
    };
    let body = answer["body"].as_str().unwrap_or_default();
    let encoded = answer["isBase64Encoded"] == true;
    Answer {
        status: StatusCode::from_u16(answer["statusCode"].as_u64().unwrap() as u16).unwrap(),
        headers: answer["headers"].as_object().unwrap().iter().map(header).collect(),
        body: if encoded { STANDARD.decode(body).unwrap().into() } else { body.to_owned().into() },
    }
}
