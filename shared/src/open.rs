//! Opening the configured stores.

use std::sync::Arc;

use crate::base::clock::Clock;
use crate::config::{ArchiveMode, AwsCredentials, Config, Location, Platform, StoreUrl};
use crate::core::settings::Settings;
use crate::keepsake::Keepsake;
use crate::layout;
use crate::services::health::{ARCHIVE, PRIMARY};
use crate::services::persistence::{Deployment, Machine};
#[cfg(feature = "cloudinary")]
use store::{CloudinaryOptions, CloudinaryStore};
use store::{DiskStore, Key, Meter, Result, S3Options, S3Store, Store};
#[cfg(not(feature = "cloudinary"))]
use store::{ErrorKind, StoreError};

/// The meters of the stores.
#[derive(Debug, Clone)]
pub struct Meters {
    /// For the primary, and for a mirror of the metadata in it.
    pub primary: Arc<dyn Meter>,
    /// For the archive, also if it is in the primary.
    pub archive: Arc<dyn Meter>,
}

/// Opens the primary and the archive; writes nothing, except that it creates their folders.
///
/// If `uploads/` is a separate file system, it gets another replica of the metadata, so that a volume mounted at
/// `uploads/` alone keeps the records as well as the images.
pub async fn open(config: &Config, clock: Clock) -> Result<Keepsake> {
    open_metered(config, clock, None).await
}

/// Like [`open`], and reports each operation of the primary and of the archive to its meter.
pub async fn open_metered(config: &Config, clock: Clock, meters: Option<Meters>) -> Result<Keepsake> {
    let (primary, disk) = connect(config, &config.store, config.credentials.as_ref()).await?;
    let mut primary = primary.named(PRIMARY);
    let mut archive = match &config.backup {
        Some(url) => connect(config, url, config.backup_credentials.as_ref()).await?.0.named(ARCHIVE),
        None => primary.below(&layout::default_archive()),
    };
    if let Some(meters) = meters {
        primary = primary.metered(meters.primary);
        archive = archive.metered(meters.archive);
    }
    let on_another_device =
        |disk: Arc<DiskStore>| disk.device_of(&layout::uploads_folder()).is_some_and(|device| device != disk.device());
    // A function's stores are in a service, and nothing is recorded if a thousand functions start at once.
    let deployment = (config.platform != Some(Platform::Lambda)).then(|| Deployment::of(config, &Machine::here()));
    let apart = disk.is_some_and(on_another_device)
        || deployment.as_ref().is_some_and(|known| known.is_volume(Location::Uploads));
    let mirrors = if apart { vec![primary.below(&layout::uploads_mirror())] } else { Vec::new() };
    let settings = Settings {
        max_upload_bytes: config.max_upload_bytes,
        media: crate::media::Limits { max_pixels: config.max_pixels, ..crate::media::Limits::default() },
        reserve_bytes: config.reserve_bytes,
        backup_every: u64::from(config.backup_every.get()),
        keep: config.keep,
        archive_sync: config.archive == ArchiveMode::Sync,
        behind_max: config.archive_behind_max,
    };
    let keepsake = Keepsake::new(primary, archive, mirrors, clock, settings);
    if let Some(deployment) = deployment {
        keepsake.persistence.set_deployment(deployment).await;
    }
    Ok(keepsake)
}

/// Opens one store; `credentials` are for S3, if not those of the environment. Sends no request yet.
async fn connect(
    config: &Config,
    url: &StoreUrl,
    credentials: Option<&AwsCredentials>,
) -> Result<(Store, Option<Arc<DiskStore>>)> {
    match url {
        StoreUrl::File(folder) => {
            let disk = Arc::new(DiskStore::open(folder)?);
            Ok((Store::new(Arc::clone(&disk) as _, folder), Some(disk)))
        }
        StoreUrl::S3 { bucket, prefix, endpoint, region } => {
            let options = S3Options {
                bucket: bucket.clone(),
                region: region.clone(),
                endpoint: endpoint.clone().or(config.endpoint.clone()),
                credentials: credentials.cloned(),
                environment_alone: config.platform == Some(Platform::Lambda),
            };
            let whole = Store::new(Arc::new(S3Store::connect(options).await?), &std::env::temp_dir());
            let store = match prefix.as_deref().map(Key::new) {
                Some(Ok(prefix)) => whole.below(&prefix),
                _ => whole,
            };
            Ok((store, None))
        }
        #[cfg(feature = "cloudinary")]
        StoreUrl::Cloudinary { cloud, key, secret, folder, endpoint } => {
            let store = CloudinaryStore::connect(CloudinaryOptions {
                cloud: cloud.clone(),
                key: key.clone(),
                secret: secret.clone(),
                folder: folder.clone(),
                endpoint: endpoint.clone(),
                ..CloudinaryOptions::new(layout::ARCHIVED_IMAGES)
            })?;
            Ok((Store::new(Arc::new(store), &std::env::temp_dir()), None))
        }
        #[cfg(not(feature = "cloudinary"))]
        StoreUrl::Cloudinary { .. } => {
            let reason =
                "this program was built without Cloudinary, which the server alone has; use another BACKUP_URL";
            Err(StoreError::caused("open", url, ErrorKind::Refused, reason))
        }
    }
}
