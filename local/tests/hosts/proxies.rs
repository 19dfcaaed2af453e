//! The real server behind the proxies whose files are in `deploy/`, as these pass requests on.

use reqwest::Client;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::deploy::text;
use crate::server::Server;

/// Whom the proxies ask for here.
const CLIENT: &str = "203.0.113.9";

/// A request's headers as they reach the server through a proxy.
type Pass = fn(HeaderMap) -> HeaderMap;

const PROXIES: [(&str, Pass); 2] = [("nginx", nginx), ("Caddy", caddy)];

/// Of the server in nginx's file. Places in it must set no header themselves: they would lose all that are set around them.
fn nginx(mut headers: HeaderMap) -> HeaderMap {
    let file = text("nginx/keepsake.conf");
    let (around, places) = file.split_once("location ").unwrap();
    assert!(!places.contains("proxy_set_header"), "the places would lose what is set around them");
    let host = headers["host"].clone();
    headers.insert("host", HeaderValue::from_static("127.0.0.1:3000"));
    for line in around.lines().filter_map(|line| line.trim().strip_prefix("proxy_set_header ")) {
        let (name, value) = line.trim_end_matches(';').split_once(' ').unwrap();
        let value = match value {
            "$http_host" => host.clone(),
            "$remote_addr" => HeaderValue::from_static(CLIENT),
            "$scheme" => HeaderValue::from_static("https"),
            fixed if !fixed.contains('$') => HeaderValue::from_str(fixed).unwrap(),
            other => panic!("what does {other} mean here?"),
        };
        headers.insert(name.to_lowercase().parse::<HeaderName>().unwrap(), value);
    }
    headers
}

/// Of Caddy, which replaces by itself what clients say of themselves, unless it is told to trust some.
fn caddy(mut headers: HeaderMap) -> HeaderMap {
    let file = text("caddy/Caddyfile");
    assert!(!file.contains("trusted_proxies"), "it would believe others");
    headers.insert("x-forwarded-for", HeaderValue::from_static(CLIENT));
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    headers.insert("x-forwarded-host", headers["host"].clone());
    for line in file.lines().filter_map(|line| line.trim().strip_prefix("header_up ")) {
        let (name, value) = line.split_once(' ').unwrap();
        headers.insert(name.to_lowercase().parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// A client's own headers.
fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let host = [("host", "images.example.com")];
    let pairs = host.iter().chain(pairs);
    pairs.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
}

#[tokio::test]
async fn behind_the_proxies_in_deploy_nobody_makes_up_an_address() {
    for (proxy, pass) in PROXIES {
        let folder = tempfile::tempdir().unwrap();
        let set = [("API_TOKEN", "owner"), ("TRUST_PROXY", "1"), ("RATE_LIMIT_WRONG_TOKENS", "3")];
        let server = Server::start_with(folder.path(), &set);
        let mut statuses = Vec::new();
        for n in 1..=4 {
            let made_up = [("authorization", "Bearer guess"), ("x-forwarded-for", &format!("198.51.100.{n}"))];
            let request = Client::new().delete(server.url("/api/images/x")).headers(pass(headers(&made_up)));
            statuses.push(request.send().await.unwrap().status().as_u16());
        }
        assert_eq!(statuses, [401, 401, 401, 429], "{proxy}");
    }
}
