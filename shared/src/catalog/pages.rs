//! The pages of the catalog in one location, with the other locations as replicas.

use async_trait::async_trait;
use bytes::Bytes;

use crate::layout;
use store::digest::Digest;
use store::{Body, ErrorKind, Optional, PutMode, Store, StoreError};
use tree::Pages;

/// The pages of a location. A page that is damaged or missing there is read from another one, and put back.
#[derive(Debug)]
pub(super) struct LocatedPages {
    own: Store,
    others: Vec<Store>,
}

impl LocatedPages {
    pub(super) fn new(own: Store, others: Vec<Store>) -> Self {
        Self { own, others }
    }

    /// Replaces a page that this location lacks, or cannot return, by that of another one; returns false if none has it.
    pub(super) async fn put_back(&self, page: &Digest) -> Result<bool, StoreError> {
        let Some(bytes) = self.read_replica(page).await? else { return Ok(false) };
        self.write(page, bytes).await.map(|()| true)
    }

    async fn read_replica(&self, page: &Digest) -> Result<Option<Bytes>, StoreError> {
        let mut failure = None;
        for other in &self.others {
            match read_intact(other, page).await {
                Ok(None) => {}
                Err(error) => failure = Some(error),
                found => return found,
            }
        }
        // Perhaps the page is where nothing can be read now.
        failure.map_or(Ok(None), Err)
    }
}

#[async_trait]
impl Pages for LocatedPages {
    async fn read(&self, page: &Digest) -> Result<Option<Bytes>, StoreError> {
        let own = read_intact(&self.own, page).await;
        match &own {
            Ok(None) => {}
            // It may become readable again.
            Err(error) if error.kind == ErrorKind::Corrupt => {}
            Ok(Some(_)) | Err(_) => return own,
        }
        let replica = self.read_replica(page).await?;
        if replica.is_none() {
            return own;
        }
        if let Some(bytes) = &replica {
            // The archive may lag.
            tracing::info!(%page, "a page of the catalog was read from another location");
            if let Err(error) = self.write(page, bytes.clone()).await {
                tracing::warn!(%page, error = &error as &dyn std::error::Error, "the page could not be put back");
            }
        }
        Ok(replica)
    }

    /// Replaces a page that exists already: it might be damaged, or so old that a prune is about to delete it.
    async fn write(&self, page: &Digest, bytes: Bytes) -> Result<(), StoreError> {
        self.own.put(&layout::page(page), &Body::from(bytes), &PutMode::Overwrite).await.map(drop)
    }
}

async fn read_intact(location: &Store, page: &Digest) -> Result<Option<Bytes>, StoreError> {
    let read = location.read(&layout::page(page)).await.optional()?;
    Ok(read.map(|(bytes, _)| bytes).filter(|bytes| Digest::of(bytes) == *page))
}

/// No pages: for states that are in memory alone.
#[derive(Debug)]
pub(super) struct NoPages;

#[async_trait]
impl Pages for NoPages {
    async fn read(&self, _: &Digest) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }

    async fn write(&self, _: &Digest, _: Bytes) -> Result<(), StoreError> {
        Ok(())
    }
}
