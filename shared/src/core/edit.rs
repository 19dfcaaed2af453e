//! Changes of existing records: one at a time in a process, and conditional ones one at a time in all processes.
//!
//! Two processes that change one record at the same moment both succeed, and the join keeps one of the changes. That is
//! what "the last one wins" means. A conditional change (`If-Match`) promises more: of several that expect the same
//! state, at most one is acknowledged. So it holds a lease in the primary from before it reads the state until its
//! commit exists, and is acknowledged only if the lease is still its own then. That does not rest on clocks: another
//! process that took the lease over, rightly or not, reads the state after that, and finds a change that was
//! acknowledged. Unconditional changes pay nothing for that.

use tokio::sync::MutexGuard;

use super::Core;
use super::error::{Error, Result};
use super::lease::Lease;
use crate::catalog::CommitError;
use crate::layout;
use store::{Contention, ErrorKind, StoreError};

/// The state that a change expects.
pub trait Precondition<T>: Send + Sync {
    /// Whether the change applies to this state; `None` if there is no such image or group.
    fn holds(&self, present: Option<&T>) -> bool;

    /// Whether every state is expected.
    fn is_any(&self) -> bool {
        false
    }
}

/// No precondition.
#[derive(Debug, Clone, Copy)]
pub struct Any;

impl<T> Precondition<T> for Any {
    fn holds(&self, _: Option<&T>) -> bool {
        true
    }

    fn is_any(&self) -> bool {
        true
    }
}

impl<T, F: Fn(Option<&T>) -> bool + Send + Sync> Precondition<T> for F {
    fn holds(&self, present: Option<&T>) -> bool {
        self(present)
    }
}

/// The right to change existing records, until [`end`](Self::end).
pub(crate) struct EditPermit<'a> {
    _guard: MutexGuard<'a, ()>,
    lease: Option<Lease<'a>>,
}

impl EditPermit<'_> {
    /// Fails if this process was stopped for so long that another one may have changed the state that was read.
    pub(crate) fn check(&self) -> Result<()> {
        if self.lease.as_ref().is_none_or(Lease::is_in_time) {
            return Ok(());
        }
        let reason = "the change took so long that another process may have changed the same record";
        Err(StoreError::caused("change", layout::edit_lease(), ErrorKind::Unavailable, reason).into())
    }

    /// Ends the change, and returns its outcome: unknown if another process had the lease before the change was stored.
    pub(crate) async fn end<T>(self, changed: Result<T>) -> Result<T> {
        let kept = match self.lease {
            Some(lease) => lease.end().await,
            None => true,
        };
        if kept || changed.is_err() {
            return changed;
        }
        let reason = "another process may have changed the same record meanwhile";
        let lost = StoreError::caused("change", layout::edit_lease(), ErrorKind::Unavailable, reason);
        Err(CommitError::Unknown(lost).into())
    }
}

impl Core {
    /// Waits until this process may change existing records; with a condition, until no other process makes a
    /// conditional change. Fails if others keep it from that for about half a minute.
    pub(crate) async fn begin_edit(&self, is_conditional: bool) -> Result<EditPermit<'_>> {
        let guard = self.editing.lock().await;
        let lease = if is_conditional { Some(self.edit_lease().await?) } else { None };
        Ok(EditPermit { _guard: guard, lease })
    }

    async fn edit_lease(&self) -> Result<Lease<'_>> {
        let mut contention = Contention::new(layout::edit_lease());
        loop {
            match Lease::acquire(&self.primary, layout::edit_lease(), &self.clock, self.process_id).await? {
                Some(lease) => return Ok(lease),
                None => contention.lost().await?,
            }
        }
    }

    /// The lease of a restore or an import; [`Error::RestoreRunning`] while another process holds it.
    pub(crate) async fn restore_lease(&self) -> Result<Lease<'_>> {
        let lease =
            Lease::acquire(self.archive.store(), layout::restore_lease(), &self.clock, self.clock.new_id()).await?;
        lease.ok_or(Error::RestoreRunning)
    }

    /// The same for an operation that has to work on a full disk, because it only deletes.
    pub(crate) async fn restore_lease_to_delete(&self) -> Result<Lease<'_>> {
        let lease = Lease::acquire_to_delete(self.archive.store(), layout::restore_lease(), &self.clock).await?;
        lease.ok_or(Error::RestoreRunning)
    }
}
