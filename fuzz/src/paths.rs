//! Names in paths, and what is sent with them.

use std::sync::OnceLock;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Uri};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::{Map, Value};
use shared::http::{Access, App};
use shared::testing::{png, request, store_image};

use super::http::{ask, everything, run, served};

const ROUTES: [(&str, &str, &str); 9] = [
    ("GET", "/api/images/", ""),
    ("PATCH", "/api/images/", ""),
    ("DELETE", "/api/images/", ""),
    ("GET", "/uploads/", ""),
    ("PUT", "/api/upload/", "?secret=guessed"),
    ("POST", "/api/upload/", "/complete"),
    ("GET", "/api/backups/", ""),
    ("POST", "/api/restore/", ""),
    ("POST", "/api/restore/", "?mode=exact"),
];

/// The first byte says which route; then come a name, a line feed, and a body. Whatever they are, nothing is found and
/// nothing changes.
pub fn paths(data: &[u8]) {
    let Some((route, rest)) = data.split_first() else { return };
    let mut parts = rest.splitn(2, |byte| *byte == b'\n');
    let (name, body) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (method, before, after) = ROUTES[usize::from(*route) % ROUTES.len()];
    static SITE: OnceLock<(App, Router)> = OnceLock::new();
    let (app, router) = SITE.get_or_init(|| {
        let (app, router) = served(Access::default());
        run(store_image(&app.keepsake, png(1)));
        run(app.keepsake.backups.create(shared::backup::Kind::Manual)).expect("a backup");
        (app, router)
    });
    run(async {
        let before_all = everything(&app.keepsake).await;
        let encoded = percent_encode(name, NON_ALPHANUMERIC).to_string();
        for name in [encoded.as_str(), std::str::from_utf8(name).unwrap_or_default()] {
            let Ok(uri) = format!("{before}{name}{after}").parse::<Uri>() else { continue };
            let builder = Request::builder().method(method).uri(uri.clone()).header("content-type", "application/json");
            let Ok(request) = builder.body(Body::from(body.to_vec())) else { continue };
            let answer = ask(router, request).await;
            let is_list = method == "GET" && uri.path() == "/api/images";
            assert!(answer.status.as_u16() >= 400 || is_list, "{uri}: {answer:?}");
        }
        assert_eq!(everything(&app.keepsake).await, before_all);
    });
    run(patched(body));
    run(announced(body));
}

/// A patch of an image that is there changes what it says and nothing else, or nothing at all.
async fn patched(body: &[u8]) {
    let (app, router) = served(Access::default());
    let path = format!("/api/images/{}", store_image(&app.keepsake, png(1)).await);
    let shown = async || ask(&router, request("GET", &path, &[], Body::empty())).await.json();
    let mut expected = shown().await;
    let patch = request("PATCH", &path, &[("content-type", "application/json")], body.to_vec());
    if ask(&router, patch).await.status == 200 {
        let said: Map<String, Value> = serde_json::from_slice(body).expect("it was taken as JSON");
        for (name, value) in said {
            expected[&name] = value;
        }
    }
    let now = shown().await;
    for (name, value) in expected.as_object().expect("an object") {
        // What was taken away has its default.
        assert!(now[name] == *value || value.is_null() || *value == "", "{name} is {}, not {value}", now[name]);
    }
}

/// A ticket is given out for what could be an image, or nothing is kept of the request.
async fn announced(body: &[u8]) {
    let (app, router) = served(Access::default());
    let answer = ask(&router, request("POST", "/api/upload/tickets", &[], body.to_vec())).await;
    let kept = everything(&app.keepsake).await;
    if answer.status == 201 {
        let id = answer.json()["id"].as_str().unwrap_or_default().to_owned();
        assert!(kept.len() == 1 && kept[0].0 == format!("incoming/{id}.json"), "{kept:?}");
        let url = answer.json()["uploadUrl"].as_str().unwrap_or_default().to_owned();
        // Other bytes than those announced are not taken.
        let other = ask(&router, request("PUT", &url, &[], &b"other"[..])).await;
        assert!(other.status.as_u16() >= 400 && everything(&app.keepsake).await == kept, "{other:?}");
    } else {
        assert_eq!(kept, []);
    }
}
