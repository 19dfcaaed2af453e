//! The storage used by category, now and over time.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::stream::TryStreamExt;
use jiff::Timestamp;
use jiff::tz::Offset;

use crate::catalog::{CatalogError, View, uploaded_at};
use crate::core::Core;
use crate::core::error::Result;

/// The most categories that are reported separately, the largest; the others count as one. Any client that uploads can
/// create more.
const MAX_CATEGORIES: usize = 50;
/// Stands for all other categories.
const OTHERS: &str = "…";

/// How much storage the images use.
#[derive(Debug, Clone)]
pub struct Storage {
    /// Length in bytes of all images.
    pub used: u64,
    /// Bytes that can still be written, if the store reports it.
    pub available: Option<u64>,
    /// The total size of its medium in bytes, if the store reports it.
    pub limit: Option<u64>,
    /// How many images there are, links included.
    pub images: u64,
    /// What each category uses, the largest first.
    pub by_category: Vec<Category>,
    /// What each category used at the end of each month, oldest first: of the present images, those that were uploaded
    /// by then. Months without an upload are left out.
    pub history: Vec<Month>,
}

/// What a category uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Category {
    /// Its name; empty for images without a category.
    pub name: String,
    /// How many images it has.
    pub images: u64,
    /// Their length in bytes.
    pub bytes: u64,
}

/// What each category used at the end of a month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Month {
    /// The month in UTC, as in `2026-11`.
    pub month: String,
    /// Bytes by category, of those that had any image by then.
    pub bytes: BTreeMap<String, u64>,
}

/// Reports storage use.
#[derive(Debug)]
pub struct StorageReport {
    pub(crate) core: Arc<Core>,
}

impl StorageReport {
    /// How much storage the images use, by category and by month.
    pub async fn report(&self) -> Result<Storage> {
        self.core.catalog.refresh().await?;
        let status = self.core.primary.status().await?;
        let view = self.core.catalog.view();
        let totals = view.totals();
        let (by_category, history) = count(&view).await?;
        Ok(Storage {
            used: totals.bytes,
            available: status.free_bytes,
            limit: status.total_bytes,
            images: totals.live,
            by_category,
            history,
        })
    }
}

async fn count(view: &View) -> Result<(Vec<Category>, Vec<Month>), CatalogError> {
    let largest = largest(view).await?;
    let named = |category: &str| if largest.contains(category) { category.to_owned() } else { OTHERS.to_owned() };
    let mut by_category: BTreeMap<String, Category> = BTreeMap::new();
    // An image without a valid date counts as older than all others.
    let (mut undated, mut by_month) =
        (BTreeMap::<String, u64>::new(), BTreeMap::<(i16, i8), BTreeMap<String, u64>>::new());
    let mut live = view.live();
    while let Some((_, entry)) = live.try_next().await? {
        let Some(record) = entry.live() else { continue };
        let (name, bytes) = (named(record.category.as_deref().unwrap_or_default()), record.size.unwrap_or(0));
        let at = uploaded_at(record);
        let added = if at == Timestamp::MIN { &mut undated } else { by_month.entry(month(at)).or_default() };
        *added.entry(name.clone()).or_default() += bytes;
        let new = || Category { name: name.clone(), images: 0, bytes: 0 };
        let category = by_category.entry(name.clone()).or_insert_with(new);
        category.images += 1;
        category.bytes += bytes;
    }
    let mut sum = undated;
    let added_up = by_month.into_iter().map(|((year, month), added)| {
        for (name, bytes) in added {
            *sum.entry(name).or_default() += bytes;
        }
        Month { month: format!("{year:04}-{month:02}"), bytes: sum.clone() }
    });
    let history = added_up.collect();
    let mut by_category: Vec<Category> = by_category.into_values().collect();
    by_category.sort_by(|a, b| (b.bytes, &a.name).cmp(&(a.bytes, &b.name)));
    Ok((by_category, history))
}

/// The names of the largest categories.
async fn largest(view: &View) -> Result<HashSet<String>, CatalogError> {
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    let mut live = view.live();
    while let Some((_, entry)) = live.try_next().await? {
        let Some(record) = entry.live() else { continue };
        *bytes.entry(record.category.clone().unwrap_or_default()).or_default() += record.size.unwrap_or(0);
    }
    let mut bytes: Vec<(String, u64)> = bytes.into_iter().collect();
    bytes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    Ok(bytes.into_iter().take(MAX_CATEGORIES).map(|(name, _)| name).collect())
}

fn month(at: Timestamp) -> (i16, i8) {
    let date = Offset::UTC.to_datetime(at);
    (date.year(), date.month())
}
