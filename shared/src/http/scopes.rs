//! [`needed`]: the table of what each route needs.

use axum::http::Method;

use crate::services::tokens::Scope;

/// What a caller needs for a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing, even if reading needs a token.
    Nothing,
    /// The secret in the route's URL, which is checked with the ticket: that URL is given to clients without other
    /// rights.
    OwnSecret,
    /// Nothing if reading is open, else [`Scope::Read`].
    Reading,
    /// This scope, if tokens are configured.
    Token(Scope),
}

/// The needs of every route. HEAD needs the same as GET.
///
/// A backup contains deleted images, so downloading one needs more than reading. Metrics reveal how many images there
/// are and how they are stored, so they need more as well.
const TABLE: &[(Needs, &[&str])] = &[
    (
        Needs::Nothing,
        &[
            "GET /",
            "GET /safety",
            "GET /assets/{*path}",
            "GET /livez",
            "GET /readyz",
            // Callers without the right to read only get the status.
            "GET /api/health",
            "GET /api/session",
            "POST /api/session",
            "DELETE /api/session",
            "GET /api/openapi.json",
            "GET /api/docs",
        ],
    ),
    (Needs::OwnSecret, &["PUT /api/upload/{id}"]),
    (
        Needs::Reading,
        &[
            "GET /api/images",
            "GET /api/images/{id}",
            "GET /uploads/{file}",
            "GET /api/groups/{id}",
            "GET /api/groups/{id}/download",
            "GET /api/storage",
            "GET /api/backups",
            "GET /api/backups/{name}",
        ],
    ),
    (Needs::Token(Scope::Read), &["GET /metrics"]),
    (
        Needs::Token(Scope::Upload),
        &[
            "POST /api/upload",
            "POST /api/upload/tickets",
            "POST /api/upload/{id}/complete",
            "GET /api/upload/{id}",
            "PATCH /api/upload/{id}",
            "DELETE /api/upload/{id}",
            "POST /api/upload-link",
            "PATCH /api/images/{id}",
            "PUT /api/groups/{id}",
            "PUT /api/groups/{id}/title",
            "PUT /api/groups/{id}/order",
        ],
    ),
    (
        Needs::Token(Scope::Admin),
        &[
            "DELETE /api/images/{id}",
            "DELETE /api/groups/{id}",
            "POST /api/backup",
            "POST /api/backups",
            "DELETE /api/backups/{name}",
            "GET /api/backups/{name}/download",
            "DELETE /api/upload",
            "POST /api/prune",
            "POST /api/verify",
            "POST /api/restore/{backupName}",
        ],
    ),
];

/// The needs of this method of this route; `None` if the table does not contain it.
pub fn needed(method: &Method, route: &str) -> Option<Needs> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let named = |listed: &&str| listed.split_once(' ') == Some((method.as_str(), route));
    TABLE.iter().find(|(_, listed)| listed.iter().any(named)).map(|(needs, _)| *needs)
}

/// Every row of the table, as method and route.
pub fn listed() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|(_, listed)| listed.iter().copied())
}

/// The needs of a request that was matched with `route`. A route that the table lacks needs the greatest scope, so that
/// a forgotten route is closed; but any caller that only reads may learn that a path or method does not exist.
pub(super) fn needed_for(method: &Method, route: Option<&str>) -> Needs {
    let known = |route| listed().any(|row| row.split_once(' ').is_some_and(|(_, listed)| listed == route));
    match route.map(|route| needed(method, route)) {
        Some(Some(needs)) => needs,
        _ if method.is_safe() && route.is_none_or(known) => Needs::Reading,
        _ => Needs::Token(Scope::Admin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_table_does_not_know_needs_everything() {
        assert_eq!(needed_for(&Method::GET, Some("/api/new")), Needs::Token(Scope::Admin));
        assert_eq!(needed_for(&Method::POST, Some("/api/images")), Needs::Token(Scope::Admin));
        assert_eq!(needed_for(&Method::DELETE, Some("/api/images")), Needs::Token(Scope::Admin));
        assert_eq!(needed_for(&Method::GET, Some("/api/upload")), Needs::Reading, "which says that it takes no GET");
        assert_eq!(needed_for(&Method::POST, None), Needs::Token(Scope::Admin));
        assert_eq!(needed_for(&Method::GET, None), Needs::Reading);
        assert_eq!(needed_for(&Method::HEAD, Some("/api/images")), Needs::Reading);
    }

    #[test]
    fn no_route_stands_in_the_table_twice() {
        let all: Vec<_> = listed().collect();
        let once: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(once.len(), all.len());
    }

    #[test]
    fn a_greater_scope_includes_the_lesser_ones() {
        assert!(Scope::Read < Scope::Upload && Scope::Upload < Scope::Admin);
        assert_eq!(Scope::ALL.map(Scope::name), ["read", "upload", "admin"]);
    }
}
