//! What can go wrong with a store.

use std::fmt;

/// The result of a store operation.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A failed store operation: what was tried, on which key, and what kind of failure it was.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {key:?}: {kind}")]
pub struct StoreError {
    /// What was tried, as a verb: `put`, `get`, `head`, `list`, `delete`, `copy`, `open`.
    pub operation: &'static str,
    /// The key or prefix it was tried on.
    pub key: String,
    /// What the caller can act on.
    pub kind: ErrorKind,
    /// Which store it was, where that has a name; see [`Store::named`](crate::Store::named).
    pub place: Option<&'static str>,
    /// The backend's own error.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Why a disk is full although bytes are free; the source of a [`StoreError`].
#[derive(Debug, thiserror::Error)]
#[error("the file system has no free inodes, so it cannot hold more files")]
pub(crate) struct NoInodes;

/// Failures that a caller treats differently; there is no kind that nobody acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such object in a store that is otherwise well.
    NotFound,
    /// A `Create` put found an object.
    AlreadyExists,
    /// An `Update` put or the delete of a version found another version, or none.
    Changed,
    /// There is no room: disk full, quota reached.
    Full,
    /// The medium takes no writes.
    ReadOnly,
    /// The store is not what it was, so that nothing is written to it; see [`Store::fence`](crate::Store::fence).
    Fenced,
    /// The store refuses the operation: permissions, credentials, a missing bucket.
    Refused,
    /// The bytes that arrived are not the bytes that were promised.
    Corrupt,
    /// The store did not answer, or answered that it cannot now. Of a put: the outcome is unknown.
    Unavailable,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "there is no such object",
            Self::AlreadyExists => "the object exists already",
            Self::Changed => "the object has changed since it was read",
            Self::Full => "there is no room left in the store",
            Self::ReadOnly => "the store is read-only",
            Self::Fenced => "a volume is not mounted or is another store's, so nothing is written",
            Self::Refused => "the store refuses the operation",
            Self::Corrupt => "the bytes are not those that were expected",
            Self::Unavailable => "the store did not answer as it should",
        })
    }
}

impl StoreError {
    /// An error without an underlying one.
    pub fn new(operation: &'static str, key: impl fmt::Display, kind: ErrorKind) -> Self {
        Self { operation, key: key.to_string(), kind, place: None, source: None }
    }

    /// An error that another one caused.
    pub fn caused(
        operation: &'static str,
        key: impl fmt::Display,
        kind: ErrorKind,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { operation, key: key.to_string(), kind, place: None, source: Some(source.into()) }
    }

    /// An error that the operating system gave. `NotFound` is left to the caller to claim: a missing folder is not
    /// always a missing object.
    pub fn io(operation: &'static str, key: impl fmt::Display, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match source.kind() {
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::Full,
            Io::ReadOnlyFilesystem => ErrorKind::ReadOnly,
            Io::PermissionDenied => ErrorKind::Refused,
            _ => ErrorKind::Unavailable,
        };
        Self::caused(operation, key, kind, source)
    }

    /// The same error, of the store of this name.
    pub(crate) fn of(self, place: Option<&'static str>) -> Self {
        Self { place: place.or(self.place), ..self }
    }

    /// Whether the condition of a put did not hold: another writer was quicker.
    pub fn is_lost_race(&self) -> bool {
        matches!(self.kind, ErrorKind::Changed | ErrorKind::AlreadyExists)
    }

    /// Whether there is no room because the file system has no free inodes.
    pub fn is_out_of_inodes(&self) -> bool {
        self.source.as_deref().is_some_and(|source| source.is::<NoInodes>())
    }

    /// Whether the object is simply not there.
    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }
}

/// Turns "there is no such object" into `None`.
pub trait Optional<T> {
    /// `Ok(None)` for [`ErrorKind::NotFound`], every other error as it is.
    fn optional(self) -> Result<Option<T>>;

    /// Likewise, and `Ok(None)` for [`ErrorKind::Corrupt`] too: for what another copy can take the place of.
    fn intact(self) -> Result<Option<T>>;
}

impl<T> Optional<T> for Result<T> {
    fn optional(self) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn intact(self) -> Result<Option<T>> {
        match self.optional() {
            Err(e) if e.kind == ErrorKind::Corrupt => Ok(None),
            other => other,
        }
    }
}
