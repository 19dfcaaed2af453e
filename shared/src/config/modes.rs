//! Settings with a fixed set of values.

/// When the archive gets its replica of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveMode {
    /// Before the change is acknowledged.
    Sync,
    /// Soon after it was acknowledged.
    Async,
}

/// Who may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Every client that can connect.
    Open,
    /// Only clients with a token.
    Token,
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For humans.
    Text,
    /// For machines: one JSON object per line.
    Json,
}
