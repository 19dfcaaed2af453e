//! [`Keepsake`]: one store with every service; the facade for routers and for the command line.

use std::sync::Arc;

use crate::base::clock::Clock;
use crate::core::Core;
use crate::core::settings::Settings;
use crate::services::backup::Backups;
use crate::services::gps::GpsPositions;
use crate::services::groups::Groups;
use crate::services::health::HealthReport;
use crate::services::images::Images;
use crate::services::images::bytes::ImageBytes;
use crate::services::images::records::ImageRecords;
use crate::services::maintenance::Maintenance;
use crate::services::persistence::Persistence;
use crate::services::portable::{Exports, Imports};
use crate::services::prune::Pruner;
use crate::services::recovery::{Recovery, RecoveryState};
use crate::services::replication::Replicator;
use crate::services::restore::Restores;
use crate::services::room::Room;
use crate::services::storage::StorageReport;
use crate::services::thumbnails::ThumbnailSource;
use crate::services::tokens::Tokens;
use crate::services::unfinished::UnfinishedUploads;
use crate::services::unfinished::resumable::ResumableUploads;
use crate::services::unfinished::ticket::Tickets;
use crate::services::upload::Uploads;
use crate::services::verify::Verifier;
use store::Store;

/// One store with every service; shared by all requests of a process. It has no logic of its own.
#[derive(Debug, Clone)]
pub struct Keepsake {
    /// Stores, catalog, clock and settings.
    pub core: Arc<Core>,
    /// Changes of records, shared by several services.
    pub records: Arc<ImageRecords>,
    /// The progress and the result of recovery.
    pub recovering: Arc<RecoveryState>,
    /// Replication after the response.
    pub replication: Arc<Replicator>,
    /// Uploads that were begun in parts or with a ticket.
    pub unfinished: Arc<UnfinishedUploads>,
    /// Checks for free space.
    pub room: Arc<Room>,
    /// The bytes of images, from the primary or else from the archive.
    pub bytes: Arc<ImageBytes>,
    /// The thumbnails, as far as deletes affect them.
    pub thumbnails: Arc<ThumbnailSource>,
    /// Backups: creating, listing, reading and deleting them.
    pub backups: Arc<Backups>,
    /// Reading, listing, editing and deleting images.
    pub images: Arc<Images>,
    /// Groups of images.
    pub groups: Arc<Groups>,
    /// Uploads in one request.
    pub uploads: Arc<Uploads>,
    /// Uploads by ticket.
    pub tickets: Arc<Tickets>,
    /// Uploads in parts.
    pub resumable: Arc<ResumableUploads>,
    /// GPS positions in images.
    pub gps: Arc<GpsPositions>,
    /// Restores of backups.
    pub restores: Arc<Restores>,
    /// Whether images survive this instance.
    pub persistence: Arc<Persistence>,
    /// Repairs every location.
    pub recovery: Arc<Recovery>,
    /// Reads everything, and repairs it.
    pub verifier: Arc<Verifier>,
    /// Thins out backups and removes unreferenced objects.
    pub pruner: Arc<Pruner>,
    /// Exports images and their records as plain files.
    pub exports: Arc<Exports>,
    /// Imports images and their records from plain files.
    pub imports: Arc<Imports>,
    /// Tokens and their scopes.
    pub tokens: Arc<Tokens>,
    /// How much space each kind of data takes.
    pub storage: Arc<StorageReport>,
    /// The state of the store, in one report.
    pub health: Arc<HealthReport>,
    /// Work after a change.
    pub maintenance: Arc<Maintenance>,
}

impl Keepsake {
    /// A store with its images in `primary` and its replicas and backups in `archive`; `mirrors` are the locations for
    /// replicas of the metadata.
    pub fn new(primary: Store, archive: Store, mirrors: Vec<Store>, clock: Clock, settings: Settings) -> Self {
        let core = Arc::new(Core::new(primary, archive, mirrors, clock, settings));
        let records = Arc::new(ImageRecords { core: core.clone() });
        let recovering = Arc::new(RecoveryState::default());
        let replication = Arc::new(Replicator::new(core.clone()));
        let unfinished = Arc::new(UnfinishedUploads::new(core.clone()));
        let room = Arc::new(Room { core: core.clone(), unfinished: unfinished.clone() });
        let bytes = Arc::new(ImageBytes::new(core.clone(), recovering.clone()));
        let thumbnails = Arc::new(ThumbnailSource::new(core.clone(), room.clone(), bytes.clone()));
        let backups = Arc::new(Backups::new(core.clone(), records.clone()));
        let images = Arc::new(Images {
            core: core.clone(),
            records: records.clone(),
            replication: replication.clone(),
            thumbnails: thumbnails.clone(),
        });
        let groups = Arc::new(Groups {
            core: core.clone(),
            images: images.clone(),
            records: records.clone(),
            replication: replication.clone(),
        });
        let uploads = Arc::new(Uploads::new(core.clone(), room.clone(), replication.clone(), backups.clone()));
        let tickets = Arc::new(Tickets::new(
            core.clone(),
            room.clone(),
            unfinished.clone(),
            replication.clone(),
            uploads.clone(),
        ));
        let resumable =
            Arc::new(ResumableUploads { core: core.clone(), room: room.clone(), unfinished: unfinished.clone() });
        let gps = Arc::new(GpsPositions::new(bytes.clone()));
        let restores = Arc::new(Restores {
            core: core.clone(),
            backups: backups.clone(),
            images: images.clone(),
            records: records.clone(),
            room: room.clone(),
        });
        let persistence = Arc::new(Persistence::new(core.clone(), recovering.clone()));
        let recovery = Arc::new(Recovery {
            core: core.clone(),
            records: records.clone(),
            bytes: bytes.clone(),
            backups: backups.clone(),
            replication: replication.clone(),
            tickets: tickets.clone(),
            persistence: persistence.clone(),
            recovering: recovering.clone(),
        });
        let verifier =
            Arc::new(Verifier::new(core.clone(), bytes.clone(), records.clone(), backups.clone(), replication.clone()));
        let pruner = Arc::new(Pruner { core: core.clone(), backups: backups.clone() });
        let exports =
            Arc::new(Exports::new(core.clone(), records.clone(), backups.clone(), gps.clone(), bytes.clone()));
        let imports = Arc::new(Imports::new(core.clone(), room.clone(), records.clone(), backups.clone()));
        let tokens = Arc::new(Tokens::new(core.clone()));
        let storage = Arc::new(StorageReport { core: core.clone() });
        let health = Arc::new(HealthReport {
            core: core.clone(),
            records: records.clone(),
            backups: backups.clone(),
            replication: replication.clone(),
            unfinished: unfinished.clone(),
            verifier: verifier.clone(),
            persistence: persistence.clone(),
            recovering: recovering.clone(),
        });
        let maintenance =
            Arc::new(Maintenance { core: core.clone(), backups: backups.clone(), replication: replication.clone() });
        Self {
            core,
            records,
            recovering,
            replication,
            unfinished,
            room,
            bytes,
            thumbnails,
            backups,
            images,
            groups,
            uploads,
            tickets,
            resumable,
            gps,
            restores,
            persistence,
            recovery,
            verifier,
            pruner,
            exports,
            imports,
            tokens,
            storage,
            health,
            maintenance,
        }
    }
}
