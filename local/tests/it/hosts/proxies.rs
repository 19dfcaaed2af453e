//! The real server behind the proxies whose files are in `deploy/`, as these pass requests on.

use reqwest::Client;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::deploy::text;
use crate::photos::small;
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
            // nginx does not send a header without a value.
            "\"\"" => {
                headers.remove(name.to_lowercase());
                continue;
            }
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
        let set = [
            ("API_TOKEN", "owner"),
            ("ALLOWED_HOSTS", "images.example.com"),
            ("TRUST_PROXY", "1"),
            ("RATE_LIMIT_WRONG_TOKENS", "3"),
        ];
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

/// With the settings that the guide gives for them.
#[tokio::test]
async fn behind_the_proxies_in_deploy_whole_urls_are_those_that_people_use() {
    let guide = include_str!("../../../../docs/hosting/vps.md");
    let given = guide.split_once("/etc/keepsake.env <<END\n").unwrap().1.split_once("END\n").unwrap().0;
    // The shell puts the token there.
    let shown = given.replace("$(openssl rand -hex 32)", "owner");
    let set: Vec<(&str, &str)> = shown.lines().map(|line| line.split_once('=').unwrap()).collect();
    let token = "Bearer owner";
    for (proxy, pass) in PROXIES {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start_with(folder.path(), &set);
        let asked = [("authorization", token), ("accept", "text/plain"), ("content-type", "image/png")];
        let request = Client::new().post(server.url("/api/upload")).headers(pass(headers(&asked)));
        let answer = request.body(small(1)).send().await.unwrap();
        let (status, url) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert_eq!(status, 201, "{proxy}: {url}");
        assert!(url.starts_with("https://images.example.com/uploads/"), "{proxy}: {url}");
        // A page of the server may make changes without any further setting, also in a browser that says only its origin.
        let made_here = [("authorization", token), ("origin", "https://images.example.com")];
        let path = url.rsplit_once('/').unwrap().1;
        let request = Client::new().delete(server.url(&format!("/api/images/{path}")));
        let answer = request.headers(pass(headers(&made_here))).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{proxy}");
    }
}
