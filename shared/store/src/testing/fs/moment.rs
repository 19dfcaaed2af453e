//! [`Moment`]: a simulated disk as it was after one change.

use super::state::State;

/// A simulated disk as it was after one change.
#[derive(Clone)]
pub struct Moment {
    pub(super) call: String,
    pub(super) state: State,
}

impl Moment {
    pub(super) fn new(call: String, state: State) -> Self {
        Self { call, state }
    }

    /// The change that led here.
    pub fn call(&self) -> &str {
        &self.call
    }
}

impl std::fmt::Debug for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Moment").field(&self.call).finish()
    }
}
