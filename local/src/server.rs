//! Starts, serves and stops.

use std::error::Error as StdError;
use std::future::ready;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{from_fn_with_state, map_request};
use shared::Keepsake;
use shared::clock::Clock;
use shared::config::Config;
use shared::http::limits::Limiter;
use shared::http::{self, App, Routes};
use shared::store::ErrorKind;
use shared::telemetry::with_causes;
use shared::thumbnails::{self, Thumbnails};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::background::{self, Pace};
use crate::banner::Recovery;
use crate::limits::{Limits, note_client};
use crate::metrics::{self, Metrics};
use crate::{banner, compression, connections, openapi, page, token};

/// How long requests in progress may take after the stop signal.
const DRAIN: Duration = Duration::from_secs(25);

/// Opens the store, recovers it, and serves it until the stop signal.
pub async fn serve(mut config: Config) -> Result<(), String> {
    connections::raise_limit();
    let clock = Clock::system();
    let metrics = Metrics::new();
    let opened = shared::open_metered(&config, clock.clone(), Some(metrics.meters())).await;
    let keepsake = opened.map_err(|error| sentence("The store cannot be opened", &error))?;
    keepsake.core.check_primary().await.map_err(|error| sentence("The store cannot be used", &error))?;
    let keepsake = Arc::new(keepsake);
    let (stop, stopped) = watch::channel(false);
    let recovery = recover(&keepsake, &stopped).await?;
    keepsake.persistence.note_start().await;
    let made_token = token::ensure(&mut config, &clock, keepsake.persistence.fenced().is_none())?;

    let address = (config.host, config.port);
    let listener = TcpListener::bind(address).await.map_err(|error| {
        format!("cannot listen on {}:{} ({error}); set HOST and PORT to an address that is free", address.0, address.1)
    })?;
    let bound =
        listener.local_addr().map_err(|error| format!("cannot read the address that it listens on ({error})"))?;
    let limiter: Arc<dyn Limiter> = Arc::new(Limits::new(&config, &clock));
    let limits =
        thumbnails::Limits { cache_bytes: config.thumbnail_cache_bytes, ..thumbnails::Limits::of_this_machine() };
    if limits.memory_bytes < thumbnails::Limits::default().memory_bytes {
        let memory_mib = limits.memory_bytes >> 20;
        tracing::info!(memory_mib, "memory is limited: images that need more than this get no thumbnails");
    }
    let thumbnails = Thumbnails::new(Arc::new(scaling::Engine), limits);
    let app = App { limiter: Some(limiter), ..App::from_config(keepsake, &config) }.with_thumbnails(thumbnails);
    // Once the lines are printed, their reader may stop the process.
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    banner::print(&banner::lines(&app.keepsake, &config, bound, &recovery, made_token.as_ref()).await);

    let pace = if config.store.is_disk() { Pace::EachBurst } else { Pace::WhenWorthwhile };
    let (end_compacting, ended) = watch::channel(false);
    let compaction = tokio::spawn(background::run(Arc::clone(&app.keepsake), pace, ended));
    tokio::spawn(background::look_after(Arc::clone(&app.keepsake), app.thumbnails.clone(), pace, stopped.clone()));
    if config.store.is_disk() {
        tokio::spawn(background::prepare_searches(Arc::clone(&app.keepsake), stopped.clone()));
    }
    if config.backup.is_some() {
        tokio::spawn(background::look_again(Arc::clone(&app.keepsake), stopped.clone()));
    }
    tokio::spawn(stop_on_signal(signals, stop));
    let proxies = config.trusted_proxies;
    let buckets = page::Buckets::of(&app.keepsake).await;
    let router =
        router(app, metrics, &buckets).layer(map_request(move |request: Request| ready(note_client(request, proxies))));
    let serving = connections::serve(listener, router, stopped.clone());
    if background::within(DRAIN, stopped, serving).await.is_none() {
        tracing::warn!("some requests did not end in time and were aborted");
    }
    // The changes of the last requests are compacted too.
    end_compacting.send_replace(true);
    compaction.await.map_err(|error| format!("compaction failed ({error})"))
}

/// All routes with their layers.
pub fn router(app: App, metrics: Arc<Metrics>, buckets: &page::Buckets) -> Router {
    let routes = all_routes(Arc::clone(&metrics), buckets);
    let router = compression::layer(http::finish(routes.into_router(app.clone()), &app));
    router.layer(from_fn_with_state(metrics, metrics::observe))
}

/// The routes of all functions, and those that only a server has.
pub fn all_routes(metrics: Arc<Metrics>, buckets: &page::Buckets) -> Routes {
    let scrape = move |State(app)| metrics::scrape(Arc::clone(&metrics), app);
    routes().merge(page::routes(buckets)).merge(openapi::routes()).get("/metrics", scrape)
}

/// The routes of all functions.
pub fn routes() -> Routes {
    upload::server_routes()
        .merge(images::server_routes())
        .merge(backup::server_routes())
        .merge(restore::routes())
        .merge(health::routes())
}

/// Recovers the store: records now, and files too if few need work; the rest continues in the background. A read-only
/// store is served as it is, and so is one whose archive is unavailable.
async fn recover(keepsake: &Arc<Keepsake>, stopped: &watch::Receiver<bool>) -> Result<Recovery, String> {
    keepsake.replication.note_uncompared();
    let unusable = |error| sentence("The archive cannot be used", &error);
    let records = match keepsake.core.check_archive().await {
        Err(error) if error.store_kind() == Some(ErrorKind::Unavailable) => Err(error),
        // An expired key is no reason not to serve the local images; a key that never worked is reported at once.
        Err(error) if error.store_kind() == Some(ErrorKind::Refused) && has_records(keepsake).await => Err(error),
        Err(error) => return Err(unusable(error)),
        Ok(()) => keepsake.recovery.recover_records().await,
    };
    let outcome = match records {
        Err(error) => Err(error),
        Ok(records) => {
            let owned = Arc::clone(keepsake);
            let mut files = tokio::spawn(async move { owned.recovery.recover_files(records).await });
            tokio::select! {
                ended = &mut files => ended.map_err(|error| format!("recovery failed ({error})"))?,
                () = keepsake.recovering.is_long() => {
                    tokio::spawn(background::recover(Arc::clone(keepsake), Some(files), stopped.clone()));
                    return Ok(Recovery::GoesOn);
                }
            }
        }
    };
    let error = match outcome {
        Ok(report) => return Ok(Recovery::Done(report)),
        Err(error) => error,
    };
    let recovery = match error.store_kind() {
        _ if keepsake.persistence.fenced().is_some() => Recovery::NoWrites,
        Some(ErrorKind::Full | ErrorKind::ReadOnly | ErrorKind::Refused)
            if !keepsake.health.report().await.primary_writable() =>
        {
            Recovery::NoWrites
        }
        Some(ErrorKind::Full | ErrorKind::ReadOnly | ErrorKind::Refused | ErrorKind::Unavailable) => {
            Recovery::ArchiveAway
        }
        _ => return Err(sentence("The store cannot be recovered", &error)),
    };
    tracing::error!(error = &error as &dyn StdError, "the store could not be recovered yet");
    // Without records here, those in the archive are required: this may be a new disk for an old store.
    keepsake.core.catalog.refresh().await.map_err(|error| sentence("The catalog cannot be read", &error))?;
    if keepsake.persistence.fenced().is_none() {
        tokio::spawn(background::recover(Arc::clone(keepsake), None, stopped.clone()));
    }
    Ok(recovery)
}

async fn has_records(keepsake: &Keepsake) -> bool {
    keepsake.core.catalog.refresh().await.is_ok() && keepsake.core.catalog.view().totals().uploads() > 0
}

/// Opens the store of a configuration; the error is one sentence.
pub async fn open(config: &Config, clock: Clock) -> Result<Keepsake, String> {
    shared::open(config, clock).await.map_err(|error| sentence("The store cannot be opened", &error))
}

/// An error and its causes, as one sentence.
pub fn sentence(what: &str, error: &dyn StdError) -> String {
    format!("{what}: {}", with_causes(error))
}

async fn stop_on_signal(signals: (io::Result<Signal>, io::Result<Signal>), stop: watch::Sender<bool>) {
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        tracing::error!("signals cannot be received, so a stop will abort requests");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; requests in progress are completed");
    stop.send_replace(true);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;
    use shared::http::scopes;

    use super::*;

    #[test]
    fn every_route_is_in_the_table_of_scopes() {
        for (method, route) in all_routes(Metrics::new(), &page::Buckets::default()).list() {
            assert!(scopes::needed(&method, route).is_some(), "shared/src/http/scopes.rs lacks {method} {route}");
        }
    }

    #[test]
    fn every_route_is_described_and_nothing_else_is() {
        let pages = page::routes(&page::Buckets::default()).list();
        let mut served = all_routes(Metrics::new(), &page::Buckets::default()).list();
        served.retain(|route| !pages.contains(route));
        let served: BTreeSet<String> = served.into_iter().map(|(method, path)| format!("{method} {path}")).collect();
        let document = serde_json::to_value(openapi::document()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let methods = |(path, item): (&String, &Value)| {
            let methods = item.as_object().unwrap().keys().map(|method| format!("{} {path}", method.to_uppercase()));
            methods.collect::<Vec<_>>()
        };
        assert_eq!(paths.iter().flat_map(methods).collect::<BTreeSet<_>>(), served);
    }
}
