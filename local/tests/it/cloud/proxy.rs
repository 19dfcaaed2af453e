//! What stands between Keepsake and S3: it counts, and it fails as networks and S3 do.
//!
//! Requests go on as they came, with the host that they were signed for. Every tenth fails, in turn in each of the ways
//! of [`Fault`], so that a run meets all of them whatever the timing. That a request is tried again gets around those;
//! so every twenty-fifth image or commit that is put has more of them, until the client of Keepsake is told.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use shared::layout;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::counts::{Counts, Kind, Target};

/// One request in so many fails.
const EVERY: u64 = 10;
/// One new object in so many fails for good, as far as the SDK's three attempts can tell.
const EVERY_OBJECT: u64 = 25;
/// The faults of such an object, in turn, and how many requests for it they happen to. After a put whose reply was lost,
/// Keepsake looks whether it took place; nobody tells it.
const LASTING: [(Fault, u32); 2] = [(Fault::SlowDown, 3), (Fault::LostReply, 6)];
const DELAY: Duration = Duration::from_millis(300);
/// What S3 answers when there are too many requests.
const SLOW_DOWN: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SlowDown</Code><Message>Please reduce your \
                         request rate.</Message></Error>";

/// What can happen to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// 503, and S3 never sees the request.
    SlowDown,
    /// It goes on late.
    Delay,
    /// S3 does as it was told, and nobody hears of it.
    LostReply,
    /// The connection ends in the middle of its body.
    CutRequest,
    /// The connection ends in the middle of the answer.
    CutReply,
}

impl Fault {
    pub const ALL: [Self; 5] = [Self::SlowDown, Self::Delay, Self::LostReply, Self::CutRequest, Self::CutReply];
}

type Body = BoxBody<Bytes, io::Error>;

/// The way to one S3 service, with any number of doors.
pub struct Proxy {
    shared: Arc<Shared>,
    doors: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    upstream: String,
    client: Client<HttpConnector, Body>,
    fails: bool,
    state: Mutex<State>,
    /// Told of each commit that S3 has stored, as S3 tells a queue.
    created: UnboundedSender<Target>,
}

#[derive(Default)]
struct State {
    requests: u64,
    /// Images and commits that were put, each with the faults that still await it.
    objects: HashMap<String, (Fault, u32)>,
    faults: BTreeMap<Fault, u64>,
}

/// One door, for those whose requests are to be counted together.
#[derive(Clone)]
pub struct Door {
    /// The URL to give to a client of S3.
    pub endpoint: String,
    seen: Arc<watch::Sender<Seen>>,
}

/// What went through a door.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub counts: Counts,
    /// Requests of which the client says that it sent them before.
    pub retries: u64,
    /// Requests that a fault happened to.
    pub faults: u64,
    /// Answers of S3 itself that are errors, by their status.
    pub refusals: BTreeMap<u16, u64>,
    /// Requests that S3 did not answer at all.
    pub unanswered: u64,
}

impl Door {
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until so many requests have come.
    pub async fn reaches(&self, requests: u64) {
        self.seen.subscribe().wait_for(|seen| seen.counts.total() >= requests).await.unwrap();
    }

    pub fn counts(&self) -> Counts {
        self.seen().counts
    }
}

impl Proxy {
    /// A way to the service at `endpoint`, on which requests fail or do not.
    pub fn new(endpoint: &str, fails: bool, created: UnboundedSender<Target>) -> Self {
        let upstream = endpoint.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let shared = Shared { upstream, client, fails, state: Mutex::default(), created };
        Self { shared: Arc::new(shared), doors: Mutex::default() }
    }

    /// Opens a door on a port of its own.
    pub async fn door(&self) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = Door { endpoint: format!("http://{}", listener.local_addr().unwrap()), seen: Arc::default() };
        let (shared, seen) = (Arc::clone(&self.shared), Arc::clone(&door.seen));
        let serve = async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared), Arc::clone(&seen)));
            }
        };
        self.doors.lock().unwrap().push(tokio::spawn(serve));
        door
    }

    /// How often each fault happened.
    pub fn faults(&self) -> BTreeMap<Fault, u64> {
        self.shared.state.lock().unwrap().faults.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.doors.lock().unwrap().iter().for_each(JoinHandle::abort);
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, seen: Arc<watch::Sender<Seen>>) {
    let answer = |request| {
        let (shared, seen) = (Arc::clone(&shared), Arc::clone(&seen));
        async move { shared.answer(request, &seen).await }
    };
    // An error is a connection that was cut, by a fault or by a client that was killed.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

impl Shared {
    /// The answer to a request; an error ends the connection without one.
    async fn answer(&self, request: Request<Incoming>, seen: &watch::Sender<Seen>) -> io::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let target = Target::of(&head);
        let fault = if self.fails { self.state.lock().unwrap().next_fault(&target) } else { None };
        seen.send_modify(|seen| {
            seen.counts.add(&target);
            seen.retries += u64::from(is_retry(head.headers.get("amz-sdk-request")));
            seen.faults += u64::from(fault.is_some());
        });
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let mut request = Request::from_parts(head, whole(body.clone()));
        let uri = format!("http://{}{}", self.upstream, request.uri().path_and_query().unwrap());
        *request.uri_mut() = uri.parse::<Uri>().unwrap();
        match fault {
            Some(Fault::SlowDown) => {
                let answer = Response::builder().status(StatusCode::SERVICE_UNAVAILABLE);
                return Ok(answer.header("content-type", "application/xml").body(whole(SLOW_DOWN.into())).unwrap());
            }
            Some(Fault::Delay) => wait().await,
            Some(Fault::CutRequest) => {
                if !body.is_empty() {
                    *request.body_mut() = half(&body);
                    // S3 must not take half a body for a whole one; what it answers, if anything, is lost.
                    let answered = self.client.request(request).await;
                    assert!(!answered.is_ok_and(|answer| answer.status().is_success()), "half a body was taken");
                }
                return Err(cut());
            }
            _ => {}
        }
        let Ok(answer) = self.client.request(request).await else {
            seen.send_modify(|seen| seen.unanswered += 1);
            return Err(cut());
        };
        let status = answer.status();
        if status.is_client_error() || status.is_server_error() {
            seen.send_modify(|seen| *seen.refusals.entry(status.as_u16()).or_default() += 1);
        }
        if target.kind == Kind::Put && status.is_success() {
            // Whoever does not listen to events needs none.
            let _ = self.created.send(target);
        }
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        match fault {
            Some(Fault::LostReply) => Err(cut()),
            // An answer without a body has no middle.
            Some(Fault::CutReply) if body.is_empty() => Err(cut()),
            Some(Fault::CutReply) => Ok(Response::from_parts(head, half(&body))),
            _ => Ok(Response::from_parts(head, whole(body))),
        }
    }
}

impl State {
    fn next_fault(&mut self, target: &Target) -> Option<Fault> {
        self.requests += 1;
        let every_tenth = self.requests.is_multiple_of(EVERY).then(|| one_of(&Fault::ALL, self.requests / EVERY));
        let fault = self.next_of_object(target).or(every_tenth)?;
        *self.faults.entry(fault).or_default() += 1;
        Some(fault)
    }

    fn next_of_object(&mut self, target: &Target) -> Option<Fault> {
        let is_new = target.kind == Kind::Put && !self.objects.contains_key(&target.key);
        if is_new && [layout::UPLOADS, layout::COMMITS].iter().any(|folder| target.key.starts_with(folder)) {
            let number = self.objects.len() as u64 + 1;
            let (fault, times) = one_of(&LASTING, number / EVERY_OBJECT);
            let times = if number.is_multiple_of(EVERY_OBJECT) { times } else { 0 };
            self.objects.insert(target.key.clone(), (fault, times));
        }
        let (fault, left) = self.objects.get_mut(&target.key)?;
        *left = left.checked_sub(1)?;
        Some(*fault)
    }
}

/// The items in turn.
fn one_of<T: Copy>(items: &[T], number: u64) -> T {
    items[number as usize % items.len()]
}

/// Whether the AWS SDK says of a request that it is not its first attempt, as in `attempt=2; max=3`.
fn is_retry(header: Option<&HeaderValue>) -> bool {
    let text = header.and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').any(|part| part.trim().strip_prefix("attempt=").is_some_and(|attempt| attempt != "1"))
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed()
}

/// The first half of some bytes, and then nothing but a broken connection.
fn half(bytes: &Bytes) -> Body {
    let parts = [Ok(Frame::data(bytes.slice(..bytes.len() / 2))), Err(cut())];
    BodyExt::boxed(StreamBody::new(stream::iter(parts)))
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "cut on purpose")
}

#[expect(clippy::disallowed_methods, reason = "to be late is what this fault is about; nothing is right because of it")]
async fn wait() {
    tokio::time::sleep(DELAY).await;
}
