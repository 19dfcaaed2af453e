//! The door of the real server: who is slowed down, and who is not.

use reqwest::{Client, Response};

use crate::server::Server;

async fn from(server: &Server, address: Option<&str>, token: Option<&str>) -> Response {
    let mut request = Client::new().get(server.url("/api/images"));
    if let Some(address) = address {
        request = request.header("x-forwarded-for", format!("203.0.113.7, {address}"));
    }
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap()
}

fn header(answer: &Response, name: &str) -> String {
    answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn whoever_asks_too_often_is_told_when_to_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), &[("TRUST_PROXY", "1"), ("RATE_LIMIT", "3")]);
    for left in ["2", "1", "0"] {
        let answer = from(&server, Some("192.0.2.1"), None).await;
        assert_eq!(answer.status(), 200);
        assert!(header(&answer, "ratelimit").starts_with(&format!("\"requests\";r={left};t=")), "{answer:?}");
        assert_eq!(header(&answer, "ratelimit-policy"), "\"requests\";q=3;w=60");
    }
    let refused = from(&server, Some("192.0.2.1"), None).await;
    assert_eq!(refused.status(), 429);
    let wait: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!(
        (1..=20).contains(&wait) && header(&refused, "ratelimit").starts_with("\"requests\";r=0;t="),
        "{refused:?}"
    );
    assert_eq!(refused.json::<serde_json::Value>().await.unwrap()["type"], "too-many-requests");
    assert_eq!(from(&server, Some("192.0.2.2"), None).await.status(), 200, "another client");
    for _ in 0..10 {
        let here = from(&server, None, None).await;
        assert_eq!((here.status().as_u16(), header(&here, "ratelimit")), (200, String::new()), "this machine");
    }
}

#[tokio::test]
async fn token_guesses_are_rate_limited_whatever_the_headers() {
    let folder = tempfile::tempdir().unwrap();
    let set = [("API_TOKEN", "owner"), ("READ", "token"), ("RATE_LIMIT_WRONG_TOKENS", "2")];
    let server = Server::start_with(folder.path(), &set);
    for (guess, address) in [("a", None), ("b", Some("192.0.2.1"))] {
        assert_eq!(from(&server, address, Some(guess)).await.status(), 401, "{guess}");
    }
    for guess in ["c", "owner"] {
        let refused = from(&server, Some("192.0.2.2"), Some(guess)).await;
        assert_eq!(refused.status(), 429, "{guess}: no proxy is trusted here");
        assert!(header(&refused, "ratelimit").starts_with("\"wrong-tokens\";r=0;t="), "{refused:?}");
    }
    assert_eq!(from(&server, None, None).await.status(), 401, "whoever shows none guesses none");
}
