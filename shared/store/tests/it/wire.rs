//! A server that answers each request as a script says, or breaks off: what real services do on bad days.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// By name in lower case.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// As an answer, but the connection breaks before the last so many bytes of the body.
    Torn(Box<Reply>, usize),
    /// The request is read to its end, and the connection closed.
    Lost,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    /// An error as S3 writes it.
    pub fn error(status: u16, code: &str) -> Self {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>so be it</Message></Error>");
        Self::status(status).body(body.as_bytes())
    }

    /// An answer about an object: what a GET, a HEAD or a PUT of it gets.
    pub fn object(etag: &str, bytes: &[u8]) -> Self {
        let modified = "Wed, 21 Oct 2015 07:28:00 GMT".to_owned();
        Self::status(200).header("etag", format!("\"{etag}\"")).header("last-modified", modified).body(bytes)
    }

    /// An empty list of objects.
    pub fn listing() -> Self {
        let body = "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        Self::status(200).body(body.as_bytes())
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name, value.into()));
        }
        self
    }

    fn body(mut self, bytes: &[u8]) -> Self {
        if let Self::Answer { body, .. } = &mut self {
            *body = bytes.to_vec();
        }
        self
    }
}

/// A server for one test. Its port closes with the test's runtime.
pub struct Server {
    pub endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

type Script = dyn Fn(usize, &[Request]) -> Reply + Send + Sync;

impl Server {
    /// Starts a server that answers the request with the number `n` (from 0), the last of `requests`, by `script`.
    pub async fn start(script: impl Fn(usize, &[Request]) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (script, seen): (Arc<Script>, _) = (Arc::new(script), requests.clone());
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, script.clone(), seen.clone()));
            }
        });
        Self { endpoint, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The methods of the requests so far.
    pub fn methods(&self) -> String {
        self.requests().iter().map(|request| request.method.as_str()).collect::<Vec<_>>().join(" ")
    }
}

/// Answers one request and closes the connection, as it says it will.
async fn serve(mut connection: TcpStream, script: Arc<Script>, seen: Arc<Mutex<Vec<Request>>>) {
    let Some(request) = read_request(&mut connection).await else { return };
    let is_head = request.method == "HEAD";
    let reply = {
        let mut seen = seen.lock().unwrap();
        seen.push(request);
        script(seen.len() - 1, &seen)
    };
    let (reply, missing) = match reply {
        Reply::Torn(reply, missing) => (*reply, missing),
        reply => (reply, 0),
    };
    let Reply::Answer { status, headers, body } = reply else { return };
    let mut answer =
        format!("HTTP/1.1 {status} As Scripted\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str("\r\n");
    let mut answer = answer.into_bytes();
    if !is_head {
        answer.extend(&body[..body.len() - missing]);
    }
    let _ = connection.write_all(&answer).await;
    let _ = connection.shutdown().await;
}

async fn read_request(connection: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).ok()?;
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let pairs = lines.filter_map(|line| line.split_once(':'));
    let headers: HashMap<_, _> = pairs.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
    if headers.contains_key("expect") {
        connection.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
    }
    let length = headers.get("content-length").and_then(|length| length.parse::<usize>().ok()).unwrap_or_default();
    let mut body = bytes.split_off(head + 4);
    while body.len() < length {
        if connection.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Request { method, target, headers, body })
}
