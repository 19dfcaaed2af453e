//! A bucket of this process, filled as that many uploads and a backup would have, by way of its folder.

use std::fs;

use shared::backup::Kind;
use shared::catalog::{Change, Content, Record};
use shared::clock::{Clock, format_millis};
use shared::config::Config;
use shared::digest::Digest;
use shared::layout::ImageId;

use super::bucket::Bucket;
use crate::photos::small;
use crate::s3_server::BUCKET;

/// Numbers of images that no test uploads.
const FIRST: u32 = 1_000_000;

/// A bucket that holds so many images, all of them in the root and in one backup.
pub async fn bucket_of(images: u32) -> Bucket {
    let bucket = Bucket::in_process().await;
    let folder = bucket.folder.as_ref().unwrap().path().join(BUCKET);
    let config = Config::from_lookup(&|name| (name == "DATA_DIR").then(|| folder.display().to_string())).unwrap();
    let clock = Clock::system();
    let keepsake = shared::open(&config, clock.clone()).await.unwrap();
    fs::create_dir_all(folder.join("uploads")).unwrap();
    fs::create_dir_all(folder.join("backups/images")).unwrap();
    let change = |number: u32| {
        let bytes = small(FIRST + number);
        let (id, digest) = (ImageId::generate(clock.new_id(), "png"), Digest::of(&bytes));
        fs::write(folder.join("uploads").join(id.as_str()), &bytes).unwrap();
        fs::write(folder.join("backups/images").join(digest.to_string()), &bytes).unwrap();
        let record = Record {
            category: Some("fun".to_owned()),
            description: Some(format!("A picture of the summer, number {number}")),
            upload_date: Some(format_millis(clock.now())),
            kind: Some("image".to_owned()),
            order: Some(999),
            content_type: Some("image/png".to_owned()),
            size: Some(bytes.len() as u64),
            width: Some(4),
            height: Some(4),
            sha256: Some(digest),
            ..Record::default()
        };
        (id, Change { version: 1, content: Content::Live(record) })
    };
    keepsake.core.catalog.commit((0..images).map(change).collect()).await.unwrap();
    keepsake.core.catalog.compact().await.unwrap();
    keepsake.backups.create(Kind::Manual).await.unwrap();
    bucket
}
