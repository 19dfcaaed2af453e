//! Query strings of the list of images.

use std::sync::OnceLock;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use shared::http::Access;
use shared::testing::import;

use super::http::{ask, run, served};

fn router() -> &'static Router {
    static ROUTER: OnceLock<Router> = OnceLock::new();
    ROUTER.get_or_init(|| {
        let (app, router) = served(Access::default());
        for number in 0..6 {
            let fields = json!({
                "category": if number % 2 == 0 { "fun" } else { "work & play" },
                "groupId": if number < 3 { json!("g") } else { Value::Null },
                "description": format!("Ünï {number}"),
                "uploadDate": format!("2026-01-0{}", 1 + number / 2),
                "type": "image",
            });
            run(import(&app.keepsake, &format!("{number}.png"), fields));
        }
        router
    })
}

pub fn list(data: &[u8]) {
    let Ok(query) = std::str::from_utf8(data) else { return };
    let router = router();
    run(async {
        let Some(page) = listed(router, query).await else { return };
        if page["next"].is_null() && !query.contains("limit") {
            assert!(page["images"].as_array().is_some_and(|images| images.len() <= 6));
        }
        // The same list one image at a time is the same list.
        let is_page = |pair: &&str| matches!(pair.split('=').next(), Some("limit" | "cursor"));
        let filter = query.split('&').filter(|pair| !is_page(pair)).collect::<Vec<_>>().join("&");
        let Some(whole) = listed(router, &filter).await else { return };
        let (mut one_by_one, mut cursor) = (Vec::new(), String::new());
        loop {
            let Some(mut page) = listed(router, &format!("{filter}&limit=1&cursor={cursor}")).await else { return };
            let Some([image]) = page["images"].as_array_mut().map(Vec::as_mut_slice) else { break };
            one_by_one.push(image.take());
            assert!(one_by_one.len() <= 6, "it goes on for ever");
            let Some(next) = page["next"].as_str() else { break };
            cursor = utf8_percent_encode(next, NON_ALPHANUMERIC).to_string();
        }
        assert_eq!(whole["images"].as_array(), Some(&one_by_one));
        let newest_first = |pair: &[Value]| pair[0]["uploadDate"].as_str() >= pair[1]["uploadDate"].as_str();
        assert!(one_by_one.windows(2).all(newest_first));
    });
}

/// The page that a query asks for; nothing where it is refused or cannot be sent at all.
async fn listed(router: &Router, query: &str) -> Option<Value> {
    let uri: Uri = format!("/api/images?{query}").parse().ok()?;
    let answer = ask(router, Request::builder().uri(uri).body(Body::empty()).ok()?).await;
    match answer.status.as_u16() {
        200 => Some(answer.json()),
        400 => None,
        _ => panic!("{answer:?}"),
    }
}
