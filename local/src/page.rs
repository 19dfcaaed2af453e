//! The web pages: the files of `gallery/`, which are embedded in the binary, and read from that folder in development.
//!
//! Architecture invariant: a page uses only what the API offers every client, and its scripts are separate files: the
//! policy of each page allows no others.

use std::time::Duration;

use axum::extract::Path;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use headers::{CacheControl, ETag, HeaderMapExt, IfNoneMatch};
use rust_embed::{EmbeddedFile, RustEmbed};
use shared::Keepsake;
use shared::http::{Problem, Routes};
use shared::layout;
use shared::store::{ServedAs, Store};

/// The sources that pages may load from: this server, and the players of linked videos. [`policy`] adds the buckets.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; \
                      connect-src 'self'; manifest-src 'self'; frame-src https://www.youtube-nocookie.com https://drive.google.com; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const PERMISSIONS: HeaderName = HeaderName::from_static("permissions-policy");

#[derive(RustEmbed)]
#[folder = "../gallery"]
struct Files;

/// The origins outside this server that pages load images from, because requests for images are redirected there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    /// The origin of the bucket that holds the images, which also receives uploads by ticket.
    pub images: Option<String>,
    /// The origin of the bucket that holds the replicas.
    pub archive: Option<String>,
}

impl Buckets {
    /// The origins to which a store redirects; none if it serves all bytes itself.
    pub async fn of(keepsake: &Keepsake) -> Self {
        let Some(images) = origin(&keepsake.core.primary).await else { return Self::default() };
        let archive = origin(keepsake.core.archive.store()).await;
        Self { archive: archive.filter(|archive| *archive != images), images: Some(images) }
    }
}

/// The origin of the URLs that a store signs, if it signs any.
async fn origin(store: &Store) -> Option<String> {
    let served = ServedAs { content_type: "application/octet-stream", disposition: None };
    let signed = store.signed_url(&layout::probe(), served, Duration::from_secs(60)).await;
    let url = signed.inspect_err(|error| {
        let error = error as &dyn std::error::Error;
        tracing::warn!(error, "no URL of the bucket can be signed, so that the pages do not show images from it");
    });
    let url: Uri = url.ok()??.parse().ok()?;
    Some(format!("{}://{}", url.scheme_str()?, url.authority()?))
}

/// The policy of all pages if images may also come from these buckets.
fn policy(buckets: &Buckets) -> String {
    let allow = |policy: String, sources: &str, origins: &[&Option<String>]| {
        let origins: String = origins.iter().copied().flatten().map(|origin| format!(" {origin}")).collect();
        policy.replace(sources, &format!("{sources}{origins}"))
    };
    let Buckets { images, archive } = buckets;
    let policy = allow(POLICY.to_owned(), "img-src 'self' blob: data:", &[images, archive]);
    let policy = allow(policy, "media-src 'self' blob:", &[images, archive]);
    allow(policy, "connect-src 'self'", &[images])
}

/// The pages and their assets. They are public to every client of the server: they contain no data of the store.
pub fn routes(buckets: &Buckets) -> Routes {
    // An origin comes from a URL, so it is always a valid header value.
    let policy = HeaderValue::try_from(policy(buckets)).unwrap_or(HeaderValue::from_static(POLICY));
    let [index, safety, assets] = [(); 3].map(|()| policy.clone());
    Routes::new()
        .get("/", async move |headers: HeaderMap| file("index.html", &headers, &index))
        .get("/safety", async move |headers: HeaderMap| file("safety.html", &headers, &safety))
        .get("/assets/{*path}", async move |Path(path): Path<String>, headers: HeaderMap| {
            file(&format!("assets/{path}"), &headers, &assets)
        })
}

fn file(path: &str, headers: &HeaderMap, policy: &HeaderValue) -> Result<Response, Problem> {
    let found = Files::get(path).and_then(|file| Some((media_type(path)?, file)));
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "not-found", "There is no such page.");
    let (media_type, file) = found.ok_or_else(unknown)?;
    let etag = etag(&file)?;
    let is_new = headers.typed_get::<IfNoneMatch>().is_none_or(|known| known.precondition_passes(&etag));
    let mut answer = if is_new { file.data.into_response() } else { StatusCode::NOT_MODIFIED.into_response() };
    let fields = answer.headers_mut();
    fields.typed_insert(etag);
    // A page and its scripts must have the same version: the browser revalidates each time, and usually has it.
    fields.typed_insert(CacheControl::new().with_no_cache());
    fields.insert(CONTENT_SECURITY_POLICY, policy.clone());
    for (name, value) in [
        (CONTENT_TYPE, media_type),
        (OPENER, "same-origin"),
        (PERMISSIONS, "camera=(self), microphone=(), geolocation=()"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    Ok(answer)
}

fn etag(file: &EmbeddedFile) -> Result<ETag, Problem> {
    let digest = file.metadata.sha256_hash();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"").parse().map_err(Problem::internal)
}

fn media_type(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "webmanifest" => "application/manifest+json",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use shared::testing::{request, send};

    use super::*;

    const PLAIN: HeaderValue = HeaderValue::from_static(POLICY);

    fn text(path: &str) -> String {
        String::from_utf8(Files::get(path).unwrap().data.into_owned()).unwrap()
    }

    #[test]
    fn a_page_comes_with_its_policy_and_is_not_sent_twice() {
        let first = file("index.html", &HeaderMap::new(), &PLAIN).unwrap();
        assert_eq!(first.headers()[CONTENT_SECURITY_POLICY], POLICY);
        assert_eq!(first.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        let mut again = HeaderMap::new();
        again.insert("if-none-match", first.headers()["etag"].clone());
        assert_eq!(file("index.html", &again, &PLAIN).unwrap().status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn the_policy_names_the_buckets_that_images_are_redirected_to() {
        let (images, archive) = ("http://127.0.0.1:8333".to_owned(), "https://b.example".to_owned());
        assert_eq!(policy(&Buckets::default()), POLICY);
        let named = policy(&Buckets { images: Some(images), archive: Some(archive) });
        for directive in [
            "; img-src 'self' blob: data: http://127.0.0.1:8333 https://b.example;",
            "; media-src 'self' blob: http://127.0.0.1:8333 https://b.example;",
            "; connect-src 'self' http://127.0.0.1:8333;",
        ] {
            assert!(named.contains(directive), "{named}");
        }
    }

    #[test]
    fn only_files_of_the_pages_are_sent() {
        for path in
            ["assets/", "assets/../../Cargo.toml", "../Cargo.toml", "assets//etc/passwd", "assets/none.js", "assets/x"]
        {
            assert!(file(path, &HeaderMap::new(), &PLAIN).is_err(), "{path}");
        }
    }

    #[test]
    fn every_file_has_a_media_type() {
        for path in Files::iter() {
            assert!(media_type(&path).is_some(), "{path}");
        }
    }

    #[test]
    fn pages_have_no_script_or_style_of_their_own_and_load_what_is_there() {
        for page in Files::iter().filter(|path| path.ends_with(".html")) {
            let text = text(&page);
            for forbidden in ["<style", " style=", "javascript:", "onclick=", "onload=", "http://", "https://"] {
                assert!(!text.contains(forbidden), "{page} has {forbidden}");
            }
            for script in text.split("<script").skip(1) {
                let (tag, rest) = script.split_once('>').unwrap();
                assert!(tag.contains(" src=\"/assets/") && rest.starts_with("</script>"), "{page}: {tag}");
            }
            for attribute in ["src=\"/", "href=\"/assets"] {
                for link in text.split(attribute).skip(1) {
                    let path = link.split('"').next().unwrap();
                    let path = if attribute.starts_with("href") { format!("assets{path}") } else { path.to_owned() };
                    assert!(Files::get(&path).is_some(), "{page} loads {path}");
                }
            }
        }
    }

    #[tokio::test]
    async fn what_a_page_loads_is_under_a_hundred_kilobytes_as_it_is_sent() {
        let app = shared::testing::app();
        let router = crate::compression::layer(routes(&Buckets::default()).into_router(app));
        let own = |path: &str| path.ends_with(".js") || path.ends_with(".css");
        for page in ["assets/gallery/", "assets/safety/"] {
            let of_page = |path: &str| path.starts_with(page) || path.matches('/').count() == 1;
            for coding in ["gzip", "br", "zstd"] {
                let mut bytes = 0;
                for path in Files::iter().filter(|path| own(path) && of_page(path)) {
                    let headers = [("accept-encoding", coding)];
                    let sent = request("GET", &format!("/{path}"), &headers, axum::body::Body::empty());
                    bytes += send(&router, sent).await.body.len();
                }
                assert!((1..100_000).contains(&bytes), "{page} in {coding}: {bytes} bytes");
            }
        }
    }

    #[test]
    fn scripts_write_text_as_text_only() {
        for path in Files::iter().filter(|path| path.ends_with(".js")) {
            let text = text(&path);
            for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"] {
                assert!(!text.contains(forbidden), "{path} has {forbidden}");
            }
        }
    }

    #[test]
    fn the_policy_on_aws_is_this_one_and_lets_the_buckets_be_reached() {
        let template = include_str!("../../template.yaml").split_whitespace().collect::<Vec<_>>().join(" ");
        for directive in POLICY.split(';').map(str::trim) {
            assert!(template.contains(directive), "{directive}");
        }
        for reached in ["connect-src 'self' https://${Images.", "img-src 'self' blob: data: https://${Images."] {
            assert!(template.contains(reached), "{reached}");
        }
    }
}
