//! The handler of `GET /api/images`.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use headers::ETag;
use serde::{Deserialize, Serialize};
use shared::catalog::View;
use shared::digest::Digest;
use shared::groups::{Cursor, GroupedPage, Shown};
use shared::http::{App, GroupItem, Item, LAMBDA_MAX_BODY_BYTES, Problem, Query};
use shared::images::{Filter, Page, Total};
use shared::{Error, Result};
use utoipa::ToSchema;

use crate::{conditions, cursor};

/// The most images on one page, and the default.
const MAX_LIMIT: usize = 1_000;

/// The parameters of a list. An empty value, as forms send for empty inputs, counts as missing.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// The most images on a page, up to 1,000, which is also the default.
    #[param(value_type = Option<u32>, minimum = 1)]
    limit: Option<String>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// Only this category.
    category: Option<String>,
    /// Whether only images without a category are listed.
    #[param(value_type = Option<bool>)]
    without_category: Option<String>,
    /// Only this group, and its images one by one.
    group_id: Option<String>,
    /// Only this type: `image`, `video` or `link`, which also takes groups that hold one, or `group`.
    r#type: Option<String>,
    /// Only images that have each of these words in their description, original name, category or URL, or in the title of their
    /// group, in whatever order and case.
    q: Option<String>,
    /// Whether every image is listed by itself, with no groups.
    #[param(value_type = Option<bool>)]
    flat: Option<String>,
}

/// An image, or a group at the position of its newest image.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum ImageOrGroup<'a> {
    Image(Item<'a>),
    Group(GroupItem<'a>),
}

/// One page of images.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Images<'a> {
    images: Vec<ImageOrGroup<'a>>,
    /// Where the next page begins; missing on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// The number of entries on all pages; only on the first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    /// Instead of `total`, where counting all entries would mean to read the whole catalog: there are at least so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_at_least: Option<u64>,
}

impl<'a> Images<'a> {
    fn new(images: Vec<ImageOrGroup<'a>>, next: Option<String>, total: Option<Total>) -> Self {
        let (total, total_at_least) = match total {
            Some(Total::Exactly(total)) => (Some(total), None),
            Some(Total::AtLeast(total)) => (None, Some(total)),
            None => (None, None),
        };
        Self { images, next, total, total_at_least }
    }
}

/// List images and groups, newest first; a group is sorted by its newest image.
#[utoipa::path(
    get,
    path = "/api/images",
    operation_id = "listImages",
    tag = "images",
    params(
        Wanted,
        ("If-None-Match" = Option<String>, Header, description = "Only if the page has none of these entity tags"),
    ),
    responses(
        (status = 200, description = "A page of them", body = Images, headers(("ETag" = String, description = "Its version"))),
        (status = 304, description = "Not modified"),
        (status = 400, description = "`invalid-request`: a limit or a cursor that cannot be read"),
        (status = 412, description = "`precondition-failed`: the condition in `If-Match` is false"),
    ),
)]
pub(crate) async fn list(
    State(app): State<App>,
    Query(wanted): Query<Wanted>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let given = |value: Option<String>| value.filter(|value| !value.is_empty());
    let limit = given(wanted.limit).map_or(Ok(MAX_LIMIT), |limit| parse_limit(&limit))?;
    let after = given(wanted.cursor).map(|cursor| {
        cursor::decode(&cursor).ok_or_else(|| Error::Invalid("The cursor is not one of a list.".to_owned()))
    });
    let after = after.transpose()?;
    let filter = Filter {
        category: given(wanted.category),
        without_category: given(wanted.without_category)
            .map_or(Ok(false), |without| parse_bool("withoutCategory", &without))?,
        group_id: given(wanted.group_id),
        kind: given(wanted.r#type),
        text: given(wanted.q),
    };
    let flat = given(wanted.flat).map_or(Ok(false), |flat| parse_bool("flat", &flat))? || filter.group_id.is_some();
    let view = app.keepsake.images.view().await?;
    // The page is a function of the state, the program, its address and the request.
    let (program, query) = (env!("CARGO_PKG_VERSION"), uri.query().unwrap_or_default());
    let named = format!("{} {program} {} {query}", view.version(), app.public_url);
    let digest = Digest::of(named.as_bytes());
    let etag: ETag = format!("\"{digest}\"").parse().map_err(Problem::internal)?;
    let page = async || {
        let body = app.lists.get(&digest, render(&app, &view, &filter, after.as_ref(), flat, limit)).await?;
        Ok(([(CONTENT_TYPE, "application/json")], body))
    };
    conditions::answer(etag, &headers, page).await
}

/// The JSON of a page of a state. On Lambda, a page that does not fit into a response is shorter.
async fn render(
    app: &App,
    view: &View,
    filter: &Filter,
    after: Option<&Cursor>,
    flat: bool,
    mut limit: usize,
) -> Result<Vec<u8>, Problem> {
    if flat {
        let last = after.map(|position| &position.last);
        loop {
            let body = json_of_images(app, &Page::of(view, filter, last, limit).await?)?;
            if fits(app, &body) || limit == 1 {
                return Ok(body);
            }
            limit /= 2;
        }
    }
    let mut most_files = usize::MAX;
    loop {
        let page = GroupedPage::of(view, filter, after, limit).await?;
        let body = json_of_groups(app, &page, most_files)?;
        if fits(app, &body) || most_files == 1 {
            return Ok(body);
        }
        // A group that is too large for an answer shows its first images.
        match limit {
            1 => most_files = page.entries.first().map_or(1, |entry| file_count(entry).min(most_files) / 2).max(1),
            _ => limit /= 2,
        }
    }
}

fn parse_limit(limit: &str) -> Result<usize> {
    let parsed = limit.parse().ok().filter(|limit: &usize| *limit > 0);
    let invalid = || Error::Invalid(format!("The limit must be a number from 1 to {MAX_LIMIT}."));
    Ok(parsed.ok_or_else(invalid)?.min(MAX_LIMIT))
}

fn parse_bool(name: &str, value: &str) -> Result<bool> {
    value.parse().map_err(|_| Error::Invalid(format!("{name} must be true or false.")))
}

fn fits(app: &App, body: &[u8]) -> bool {
    !app.on_lambda || body.len() as u64 <= LAMBDA_MAX_BODY_BYTES
}

fn file_count(entry: &Shown) -> usize {
    match entry {
        Shown::Image(_) => 1,
        Shown::Group(group) => group.images.len(),
    }
}

fn json_of_images(app: &App, page: &Page) -> Result<Vec<u8>, Problem> {
    let images =
        page.images.iter().filter_map(Item::new).map(|item| ImageOrGroup::Image(item.at(&app.public_url))).collect();
    json(&Images::new(images, page.next.as_ref().map(cursor::encode), page.total))
}

fn json_of_groups(app: &App, page: &GroupedPage, most_files: usize) -> Result<Vec<u8>, Problem> {
    let entries = page.entries.iter().filter_map(|shown| match shown {
        Shown::Image(image) => Item::new(image).map(|item| ImageOrGroup::Image(item.at(&app.public_url))),
        Shown::Group(group) => Some(ImageOrGroup::Group(GroupItem::new(group, most_files).at(&app.public_url))),
    });
    let images = entries.collect();
    json(&Images::new(images, page.next.as_ref().map(cursor::encode_grouped), page.total))
}

fn json(answer: &Images<'_>) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(answer).map_err(Problem::internal)
}
