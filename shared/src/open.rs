//! Opening the stores that a configuration names.

use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{ArchiveMode, Config, Platform, StoreUrl};
use crate::keepsake::{Keepsake, Settings};
use crate::layout;
use crate::persistence::{Circumstances, Machine, Place};
use crate::store::{DiskStore, Key, Meter, Result, S3Options, S3Store, Store};

/// Who is told of what is asked of each place.
#[derive(Debug, Clone)]
pub struct Meters {
    /// Told of the primary, and of a mirror of the metadata that lies in it.
    pub primary: Arc<dyn Meter>,
    /// Told of the archive, also where it lies in the primary.
    pub archive: Arc<dyn Meter>,
}

/// Opens the primary and the archive; writes nothing but the folders that hold them.
///
/// Where `uploads/` is a file system of its own, the metadata gets a further copy there, so that a volume mounted at
/// `uploads/` alone keeps the records as well as the images.
pub async fn open(config: &Config, clock: Clock) -> Result<Keepsake> {
    open_metered(config, clock, None).await
}

/// Likewise; each operation of the primary and of the archive is told to the meter that there is for it.
pub async fn open_metered(config: &Config, clock: Clock, meters: Option<Meters>) -> Result<Keepsake> {
    let (mut primary, disk) = connect(&config.store).await?;
    let mut archive = match &config.backup {
        Some(url) => connect(url).await?.0,
        None => primary.below(&layout::default_archive()),
    };
    if let Some(meters) = meters {
        primary = primary.metered(meters.primary);
        archive = archive.metered(meters.archive);
    }
    let on_another_device =
        |disk: Arc<DiskStore>| disk.device_of(&layout::uploads_folder()).is_some_and(|device| device != disk.device());
    // A function's stores lie in a service, and nothing is noted where a thousand of them start at once.
    let circumstances =
        (config.platform != Some(Platform::Lambda)).then(|| Circumstances::of(config, &Machine::here()));
    let apart = disk.is_some_and(on_another_device)
        || circumstances.as_ref().is_some_and(|known| known.is_volume(Place::Uploads));
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
    Ok(match circumstances {
        Some(circumstances) => keepsake.served_from(circumstances).await,
        None => keepsake,
    })
}

async fn connect(url: &StoreUrl) -> Result<(Store, Option<Arc<DiskStore>>)> {
    match url {
        StoreUrl::File(folder) => {
            let disk = Arc::new(DiskStore::open(folder)?);
            Ok((Store::new(Arc::clone(&disk) as _, folder), Some(disk)))
        }
        StoreUrl::S3 { bucket, prefix } => {
            let s3 = S3Store::connect(S3Options { bucket: bucket.clone(), ..S3Options::default() }).await?;
            let whole = Store::new(Arc::new(s3), &std::env::temp_dir());
            let store = match prefix.as_deref().map(Key::new) {
                Some(Ok(prefix)) => whole.below(&prefix),
                _ => whole,
            };
            Ok((store, None))
        }
    }
}
