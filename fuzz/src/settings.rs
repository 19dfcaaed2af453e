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
            reads_back("STORE_URL", &config.store);
            config.backup.iter().for_each(|place| reads_back("BACKUP_URL", place));
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
fn reads_back(name: &str, place: &StoreUrl) {
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let slashed = |text: &str| text.split('/').map(encoded).collect::<Vec<_>>().join("/");
    let way = |endpoint: &Option<String>, region: &Option<String>| {
        let endpoint = endpoint.iter().map(|endpoint| format!("endpoint={}", encoded(endpoint)));
        endpoint.chain(region.iter().map(|region| format!("region={region}"))).collect::<Vec<_>>().join("&")
    };
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
            format!("s3://{bucket}/{}?{}", slashed(&prefix), way(endpoint, region))
        }
        StoreUrl::Cloudinary { cloud, key, secret, folder, endpoint } => {
            assert!(name == "BACKUP_URL" && Key::new(folder.clone()).is_ok(), "{folder}");
            let secret = secret.expose();
            assert!(secret.len() < 20 || !format!("{place:?} {place}").contains(secret));
            format!("cloudinary://{key}:{secret}@{cloud}/{}?{}", slashed(folder), way(endpoint, &None))
        }
    };
    // A store of another kind, so that the two cannot lie in each other.
    let store = if matches!(place, StoreUrl::File(_)) { "s3://bucket" } else { "file:///" };
    let lookup = |asked: &str| match asked {
        _ if asked == name => Some(url.clone()),
        "STORE_URL" => Some(store.to_owned()),
        _ => None,
    };
    let again = Config::from_lookup(&lookup).unwrap();
    let again = if name == "STORE_URL" { Some(again.store) } else { again.backup };
    assert_eq!(again.as_ref(), Some(place), "{url}");
}
