//! [`Pruner`]: the service that prunes.

use std::sync::Arc;

use crate::core::Core;
use crate::services::backup::Backups;

/// Thins out backups and removes what is referenced by nothing.
#[derive(Debug)]
pub struct Pruner {
    pub(super) core: Arc<Core>,
    pub(super) backups: Arc<Backups>,
}

impl Pruner {
    /// Thins out backups and removes what is referenced by nothing, in the store that `core` has.
    pub fn new(core: Arc<Core>, backups: Arc<Backups>) -> Self {
        Self { core, backups }
    }
}
