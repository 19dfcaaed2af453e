//! `/api/session`: what the caller may do, and the sessions of the page.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::{AppendHeaders, IntoResponse, Response};
use serde::{Deserialize, Serialize};
use shared::Error;
use shared::http::{App, Caller, Problem, read_body, session, unauthorized};
use shared::tokens::Scope;
use utoipa::ToSchema;

/// The longest body of a sign-in in bytes; a token has 68 characters.
const MAX_BYTES: usize = 16 * 1024;

/// What the caller may do.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Session {
    /// Whether the request has a valid token, by itself or in a session.
    signed_in: bool,
    /// Whether changes need a token here.
    needs_token: bool,
    /// `open` if everyone may read the store, else `token`.
    #[schema(pattern = "^(open|token)$")]
    read: &'static str,
    /// All that the caller may do: `read`, `upload`, `admin`.
    scopes: Vec<Scope>,
    /// The name of the caller's token.
    #[schema(required)]
    name: Option<String>,
}

impl Session {
    fn new(app: &App, caller: Caller) -> Self {
        Self {
            signed_in: caller.token.is_some(),
            needs_token: app.access.needs_token(),
            read: if app.access.is_private() { "token" } else { "open" },
            scopes: Scope::ALL.into_iter().filter(|scope| caller.may(*scope)).collect(),
            name: caller.token,
        }
    }
}

/// The token to sign in with.
#[derive(Deserialize, ToSchema)]
pub(crate) struct SignIn {
    token: String,
}

/// Report what the caller may do.
#[utoipa::path(get, path = "/api/session", operation_id = "getSession", tag = "session", responses(
    (status = 200, description = "What the caller may do", body = Session),
    (status = 503, description = "The tokens cannot be read"),
))]
pub(crate) async fn show(State(app): State<App>, caller: Caller) -> Json<Session> {
    Json(Session::new(&app, caller))
}

/// Sign a page in: from then on a cookie holds the token, where no script can read it.
#[utoipa::path(post, path = "/api/session", operation_id = "signIn", tag = "session", request_body = SignIn, responses(
    (status = 200, description = "What the caller may do now. If no token is needed, there is no session", body = Session,
     headers(("Set-Cookie" = String, description = "The session"))),
    (status = 400, description = "`invalid-request`"),
    (status = 401, description = "`unauthorized`: an unknown token"),
    (status = 413, description = "`too-large`"),
    (status = 503, description = "The tokens cannot be read"),
))]
pub(crate) async fn sign_in(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let token = token_in(body).await?;
    if !app.access.needs_token() {
        return Ok(Json(Session::new(&app, Caller::anonymous(&app))).into_response());
    }
    let caller = Caller::with_token(&app, &token, &parts.extensions).await?;
    let caller = caller.ok_or_else(|| unauthorized("This token is unknown."))?;
    let cookie = session::begun(&token, &parts.headers)?;
    Ok(([(SET_COOKIE, cookie)], Json(Session::new(&app, caller))).into_response())
}

async fn token_in(body: Body) -> Result<String, Error> {
    let body = read_body(body, MAX_BYTES).await?;
    let invalid = |_| Error::Invalid("Send the token as JSON: {\"token\":\"…\"}.".to_owned());
    let SignIn { token } = serde_json::from_slice(&body).map_err(invalid)?;
    Ok(token.trim().to_owned())
}

/// Sign a page out. The token remains valid elsewhere.
#[utoipa::path(delete, path = "/api/session", operation_id = "signOut", tag = "session", responses(
    (status = 204, description = "The session has ended", headers(("Set-Cookie" = String, description = "Removes the session"))),
))]
pub(crate) async fn sign_out() -> impl IntoResponse {
    (StatusCode::NO_CONTENT, AppendHeaders(session::ENDED.map(|cookie| (SET_COOKIE, cookie))))
}
