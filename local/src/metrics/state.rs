//! The present state of the store, as metrics.

use jiff::Timestamp;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use shared::Keepsake;
use shared::counts::Outcome;
use shared::health::Health;
use shared::store::StoreStatus;

pub type Labels<const N: usize> = [(&'static str, String); N];

/// The metrics of one scrape. Unknown values are absent: without a backup there is no backup age.
pub fn registry(keepsake: &Keepsake, look: Option<&Health>) -> Registry {
    let now = keepsake.core.clock.now();
    let mut all = Registry::default();
    all.register(
        "process_start_time_seconds",
        "When the process began, in seconds since 1970",
        seconds_of(keepsake.core.started_at),
    );
    let ours = all.sub_registry_with_prefix("keepsake");
    ours.register("build", "What runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    add_catalog(ours, keepsake);
    if let Some(prune) = keepsake.core.counts.last_prune() {
        gauge(ours, "last_prune_age_seconds", "Time since the last prune of this process", age(now, prune.at));
        gauge(ours, "last_prune_complete", "1 where it removed all that it should", f64::from(prune.complete));
        gauge(ours, "last_prune_removed_bytes", "What it removed", prune.removed_bytes as f64);
    }
    if let Some(look) = look {
        add_look(ours, look, now);
    }
    all
}

/// Metrics that need no request to a store.
fn add_catalog(registry: &mut Registry, keepsake: &Keepsake) {
    let counts = &keepsake.core.counts;
    registry.register("uploads", "Images uploaded and stored", ConstCounter::new(counts.uploads()));
    registry.register("uploaded_bytes", "Length of those images", ConstCounter::new(counts.uploaded_bytes()));
    let thumbnails = Family::<Labels<1>, Counter>::default();
    for outcome in Outcome::ALL {
        let count = counts.thumbnails(outcome);
        thumbnails.get_or_create(&[("outcome", outcome.name().to_owned())]).inc_by(count);
    }
    registry.register("derivatives", "Requests for thumbnails, by outcome", thumbnails);
    let totals = keepsake.core.catalog.view().totals();
    gauge(registry, "images", "Images that there are", totals.live as f64);
    gauge(registry, "image_bytes", "Length of those images", totals.bytes as f64);
}

/// Metrics from requests to the stores.
fn add_look(registry: &mut Registry, look: &Health, now: Timestamp) {
    gauge(registry, "look_age_seconds", "Age of the cached state of the stores", age(now, look.now));
    if let Some(behind) = &look.archive.behind {
        let single_copies = behind.single_copies + look.gone;
        gauge(registry, "single_copy_images", "Images that have one copy only", single_copies as f64);
        gauge(
            registry,
            "archive_lag_images",
            "Images of which the archive lacks the present state",
            behind.images as f64,
        );
    }
    if let Some(seconds) = look.behind_seconds() {
        let help = "For how long the oldest change has had no replica";
        gauge(registry, "archive_lag_seconds", help, seconds);
    }
    gauge(registry, "backups", "Backups that there are", look.backups as f64);
    gauge(registry, "uploads_not_backed_up", "Images uploaded since the newest backup", look.not_backed_up as f64);
    if let Some(newest) = &look.newest {
        gauge(registry, "newest_backup_age_seconds", "Time since the newest backup was made", age(now, newest.created));
    }
    if let Some(verified) = &look.newest_verified {
        let help = "Time since the newest backup was made of which nothing is known to be damaged";
        gauge(registry, "newest_verified_backup_age_seconds", help, age(now, verified.created));
    }
    let checks = look.checks.iter().map(|check| (check.name, check.status as u64));
    gauges(registry, "check_status", "The result of each check of /api/health: 0 ok, 1 warn, 2 error", "check", checks);
    let verdicts =
        ["proven", "unproven", "ephemeral"].map(|name| (name, (name == look.persistence.status.name()).into()));
    let help = "1 for the verdict on whether images outlive a redeploy";
    gauges(registry, "persistence", help, "verdict", verdicts);
    add_room(registry, look);
    add_verification(registry, look, now);
}

fn add_room(registry: &mut Registry, look: &Health) {
    let stores = [("primary", &look.primary), ("archive", &look.archive.status)];
    let of = |bytes: fn(&StoreStatus) -> Option<u64>| {
        stores.into_iter().filter_map(move |(store, status)| Some((store, bytes(status.as_ref()?)?)))
    };
    let (free, total) = (of(|status| status.free_bytes), of(|status| status.total_bytes));
    gauges(registry, "free_bytes", "Bytes that can still be written, where known", "place", free);
    gauges(registry, "total_bytes", "Total size of the medium in bytes, where known", "place", total);
}

fn add_verification(registry: &mut Registry, look: &Health, now: Timestamp) {
    let Some(record) = &look.verifications else { return };
    if let Some(since) = record.complete_since() {
        let help = "Time since when everything was read through at least once";
        gauge(registry, "verification_complete_age_seconds", help, age(now, since));
    }
    let findings = [
        ("lost-images", record.lost.len()),
        ("damaged-images", record.damaged.len()),
        ("lost-copies", record.lost_copies.len()),
        ("damaged-backups", record.damaged_backups.len()),
    ];
    let help = "Findings of verifications that are not repaired yet";
    gauges(registry, "verification_findings", help, "kind", findings.map(|(kind, count)| (kind, count as u64)));
}

/// A gauge with one label, for each of its values.
fn gauges<'a>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
    values: impl IntoIterator<Item = (&'a str, u64)>,
) {
    let family = Family::<Labels<1>, Gauge>::default();
    for (value, number) in values {
        family.get_or_create(&[(label, value.to_owned())]).set(i64::try_from(number).unwrap_or(i64::MAX));
    }
    registry.register(name, help, family);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: f64) {
    registry.register(name, help, ConstGauge::new(value));
}

/// Never negative: the clock of the process that wrote `then` may be ahead.
fn age(now: Timestamp, then: Timestamp) -> f64 {
    now.duration_since(then).as_secs_f64().max(0.0)
}

fn seconds_of(moment: Timestamp) -> ConstGauge<f64> {
    ConstGauge::new(moment.as_millisecond() as f64 / 1e3)
}
