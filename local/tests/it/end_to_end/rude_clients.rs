//! Clients that vanish, stall, send far too much, or come in great numbers. None of them keeps anything of the server, and
//! none keeps others from being served.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use reqwest::{Body, Client, StatusCode};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::Value;
use shared::digest::{Digest, Hasher};

use crate::photos::{large, small};
use crate::server::{STORE_FOLDERS, Server, eventually, names};

impl Server {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.url("").trim_start_matches("http://")).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// How many files and connections it has open.
    fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// The most memory it ever had, in mebibytes.
    fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }
}

/// An upload of one image as a form, as it goes over the wire.
fn form(bytes: &[u8]) -> Vec<u8> {
    let head = "--line\r\nContent-Disposition: form-data; name=\"image\"; filename=\"x\"\r\n\r\n";
    let body = [head.as_bytes(), bytes, b"\r\n--line--\r\n"].concat();
    let length = body.len();
    request(&format!("Content-Type: multipart/form-data; boundary=line\r\nContent-Length: {length}\r\n"), &body)
}

fn request(headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("POST /api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n").as_bytes(), body].concat()
}

fn status(answer: &[u8]) -> &str {
    std::str::from_utf8(answer.get(9..12).unwrap_or_default()).unwrap()
}

/// Nothing of what clients began is left.
async fn nothing_is_left(server: &Server, folder: &Path, open_files: usize) {
    eventually("what clients left open is closed", || server.open_files() <= open_files).await;
    assert!(server.get_json("/api/images").await["images"].as_array().unwrap().is_empty());
    for below in STORE_FOLDERS {
        let left: Vec<String> = names(folder.join(below)).into_iter().filter(|name| name.contains("tmp")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert!(names(folder.join("uploads")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_vanish_in_mid_upload_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.get("/livez").await;
    let open_files = server.open_files();
    let large = large(1);
    let uploads = [
        form(&small(1)),
        form(&large),
        request(&format!("Content-Type: image/bmp\r\nContent-Length: {}\r\n", large.len()), &large),
        request("Content-Type: image/bmp\r\nTransfer-Encoding: chunked\r\n", &[b"50000\r\n", &large[..]].concat()),
    ];
    for upload in &uploads {
        for cut in [1, 10, upload.len() / 2, upload.len() - 20, upload.len() - 1] {
            // Gone for good: whatever the server sends then is answered with a reset.
            server.connect().write_all(&upload[..cut]).unwrap();
            // Done with sending, too early, but still there to be told so.
            let mut client = server.connect();
            client.write_all(&upload[..cut]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            assert!(["", "400"].contains(&status(&answer)), "{}", String::from_utf8_lossy(&answer));
        }
    }
    nothing_is_left(&server, folder.path(), open_files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_byte_by_byte_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let mut client = server.connect();
    for byte in form(&small(1)) {
        client.write_all(&[byte]).unwrap();
    }
    let mut answer = [0; 12];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(status(&answer), "201");
}

const TOO_LONG: u64 = 300 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_far_too_long_is_refused_early_and_takes_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), &[("MAX_UPLOAD_BYTES", "8MiB")]);
    server.get("/livez").await;
    let open_files = server.open_files();
    // Where its length is announced, before any of it is sent.
    let mut client = server.connect();
    client.write_all(&request(&format!("Content-Length: {TOO_LONG}\r\n"), b"")).unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(status(&answer), "413");
    drop(client);
    // Where it is not, soon after the limit. The client sends on until it hears the answer or is cut off.
    let mut client = server.connect();
    client.write_all(&request("Transfer-Encoding: chunked\r\n", b"")).unwrap();
    let mut bmp = large(1);
    bmp.resize(1 << 20, 7);
    let chunk = [b"100000\r\n", &bmp[..], b"\r\n"].concat();
    let sent = (0..TOO_LONG >> 20).take_while(|_| client.write_all(&chunk).is_ok()).count();
    assert!((8..40).contains(&sent), "it took {sent} MiB");
    drop(client);
    nothing_is_left(&server, folder.path(), open_files).await;
    assert!(server.peak_memory() < 100, "{} MiB", server.peak_memory());
}

/// A bitmap of ten thousand by ten thousand pixels, piece by piece.
fn bitmap() -> impl Iterator<Item = Bytes> {
    let size: u32 = 300_000_000;
    let mut head = b"BM".to_vec();
    head.extend((size + 54).to_le_bytes());
    head.extend([0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0]);
    head.extend([10_000_u32.to_le_bytes(), 10_000_u32.to_le_bytes()].concat());
    head.extend([1, 0, 24, 0, 0, 0, 0, 0]);
    head.extend(size.to_le_bytes());
    head.resize(54, 0);
    let row = |n: u32| Bytes::from(vec![n as u8; 30_000 * 100]);
    std::iter::once(Bytes::from(head)).chain((0..100).map(row))
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_megabytes_are_stored_and_read_back_where_that_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), &[("MAX_UPLOAD_BYTES", "400MiB")]);
    let body = Body::wrap_stream(stream::iter(bitmap().map(Ok::<_, std::io::Error>)));
    let answer = Client::new().post(server.url("/api/upload")).header("content-type", "image/bmp").body(body);
    let item = crate::server::json(answer.send().await.unwrap(), StatusCode::CREATED).await;
    let mut hasher = Hasher::default();
    bitmap().for_each(|piece| hasher.update(&piece));
    let sent: Digest = hasher.finish();
    assert_eq!((&item["size"], &item["sha256"]), (&Value::from(300_000_054), &Value::from(sent.to_string())));

    let answer = server.get(item["url"].as_str().unwrap()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let (mut hasher, mut pieces) = (Hasher::default(), answer.bytes_stream());
    while let Some(piece) = pieces.next().await {
        hasher.update(&piece.unwrap());
    }
    assert_eq!(hasher.finish(), sent);
    assert!(server.peak_memory() < 100, "{} MiB", server.peak_memory());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_do_not_keep_others_from_being_served() {
    const CONNECTIONS: u32 = 1000;
    // This process needs as many files as the server.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Where most programs may open 1,024 files unless they ask for more, which would be too few here.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -n 512; exec \"$0\"", env!("CARGO_BIN_EXE_keepsake")]).current_dir(folder.path());
    let server =
        Server::started(command.env_clear().envs([("PORT", "0"), ("HOST", "127.0.0.1"), ("RUST_LOG", "warn")]));
    server.get("/livez").await;
    let open_files = server.open_files();

    let idle: Vec<TcpStream> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    let served = server.upload("x.png", &small(0), "beside idle ones").await;
    drop(idle);

    let mut busy = Vec::new();
    for n in 1..=CONNECTIONS {
        let (mut client, mut upload) = (server.connect(), form(&small(n)));
        let last = upload.pop().unwrap();
        client.write_all(&upload).unwrap();
        busy.push((client, last));
    }
    eventually("all are connected", || server.open_files() >= CONNECTIONS as usize).await;
    server.delete(served["id"].as_str().unwrap()).await;
    let more = server.upload("x.png", &small(0), "beside uploads").await;
    // Some finish, and the others vanish.
    let vanishing = busy.split_off(20);
    for (client, last) in &mut busy {
        client.write_all(&[*last]).unwrap();
    }
    for (client, _) in &mut busy {
        let mut answer = [0; 12];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(status(&answer), "201");
    }
    drop((busy, vanishing));
    eventually("what clients left open is closed", || server.open_files() <= open_files).await;
    let listed = server.get_json("/api/images").await;
    assert_eq!(listed["images"].as_array().unwrap().len(), 21);
    assert!(
        listed["images"]
            .as_array()
            .unwrap()
            .contains(&server.get_json(&format!("/api/images/{}", more["id"].as_str().unwrap())).await)
    );
    assert_eq!(names(folder.path().join("uploads")).len(), 21);
}
