//! [`Fields`]: the image fields that clients set, with their limits and defaults.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::clock::format_millis;
use crate::catalog::{QUEUED_AT_MOST, Record};
use crate::core::error::{Error, Result};
use crate::media::Media;
use store::digest::Digest;

/// The category of an image that was sent without one.
pub const DEFAULT_CATEGORY: &str = "fun";
/// The order of an image that was sent without one and is in no group that has one.
pub const DEFAULT_ORDER: i64 = 999;
/// Longest description in characters.
pub const MAX_DESCRIPTION: usize = 10_000;
/// Longest category, group id or original name in characters.
pub const MAX_NAME: usize = 1_000;

/// A change of one field: leave it, clear it, or set it.
pub type Edit<T> = Option<Option<T>>;

/// A client's fields for the images it uploads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UploadFields)]
pub struct Fields {
    /// `fun` if the field is missing; empty for no category.
    pub category: Option<String>,
    /// Empty if none is given.
    pub description: Option<String>,
    /// The group the images join.
    pub group_id: Option<String>,
    /// The order of the first image; the others follow it.
    pub order: Option<i64>,
    /// When the images were selected for upload. Lists sort the images by this time, so that the images of one
    /// selection keep their order, whichever arrives first. At most seven days before the upload; any other time is
    /// ignored, and so is that of an image in a group, which has an order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub queued_at: Option<Timestamp>,
}

impl Fields {
    /// The same without empty fields, which count as missing. An empty category is kept: the image has none.
    #[must_use]
    pub fn without_empty(self) -> Self {
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let Self { category, description, group_id, order, queued_at } = self;
        Self { category, description: said(description), group_id: said(group_id), order, queued_at }
    }

    /// Refuses fields that are too long.
    pub fn check(&self) -> Result<()> {
        let too_long = |text: &Option<String>, most| text.as_ref().is_some_and(|t| t.chars().count() > most);
        if too_long(&self.description, MAX_DESCRIPTION) {
            return Err(Error::Invalid(format!("The description is longer than {MAX_DESCRIPTION} characters.")));
        }
        if too_long(&self.category, MAX_NAME) || too_long(&self.group_id, MAX_NAME) {
            return Err(Error::Invalid(format!("A category or group id is longer than {MAX_NAME} characters.")));
        }
        Ok(())
    }

    /// When images uploaded at this moment were selected, if that time is plausible and applies.
    pub(crate) fn queued_before(&self, uploaded: Timestamp) -> Option<String> {
        let is_before =
            |at: &Timestamp| (SignedDuration::ZERO..=QUEUED_AT_MOST).contains(&uploaded.duration_since(*at));
        self.queued_at.filter(|at| self.group_id.is_none() && is_before(at)).map(format_millis)
    }
}

impl Record {
    /// The record fields that follow from an image's bytes.
    pub(crate) fn of_bytes(size: u64, digest: Digest, media: &Media) -> Self {
        Self {
            kind: Some(if media.format.is_video() { "video" } else { "image" }.to_owned()),
            content_type: Some(media.format.content_type().to_owned()),
            size: Some(size),
            sha256: Some(digest),
            ..Self::default()
        }
        .measured(media)
    }

    /// Takes over the picture's dimensions from the bytes.
    pub(crate) fn measured(self, media: &Media) -> Self {
        Self {
            width: Some(media.width.into()),
            height: Some(media.height.into()),
            orientation: Some(media.orientation.value().into()),
            truncated: media.is_truncated.then_some(true),
            ..self
        }
    }

    /// Whether the recorded dimensions are those of these bytes when orientation is ignored.
    pub(crate) fn lacks_orientation_only(&self, media: &Media) -> bool {
        let (shown, turned) = ((media.width.into(), media.height.into()), (media.height.into(), media.width.into()));
        let says = |said| said == shown || (media.orientation.is_sideways() && said == turned);
        self.orientation.is_none() && self.width.zip(self.height).is_none_or(says)
    }

    /// The record of an image that was found or imported without one, except for its date and what follows from its bytes.
    pub(crate) fn adopted() -> Self {
        Self {
            category: Some(DEFAULT_CATEGORY.to_owned()),
            description: Some(String::new()),
            order: Some(DEFAULT_ORDER),
            ..Self::default()
        }
    }

    /// Adds a client's fields for an uploaded image, except for its order.
    pub(crate) fn described(self, fields: &Fields, original_name: Option<String>, uploaded: Timestamp) -> Self {
        Self {
            category: Some(fields.category.clone().unwrap_or_else(|| DEFAULT_CATEGORY.to_owned())),
            description: Some(fields.description.clone().unwrap_or_default()),
            upload_date: Some(format_millis(uploaded)),
            queued_at: fields.queued_before(uploaded),
            group_id: fields.group_id.clone(),
            original_name,
            ..self
        }
    }
}

/// Refuses a file name that is too long to store.
pub(crate) fn check_name(name: Option<&str>) -> Result<()> {
    if name.is_some_and(|name| name.chars().count() > MAX_NAME) {
        return Err(Error::Invalid(format!("A file name is longer than {MAX_NAME} characters.")));
    }
    Ok(())
}
