//! A group's images as a zip for users.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::io::AsyncWrite;

use super::contents::{Contents, Exports};
use super::planned::LOOKS;
use super::verified_image::unwritten;
use super::zip_writer::ZipWriter;
use crate::catalog::{Entry, Record};
use crate::core::error::Result;
use crate::layout::{self, ImageId, file_name};
use crate::services::groups::Group;

/// The file that lists the targets of the group's links.
const LINKS: &str = "links.txt";
/// The file that lists the images without an intact copy.
const MISSING: &str = "missing.txt";

/// The plan of a group's zip.
#[derive(Debug)]
pub struct GroupPlan {
    /// Images without an intact copy.
    left_out: BTreeSet<ImageId>,
    /// Its length in bytes.
    pub length: u64,
}

impl Exports {
    /// Plans a zip of a group. Reads no images, except those that a download found damaged before.
    pub async fn plan_group_zip(&self, group: &Group) -> Result<GroupPlan> {
        let contents = Contents::of_single_images(self);
        let looks = group.images.iter().map(|(id, entry)| {
            let key = layout::image(id);
            let length = async move { self.core.primary.head(&key).await.ok().map(|meta| meta.size) };
            contents.look(id.clone(), Arc::clone(entry), length)
        });
        let looks: Vec<_> = looks.collect();
        let sizes: Vec<_> = stream::iter(looks).buffered(LOOKS).try_collect().await?;
        let mut zip = ZipWriter::new(tokio::io::sink(), self.core.clock.now());
        let (mut names, mut texts, mut left_out) = (Names::of(group), Texts::default(), BTreeSet::new());
        for ((id, entry), size) in group.images.iter().zip(sizes) {
            let name = names.next(id, entry);
            match size {
                None => texts.add_link(entry),
                Some((_, None)) => {
                    texts.add_missing(&name);
                    left_out.insert(id.clone());
                }
                Some((_, Some(size))) => {
                    zip.begin(&name, size, 0).await.map_err(unwritten)?;
                    zip.pass_over();
                }
            }
        }
        texts.write(&mut zip).await?;
        Ok(GroupPlan { left_out, length: zip.finish().await.map_err(unwritten)? })
    }

    /// Writes a zip of a group's images under their original names, in the group's order, as it was planned. Each is
    /// read in full and compared with its digest before it is written. After an error the rest is missing, including
    /// the directory, so that the written bytes are no valid zip. With `strip_gps` their GPS positions are removed.
    pub async fn zip_group(
        &self,
        group: &Group,
        plan: &GroupPlan,
        strip_gps: bool,
        out: impl AsyncWrite + Unpin,
    ) -> Result<()> {
        let contents = Contents::of_single_images(self).leaving_out(plan.left_out.clone());
        let mut zip = ZipWriter::new(out, self.core.clock.now());
        let (mut names, mut texts) = (Names::of(group), Texts::default());
        for (id, entry) in &group.images {
            let name = names.next(id, entry);
            let found = contents.find(id.clone(), Arc::clone(entry)).await?;
            let Some((_, mut image)) = found else {
                texts.add_link(entry);
                continue;
            };
            if strip_gps && let (Some(whole), Some(record)) = (image.take(), entry.live()) {
                image = Some(whole.without_gps(&self.gps, id, record).await?);
            }
            let Some(image) = image else {
                texts.add_missing(&name);
                continue;
            };
            zip.begin(&name, image.size, image.crc).await.map_err(unwritten)?;
            let mut bytes = image.stream(id).await?;
            while let Some(chunk) = bytes.try_next().await? {
                zip.write(&chunk).await.map_err(unwritten)?;
            }
        }
        texts.write(&mut zip).await?;
        zip.finish().await.map(drop).map_err(unwritten)
    }
}

/// Names the images of a group one after another.
struct Names {
    number: usize,
    digits: usize,
}

impl Names {
    fn of(group: &Group) -> Self {
        Self { number: 0, digits: group.images.len().to_string().len() }
    }

    /// The number makes each name unique, and keeps the order when files are sorted by name.
    fn next(&mut self, id: &ImageId, entry: &Entry) -> String {
        self.number += 1;
        let original = entry.live().and_then(|record| record.original_name.as_deref());
        format!("{:0digits$} {}", self.number, file_name::safe(original, id), digits = self.digits)
    }
}

/// The other files in the zip.
#[derive(Default)]
struct Texts {
    links: String,
    missing: String,
}

impl Texts {
    fn add_link(&mut self, entry: &Entry) {
        self.links += &format!("{}\n", entry.live().map(where_it_leads).unwrap_or_default());
    }

    fn add_missing(&mut self, name: &str) {
        self.missing += &format!("{name}\n");
    }

    async fn write<W: AsyncWrite + Unpin>(self, zip: &mut ZipWriter<W>) -> Result<()> {
        for (name, text) in [(LINKS, self.links), (MISSING, self.missing)].iter().filter(|(_, text)| !text.is_empty()) {
            zip.begin(name, text.len() as u64, crc32fast::hash(text.as_bytes())).await.map_err(unwritten)?;
            zip.write(text.as_bytes()).await.map_err(unwritten)?;
        }
        Ok(())
    }
}

fn where_it_leads(record: &Record) -> &str {
    record.extra.get("url").and_then(|url| url.as_str()).unwrap_or_default()
}
