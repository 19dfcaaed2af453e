//! How what this crate puts into answers is described in the OpenAPI document: here where it is written by hand, and by
//! `derive` where the type stands otherwise.

use std::borrow::Cow;

use utoipa::openapi::schema::{AnyOfBuilder, Object, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{KnownFormat, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::problem::Document;
use super::{GroupItem, Item, Problem};
use crate::layout::{BackupName, ImageId};
use store::digest::Digest;

/// A type that is written as a string.
macro_rules! string {
    ($type:ty, $name:literal, $description:literal, $example:literal $(, $pattern:literal)?) => {
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                let string = ObjectBuilder::new().schema_type(Type::String).description(Some($description));
                string.examples([$example])$(.pattern(Some($pattern)))?.into()
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }
        }
    };
}

string!(ImageId, "ImageId", "An image's id: the name of its file.", "01981f3e-8c5a-7a30-9d8e-2f1b6c4d7e90.jpg");
string!(
    BackupName,
    "BackupName",
    "A backup's name: the moment it was named for, in UTC with milliseconds. Names sort by time.",
    "backup-2024-01-01T12-00-00-000Z",
    r"^backup-\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}-\d{3}Z$"
);
/// Bytes that are no JSON.
pub struct Binary;

impl PartialSchema for Binary {
    fn schema() -> RefOr<Schema> {
        let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(binary)).into()
    }
}

impl ToSchema for Binary {}

/// A file in a form. Generators make no type of their own language out of `format: binary` alone where that is a string to
/// them, as in TypeScript, so that anything may stand in its place.
pub struct FilePart;

impl PartialSchema for FilePart {
    fn schema() -> RefOr<Schema> {
        let anything = ObjectBuilder::new().schema_type(SchemaType::AnyValue);
        AnyOfBuilder::new().item(Binary::schema()).item(anything).into()
    }
}

impl ToSchema for FilePart {}

/// The type by which a group is told from an image.
fn group_type() -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["group"])).build()
}

/// A moment as `clock::format_millis` writes it.
pub fn time() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .description(Some("A moment in UTC with milliseconds."))
        .examples(["2026-11-20T08:00:00.000Z"])
        .build()
}

/// An image. One that was imported may have more fields, and these with values of other types: it is shown as it came.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "only its description is used")]
struct Fields {
    id: ImageId,
    /// Where the image's bytes are served, relative to this server; of a link, where that leads.
    url: String,
    /// The same as the id.
    filename: ImageId,
    category: Option<String>,
    description: Option<String>,
    /// When it was uploaded.
    upload_date: Option<String>,
    /// When it was chosen to be uploaded, the moment at which it stands in lists; only where that is known.
    #[schema(nullable = false)]
    queued_at: Option<String>,
    /// What it is: `image`, `video` or `link`, unless an imported record holds something else. Only a group has `files`.
    r#type: Option<String>,
    /// The group that it belongs to.
    group_id: Option<String>,
    /// The title of that group; only where it has one.
    #[schema(nullable = false)]
    group_title: Option<String>,
    /// Its place in its group; 999 where it has none.
    order: Option<i64>,
    /// The name of the file that was sent.
    original_name: Option<String>,
    /// The media type that its own bytes say.
    content_type: Option<String>,
    /// Its length in bytes.
    size: Option<u64>,
    /// In pixels, as browsers show the image: turned as `orientation` says, and cropped where a HEIC says so. Where
    /// `orientation` is null, the image was stored by an older version, and this is the width of its stored pixels.
    width: Option<u32>,
    /// In pixels, likewise.
    height: Option<u32>,
    /// How the stored pixels are turned to be shown, as Exif counts it: 1 as they are, 3 by half a turn, 6 by a quarter
    /// with the clock, 8 by a quarter against it; 2, 4, 5 and 7 are mirrored, too. `width` and `height` are those after
    /// turning.
    #[schema(minimum = 1, maximum = 8)]
    orientation: Option<u8>,
    /// Only where it is true: the file ends before its picture does, as after a copy that was interrupted. It is kept as it
    /// is; part of the picture may be missing.
    #[schema(nullable = false)]
    truncated: Option<bool>,
    sha256: Option<Digest>,
    /// Only of a link, null for most: whose player can show it, `youtube` or `drive`.
    provider: Option<String>,
    /// Only of a link: where that player is.
    embed_url: Option<String>,
}

/// Images that belong together.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "only its description is used")]
struct GroupFields<'a> {
    #[schema(schema_with = group_type)]
    r#type: (),
    id: String,
    /// Its entity tag, as `ETag` says it, for `If-Match`: another after each change of it or of one of its images.
    #[schema(example = "\"g-44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"")]
    etag: String,
    /// The same as the id.
    group_id: String,
    title: Option<String>,
    /// The first image's.
    category: Option<String>,
    /// The first image's.
    description: Option<String>,
    /// When the newest of its images was uploaded.
    upload_date: Option<String>,
    /// Where the first image's bytes are served.
    url: String,
    order: Option<i64>,
    /// How many images it has.
    file_count: u64,
    /// Its images in their order; where an answer would be too long, the first of them.
    files: Vec<Item<'a>>,
}

/// A type that is described by another.
macro_rules! described_by {
    ($type:ty, $name:literal, $by:ty, $schema:expr) => {
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                $schema
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }

            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                <$by>::schemas(schemas);
            }
        }
    };
}

described_by!(
    Item<'_>,
    "Image",
    Fields,
    with_every_field(Fields::schema(), &["embedUrl", "groupTitle", "provider", "queuedAt", "truncated"])
);
described_by!(GroupItem<'_>, "Group", GroupFields<'_>, with_every_field(GroupFields::schema(), &[]));
described_by!(Problem, "Problem", Document<'_>, Document::schema());

/// Fields that are not set are there as well, as null, but for `some`.
fn with_every_field(schema: RefOr<Schema>, some: &[&str]) -> RefOr<Schema> {
    match schema {
        RefOr::T(Schema::Object(mut object)) => {
            let there = object.properties.keys().filter(|name| !some.contains(&name.as_str()));
            object.required = there.cloned().collect();
            object.into()
        }
        other => other,
    }
}
