//! Object storage: one small trait over objects, in the terms of S3, and its backends.
//!
//! Everything above this crate uses a [`Store`], which is a backend below a prefix. The contract of [`ObjectStore`] is
//! written as numbered sentences; `tests/it/` holds one test per backend and sentence.
//!
//! Architecture invariant: no code outside this crate depends on whether bytes are on a disk or in a bucket, and no
//! code in it depends on what an image, a commit or a backup is.

mod body;
#[cfg(feature = "cloudinary")]
mod cloudinary;
pub mod digest;
mod disk;
mod error;
mod handle;
mod key;
mod metered;
mod object;
mod observer;
mod ranged;
mod s3;
mod secret;
pub mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod update;

pub use body::{Body, ReadAt, Spool};
#[cfg(feature = "cloudinary")]
pub use cloudinary::{CloudinaryOptions, CloudinaryStore};
pub use disk::{DiskStore, fs};
pub use error::{ErrorKind, Optional, Result, StoreError};
pub use handle::Store;
pub use key::{InvalidKey, Key};
pub use metered::Meter;
pub use object::{
    Address, ETag, Files, Object, ObjectMeta, ObjectStore, PutMode, ServedAs, SignedPut, StoreStatus, Terms,
};
pub use observer::Observer;
pub use ranged::Ranged;
pub use s3::{S3Options, S3Store, http_client as s3_http_client};
pub use secret::{AwsCredentials, Secret};
pub use update::{Change, Contention, Found};
