//! What the HTTP targets share: routers on stores in memory, and what must hold of every answer.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use futures::TryStreamExt;
use shared::Keepsake;
use shared::http::{Access, App, finish};
use shared::store::testing::MemoryStore;
use shared::testing::{Answer, app_on, send};
use tokio::runtime::{Builder, Runtime};

/// Every route that takes something from a client, on an empty store.
pub fn served(access: Access) -> (App, Router) {
    let app = App { access: Arc::new(access), ..app_on(Arc::new(MemoryStore::new())) };
    let routes = upload::routes().merge(images::routes()).merge(backup::routes()).merge(restore::routes());
    let router = finish(routes.into_router(app.clone()), &app);
    (app, router)
}

/// Runs a future to its end.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = || Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    RUNTIME.get_or_init(runtime).block_on(future)
}

/// Sends a request; whatever it asks, the fault is never the server's, and a refusal says what is wrong.
pub async fn ask(router: &Router, request: Request<Body>) -> Answer {
    let is_head = request.method() == "HEAD";
    let answer = send(router, request).await;
    let status = answer.status.as_u16();
    assert!(status < 500, "{answer:?}");
    if status >= 400 && !is_head {
        answer.problem();
    }
    answer
}

/// Everything that lies in a store, and which version of it.
pub async fn everything(keepsake: &Keepsake) -> Vec<(String, String)> {
    let listed = keepsake.core.primary.list("", None).map_ok(|meta| (meta.key.to_string(), meta.etag.0));
    listed.try_collect().await.expect("a store in memory can be listed")
}
