//! `/api/session`, row by row of the contract, and what a session is good for.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::Extensions;
use serde_json::{Value, json};
use shared::config::Secret;
use shared::http::limits::{Client, Limiter, Quota};
use shared::http::{Access, App};
use shared::store::testing::{Fault, FaultStore, MemoryStore, Operation};
use shared::testing::{Answer, keepsake_on, request, send};
use shared::tokens::{Scope, TRUSTED};

/// Tokens with signs that a cookie cannot hold as they are.
const TOKEN: &str = r#"right;"token",\="#;

fn app_with(access: Access) -> App {
    App::new(keepsake_on(Arc::new(MemoryStore::new()), Default::default()), access)
}

fn shut() -> App {
    app_with(Access::new(Some(Secret::new(TOKEN)), vec!["https://friend.example".to_owned()], false))
}

async fn ask(app: &App, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    send(&health::router(app.clone()), request(method, path, headers, body.into())).await
}

async fn sign_in(app: &App, token: &str) -> Answer {
    ask(app, "POST", "/api/session", &[("host", "a.example")], json!({ "token": token }).to_string()).await
}

/// What a browser sends back.
fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

async fn shown(app: &App, headers: &[(&str, &str)]) -> Value {
    let answer = ask(app, "GET", "/api/session", headers, Body::empty()).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-store"));
    answer.json()
}

#[tokio::test]
async fn everyone_learns_what_they_may_do() {
    let all = json!(["read", "upload", "admin"]);
    let open = shown(&app_with(Access::default()), &[("authorization", "Bearer anything")]).await;
    assert_eq!(open, json!({ "signedIn": false, "needsToken": false, "read": "open", "scopes": all, "name": null }));
    let private = Access::new(Some(Secret::new(TOKEN)), Vec::new(), false).private();
    for (app, read, scopes) in [(shut(), "open", json!(["read"])), (app_with(private), "token", json!([]))] {
        let nobody = json!({ "signedIn": false, "needsToken": true, "read": read, "scopes": scopes, "name": null });
        assert_eq!(shown(&app, &[]).await, nobody);
        assert_eq!(shown(&app, &[("authorization", "Bearer wrong")]).await, nobody);
        let owner = shown(&app, &[("authorization", &format!("Bearer {TOKEN}"))]).await;
        assert_eq!((&owner["signedIn"], &owner["scopes"], &owner["name"]), (&json!(true), &all, &json!("API_TOKEN")));
        let (_, secret) = app.keepsake.tokens.issue("phone", Scope::Upload).await.unwrap();
        let phone = shown(&app, &[("authorization", &format!("Bearer {secret}"))]).await;
        assert_eq!((&phone["scopes"], &phone["name"]), (&json!(["read", "upload"]), &json!("phone")));
    }
}

#[tokio::test]
async fn a_session_begins_with_a_right_token_and_ends_with_a_sign_out() {
    let app = shut();
    let begun = sign_in(&app, &format!(" {TOKEN}\n")).await;
    assert_eq!((begun.status.as_u16(), begun.json()["signedIn"].clone()), (200, json!(true)));
    let set = begun.header("set-cookie");
    for part in ["keepsake-session=", "; Path=/;", "; Max-Age=2592000", "; HttpOnly", "; SameSite=Strict"] {
        assert!(set.contains(part), "{set} has {part}");
    }
    assert!(!set.contains("Secure") && !set.contains("right"), "{set}");
    let session = cookie(&begun);
    assert_eq!(shown(&app, &[("cookie", &session)]).await, begun.json());
    let shows_another = [("cookie", session.as_str()), ("authorization", "Bearer wrong")];
    assert_eq!(shown(&app, &shows_another).await["signedIn"], false, "a token that is shown goes first");
    let ended = ask(&app, "DELETE", "/api/session", &[("cookie", &session)], Body::empty()).await;
    assert_eq!((ended.status.as_u16(), ended.body.len()), (204, 0));
    let cleared: Vec<_> = ended.headers.get_all("set-cookie").iter().map(|set| set.to_str().unwrap()).collect();
    assert_eq!(cleared.len(), 2);
    for (set, name) in cleared.iter().zip(["keepsake-session=;", "__Host-keepsake-session=;"]) {
        assert!(set.starts_with(name) && set.contains("Max-Age=0"), "{set}");
    }
}

#[tokio::test]
async fn over_tls_the_session_is_of_this_host_alone() {
    let body = || json!({ "token": TOKEN }).to_string();
    for tls in [("x-forwarded-proto", "https"), ("origin", "https://a.example")] {
        let begun = ask(&shut(), "POST", "/api/session", &[("host", "a.example"), tls], body()).await;
        let set = begun.header("set-cookie");
        assert!(set.starts_with("__Host-keepsake-session=") && set.ends_with("; Secure"), "{set}");
    }
}

#[tokio::test]
async fn a_wrong_token_begins_nothing_and_neither_does_a_page_elsewhere() {
    let app = shut();
    for wrong in ["", "wrong", "right", &format!("ksk_{}", "0".repeat(64))] {
        let refused = sign_in(&app, wrong).await;
        assert_eq!(
            (refused.problem(), refused.header("set-cookie")),
            ((401, "unauthorized".to_owned()), ""),
            "{wrong}"
        );
    }
    for body in ["", "{}", "[]", r#"{"token":7}"#, "token=right"] {
        let refused = ask(&app, "POST", "/api/session", &[], body.to_owned()).await;
        assert_eq!(refused.problem(), (400, "invalid-request".to_owned()), "{body}");
    }
    assert_eq!(ask(&app, "POST", "/api/session", &[], "x".repeat(20_000)).await.problem().0, 413);
    for method in ["POST", "DELETE"] {
        let elsewhere = [("host", "a.example"), ("origin", "https://evil.example")];
        let body = json!({ "token": TOKEN }).to_string();
        let refused = ask(&app, method, "/api/session", &elsewhere, body).await;
        assert_eq!(refused.problem(), (403, "forbidden-origin".to_owned()), "{method}");
    }
    let nothing_to_sign_in_to = sign_in(&app_with(Access::default()), "anything").await;
    assert_eq!((nothing_to_sign_in_to.status.as_u16(), nothing_to_sign_in_to.header("set-cookie")), (200, ""));
}

/// What changes something, as this function's router sees it: a path that no route has.
async fn change(app: &App, session: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let all = [&[("cookie", session), ("host", "a.example")][..], headers].concat();
    ask(app, "POST", "/api/change", &all, Body::empty()).await.problem()
}

#[tokio::test]
async fn a_change_in_a_session_is_asked_for_by_a_page_of_this_server() {
    let app = shut();
    let session = cookie(&sign_in(&app, TOKEN).await);
    let passed = (404, "not-found".to_owned());
    for own in [
        &[("sec-fetch-site", "same-origin"), ("origin", "https://a.example")][..],
        &[("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
        &[("origin", "http://a.example")],
    ] {
        assert_eq!(change(&app, &session, own).await, passed, "{own:?}");
    }
    let refused = (403, "forbidden-origin".to_owned());
    for other in [
        &[][..],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site"), ("origin", "https://b.a.example")],
        // Pages of this origin may make changes, but with a token of their own.
        &[("sec-fetch-site", "same-site"), ("origin", "https://friend.example")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "none"), ("origin", "https://evil.example")],
    ] {
        assert_eq!(change(&app, &session, other).await, refused, "{other:?}");
    }
    let by_token = format!("Bearer {TOKEN}");
    assert_eq!(change(&app, "x=y", &[("authorization", &by_token)]).await, passed, "no browser sends that by itself");
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let app = shut();
    let (_, secret) = app.keepsake.tokens.issue("phone", Scope::Admin).await.unwrap();
    let session = cookie(&sign_in(&app, &secret).await);
    let own = [("sec-fetch-site", "same-origin")];
    assert_eq!(change(&app, &session, &own).await.0, 404);
    app.keepsake.tokens.revoke("phone").await.unwrap();
    app.keepsake.core.clock.advance(TRUSTED);
    assert_eq!(shown(&app, &[("cookie", &session)]).await["signedIn"], false);
    let all = [("cookie", session.as_str()), ("host", "a.example"), own[0]];
    let refused = ask(&app, "POST", "/api/change", &all, Body::empty()).await;
    assert_eq!(refused.problem().0, 401);
    assert_eq!(refused.headers.get_all("set-cookie").iter().count(), 2, "the browser is to forget it");
}

#[tokio::test]
async fn where_tokens_cannot_be_read_the_configured_one_still_works() {
    let fails = |operation: &Operation| {
        (operation.key.as_str() == "tokens.json").then_some(Fault::Before(shared::store::ErrorKind::Unavailable))
    };
    let store = Arc::new(FaultStore::with_plan(Arc::new(MemoryStore::new()), fails));
    let access = Access::new(Some(Secret::new(TOKEN)), Vec::new(), false);
    let app = App::new(keepsake_on(store, Default::default()), access);
    assert_eq!(sign_in(&app, TOKEN).await.status, 200);
    assert_eq!(sign_in(&app, "wrong").await.problem().0, 401);
    let unknown = sign_in(&app, &format!("ksk_{}", "0".repeat(64))).await;
    assert_eq!(unknown.problem(), (503, "store-unavailable".to_owned()));
    let bearer = format!("Bearer ksk_{}", "0".repeat(64));
    let health = ask(&app, "GET", "/api/health", &[("authorization", &bearer)], Body::empty()).await;
    assert_eq!(health.json()["status"], "ok", "health is reported all the same");
}

/// Lets two guesses pass.
#[derive(Debug, Default)]
struct Two(Mutex<u32>);

impl Limiter for Two {
    fn request(&self, _: Client) -> Result<Option<Quota>, Quota> {
        Ok(Some(quota(5)))
    }

    fn may_guess(&self, _: Client) -> Result<(), Quota> {
        if *self.0.lock().unwrap() < 2 { Ok(()) } else { Err(quota(0)) }
    }

    fn guessed_wrong(&self, _: Client) {
        *self.0.lock().unwrap() += 1;
    }
}

fn quota(remaining: u32) -> Quota {
    Quota { name: "n", quota: 9, window_seconds: 60, remaining, reset_seconds: 40, retry_seconds: 7 }
}

async fn from_elsewhere(app: &App, method: &str, path: &str, headers: &[(&str, &str)], token: &str) -> Answer {
    let mut sent = request(method, path, headers, json!({ "token": token }).to_string());
    let mut client = Extensions::new();
    client.insert(Client("192.0.2.1".parse().unwrap()));
    sent.extensions_mut().extend(client);
    send(&health::router(app.clone()), sent).await
}

#[tokio::test]
async fn who_set_a_long_token_is_let_in_whatever_others_guess() {
    let own = "0123456789abcdef".repeat(4);
    let access = Access::new(Some(Secret::new(&own)), Vec::new(), false);
    let app = App { limiter: Some(Arc::new(Two::default())), ..app_with(access) };
    for (token, status) in [("guess", 401), (&"9".repeat(64), 401), ("guess", 429), (&own, 200), ("guess", 429)] {
        let answer = from_elsewhere(&app, "POST", "/api/session", &[], token).await;
        assert_eq!(answer.status.as_u16(), status, "{token}");
    }
}

#[tokio::test]
async fn token_guesses_are_rate_limited_and_valid_token_keeps_working() {
    let app = App { limiter: Some(Arc::new(Two::default())), ..shut() };
    let (_, secret) = app.keepsake.tokens.issue("phone", Scope::Admin).await.unwrap();
    let from = async |method: &str, path: &str, headers: &[(&str, &str)], token: &str| {
        from_elsewhere(&app, method, path, headers, token).await
    };
    let first = from("POST", "/api/session", &[], "guess").await;
    assert_eq!(first.problem().0, 401);
    assert_eq!(first.header("ratelimit"), "\"n\";r=5;t=40", "how many more requests there may be");
    assert_eq!(from("POST", "/api/change", &[("authorization", "Bearer guess")], "").await.problem().0, 401);
    for (path, headers) in [("/api/session", &[][..]), ("/api/change", &[("authorization", "Bearer guess")])] {
        let refused = from("POST", path, headers, TOKEN).await;
        assert_eq!(refused.problem(), (429, "too-many-requests".to_owned()), "{path}");
        assert_eq!((refused.header("retry-after"), &refused.json()["retryAfterSeconds"]), ("7", &json!(7)));
        assert_eq!(refused.header("ratelimit"), "\"n\";r=0;t=40");
        assert_eq!(refused.header("ratelimit-policy"), "\"n\";q=9;w=60");
    }
    assert_eq!(from("POST", "/api/session", &[], &secret).await.status, 200);
    assert_eq!(from("GET", "/livez", &[], "").await.header("ratelimit"), "\"n\";r=5;t=40");
}
