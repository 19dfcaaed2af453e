//! Links: records of content elsewhere, such as a video on YouTube. They have no bytes here.

use std::sync::Arc;

use serde_json::Value;
use url::{Position, Url};

use super::Uploads;
use crate::catalog::{Entry, Record};
use crate::core::error::{Error, Result};
use crate::layout::ImageId;
use crate::services::images::fields::Fields;
use crate::services::upload::Uploaded;

/// The longest URL in characters.
const MAX_URL: usize = 2_000;
/// ASCII characters that are invalid in a URL, but that URL parsers tolerate or drop.
const UNFIT: &[char] = &['\\', '"', '\'', '<', '>', '`', '{', '}', '|', '^'];

/// The service whose player can show the target of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// YouTube.
    YouTube,
    /// Google Drive.
    Drive,
}

/// The player that a page can embed for a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embed {
    /// The service of the player.
    pub provider: Provider,
    /// The URL of the player.
    pub url: String,
}

impl Provider {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::YouTube => "youtube",
            Self::Drive => "drive",
        }
    }
}

/// Parses a URL for a link: `http` or `https`, with a host, without credentials, and without anything that parsers
/// interpret differently.
pub fn parse(given: &str) -> Result<Url> {
    let invalid = |reason: &str| Err(Error::Invalid(format!("The url {reason}.")));
    if given.chars().count() > MAX_URL {
        return invalid(&format!("is longer than {MAX_URL} characters"));
    }
    let fits = |sign: char| if sign.is_ascii() { sign.is_ascii_graphic() } else { sign.is_alphanumeric() };
    if !given.chars().all(|sign| fits(sign) && !UNFIT.contains(&sign)) {
        return invalid("contains characters that must be encoded");
    }
    let scheme = given.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("http" | "https")) {
        return invalid("must begin with http:// or https://");
    }
    let Ok(url) = Url::parse(given) else { return invalid("is not valid") };
    // An empty user name before the host is no credential, and still obscures the host.
    if url[Position::AfterScheme..Position::BeforeHost].contains('@') || authority(given).contains('@') {
        return invalid("must not contain credentials");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return invalid("has no host");
    }
    Ok(url)
}

fn authority(given: &str) -> &str {
    let (_, rest) = given.split_once("://").unwrap_or_default();
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// The player for this URL, if there is one.
pub fn embed(url: &Url) -> Option<Embed> {
    if url.port().is_some() {
        return None;
    }
    let segments: Vec<&str> = url.path_segments()?.filter(|segment| !segment.is_empty()).collect();
    let asked = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let host = url.host_str()?;
    match host.strip_prefix("www.").or_else(|| host.strip_prefix("m.")).unwrap_or(host) {
        "youtube.com" | "music.youtube.com" | "youtube-nocookie.com" => {
            let id = match segments[..] {
                ["watch"] => asked("v")?,
                ["shorts" | "embed" | "live" | "v", id, ..] => id.to_owned(),
                _ => return None,
            };
            youtube(&id)
        }
        "youtu.be" => youtube(segments.first()?),
        "drive.google.com" => {
            let id = match segments[..] {
                ["file", "d", id, ..] => id.to_owned(),
                ["open" | "uc"] => asked("id")?,
                _ => return None,
            };
            let url = format!("https://drive.google.com/file/d/{id}/preview");
            is_id(&id, 10..=100).then_some(Embed { provider: Provider::Drive, url })
        }
        _ => None,
    }
}

fn youtube(id: &str) -> Option<Embed> {
    let url = format!("https://www.youtube-nocookie.com/embed/{id}");
    is_id(id, 11..=11).then_some(Embed { provider: Provider::YouTube, url })
}

fn is_id(id: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

impl Uploads {
    /// Stores a link and its fields, in the same way as an upload stores an image.
    pub async fn add_link(&self, url: &str, fields: Fields) -> Result<Uploaded> {
        fields.check()?;
        parse(url)?;
        self.replication.check_lag()?;
        self.core.note_write(self.room.check(0).await)?;
        let uploaded = self.core.clock.now();
        let link = Record { kind: Some("link".to_owned()), ..Record::default() };
        let mut record = link.described(&fields, None, uploaded);
        record.extra.insert("url".to_owned(), Value::from(url));
        let id = ImageId::of_link(self.core.clock.new_id());
        let links: Vec<(ImageId, Arc<Entry>)> =
            self.core.note_write(self.commit_new(vec![(id, record)], &fields, uploaded).await)?;
        Ok(self.acknowledge(links).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_readers_might_take_for_something_else_is_no_link() {
        for good in [
            "https://example.com",
            "http://example.com:8080/a/b?c=d&e=%20#f",
            "HTTPS://Example.com/~x/(y);z,w!$*+@v",
            "https://de.wikipedia.org/wiki/Kätzchen",
            "https://[::1]/",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        let long = format!("https://example.com/{}", "x".repeat(2_000));
        for bad in [
            "",
            "example.com",
            "//example.com",
            "https:example.com",
            "https:/example.com",
            "https:\\\\example.com",
            "https://",
            "https:///",
            "https://exa mple.com",
            " https://example.com",
            "https://example.com\n",
            "https://example.com/\u{202e}gnp.exe",
            "https://example.com/\"onload=x",
            "https://example.com/<b>",
            "https://user@example.com",
            "https://user:pass@example.com",
            "https://@example.com",
            "https://:@example.com",
            "https://example.com:99999",
            "https://[::1",
            "javascript:alert(1)",
            "javascript://example.com/%0aalert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "ftp://example.com",
            "java\tscript:x",
            &long,
        ] {
            assert!(matches!(parse(bad), Err(Error::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn videos_and_files_of_known_providers_are_embedded() {
        let id = "dQw4w9WgXcQ";
        for form in [
            "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
            "https://m.youtube.com/watch?t=5&v=dQw4w9WgXcQ&list=x",
            "http://youtube.com/shorts/dQw4w9WgXcQ?feature=share",
            "https://youtu.be/dQw4w9WgXcQ?si=abc",
            "https://www.youtube.com/embed/dQw4w9WgXcQ",
            "https://www.youtube.com/live/dQw4w9WgXcQ",
            "https://www.youtube-nocookie.com/embed/dQw4w9WgXcQ",
            "HTTPS://WWW.YOUTUBE.COM/watch?v=dQw4w9WgXcQ",
        ] {
            let expected =
                Embed { provider: Provider::YouTube, url: format!("https://www.youtube-nocookie.com/embed/{id}") };
            assert_eq!(embed(&parse(form).unwrap()), Some(expected), "{form}");
        }
        for form in [
            "https://drive.google.com/file/d/1AbC_d-EfGhIjK/view?usp=sharing",
            "https://drive.google.com/open?id=1AbC_d-EfGhIjK",
            "https://drive.google.com/uc?export=download&id=1AbC_d-EfGhIjK",
        ] {
            let url = "https://drive.google.com/file/d/1AbC_d-EfGhIjK/preview".to_owned();
            assert_eq!(embed(&parse(form).unwrap()), Some(Embed { provider: Provider::Drive, url }), "{form}");
        }
        for none in [
            "https://www.youtube.com/",
            "https://www.youtube.com/watch?v=short",
            "https://www.youtube.com/watch?v=dQw4w9WgX/Q",
            "https://www.youtube.com/embed/..%2f..%2fabcde",
            "https://www.youtube.com.evil.example/watch?v=dQw4w9WgXcQ",
            "https://evilyoutube.com/watch?v=dQw4w9WgXcQ",
            "https://www.youtube.com:8443/watch?v=dQw4w9WgXcQ",
            "https://example.com/watch?v=dQw4w9WgXcQ",
            "https://drive.google.com/drive/folders/1AbC_d-EfGhIjK",
            "https://drive.google.com/file/d/a%22b/view",
        ] {
            assert_eq!(embed(&parse(none).unwrap()), None, "{none}");
        }
    }
}
