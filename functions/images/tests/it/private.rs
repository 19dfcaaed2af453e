//! What is seen of a store whose reading needs a token.

use axum::body::Body;
use shared::config::Secret;
use shared::http::{Access, App};
use shared::store::PutMode;
use shared::store::testing::MemoryStore;
use shared::testing::{keepsake_on, png, request, send, store_image};
use shared::tokens::Scope;

use super::{ask, get, router};

const TOKEN: (&str, &str) = ("authorization", "Bearer right");

fn private() -> App {
    let access = Access::new(Some(Secret::new("right")), Vec::new(), false).private();
    App::new(keepsake_on(std::sync::Arc::new(MemoryStore::new()), Default::default()), access)
}

#[tokio::test]
async fn nothing_is_shown_without_the_token() {
    let app = private();
    let id = store_image(&app.keepsake, png(1)).await;
    let paths =
        ["/api/images".to_owned(), format!("/api/images/{id}"), format!("/uploads/{id}"), "/uploads/x".to_owned()];
    for path in paths.iter().map(String::as_str).chain(["/api/images/x", "/nothing"]) {
        assert_eq!(get(&app, path).await.problem(), (401, "unauthorized".to_owned()), "{path}");
        let wrong = ask(&app, "GET", path, &[("authorization", "Bearer wrong")]).await;
        assert_eq!(wrong.problem().0, 401, "{path}");
        assert_eq!(ask(&app, "HEAD", path, &[]).await.status, 401, "{path}");
    }
    for path in &paths[..3] {
        assert_eq!(ask(&app, "GET", path, &[TOKEN]).await.status, 200, "{path}");
    }
    assert_eq!(ask(&app, "GET", "/nothing", &[TOKEN]).await.problem().0, 404);
}

#[tokio::test]
async fn what_only_some_may_read_is_kept_in_no_shared_cache() {
    let app = private();
    let id = store_image(&app.keepsake, png(1)).await;
    let path = format!("/uploads/{id}");
    let shown = ask(&app, "GET", &path, &[TOKEN]).await;
    assert_eq!(shown.header("cache-control"), "private, max-age=31536000, immutable");
    let etag = shown.header("etag").to_owned();
    let unchanged = ask(&app, "GET", &path, &[TOKEN, ("if-none-match", &etag)]).await;
    assert_eq!((unchanged.status.as_u16(), unchanged.header("cache-control").contains("public")), (304, false));
}

#[tokio::test]
async fn a_page_elsewhere_that_knows_the_token_may_read() {
    let access = Access::new(Some(Secret::new("right")), vec!["https://friend.example".to_owned()], false).private();
    let app = App::new(keepsake_on(std::sync::Arc::new(MemoryStore::new()), Default::default()), access);
    let asked = [("origin", "https://friend.example"), ("access-control-request-method", "GET")];
    let before = send(&router(&app), request("OPTIONS", "/api/images", &asked, Body::empty())).await;
    assert_eq!(before.header("access-control-allow-origin"), "https://friend.example");
    assert_eq!(before.header("access-control-allow-credentials"), "", "no cookie goes with it");
    let listed = ask(&app, "GET", "/api/images", &[("origin", "https://friend.example"), TOKEN]).await;
    assert_eq!((listed.status.as_u16(), listed.header("access-control-allow-origin")), (200, "https://friend.example"));
}

#[tokio::test]
async fn a_token_does_what_its_scope_says_and_no_more() {
    let app = private();
    let id = store_image(&app.keepsake, png(1)).await;
    let (image, all) = (format!("/api/images/{id}"), [("GET", 0), ("PATCH", 1), ("DELETE", 2)]);
    let mut secrets = Vec::new();
    for scope in Scope::ALL {
        secrets.push(app.keepsake.tokens.issue(scope.name(), scope).await.unwrap().1);
    }
    for (level, (scope, secret)) in Scope::ALL.into_iter().zip(secrets).enumerate() {
        let bearer = format!("Bearer {secret}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        for (method, needed) in all {
            let answer = send(&router(&app), request(method, &image, &headers, Body::from("{}"))).await;
            if level >= needed {
                assert_eq!(answer.status, 200, "{scope} {method}");
            } else {
                assert_eq!(answer.problem(), (403, "forbidden-scope".to_owned()), "{scope} {method}");
            }
        }
    }
}

#[tokio::test]
async fn corrupt_token_store_disables_all_but_the_configured_token() {
    let app = private();
    let (_, secret) = app.keepsake.tokens.issue("phone", Scope::Admin).await.unwrap();
    let key = shared::layout::tokens();
    app.keepsake.core.primary.put(&key, &shared::store::Body::from(b"{}".to_vec()), &PutMode::Overwrite).await.unwrap();
    let bearer = format!("Bearer {secret}");
    assert_eq!(ask(&app, "GET", "/api/images", &[("authorization", &bearer)]).await.problem().0, 401);
    assert_eq!(ask(&app, "GET", "/api/images", &[TOKEN]).await.status, 200);
}
