//! Accepts and serves connections, and closes idle ones.
//!
//! Silence is limited, not duration: a client that sends steadily, however slowly, is served to the end.

use std::net::IpAddr;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::http::header::EXPECT;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_io_timeout::TimeoutStream;
use tower::util::MapRequest;
use tower_http::timeout::RequestBodyTimeoutLayer;

use crate::drain_body::DrainBody;
use crate::limits::Peer;

/// The headers of a request must arrive within this time after the connection was made or the previous request was
/// answered; so an unused connection is closed as well.
const HEADERS: Duration = Duration::from_secs(60);
/// The longest pause within a request's body. Uploads have a slightly shorter limit, and return an error.
const BODY: Duration = Duration::from_secs(75);
/// The longest pause in reading an answer. Players and browsers that pause stop reading; after this time they request
/// the rest again when they continue.
const ANSWER: Duration = Duration::from_secs(300);

/// Serves connections until stopped; then accepts no more, and ends when all requests are answered.
pub async fn serve(mut listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let connections = Connections::new(router, stopped.clone());
    loop {
        tokio::select! {
            // This listener logs errors, waits briefly if the process is out of file descriptors, and continues.
            (stream, peer) = Listener::accept(&mut listener) => connections.serve(stream, peer.ip()),
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
    }
    drop(listener);
    connections.open.shutdown().await;
}

/// Raises this process's limit of open files and connections to the system's maximum. Most systems start with less, for
/// old programs that cannot handle more.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "no more files can be opened than {:?}",
            limit.current
        );
    }
}

struct Connections {
    router: Router,
    protocol: http1::Builder,
    open: GracefulShutdown,
    stopped: watch::Receiver<bool>,
}

impl Connections {
    fn new(router: Router, stopped: watch::Receiver<bool>) -> Self {
        let mut protocol = http1::Builder::new();
        protocol.timer(TokioTimer::new()).header_read_timeout(HEADERS);
        let router = router.layer(RequestBodyTimeoutLayer::new(BODY));
        Self { router, protocol, open: GracefulShutdown::new(), stopped }
    }

    fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, peer: IpAddr) {
        let stopped = self.stopped.clone();
        let from = move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            let waits = request.headers().contains_key(EXPECT);
            request.map(|body| if waits { DrainBody::undrained(body) } else { DrainBody::new(body, stopped.clone()) })
        };
        let service = TowerToHyperService::new(MapRequest::new(self.router.clone(), from));
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(ANSWER));
        let connection = self.protocol.serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = self.open.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                // Clients disconnect all the time; the result of a request is logged with it.
                tracing::debug!(error = &error as &dyn std::error::Error, "a connection broke off");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::drain_body::SILENCE;

    /// Length of an answer that does not fit into the buffers between client and server.
    const LONG: usize = 100_000;

    /// A connection to a server that answers with the length of the request body. Time advances when all tasks wait.
    fn connect() -> (Connections, DuplexStream) {
        let length = |body: Result<axum::body::Bytes, _>| async move {
            body.map(|body| body.len().to_string()).map_err(|_: axum::extract::rejection::BytesRejection| "gave up")
        };
        let refused = post(|| async { "refused" });
        let long = get(async || "a".repeat(LONG));
        let router = Router::new().route("/", post(length)).route("/refused", refused).route("/long", long);
        let connections = Connections::new(router, watch::channel(false).1);
        let (client, server) = duplex(4096);
        connections.serve(server, Ipv4Addr::LOCALHOST.into());
        (connections, client)
    }

    #[expect(clippy::disallowed_methods, reason = "in these tests time is not that of a clock")]
    async fn closed_after(mut client: DuplexStream) -> (Duration, String) {
        let (start, mut answer) = (Instant::now(), String::new());
        let a_day = Duration::from_hours(24);
        timeout(a_day, client.read_to_string(&mut answer)).await.expect("it waits on and on").unwrap();
        (start.elapsed(), answer)
    }

    #[expect(clippy::disallowed_methods, reason = "in these tests time is not that of a clock")]
    async fn pause(time: Duration) {
        tokio::time::sleep(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_closed() {
        let (_server, client) = connect();
        assert_eq!(closed_after(client).await, (HEADERS, String::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn headers_that_come_byte_by_byte_and_never_end_are_not_waited_for() {
        let (_server, mut client) = connect();
        client.write_all(b"POST / HTTP/1.1\r\n").await.unwrap();
        let mut sent = 0;
        while client.write_all(b"a").await.is_ok() {
            pause(Duration::from_secs(7)).await;
            sent += 1;
            assert!(sent < 100, "it waits on and on");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_kept_and_not_used_is_closed() {
        let (_server, mut client) = connect();
        client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab").await.unwrap();
        let (after, answer) = closed_after(client).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n2"), "{answer}");
        assert_eq!(after, HEADERS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_arriving_is_given_up() {
        let (_server, mut client) = connect();
        client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab").await.unwrap();
        let (after, answer) = closed_after(client).await;
        assert!(answer.ends_with("gave up"), "{answer}");
        assert_eq!(after, BODY + SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn client_rejected_mid_upload_can_still_read_the_response() {
        let (_server, mut client) = connect();
        client.write_all(b"POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n").await.unwrap();
        // Far more than the buffers hold; each piece arrives before the next is sent.
        for _ in 0..100 {
            client.write_all(&[b'a'; 1000]).await.unwrap();
        }
        let (after, answer) = closed_after(client).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("refused"), "{answer}");
        assert_eq!(after, HEADERS, "the connection is as good as before");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_and_sends_on_and_on_is_cut_off() {
        let (_server, mut client) = connect();
        client.write_all(b"POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n").await.unwrap();
        let mut seconds = 0;
        while client.write_all(b"a").await.is_ok() {
            pause(Duration::from_secs(1)).await;
            seconds += 1;
            assert!(seconds < 100, "it reads on and on");
        }
        assert!(seconds >= 20, "{seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_to_be_asked_for_the_body_is_not_asked_for_what_is_refused() {
        let (_server, mut client) = connect();
        let head = "POST /refused HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        let (after, answer) = closed_after(client).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("refused"), "{answer}");
        assert_eq!(after, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_is_given_up() {
        let (_server, mut client) = connect();
        client.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        pause(ANSWER + Duration::from_secs(1)).await;
        let (after, answer) = closed_after(client).await;
        assert!(answer.len() < LONG, "all of it came");
        assert_eq!(after, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_read_slowly_is_waited_for_as_long_as_it_goes_on() {
        let (_server, mut client) = connect();
        client.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let (mut read, mut some) = (0, [0; 1000]);
        loop {
            match client.read(&mut some).await.unwrap() {
                0 => break,
                length => read += length,
            }
            pause(ANSWER - Duration::from_secs(1)).await;
        }
        assert!(read > LONG, "{read} bytes came");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_takes_hours_is_waited_for_as_long_as_it_goes_on() {
        let (_server, mut client) = connect();
        client
            .write_all(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 600\r\n\r\n")
            .await
            .unwrap();
        for _ in 0..600 {
            pause(Duration::from_secs(50)).await;
            client.write_all(b"a").await.unwrap();
        }
        let (_, answer) = closed_after(client).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n600"), "{answer}");
    }
}
