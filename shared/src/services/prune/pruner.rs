//! [`Pruner`]: the service that prunes.

use std::sync::Arc;

use crate::core::Core;
use crate::services::backup::Backups;

/// Thins out backups and removes unreferenced objects.
#[derive(Debug)]
pub struct Pruner {
    pub(super) core: Arc<Core>,
    pub(super) backups: Arc<Backups>,
}

impl Pruner {
    /// A pruner for the stores of `core`.
    pub fn new(core: Arc<Core>, backups: Arc<Backups>) -> Self {
        Self { core, backups }
    }
}
