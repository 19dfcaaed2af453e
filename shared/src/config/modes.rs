//! Settings that are one of a few words.

/// When the archive gets its replica of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveMode {
    /// Before the change is acknowledged.
    Sync,
    /// Soon after it was acknowledged.
    Async,
}

/// Who may see what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Whoever reaches the server.
    Open,
    /// Whoever has a token.
    Token,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}
