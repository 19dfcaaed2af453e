//! Who may upload, and what every answer has in common.

use axum::body::Body;
use shared::config::Secret;
use shared::http::{Access, App};
use shared::store::testing::MemoryStore;
use shared::testing::{Answer, app, get, keepsake_on, png, request, send};

use super::{keys, router};

fn app_with(access: Access) -> App {
    App::new(keepsake_on(std::sync::Arc::new(MemoryStore::new()), Default::default()), access)
}

fn with_token() -> App {
    app_with(Access::new(Some(Secret::new("right")), Vec::new(), false))
}

async fn upload(app: &App, headers: &[(&str, &str)]) -> Answer {
    send(&router(app), request("POST", "/api/upload", headers, png(1))).await
}

#[tokio::test]
async fn a_change_needs_the_token() {
    let app = with_token();
    for headers in [
        &[][..],
        &[("authorization", "Bearer wrong")],
        &[("authorization", "Basic right")],
        &[("authorization", "right")],
    ] {
        let answer = upload(&app, headers).await;
        assert_eq!(answer.problem(), (401, "unauthorized".to_owned()), "{headers:?}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    assert_eq!(keys(&app).await, Vec::<String>::new());
    for scheme in ["Bearer", "bearer"] {
        assert_eq!(upload(&app, &[("authorization", &format!("{scheme} right"))]).await.status, 201);
    }
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let app = app_with(Access::new(None, vec!["https://friend.example".to_owned()], false));
    let host = ("host", "images.example:3000");
    for origin in ["https://evil.example", "http://images.example", "null", "http://images.example:3000.evil.example"] {
        let refused = upload(&app, &[host, ("origin", origin)]).await;
        assert_eq!(refused.problem(), (403, "forbidden-origin".to_owned()));
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(origin) && detail.contains("ALLOWED_ORIGINS"), "{detail}");
    }
    let own = upload(&app, &[host, ("origin", "http://images.example:3000")]).await;
    assert_eq!((own.status.as_u16(), own.header("access-control-allow-origin")), (201, ""));
    let friend = upload(&app, &[host, ("origin", "https://friend.example")]).await;
    assert_eq!((friend.status.as_u16(), friend.header("access-control-allow-origin")), (201, "https://friend.example"));
    assert_eq!(upload(&app, &[host]).await.status, 201);
}

#[tokio::test]
async fn an_allowed_origin_may_ask_beforehand() {
    let app = app_with(Access::new(Some(Secret::new("right")), vec!["https://friend.example".to_owned()], false));
    let ask = async |origin| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-digest"),
        ];
        send(&router(&app), request("OPTIONS", "/api/upload", &headers, Body::empty())).await
    };
    let friend = ask("https://friend.example").await;
    assert_eq!((friend.status.as_u16(), friend.header("access-control-allow-origin")), (200, "https://friend.example"));
    assert!(friend.header("access-control-allow-methods").contains("POST"));
    assert_eq!(friend.header("access-control-allow-headers"), "authorization,content-digest");
    assert_eq!(friend.header("access-control-max-age"), "7200", "else there is a preflight for each part");
    assert_eq!(ask("https://evil.example").await.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn a_server_on_a_loopback_address_answers_only_to_local_names() {
    let app = app_with(Access::new(None, Vec::new(), true));
    for host in ["rebound.evil.example", "192.168.0.1", "localhost.evil.example"] {
        assert_eq!(upload(&app, &[("host", host)]).await.problem(), (403, "forbidden-host".to_owned()), "{host}");
        let read = send(&router(&app), request("GET", "/", &[("host", host)], Body::empty())).await;
        assert_eq!(read.problem(), (403, "forbidden-host".to_owned()), "{host}");
    }
    assert_eq!(upload(&app, &[]).await.problem(), (403, "forbidden-host".to_owned()));
    for host in ["localhost:3000", "127.0.0.1:3000", "[::1]:3000", "localhost"] {
        assert_eq!(upload(&app, &[("host", host)]).await.status, 201, "{host}");
    }
}

#[tokio::test]
async fn a_server_with_names_answers_to_no_other() {
    let hosts = || vec!["images.example.com".to_owned(), "nas:8443".to_owned()];
    for (only_local, answers) in [(false, 201), (true, 201)] {
        let app = app_with(Access::new(None, Vec::new(), only_local).for_hosts(hosts()));
        for host in ["images.example.com", "IMAGES.example.com:3000", "nas:8443", "localhost:3000", "127.0.0.1"] {
            assert_eq!(upload(&app, &[("host", host)]).await.status, answers, "{host}");
        }
        for host in ["nas", "nas:80", "x.images.example.com", "images.example.com.evil.example", "evil.example", ""] {
            assert_eq!(upload(&app, &[("host", host)]).await.problem(), (403, "forbidden-host".to_owned()), "{host}");
        }
        assert_eq!(upload(&app, &[]).await.problem().0, 403, "no name at all");
    }
}

#[tokio::test]
async fn a_page_of_the_public_url_is_the_servers_own_behind_any_proxy() {
    let public = || Some("http://nas:8080".to_owned());
    let app = app_with(Access::new(None, Vec::new(), false).known_as(public()));
    // The second drops the port, the third asks under the server's own address.
    for host in ["nas:8080", "nas", "127.0.0.1:3000"] {
        let of = |origin| [("host", host), ("origin", origin)];
        assert_eq!(upload(&app, &of("http://nas:8080")).await.status, 201, "{host}");
        assert_eq!(upload(&app, &of("http://evil.example")).await.problem().0, 403, "{host}");
    }
    let headers = [("host", "nas"), ("origin", "http://nas:8080"), ("sec-fetch-site", "cross-site")];
    assert_eq!(upload(&app, &headers).await.problem().0, 403, "what the browser says goes first");
}

#[tokio::test]
async fn a_browser_that_says_which_site_a_page_is_of_is_believed() {
    let app = app();
    let of = |site| [("host", "localhost:3000"), ("origin", "https://images.example.com"), ("sec-fetch-site", site)];
    // A proxy asks under another name than the page's.
    assert_eq!(upload(&app, &of("same-origin")).await.status, 201);
    for site in ["same-site", "cross-site", "none", "unheard-of"] {
        assert_eq!(upload(&app, &of(site)).await.problem(), (403, "forbidden-origin".to_owned()), "{site}");
    }
    let insecure = [("host", "a.example"), ("origin", "http://a.example"), ("sec-fetch-site", "cross-site")];
    assert_eq!(upload(&app, &insecure).await.problem().0, 403, "the same name without TLS is another page's");
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_problems_too() {
    let router = router(&app());
    assert_eq!(get(&router, "/api/nothing").await.problem(), (404, "not-found".to_owned()));
    let answer = get(&router, "/api/upload").await;
    assert_eq!(answer.problem(), (405, "method-not-allowed".to_owned()));
    assert_eq!(answer.header("allow"), "POST");
    assert_eq!(answer.json().get("success"), None);
}

#[tokio::test]
async fn every_answer_has_a_request_id_and_is_not_sniffed() {
    let router = router(&app());
    let answer = get(&router, "/api/nothing").await;
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("x-request-id").len(), 36);
    let named = send(&router, request("GET", "/", &[("x-request-id", "mine")], Body::empty())).await;
    assert_eq!(named.header("x-request-id"), "mine");
}
