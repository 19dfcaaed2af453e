//! What operators set.

use std::collections::BTreeMap;
use std::path::Component;

use shared::config::{Config, StoreUrl};
use shared::store::Key;

/// Each line is one variable: `NAME=value`.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let variables: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let read = || Config::from_lookup(&|name| variables.get(name).map(|value| (*value).to_owned()));
    let secrets: Vec<&str> = ["API_TOKEN"].iter().filter_map(|name| variables.get(name).copied()).collect();
    let shown = match read() {
        Ok(config) => {
            assert!(config.data_dir.is_absolute());
            for place in [Some(&config.store), config.backup.as_ref()].into_iter().flatten() {
                reads_back(place);
            }
            if let Some(token) = &config.api_token {
                assert!(!token.expose().is_empty() && token.expose().bytes().all(|byte| byte.is_ascii_graphic()));
            }
            assert!(config.max_upload_bytes > 0 && config.max_pixels > 0);
            // An origin stands as a browser sends it.
            assert!(config.allowed_origins.iter().all(|origin| !origin.ends_with('/') && origin.contains("://")));
            format!("{:?}", config.api_token)
        }
        Err(error) => {
            let sentence = error.to_string();
            assert!(sentence.starts_with(error.name) && sentence.ends_with('.'), "{sentence}");
            // What is told of another variable may hold the same text by chance.
            if error.name == "API_TOKEN" { sentence } else { String::new() }
        }
    };
    for secret in secrets.iter().filter(|secret| secret.trim().len() > 40) {
        assert!(!shown.contains(secret.trim()), "{shown}");
    }
}

/// A place, written as a URL, is the same place.
fn reads_back(place: &StoreUrl) {
    let url = match place {
        StoreUrl::File(path) => {
            assert!(path.is_absolute());
            if path.components().any(|part| part == Component::ParentDir) {
                // A URL cannot say it, but a folder's path may, and an encoded slash brings it in.
                return;
            }
            let encoded = |byte: &u8| {
                if byte.is_ascii_alphanumeric() || *byte == b'/' {
                    char::from(*byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            };
            format!("file://{}", path.as_os_str().as_encoded_bytes().iter().map(encoded).collect::<String>())
        }
        StoreUrl::S3 { bucket, prefix, endpoint, region } => {
            let prefix = prefix.clone().unwrap_or_default();
            assert!(prefix.is_empty() || Key::new(prefix.clone()).is_ok(), "{prefix}");
            let encoded = |byte: u8| if byte == b'/' { "/".to_owned() } else { format!("%{byte:02X}") };
            let mut url = format!("s3://{bucket}/{}", prefix.bytes().map(encoded).collect::<String>());
            let mut separator = '?';
            for (name, value) in [("endpoint", endpoint), ("region", region)] {
                if let Some(value) = value {
                    let value: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
                    url += &format!("{separator}{name}={value}");
                    separator = '&';
                }
            }
            url
        }
        // It is no place for images.
        StoreUrl::Cloudinary { .. } => return,
    };
    let lookup = |name: &str| (name == "STORE_URL").then(|| url.clone());
    let again = Config::from_lookup(&lookup).map(|config| config.store);
    assert_eq!(again.as_ref(), Ok(place), "{url}");
}
