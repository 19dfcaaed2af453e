//! `/metrics`, scraped from the real binary, and what is written about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::photos::photo;
use crate::server::{self, Server, eventually, names};

/// What a scrape showed.
struct Scrape {
    /// The type of each metric, by its name.
    types: BTreeMap<String, String>,
    /// The value of each series, as it is written.
    series: BTreeMap<String, f64>,
}

impl Scrape {
    async fn of(server: &Server) -> Self {
        let answer = server.get("/metrics").await;
        assert_eq!(answer.status(), StatusCode::OK);
        let content_type = answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
        assert!(content_type.starts_with("application/openmetrics-text; version=1.0.0"), "{content_type}");
        let text = answer.text().await.unwrap();
        assert!(text.ends_with("# EOF\n"), "{text}");
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap());
        Self {
            types: types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect(),
            series: series.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect(),
        }
    }

    fn value(&self, series: &str) -> Option<f64> {
        self.series.get(series).copied()
    }

    /// The names by which each metric is asked for.
    fn names(&self) -> BTreeSet<String> {
        let suffixes = |kind: &str| match kind {
            "counter" => vec!["_total"],
            "info" => vec!["_info"],
            "histogram" => vec!["_bucket", "_count", "_sum"],
            _ => vec![""],
        };
        let names =
            self.types.iter().flat_map(|(name, kind)| suffixes(kind).into_iter().map(move |s| format!("{name}{s}")));
        names.collect()
    }
}

/// A server that has done everything that has a metric.
async fn busy(folder: &Path) -> Server {
    let server = Server::start(folder);
    for n in 0..2 {
        let (name, bytes) = photo(n);
        server.upload(&name, &bytes, "measured").await;
    }
    server::json(server.post("/api/backup").await, StatusCode::CREATED).await;
    server::json(server.post("/api/verify").await, StatusCode::OK).await;
    server::json(server.post("/api/prune").await, StatusCode::OK).await;
    let (name, bytes) = photo(2);
    server.upload(&name, &bytes, "after the backup").await;
    server
}

#[tokio::test]
async fn a_scrape_tells_what_happened_and_how_things_are() {
    let folder = tempfile::tempdir().unwrap();
    let server = busy(folder.path()).await;
    for path in ["/api/images/one.jpg", "/api/images/two.jpg", "/nowhere/1", "/nowhere/2"] {
        assert_eq!(server.get(path).await.status(), StatusCode::NOT_FOUND);
    }
    let odd = reqwest::Method::from_bytes(b"BREW").unwrap();
    assert_eq!(server.send(odd, "/nowhere/3").await.status(), StatusCode::NOT_FOUND);

    let scrape = Scrape::of(&server).await;
    let bytes: u64 = (0..3).map(|n| photo(n).1.len() as u64).sum();
    for (series, expected) in [
        ("keepsake_uploads_total", 3.0),
        ("keepsake_uploaded_bytes_total", bytes as f64),
        ("keepsake_images", 3.0),
        ("keepsake_image_bytes", bytes as f64),
        ("keepsake_backups", 1.0),
        ("keepsake_uploads_not_backed_up", 1.0),
        ("keepsake_single_copy_images", 0.0),
        ("keepsake_archive_lag_images", 0.0),
        ("keepsake_last_prune_complete", 1.0),
        (r#"keepsake_http_requests_total{method="POST",route="/api/upload",status="201"}"#, 3.0),
        (r#"keepsake_http_requests_total{method="GET",route="/api/images/{id}",status="404"}"#, 2.0),
        (r#"keepsake_http_requests_total{method="GET",route="none",status="404"}"#, 2.0),
        (r#"keepsake_http_requests_total{method="other",route="none",status="404"}"#, 1.0),
        (r#"keepsake_http_request_seconds_count{method="POST",route="/api/upload"}"#, 3.0),
        (r#"keepsake_store_errors_total{place="archive",kind="corrupt"}"#, 0.0),
        (r#"keepsake_verification_findings{kind="lost-images"}"#, 0.0),
        (r#"keepsake_check_status{check="primary"}"#, 0.0),
    ] {
        assert_eq!(scrape.value(series), Some(expected), "{series}");
    }
    let at_least = |series: &str, least: f64| assert!(scrape.value(series).is_some_and(|v| v >= least), "{series}");
    at_least(r#"keepsake_store_operations_total{place="primary",operation="put",outcome="ok"}"#, 6.0);
    at_least(r#"keepsake_store_operations_total{place="archive",operation="put",outcome="ok"}"#, 6.0);
    at_least(r#"keepsake_store_operations_total{place="archive",operation="read",outcome="ok"}"#, 1.0);
    at_least(r#"keepsake_free_bytes{place="archive"}"#, 1.0);
    let verdicts = scrape.series.iter().filter(|(series, _)| series.starts_with("keepsake_persistence{"));
    assert_eq!(verdicts.map(|(_, value)| value).sum::<f64>(), 1.0);
    for age in ["newest_backup_age", "newest_verified_backup_age", "verification_complete_age", "last_prune_age"] {
        let seconds = scrape.value(&format!("keepsake_{age}_seconds")).unwrap();
        assert!((0.0..600.0).contains(&seconds), "{age}: {seconds}");
    }
    server.stop();
}

#[tokio::test]
async fn what_there_is_not_has_no_age() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let scrape = Scrape::of(&server).await;
    let ages: Vec<_> =
        scrape.series.keys().filter(|series| series.contains("backup_age") || series.contains("prune")).collect();
    assert!(ages.is_empty(), "{ages:?}");
    assert_eq!(scrape.value("keepsake_images"), Some(0.0));
    server.stop();
}

#[tokio::test]
async fn a_backup_that_is_known_to_be_damaged_is_not_the_newest_verified_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let (name, bytes) = photo(0);
    let item = server.upload(&name, &bytes, "").await;
    let made = server::json(server.post("/api/backup").await, StatusCode::CREATED).await;
    let shown = server.get_json(&format!("/api/backups/{}", made["backupName"].as_str().unwrap())).await;
    // With another state, so that the page is none of the present one.
    server.delete(item["id"].as_str().unwrap()).await;
    // In every location, or it is written again from a replica.
    for place in ["catalog", "backups/catalog"] {
        let page = folder.path().join(place).join(format!("{}.json.gz", shown["page"].as_str().unwrap()));
        assert!(page.exists() || place == "catalog", "{page:?}");
        if page.exists() {
            fs::write(page, "rotten").unwrap();
        }
    }
    server.post("/api/verify").await;
    let scrape = Scrape::of(&server).await;
    assert!(scrape.value("keepsake_newest_backup_age_seconds").is_some());
    assert_eq!(scrape.value("keepsake_newest_verified_backup_age_seconds"), None);
    assert_eq!(scrape.value(r#"keepsake_verification_findings{kind="damaged-backups"}"#), Some(1.0));
    let health = server.get_json("/api/health").await;
    assert!(health["backups"]["newest"].is_string() && health["backups"]["newestVerified"].is_null(), "{health}");
    server.stop();
}

#[tokio::test]
async fn a_store_that_fails_shows_in_its_errors() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let (name, bytes) = photo(0);
    server.upload(&name, &bytes, "").await;
    let commits = folder.path().join("image-metadata.d");
    eventually("the commits are folded", || names(commits.clone()).is_empty()).await;
    fs::remove_dir_all(folder.path().join("backups/catalog")).unwrap();
    fs::write(folder.path().join("backups/catalog"), "in the way").unwrap();
    assert!(server.post("/api/backup").await.status().is_server_error());
    let scrape = Scrape::of(&server).await;
    let errors = scrape.series.iter().filter(|(series, _)| series.starts_with("keepsake_store_errors_total{"));
    let (archive, primary): (Vec<_>, Vec<_>) = errors.partition(|(series, _)| series.contains(r#"place="archive""#));
    assert!(archive.iter().map(|(_, value)| *value).sum::<f64>() >= 1.0, "{archive:?}");
    assert_eq!(primary.iter().map(|(_, value)| *value).sum::<f64>(), 0.0, "{primary:?}");
    server.stop();
}

#[tokio::test]
async fn where_there_is_a_token_a_scrape_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), &[("API_TOKEN", "t0ken")]);
    let scrape = Client::new().get(server.url("/metrics"));
    assert_eq!(server.get("/metrics").await.status(), StatusCode::UNAUTHORIZED);
    for (token, expected) in [("wrong", StatusCode::UNAUTHORIZED), ("t0ken", StatusCode::OK)] {
        let request = scrape.try_clone().unwrap().header(AUTHORIZATION, format!("Bearer {token}"));
        assert_eq!(request.send().await.unwrap().status(), expected, "{token}");
    }
    server.stop();
}

#[test]
fn every_alert_has_its_section_in_the_page() {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let rules: Value =
        serde_yaml_ng::from_str(&fs::read_to_string(root.join("deploy/prometheus/alerts.yaml")).unwrap()).unwrap();
    let page = fs::read_to_string(root.join("docs/monitoring.md")).unwrap();
    let sections: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let mut alerts = BTreeSet::new();
    for rule in rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        let name = rule["alert"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        assert!(rule["annotations"]["summary"].as_str().unwrap().contains("{{ $labels.instance }}"), "{name}");
        let runbook = format!("docs/monitoring.md#{}", name.to_lowercase());
        assert_eq!(rule["annotations"]["runbook"].as_str(), Some(runbook.as_str()));
        alerts.insert(name);
    }
    assert_eq!(alerts, sections);
}

/// Every metric that the file names: words that begin like one.
fn named_in(path: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let words = text.split(|sign: char| !(sign.is_ascii_alphanumeric() || sign == '_'));
    words.filter(|word| word.starts_with("keepsake_") || word.starts_with("process_")).map(str::to_owned).collect()
}

#[tokio::test]
async fn documented_metrics_match_exposed_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let server = busy(folder.path()).await;
    let scrape = Scrape::of(&server).await;
    server.stop();
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let exposed = scrape.names();
    let files = ["deploy/prometheus/alerts.yaml", "deploy/prometheus/prometheus.yaml", "deploy/grafana/dashboard.json"];
    let page = named_in(&root.join("docs/monitoring.md"));
    for file in files {
        let named = named_in(&root.join(file));
        let unknown: Vec<_> = named.difference(&exposed).collect();
        assert!(unknown.is_empty(), "{file} names what the server does not expose: {unknown:?}");
    }
    // The page names a histogram as a whole.
    let (families, exposed): (BTreeSet<String>, BTreeSet<String>) = (
        scrape.types.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name.clone()).collect(),
        exposed
            .into_iter()
            .filter(|name| !["_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end)))
            .collect(),
    );
    assert_eq!(page, families.into_iter().chain(exposed).collect());
}
