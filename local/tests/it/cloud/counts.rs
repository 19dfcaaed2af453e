//! Requests to S3, counted by what they do and where.

use std::collections::BTreeMap;
use std::fmt;

use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;

/// What a request does, as S3 prices it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Put,
    Copy,
    List,
    Get,
    Head,
    Delete,
    /// Nothing that Keepsake has a reason to send.
    Other,
}

impl Kind {
    /// Whether S3 takes $0.005 for a thousand of them rather than $0.0004.
    pub fn is_dear(self) -> bool {
        matches!(self, Self::Put | Self::Copy | Self::List)
    }
}

/// What a request does, and to which key of which bucket; of a listing, the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub kind: Kind,
    pub bucket: String,
    pub key: String,
}

impl Target {
    /// Reads a request in path style.
    pub fn of(head: &Parts) -> Self {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let path = head.uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let query = head.uri.query().unwrap_or_default();
        let argument = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let copies = head.headers.contains_key("x-amz-copy-source");
        let kind = match head.method.as_str() {
            "PUT" if copies => Kind::Copy,
            "PUT" => Kind::Put,
            "GET" if argument("list-type").is_some() => Kind::List,
            "GET" => Kind::Get,
            "HEAD" => Kind::Head,
            "DELETE" => Kind::Delete,
            _ => Kind::Other,
        };
        let key = if kind == Kind::List { argument("prefix").unwrap_or_default() } else { key };
        Self { kind, bucket: decode(bucket), key: decode(key) }
    }

    /// The part of the layout that the key belongs to.
    fn place(&self) -> String {
        let (archive, key) = match self.key.strip_prefix("backups/") {
            Some(key) => ("backups/", key),
            None => ("", self.key.as_str()),
        };
        let place = match key.split_once('/') {
            Some((folder, _)) if folder.starts_with("backup-") => "backup-…/",
            Some((folder, _)) => &key[..=folder.len()],
            None if key.is_empty() => "(bucket)",
            None => key,
        };
        format!("{archive}{place}")
    }
}

/// How many requests there were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<(Kind, String), u64>);

impl Counts {
    pub fn add(&mut self, target: &Target) {
        *self.0.entry((target.kind, target.place())).or_default() += 1;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Those that a condition holds for.
    pub fn of(&self, holds: impl Fn(Kind, &str) -> bool) -> u64 {
        self.0.iter().filter(|((kind, place), _)| holds(*kind, place)).map(|(_, count)| count).sum()
    }

    /// Those that a condition does not hold for.
    pub fn without(mut self, holds: impl Fn(Kind, &str) -> bool) -> Self {
        self.0.retain(|(kind, place), _| !holds(*kind, place));
        self
    }

    /// Those that came since `earlier`.
    pub fn since(mut self, earlier: &Self) -> Self {
        for (what, count) in &earlier.0 {
            *self.0.entry(what.clone()).or_default() -= count;
        }
        self.0.retain(|_, count| *count > 0);
        self
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((kind, place), count) in &self.0 {
            writeln!(f, "  {count:>7}  {:<6} {place}", format!("{kind:?}").to_uppercase())?;
        }
        Ok(())
    }
}
