//! The load: one request after the other on each connection, with as little work of its own as possible.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Result;

/// Sends the same GET again and again on so many connections for so long; returns how many were answered.
#[allow(dead_code, reason = "the benchmark of uploads sends other requests")]
pub async fn run(url: &str, path: &str, headers: &str, connections: usize, time: Duration) -> Result<u64> {
    let request = Bytes::from(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", address(url)?));
    for_time(url, connections, time, move || request.clone()).await
}

/// Sends what `next` returns on so many connections for so long; returns how many requests were answered.
#[expect(clippy::disallowed_methods, reason = "measures time")]
pub async fn for_time(
    url: &str,
    connections: usize,
    time: Duration,
    next: impl Fn() -> Bytes + Send + Sync + 'static,
) -> Result<u64> {
    let end = Instant::now() + time;
    until_none(url, connections, move || (Instant::now() < end).then(&next)).await
}

/// Sends what `next` returns on so many connections until it returns `None`; returns how many requests were answered.
pub async fn until_none(
    url: &str,
    connections: usize,
    next: impl Fn() -> Option<Bytes> + Send + Sync + 'static,
) -> Result<u64> {
    let (address, next) = (address(url)?.to_owned(), Arc::new(next));
    let mut running = JoinSet::new();
    for _ in 0..connections {
        running.spawn(repeat(address.clone(), Arc::clone(&next)));
    }
    let mut answered = 0;
    while let Some(ended) = running.join_next().await {
        answered += ended??;
    }
    Ok(answered)
}

/// The host and port of a URL.
pub fn address(url: &str) -> Result<&str> {
    Ok(url.strip_prefix("http://").ok_or("not an http address")?)
}

async fn repeat(address: String, next: Arc<impl Fn() -> Option<Bytes>>) -> Result<u64> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut buffer, mut answered) = (vec![0; 256 * 1024], 0);
    while let Some(request) = next() {
        stream.write_all(&request).await?;
        receive(&mut stream, &mut buffer).await?;
        answered += 1;
    }
    Ok(answered)
}

/// Reads one answer, whose length its head must state unless it has no body.
async fn receive(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    let (head, length) = loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Err("the server closed a connection".into());
        }
        filled += read;
        if let Some(end) = buffer[..filled].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = std::str::from_utf8(&buffer[..end])?;
            break (end + 4, length_of(head)?);
        }
    };
    let mut rest = (head + length).checked_sub(filled).ok_or("more came than was announced")?;
    while rest > 0 {
        let most = rest.min(buffer.len());
        let read = stream.read(&mut buffer[..most]).await?;
        if read == 0 {
            return Err("a response broke off".into());
        }
        rest -= read;
    }
    Ok(())
}

fn length_of(head: &str) -> Result<usize> {
    let status = head.split(' ').nth(1).ok_or("no status")?;
    match status {
        "304" => return Ok(0),
        "200" | "201" | "206" => {}
        other => return Err(format!("the server answered {other}").into()),
    }
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length")).ok_or("no length")?;
    Ok(length.1.trim().parse()?)
}
