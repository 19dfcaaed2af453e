//! A function's binary as AWS Lambda runs it: against a Runtime API that hands it events.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use wiremock::matchers::{method, path, path_regex};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::Answer;
use store::sync::Mutex;

/// Nothing here takes this long; a test that waits longer has failed.
const LIMIT: Duration = Duration::from_secs(120);

/// A body as API Gateway passes it on.
#[derive(Debug, Clone, Copy)]
pub enum EventBody<'a> {
    /// There is none.
    None,
    /// As it is, for media types that are text.
    Text(&'a str),
    /// As base64, for all others.
    Binary(&'a [u8]),
}

/// The event that an HTTP API of API Gateway makes of a request: payload format 2.0, with a `$default` stage.
pub fn event(method: &str, target: &str, headers: &[(&str, &str)], body: EventBody<'_>) -> Value {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut all =
        serde_json::Map::from_iter([("host".to_owned(), json!("abc.execute-api.eu-central-1.amazonaws.com"))]);
    all.extend(headers.iter().map(|(name, value)| (name.to_lowercase(), json!(value))));
    let (body, is_base64) = match body {
        EventBody::None => (None, false),
        EventBody::Text(text) => (Some(text.to_owned()), false),
        EventBody::Binary(bytes) => (Some(STANDARD.encode(bytes)), true),
    };
    let mut event = json!({
        "version": "2.0",
        "routeKey": format!("{method} {path}"),
        "rawPath": path,
        "rawQueryString": query,
        "headers": all,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abc",
            "domainName": "abc.execute-api.eu-central-1.amazonaws.com",
            "domainPrefix": "abc",
            "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test" },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": format!("{method} {path}"),
            "stage": "$default",
            "time": "20/Nov/2026:08:00:00 +0000",
            "timeEpoch": 1_795_161_600_000_i64,
        },
        "isBase64Encoded": is_base64,
    });
    if let Some(body) = body {
        event["body"] = body.into();
    }
    if let Some(Value::String(cookie)) = event["headers"].as_object_mut().and_then(|headers| headers.remove("cookie")) {
        event["cookies"] = cookie.split("; ").map(Value::from).collect();
    }
    event
}

/// The event that a REST API makes of a request at its stage `prod`: payload format 1.0.
pub fn rest_event(method: &str, target: &str, headers: &[(&str, &str)]) -> Value {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut event = json!({
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "multiValueQueryStringParameters": null,
        "queryStringParameters": null,
        "pathParameters": { "proxy": path.trim_start_matches('/') },
        "stageVariables": null,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abc",
            "domainName": "abc.execute-api.eu-central-1.amazonaws.com",
            "domainPrefix": "abc",
            "httpMethod": method,
            "identity": { "sourceIp": "192.0.2.1", "userAgent": "test" },
            "path": format!("/prod{path}"),
            "protocol": "HTTP/1.1",
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "resourceId": "123456",
            "resourcePath": "/{proxy+}",
            "stage": "prod",
        },
        "body": null,
        "isBase64Encoded": false,
    });
    put_query_and_headers(&mut event, query, headers);
    event
}

/// The event that an Application Load Balancer makes of a request, with multi-value headers switched on.
pub fn balancer_event(method: &str, target: &str, headers: &[(&str, &str)]) -> Value {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let target_group = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/keepsake/49e9d65c45c6791a";
    let mut event = json!({
        "requestContext": { "elb": { "targetGroupArn": target_group } },
        "httpMethod": method,
        "path": path,
        "body": "",
        "isBase64Encoded": false,
    });
    put_query_and_headers(&mut event, query, headers);
    if let Some(event) = event.as_object_mut() {
        event.retain(|name, _| !matches!(name.as_str(), "headers" | "queryStringParameters"));
    }
    event
}

fn put_query_and_headers(event: &mut Value, query: &str, headers: &[(&str, &str)]) {
    let host = ("host", "abc.execute-api.eu-central-1.amazonaws.com");
    for (name, value) in std::iter::once(&host).chain(headers) {
        event["headers"][name.to_lowercase()] = json!(value);
        event["multiValueHeaders"][name.to_lowercase()] = json!([value]);
    }
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        event["queryStringParameters"][name] = json!(value);
        event["multiValueQueryStringParameters"][name] = json!([value]);
    }
}

/// Starts `binary` on the disk store in `folder`, hands it the events one after the other, and returns what a client
/// would see of its answers. The process is ended when all are there.
pub async fn invoke(binary: &str, folder: &Path, settings: &[(&str, &str)], events: Vec<Value>) -> Vec<Answer> {
    call(binary, folder, settings, events).await.iter().map(decode).collect()
}

/// Likewise, and returns the answers as they are; `{"errorMessage": …}` for an event that failed.
pub async fn call(binary: &str, folder: &Path, settings: &[(&str, &str)], events: Vec<Value>) -> Vec<Value> {
    let (sender, mut answers) = unbounded_channel();
    let expected = events.len();
    let api = runtime_api(events, sender).await;
    let mut command = Command::new(binary);
    command.env_clear().kill_on_drop(true).env("STORE_URL", format!("file://{}", folder.display()));
    for (name, value) in [
        ("AWS_LAMBDA_RUNTIME_API", api.address().to_string().as_str()),
        ("AWS_LAMBDA_FUNCTION_NAME", "keepsake-test"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("RUST_LOG", "warn"),
    ] {
        command.env(name, value);
    }
    let mut function = command.envs(settings.iter().copied()).spawn().unwrap();
    let mut received = Vec::new();
    while received.len() < expected {
        tokio::select! {
            answer = tokio::time::timeout(LIMIT, answers.recv()) => received.push(answer.unwrap().unwrap()),
            ended = function.wait() => panic!("the function ended: {ended:?}"),
        }
    }
    function.kill().await.unwrap();
    received
}

async fn runtime_api(events: Vec<Value>, answers: UnboundedSender<Value>) -> MockServer {
    const BASE: &str = "/2018-06-01/runtime";
    let server = MockServer::start().await;
    let next = Mock::given(method("GET")).and(path(format!("{BASE}/invocation/next")));
    server.register(next.respond_with(Events(Mutex::new(events.into())))).await;
    let response = Mock::given(method("POST")).and(path_regex(format!("^{BASE}/invocation/[^/]+/(response|error)$")));
    server.register(response.respond_with(Answers(answers))).await;
    server
}

/// Hands out events; once there are none left, it lets the function wait, as Lambda does.
struct Events(Mutex<VecDeque<Value>>);

impl Respond for Events {
    fn respond(&self, _request: &Request) -> ResponseTemplate {
        let mut events = store::sync::lock(&self.0);
        let Some(event) = events.pop_front() else { return ResponseTemplate::new(200).set_delay(10 * LIMIT) };
        ResponseTemplate::new(200)
            .insert_header("lambda-runtime-aws-request-id", format!("request-{}", events.len()))
            .insert_header("lambda-runtime-deadline-ms", "4102444800000")
            .insert_header(
                "lambda-runtime-invoked-function-arn",
                "arn:aws:lambda:eu-central-1:123456789012:function:test",
            )
            .insert_header("lambda-runtime-trace-id", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0")
            .set_body_json(event)
    }
}

struct Answers(UnboundedSender<Value>);

impl Respond for Answers {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        self.0.send(request.body_json().unwrap()).unwrap();
        ResponseTemplate::new(202)
    }
}

/// What API Gateway sends to the client for a function's answer.
fn decode(answer: &Value) -> Answer {
    let header = |(name, value): (&String, &Value)| {
        (HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value.as_str().unwrap()).unwrap())
    };
    let body = answer["body"].as_str().unwrap_or_default();
    let body = match answer["isBase64Encoded"].as_bool() {
        Some(true) => STANDARD.decode(body).unwrap(),
        _ => body.as_bytes().to_vec(),
    };
    let mut headers = answer["headers"].as_object().into_iter().flatten().map(header).collect::<HeaderMap>();
    for (name, values) in answer["multiValueHeaders"].as_object().into_iter().flatten() {
        let values = values.as_array().unwrap().iter().map(|value| header((name, value)));
        headers.extend(
            values.filter(|(name, _)| !answer["headers"].as_object().is_some_and(|h| h.contains_key(name.as_str()))),
        );
    }
    for cookie in answer["cookies"].as_array().into_iter().flatten() {
        headers.append(SET_COOKIE, HeaderValue::from_str(cookie.as_str().unwrap()).unwrap());
    }
    Answer {
        status: StatusCode::from_u16(answer["statusCode"].as_u64().unwrap() as u16).unwrap(),
        headers,
        body: body.into(),
    }
}
