//! The command `healthcheck`: checks whether the server with the same configuration can serve. For container images,
//! which contain no other program that could do so.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use shared::config::Config;

/// How long the server may take to connect, and then between two parts of its answer.
const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests `/readyz`; the error contains the answer that came instead of 200.
pub fn run(config: &Config) -> Result<(), String> {
    if config.port == 0 {
        return Err("PORT is 0, so that nobody knows where the server listens; set PORT to the server's".to_owned());
    }
    let address = SocketAddr::from((reachable(config.host), config.port));
    let answer = ask(address).map_err(|error| format!("nothing answers at {address} ({error})"))?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if status == "200" { Ok(()) } else { Err(format!("the server at {address} is not ready: it answers {status:?}")) }
}

/// The address at which a server that listens on `host` is reachable.
fn reachable(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    }
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address, HEALTHCHECK_TIMEOUT)?;
    connection.set_read_timeout(Some(HEALTHCHECK_TIMEOUT))?;
    connection.set_write_timeout(Some(HEALTHCHECK_TIMEOUT))?;
    connection.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    // A longer answer, from whatever server, is irrelevant.
    connection.take(4096).read_to_string(&mut answer)?;
    Ok(answer)
}
