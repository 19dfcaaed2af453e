//! [`Routes`]: a router that can list its routes.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{self, MethodRouter};

use super::App;

/// Routes, with a list of them that a test can compare with the deployment's.
#[derive(Debug, Default)]
pub struct Routes {
    router: Router<App>,
    list: Vec<(Method, &'static str)>,
}

impl Routes {
    /// No routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route for GET; it answers HEAD as well, unless that has a route of its own.
    pub fn get<T: 'static>(self, path: &'static str, handler: impl Handler<T, App>) -> Self {
        self.add(Method::GET, path, routing::get(handler))
    }

    /// Adds a route for HEAD, for a path whose GET response would be too expensive to discard.
    pub fn head<T: 'static>(self, path: &'static str, handler: impl Handler<T, App>) -> Self {
        self.add(Method::HEAD, path, routing::head(handler))
    }

    /// Adds a route for POST.
    pub fn post<T: 'static>(self, path: &'static str, handler: impl Handler<T, App>) -> Self {
        self.add(Method::POST, path, routing::post(handler))
    }

    /// Adds a route for PUT.
    pub fn put<T: 'static>(self, path: &'static str, handler: impl Handler<T, App>) -> Self {
        self.add(Method::PUT, path, routing::put(handler))
    }

    /// Adds a route for PATCH.
    pub fn patch<T: 'static>(self, path: &'static str, handler: impl Handler<T, App>) -> Self {
        self.add(Method::PATCH, path, routing::patch(handler))
    }

    /// Adds a route for DELETE.
    pub fn delete<T: 'static>(self, path: &'static str, handler: impl Handler<T, App>) -> Self {
        self.add(Method::DELETE, path, routing::delete(handler))
    }

    fn add(mut self, method: Method, path: &'static str, route: MethodRouter<App>) -> Self {
        self.list.push((method, path));
        Self { router: self.router.route(path, route), list: self.list }
    }

    /// Adds all of `other`.
    pub fn merge(mut self, other: Self) -> Self {
        self.list.extend(other.list);
        Self { router: self.router.merge(other.router), list: self.list }
    }

    /// Every method and path pattern, in the order in which they were added.
    pub fn list(&self) -> Vec<(Method, &'static str)> {
        self.list.clone()
    }

    /// The router without the shared layers, which [`finish`](super::finish) adds.
    pub fn into_router(self, app: App) -> Router {
        self.router.with_state(app)
    }
}
