//! Images, and a store that is full of them.

use std::fs::{self, File};
use std::io::{Cursor, Write};
use std::path::Path;

use shared::backup::Kind;
use shared::catalog::{Change, Content, Record};
use shared::clock::{Clock, format_millis};
use shared::config::Config;
use shared::digest::Digest;
use shared::layout::ImageId;

use crate::Result;

/// Length of an image.
pub const IMAGE_BYTES: usize = 100_000;

/// A valid image, and behind it what tells it from every other: its number.
pub fn start_of_image(number: u64) -> Result<Vec<u8>> {
    let mut png = Cursor::new(Vec::new());
    image::RgbImage::new(8, 8).write_to(&mut png, image::ImageFormat::Png)?;
    let mut bytes = png.into_inner();
    bytes.extend(number.to_be_bytes());
    Ok(bytes)
}

/// An image of [`IMAGE_BYTES`] that no other equals and nothing can compress.
pub fn image(number: u64) -> Result<Vec<u8>> {
    let mut bytes = start_of_image(number)?;
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() < IMAGE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_be_bytes());
    }
    bytes.truncate(IMAGE_BYTES);
    Ok(bytes)
}

/// What of an image lies on the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bytes {
    /// All of it.
    All,
    /// Mostly holes, so that it takes little room.
    Start,
}

/// Fills a folder as that many uploads and a backup would have. The images are mostly holes.
pub async fn fill(folder: &Path, images: usize) -> Result<()> {
    fill_with(folder, images, Bytes::Start).await
}

/// Likewise, with images as they are said to be.
pub async fn fill_with(folder: &Path, images: usize, bytes_on_disk: Bytes) -> Result<()> {
    let config = Config::from_lookup(&|name| (name == "DATA_DIR").then(|| folder.display().to_string()))?;
    let clock = Clock::system();
    let keepsake = shared::open(&config, clock.clone()).await?;
    let (uploads, archived) = (folder.join("uploads"), folder.join("backups/images"));
    fs::create_dir_all(&uploads)?;
    fs::create_dir_all(&archived)?;
    let start = start_of_image(0)?.len();
    let mut changes = Vec::with_capacity(images);
    for number in 0..images {
        let bytes = match bytes_on_disk {
            Bytes::All => image(number as u64)?,
            Bytes::Start => {
                let mut bytes = start_of_image(number as u64)?;
                bytes.resize(IMAGE_BYTES, 0);
                bytes
            }
        };
        let written = if bytes_on_disk == Bytes::All { IMAGE_BYTES } else { start };
        let (id, digest) = (ImageId::generate(clock.new_id(), "png"), Digest::of(&bytes));
        for path in [uploads.join(id.as_str()), archived.join(digest.to_string())] {
            let mut file = File::create_new(path)?;
            file.write_all(&bytes[..written])?;
            file.set_len(IMAGE_BYTES as u64)?;
        }
        changes.push((id, Change { version: 1, content: Content::Live(record(number, digest, &clock)) }));
    }
    keepsake.core.catalog.commit(changes).await?;
    keepsake.core.catalog.compact().await?;
    keepsake.backups.create(Kind::Manual).await?;
    Ok(())
}

fn record(number: usize, sha256: Digest, clock: &Clock) -> Record {
    Record {
        category: Some("fun".to_owned()),
        description: Some(format!("A picture of the summer, number {number}")),
        upload_date: Some(format_millis(clock.now())),
        kind: Some("image".to_owned()),
        order: Some(999),
        original_name: Some(format!("IMG_{number:06}.png")),
        content_type: Some("image/png".to_owned()),
        size: Some(IMAGE_BYTES as u64),
        width: Some(8),
        height: Some(8),
        sha256: Some(sha256),
        ..Record::default()
    }
}
