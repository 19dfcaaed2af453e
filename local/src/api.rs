//! [`Api`]: the HTTP API without a network. Commands call the same routes as the server has, so both give the same results.

use std::error::Error as StdError;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::HOST;
use axum::http::{Method, Request};
use serde_json::Value;
use shared::Keepsake;
use shared::clock::Clock;
use shared::config::{Config, Read, StoreUrl};
use shared::http::{self, App};
use tower::ServiceExt;

use crate::output::{FAILED, Failure};
use crate::{progress_bar, server};

/// The routes on a store that this process has opened. It recovers nothing: a server may be running beside it.
pub struct Api {
    pub keepsake: Arc<Keepsake>,
    router: Router,
    is_disk: bool,
    /// Whether the store and the archive are in S3.
    in_bucket: (bool, bool),
}

impl Api {
    /// Opens the store of a configuration, unless a migration into it is unfinished: it is incomplete, and the
    /// migration could not continue after other changes.
    pub async fn open(config: &Config) -> Result<Self, Failure> {
        let keepsake = open(config).await?;
        shared::migrate::check_migration(&keepsake.core.primary).await?;
        // A user who can start a command here may do everything that it does.
        let config = Config {
            host: Ipv4Addr::LOCALHOST.into(),
            api_token: None,
            read: Read::Open,
            allowed_hosts: Vec::new(),
            // No proxy is in front of a command.
            offload: None,
            ..config.clone()
        };
        let app = App::from_config(keepsake, &config);
        let is_disk = config.store.is_disk();
        let in_bucket = (config.store.is_probed(), config.backup.as_ref().is_some_and(StoreUrl::is_probed));
        Ok(Self {
            keepsake: Arc::clone(&app.keepsake),
            router: http::finish(server::routes().into_router(app.clone()), &app),
            is_disk,
            in_bucket,
        })
    }

    /// Determines the capabilities of this store's services, as a start of the server does: for commands that write.
    pub async fn check_services(&self) -> Result<(), Failure> {
        if self.in_bucket.0 {
            self.keepsake.core.check_primary().await?;
        }
        if self.in_bucket.1 {
            self.keepsake.core.check_archive().await?;
        }
        Ok(())
    }

    /// Asks a route, and shows how far it is; a problem is a failure.
    pub async fn ask(&self, method: Method, path: &str) -> Result<Value, Failure> {
        let (succeeded, answer) = progress_bar::watch(&self.keepsake.core.progress, self.answer(method, path)).await?;
        if succeeded { Ok(answer) } else { Err(Failure { code: FAILED, problem: answer }) }
    }

    /// Asks a route; the answer whatever its status, and whether that is one of success.
    pub async fn answer(&self, method: Method, path: &str) -> Result<(bool, Value), Failure> {
        let unexpected = |error: &dyn StdError| Failure::failed(server::sentence("The answer cannot be read", error));
        let request = Request::builder().method(method).uri(path).header(HOST, "localhost").body(Body::empty());
        let request = request.map_err(|error| unexpected(&error))?;
        let Ok(answer) = self.router.clone().oneshot(request).await;
        let status = answer.status();
        let bytes = to_bytes(answer.into_body(), usize::MAX).await.map_err(|error| unexpected(&error))?;
        let answer = serde_json::from_slice(&bytes).map_err(|error| unexpected(&error))?;
        Ok((status.is_success(), answer))
    }

    /// Does what a change leaves for later, as the server does in the background: `image-metadata.json` then
    /// contains the change.
    pub async fn finish_deferred_work(&self) {
        let mut outcome = self.keepsake.maintenance.catch_up().await;
        if self.is_disk && outcome.is_ok() {
            outcome = self.keepsake.replication.compact_all().await;
        }
        if let Err(error) = outcome {
            tracing::warn!(error = &error as &dyn StdError, "deferred work failed; a server will retry it");
        }
    }
}

/// Opens a store that is there: a folder that is not is a misspelt one, and none is made.
pub async fn open(config: &Config) -> Result<Keepsake, Failure> {
    for location in std::iter::once(&config.store).chain(&config.backup) {
        if let StoreUrl::File(folder) = location {
            check_folder(folder)?;
        }
    }
    Ok(server::open(config, Clock::system()).await?)
}

fn check_folder(folder: &Path) -> Result<(), Failure> {
    if folder.is_dir() {
        return Ok(());
    }
    Err(Failure::usage(format!("There is no folder {}. Name one that holds a store.", folder.display())))
}
