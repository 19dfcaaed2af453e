//! OpenAPI schemas of this crate's response types: written by hand here, and derived where the type is declared
//! elsewhere.

use std::borrow::Cow;

use utoipa::openapi::schema::{AnyOfBuilder, Object, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{KnownFormat, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::problem::Document;
use super::{GroupItem, Item, Problem};
use crate::layout::{BackupName, ImageId};
use store::digest::Digest;

/// A type that is serialized as a string.
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
/// Bytes that are not JSON.
pub struct Binary;

impl PartialSchema for Binary {
    fn schema() -> RefOr<Schema> {
        let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(binary)).into()
    }
}

impl ToSchema for Binary {}

/// A file in a form. For `format: binary` alone, some generators (TypeScript's, for example) use their type for
/// strings, so any value is allowed.
pub struct FilePart;

impl PartialSchema for FilePart {
    fn schema() -> RefOr<Schema> {
        let anything = ObjectBuilder::new().schema_type(SchemaType::AnyValue);
        AnyOfBuilder::new().item(Binary::schema()).item(anything).into()
    }
}

impl ToSchema for FilePart {}

/// The `type` that distinguishes a group from an image.
fn group_type() -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["group"])).build()
}

/// A time in the format of `clock::format_millis`.
pub fn time() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .description(Some("A moment in UTC with milliseconds."))
        .examples(["2026-11-20T08:00:00.000Z"])
        .build()
}

/// An image. An imported one may have more fields, and values of other types in these: it is returned unchanged.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "only its description is used")]
struct Fields {
    id: ImageId,
    /// The URL of the image's bytes, relative to this server; for a link, its target.
    url: String,
    /// The same as the id.
    filename: ImageId,
    category: Option<String>,
    description: Option<String>,
    /// When it was uploaded.
    upload_date: Option<String>,
    /// When it was chosen for upload, the time by which lists are sorted; only if known.
    #[schema(nullable = false)]
    queued_at: Option<String>,
    /// `image`, `video` or `link`, unless an imported record has another value. Only a group has `files`.
    r#type: Option<String>,
    /// The group that it belongs to.
    group_id: Option<String>,
    /// The title of that group; only if it has one.
    #[schema(nullable = false)]
    group_title: Option<String>,
    /// Its position in its group; 999 if it has none.
    order: Option<i64>,
    /// The name of the uploaded file.
    original_name: Option<String>,
    /// The media type as detected from its bytes.
    content_type: Option<String>,
    /// Its length in bytes.
    size: Option<u64>,
    /// In pixels, as browsers show the image: rotated according to `orientation`, and cropped if a HEIC requires it. If
    /// `orientation` is null, the image was stored by an older version, and this is the width of its stored pixels.
    width: Option<u32>,
    /// In pixels, as browsers show the image; see `width`.
    height: Option<u32>,
    /// How to rotate the stored pixels for display, in Exif's numbering: 1 not at all, 3 by 180°, 6 by 90° clockwise, 8
    /// by 90° counterclockwise; 2, 4, 5 and 7 are mirrored, too. `width` and `height` are those after the rotation.
    #[schema(minimum = 1, maximum = 8)]
    orientation: Option<u8>,
    /// Only if true: the file ends before its picture does, as after an interrupted copy. It is stored unchanged; part
    /// of the picture may be missing.
    #[schema(nullable = false)]
    truncated: Option<bool>,
    sha256: Option<Digest>,
    /// Only for a link, and usually null: whose player can show it, `youtube` or `drive`.
    provider: Option<String>,
    /// Only for a link: the URL of that player.
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
    /// Its entity tag, as in `ETag`, for `If-Match`: it changes with each change of the group or of one of its images.
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
    /// The URL of the first image's bytes.
    url: String,
    order: Option<i64>,
    /// How many images it has.
    file_count: u64,
    /// Its images in order; if the response would be too long, the first of them.
    files: Vec<Item<'a>>,
}

/// A type with the schema of another.
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

/// Unset fields are present as null, except `some`.
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
