//! [`needed`]: what each route needs. The one table of it.

use axum::http::Method;

use crate::services::tokens::Scope;

/// What whoever asks for a route must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing, also where reading needs a token.
    Nothing,
    /// The secret in its URL, which is checked where the ticket is: that URL is given to clients who have no other rights.
    OwnSecret,
    /// Nothing where reading is open, else [`Scope::Read`].
    Reading,
    /// This scope, wherever there are tokens.
    Token(Scope),
}

/// What every route needs. HEAD needs what GET does.
///
/// A backup holds what was deleted from everyone's sight, so a download of it is no reading. How many images there are and
/// how they are kept, which metrics tell, is not for everyone either.
const TABLE: &[(Needs, &[&str])] = &[
    (
        Needs::Nothing,
        &[
            "GET /",
            "GET /safety",
            "GET /assets/{*path}",
            "GET /livez",
            "GET /readyz",
            // Tells those who may not read no more than its status.
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

/// What this method of this route needs; `None` where the table does not know it.
pub fn needed(method: &Method, route: &str) -> Option<Needs> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let named = |listed: &&str| listed.split_once(' ') == Some((method.as_str(), route));
    TABLE.iter().find(|(_, listed)| listed.iter().any(named)).map(|(needs, _)| *needs)
}

/// Every row of the table, as method and route.
pub fn listed() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|(_, listed)| listed.iter().copied())
}

/// What a request needs that was matched with `route`. What the table does not know needs all that there is, so that a route
/// which was forgotten is shut; but whoever only looks may learn that a path has no such method, or that there is none.
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
