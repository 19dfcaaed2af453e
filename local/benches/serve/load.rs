//! The load: the same request again and again on each connection, with as little work of its own as possible.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Result;

/// Sends one request after the other on so many connections for so long; returns how many were answered.
#[expect(clippy::disallowed_methods, reason = "measures time")]
pub async fn run(url: &str, path: &str, headers: &str, connections: usize, time: Duration) -> Result<u64> {
    let address = url.strip_prefix("http://").ok_or("not an http address")?.to_owned();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
    let end = Instant::now() + time;
    let mut running = JoinSet::new();
    for _ in 0..connections {
        running.spawn(repeat(address.clone(), request.clone(), end));
    }
    let mut answered = 0;
    while let Some(ended) = running.join_next().await {
        answered += ended??;
    }
    Ok(answered)
}

#[expect(clippy::disallowed_methods, reason = "measures time")]
async fn repeat(address: String, request: String, end: Instant) -> Result<u64> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut buffer, mut answered) = (vec![0; 256 * 1024], 0);
    while Instant::now() < end {
        stream.write_all(request.as_bytes()).await?;
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
        "200" | "206" => {}
        other => return Err(format!("the server answered {other}").into()),
    }
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length")).ok_or("no length")?;
    Ok(length.1.trim().parse()?)
}
