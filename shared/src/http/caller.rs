//! [`Caller`]: who asks, as far as that is known.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use headers::HeaderMapExt;
use headers::authorization::{Authorization, Bearer};

use super::{App, Problem};
use crate::tokens::Scope;

/// Who asks, as far as that is known: what they may do, and under which token. A handler that tells some more than others
/// takes one; what a route itself needs has been checked before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The greatest scope that they have; `None` where they may not even read.
    pub scope: Option<Scope>,
    /// The name of their token, where they showed one that is right.
    pub token: Option<String>,
}

impl Caller {
    /// Who sent this request. A token that is wrong is none.
    pub(super) async fn of(app: &App, parts: &Parts) -> Result<Self, Problem> {
        let given = parts.headers.typed_get::<Authorization<Bearer>>();
        let known = match &given {
            Some(given) => Self::with_token(app, given.token()).await?,
            None => None,
        };
        Ok(known.unwrap_or(Self { scope: app.access.without_token(), token: None }))
    }

    /// Whoever shows this token, if it is right. Where there are no tokens, none is needed and none is looked at.
    async fn with_token(app: &App, given: &str) -> Result<Option<Self>, Problem> {
        if !app.access.needs_token() {
            return Ok(None);
        }
        if app.access.is_configured(given) {
            return Ok(Some(Self { scope: Some(Scope::Admin), token: Some("API_TOKEN".to_owned()) }));
        }
        let token = app.keepsake.find_token(given).await?;
        Ok(token.map(|token| Self { scope: Some(token.scope), token: Some(token.name) }))
    }

    /// Whether they have this scope.
    pub fn may(&self, scope: Scope) -> bool {
        self.scope >= Some(scope)
    }

    /// Refuses whoever does not have this scope.
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        if self.may(scope) {
            return Ok(());
        }
        if self.token.is_some() {
            let detail = format!("This needs a token of the scope {scope}.");
            return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden-scope", detail));
        }
        let detail = "This needs the header \"Authorization: Bearer <API_TOKEN>\" with the right token.";
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
        Err(problem.with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        match parts.extensions.get::<Self>() {
            Some(known) => Ok(known.clone()),
            None => Self::of(app, parts).await,
        }
    }
}
