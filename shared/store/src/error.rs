//! The errors of a store.

use std::fmt;
use std::sync::Arc;

/// The result of a store operation.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A failed store operation: the operation, its key, and the kind of failure.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {key:?}: {kind}")]
pub struct StoreError {
    /// The operation, as a verb: `put`, `get`, `list`, `copy`, `open` and others.
    pub operation: &'static str,
    /// The key or prefix.
    pub key: String,
    /// The kind of failure, for the caller to act on.
    pub kind: ErrorKind,
    /// The name of the store, if it has one; see [`Store::named`](crate::Store::named).
    pub store: Option<&'static str>,
    /// The backend's own error.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Why a disk is full although bytes are free; the source of a [`StoreError`].
#[derive(Debug, thiserror::Error)]
#[error("the file system has no free inodes, so it cannot hold more files")]
pub(crate) struct NoInodes;

/// The source of an error that several callers share.
#[derive(Debug)]
struct SharedSource(Arc<StoreError>);

impl fmt::Display for SharedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.source.as_ref().map_or(Ok(()), |source| source.fmt(f))
    }
}

impl std::error::Error for SharedSource {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().and_then(|source| source.source())
    }
}

/// Kinds of failure that callers treat differently; a kind that no caller acts on does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The object does not exist, and the store works.
    NotFound,
    /// A `Create` put found an object.
    AlreadyExists,
    /// An `Update` put or the delete of a version found another version, or none.
    Changed,
    /// No space left: disk full or quota reached.
    Full,
    /// The medium is read-only.
    ReadOnly,
    /// The storage was exchanged, so no writes are allowed; see [`Store::fence`](crate::Store::fence).
    Fenced,
    /// The store refuses the operation: permissions, credentials, a missing bucket.
    Refused,
    /// The received bytes do not have the expected digest or size.
    Corrupt,
    /// The store did not answer, or reported that it cannot now. For a put, the outcome is unknown.
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
    /// An error without a source.
    pub fn new(operation: &'static str, key: impl fmt::Display, kind: ErrorKind) -> Self {
        Self { operation, key: key.to_string(), kind, store: None, source: None }
    }

    /// An error with a source.
    pub fn caused(
        operation: &'static str,
        key: impl fmt::Display,
        kind: ErrorKind,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { operation, key: key.to_string(), kind, store: None, source: Some(source.into()) }
    }

    /// An error of the operating system. The caller has to claim `NotFound`: a missing folder is not always a missing
    /// object.
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

    /// The same error for one of several callers that share a failure.
    pub fn shared(error: &Arc<Self>) -> Self {
        let source = error.source.is_some().then(|| SharedSource(Arc::clone(error)).into());
        Self { operation: error.operation, key: error.key.clone(), kind: error.kind, store: error.store, source }
    }

    /// The same error, with the name of the store.
    pub(crate) fn of(self, store: Option<&'static str>) -> Self {
        Self { store: store.or(self.store), ..self }
    }

    /// Whether the condition of a put did not hold: another writer was faster.
    pub fn is_lost_race(&self) -> bool {
        matches!(self.kind, ErrorKind::Changed | ErrorKind::AlreadyExists)
    }

    /// Whether the file system has no free inodes.
    pub fn is_out_of_inodes(&self) -> bool {
        self.source.as_deref().is_some_and(|source| source.is::<NoInodes>())
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }
}

/// Turns [`ErrorKind::NotFound`] into `None`.
pub trait Optional<T> {
    /// `Ok(None)` for [`ErrorKind::NotFound`]; every other error unchanged.
    fn optional(self) -> Result<Option<T>>;

    /// Like [`optional`](Self::optional), and also `Ok(None)` for [`ErrorKind::Corrupt`]: for objects that have a
    /// replica.
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
