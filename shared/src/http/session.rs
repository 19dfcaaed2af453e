//! The session of a page: a cookie that contains the token, without any state on the server.
//!
//! The token is checked with each request, so the session ends when the token does. No script can read the cookie, and
//! no browser sends it with requests of other sites' pages; [`Access`](super::Access) checks its use beyond reading.

use axum::http::header::{COOKIE, HeaderMap, HeaderValue, ORIGIN};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Problem;

/// The cookie's name if the page came without TLS.
pub const NAME: &str = "keepsake-session";
/// Its name otherwise: browsers accept such a cookie only over TLS and for this exact host, so that no subdomain can
/// set it.
const SECURE_NAME: &str = "__Host-keepsake-session";
/// How long a browser keeps it, in seconds: 30 days.
const MAX_AGE: u32 = 30 * 24 * 60 * 60;

/// The token of a request's session.
pub(super) fn token_of(headers: &HeaderMap) -> Option<String> {
    let cookies =
        || headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let named = |name| cookies().filter_map(|cookie| cookie.trim().split_once('=')).find(|(found, _)| *found == name);
    let (_, value) = named(SECURE_NAME).or_else(|| named(NAME))?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(value).ok()?).ok()
}

/// The cookie that begins a session, for the response to this request.
pub fn begun(token: &str, headers: &HeaderMap) -> Result<HeaderValue, Problem> {
    let value = URL_SAFE_NO_PAD.encode(token);
    let cookie = if is_secure(headers) {
        format!("{SECURE_NAME}={value}; Path=/; Max-Age={MAX_AGE}; HttpOnly; SameSite=Strict; Secure")
    } else {
        format!("{NAME}={value}; Path=/; Max-Age={MAX_AGE}; HttpOnly; SameSite=Strict")
    };
    HeaderValue::try_from(cookie).map_err(Problem::internal)
}

/// The headers that delete the cookie under both names.
pub const ENDED: [HeaderValue; 2] = [
    HeaderValue::from_static("keepsake-session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"),
    HeaderValue::from_static("__Host-keepsake-session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict; Secure"),
];

/// Whether the page came over TLS, according to its browser or a proxy. A client that lies about it only harms itself.
fn is_secure(headers: &HeaderMap) -> bool {
    let proto = headers.get("x-forwarded-proto").and_then(|proto| proto.to_str().ok());
    let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https")) || origin.is_some_and(|o| o.starts_with("https://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn any_token_comes_back_out_of_its_cookie() {
        let token = r#"a;b=c, "d"\e%ksk_"#;
        for secure in [headers(&[]), headers(&[("x-forwarded-proto", "https")])] {
            let cookie = begun(token, &secure).unwrap();
            let cookie = cookie.to_str().unwrap();
            assert!(
                cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict") && cookie.contains("; Path=/;")
            );
            let pair = cookie.split(';').next().unwrap();
            let sent = format!("theme=dark; {pair}; lang=de");
            assert_eq!(token_of(&headers(&[("cookie", &sent)])).as_deref(), Some(token));
        }
    }

    #[test]
    fn over_tls_the_cookie_is_secure_and_of_this_host_alone() {
        for secure in [&[("x-forwarded-proto", "https")][..], &[("origin", "https://images.example.com")]] {
            let cookie = begun("x", &headers(secure)).unwrap();
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.starts_with("__Host-keepsake-session=") && cookie.ends_with("; Secure"), "{cookie}");
        }
        let cookie = begun("x", &headers(&[("origin", "http://nas:3000")])).unwrap();
        assert!(!cookie.to_str().unwrap().contains("Secure"));
        // A cookie set by a neighboring host without TLS does not replace it.
        let both =
            format!("{NAME}={}; {SECURE_NAME}={}", URL_SAFE_NO_PAD.encode("theirs"), URL_SAFE_NO_PAD.encode("mine"));
        assert_eq!(token_of(&headers(&[("cookie", &both)])).as_deref(), Some("mine"));
    }

    #[test]
    fn what_is_no_session_is_none() {
        for cookie in ["", "keepsake-session", "keepsake-session=%%%", "x-keepsake-session=eA", "keepsake-session=_w"] {
            assert_eq!(token_of(&headers(&[("cookie", cookie)])), None, "{cookie}");
        }
    }
}
