//! [`Caller`]: the sender of a request, as far as known.

use axum::extract::FromRequestParts;
use axum::http::header::{HeaderValue, SET_COOKIE, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{Extensions, StatusCode};
use headers::HeaderMapExt;
use headers::authorization::{Authorization, Bearer};

use super::limits::{Client, check_guess, watched};
use super::{App, Problem, session};
use crate::services::tokens::Scope;
use store::digest::Digest;

/// A token of this many characters cannot be guessed: 128 bits as hexadecimal digits.
const LONG: usize = 32;

/// The sender of a request, as far as known: its scope and its token. A handler whose response depends on the scope
/// takes one; what the route itself needs has been checked before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The caller's greatest scope; `None` if it may not even read.
    pub scope: Option<Scope>,
    /// The name of the caller's token, if it sent a valid one.
    pub token: Option<String>,
    /// Whether the caller has a session whose token is no longer valid.
    session_is_over: bool,
}

impl Caller {
    /// The sender of this request. A wrong token counts as none; a session counts if there is no token.
    pub(super) async fn of(app: &App, parts: &Parts) -> Result<Self, Problem> {
        let shown = parts.headers.typed_get::<Authorization<Bearer>>();
        let (given, in_session) = match &shown {
            Some(shown) => (Some(shown.token().to_owned()), false),
            None => (session::token_of(&parts.headers), true),
        };
        let anonymous = Self::anonymous(app);
        let Some(given) = given.filter(|_| app.access.needs_token()) else { return Ok(anonymous) };
        match Self::with_token(app, &given, &parts.extensions).await? {
            Some(known) if in_session && !parts.method.is_safe() => {
                app.access.check_session(&parts.headers)?;
                Ok(known)
            }
            Some(known) => Ok(known),
            None => Ok(Self { session_is_over: in_session, ..anonymous }),
        }
    }

    /// A caller without a token.
    pub fn anonymous(app: &App) -> Self {
        Self { scope: app.access.without_token(), token: None, session_is_over: false }
    }

    /// The caller with this token and a request with these extensions; `None` if the token is wrong, or none is needed
    /// here. An error means that there were too many wrong ones, or that the check failed.
    ///
    /// A long token cannot be guessed, so its holder is accepted whatever other clients at the same address try.
    pub async fn with_token(app: &App, given: &str, extensions: &Extensions) -> Result<Option<Self>, Problem> {
        if !app.access.needs_token() {
            return Ok(None);
        }
        let watched = watched(app, extensions);
        if let Some(watched) = watched.filter(|_| given.len() < LONG) {
            check_guess(watched)?;
        }
        let known = |scope, token| Self { scope: Some(scope), token: Some(token), session_is_over: false };
        if app.access.is_configured(given) {
            return Ok(Some(known(Scope::Admin, "API_TOKEN".to_owned())));
        }
        let found = app.keepsake.tokens.find(given).await?;
        if let (None, Some((limiter, client))) = (&found, watched) {
            limiter.guessed_wrong(client);
        }
        Ok(found.map(|token| known(token.scope, token.name)))
    }

    /// An id of the sender of a request, which separates the uploads of different clients: derived from the token, else
    /// from the address; `None` if neither is known. It is a digest, so that stored data identifies no one.
    pub fn name_of(extensions: &Extensions) -> Option<String> {
        let token =
            extensions.get::<Self>().and_then(|caller| caller.token.as_ref()).map(|token| format!("token {token}"));
        let address = || extensions.get::<Client>().map(|Client(address)| format!("address {address}"));
        token.or_else(address).map(|name| Digest::of(name.as_bytes()).to_string())
    }

    /// Whether the caller has this scope.
    pub fn may(&self, scope: Scope) -> bool {
        self.scope >= Some(scope)
    }

    /// Refuses a caller without this scope.
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        if self.may(scope) {
            return Ok(());
        }
        if self.token.is_some() {
            let detail = format!("This needs a token of the scope {scope}.");
            return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden-scope", detail));
        }
        Err(self.needs_token())
    }

    /// Also refuses a caller without a token, even if everyone has this scope, unless no token is needed here.
    pub(super) fn require_token(&self, app: &App, scope: Scope) -> Result<(), Problem> {
        if self.token.is_none() && app.access.needs_token() {
            return Err(self.needs_token());
        }
        self.require(scope)
    }

    fn needs_token(&self) -> Problem {
        let problem = unauthorized("This needs the header \"Authorization: Bearer <API_TOKEN>\" with the right token.");
        if !self.session_is_over {
            return problem;
        }
        // Otherwise the browser would send a wrong token with every request.
        session::ENDED.into_iter().fold(problem, |problem, cookie| problem.with_header(SET_COOKIE, cookie))
    }
}

/// The response for a caller without a valid token.
pub fn unauthorized(detail: &str) -> Problem {
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
    problem.with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
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
