//! Starting, serving and stopping.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use shared::Keepsake;
use shared::clock::Clock;
use shared::config::{Config, StoreUrl};
use shared::http::{self, App};
use shared::recovery::Report;
use shared::store::ErrorKind;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::background::{self, Pace};
use crate::{connections, greeting, token};

/// How long requests in flight may take after the process was told to stop.
const DRAIN: Duration = Duration::from_secs(25);

/// Opens the store, recovers it, and serves it until the process is told to stop.
pub async fn serve(mut config: Config) -> Result<(), String> {
    connections::raise_limit();
    let clock = Clock::system();
    let keepsake = open(&config, clock.clone()).await?;
    keepsake.check_stores().await.map_err(|error| sentence("The store cannot be used", &error))?;
    let report = recover(&keepsake).await?;
    keepsake.note_start().await;
    let made_token = token::ensure(&mut config, &clock)?;

    let address = (config.host, config.port);
    let listener = TcpListener::bind(address).await.map_err(|error| {
        format!("cannot listen on {}:{} ({error}); set HOST and PORT to an address that is free", address.0, address.1)
    })?;
    let bound = listener.local_addr().map_err(|error| format!("cannot tell the address it listens on ({error})"))?;
    let app = App::from_config(keepsake, &config);
    greeting::print(&greeting::lines(&app.keepsake, &config, bound, report.as_ref(), made_token.as_deref()).await);

    let (stop, stopped) = watch::channel(false);
    let pace = if matches!(config.store, StoreUrl::File(_)) { Pace::EachBurst } else { Pace::WhenWorthwhile };
    let (end_folding, ended) = watch::channel(false);
    let folder = tokio::spawn(background::run(Arc::clone(&app.keepsake), pace, ended));
    tokio::spawn(background::look_after(Arc::clone(&app.keepsake), pace, stopped.clone()));
    tokio::spawn(stop_on_signal(stop));
    tokio::select! {
        () = connections::serve(listener, router(app), stopped.clone()) => {}
        () = too_late(stopped) => tracing::warn!("some requests were still running and are cut off"),
    }
    // What the last requests changed is folded too.
    end_folding.send_replace(true);
    folder.await.map_err(|error| format!("folding failed ({error})"))
}

/// The routers of all functions as one.
fn router(app: App) -> Router {
    let routes = upload::routes()
        .merge(images::routes())
        .merge(backup::routes())
        .merge(restore::routes())
        .merge(health::routes());
    http::finish(routes.into_router(app.clone()), &app)
}

/// Recovers the store. One that takes no writes is served all the same, as it is: reading goes on.
async fn recover(keepsake: &Keepsake) -> Result<Option<Report>, String> {
    match keepsake.recover().await {
        Ok(report) => Ok(Some(report)),
        Err(error)
            if keepsake.withheld().is_some()
                || matches!(error.store_kind(), Some(ErrorKind::Full | ErrorKind::ReadOnly | ErrorKind::Refused)) =>
        {
            tracing::error!(error = &error as &dyn StdError, "the store takes no writes; nothing was recovered");
            keepsake.catalog.refresh().await.map_err(|error| sentence("The catalog cannot be read", &error))?;
            Ok(None)
        }
        Err(error) => Err(sentence("The store cannot be recovered", &error)),
    }
}

/// Opens the store that a configuration names; the error is one sentence.
pub async fn open(config: &Config, clock: Clock) -> Result<Keepsake, String> {
    shared::open(config, clock).await.map_err(|error| sentence("The store cannot be opened", &error))
}

/// An error and what caused it, as one sentence.
pub fn sentence(what: &str, error: &dyn StdError) -> String {
    let mut sentence = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        sentence.push_str(&format!(": {error}"));
        cause = error.source();
    }
    sentence
}

async fn stop_on_signal(stop: watch::Sender<bool>) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be received, so that stopping will cut off requests");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; uploads in flight are finished");
    stop.send_replace(true);
}

async fn raised(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which it never is before it has sent.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

#[expect(clippy::disallowed_methods, reason = "the one place that limits how long stopping takes")]
async fn too_late(stopped: watch::Receiver<bool>) {
    raised(stopped).await;
    tokio::time::sleep(DRAIN).await;
}
