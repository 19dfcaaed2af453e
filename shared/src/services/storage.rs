//! The storage used by category, now and over time.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::catalog::Usage;
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

/// Reports storage use. The first report of a process reads every page of the catalog.
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
        let (by_category, history) = count(&view.usage().await?);
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

fn count(usage: &Usage) -> (Vec<Category>, Vec<Month>) {
    let largest = largest(usage);
    let named = |category: &str| if largest.contains(category) { category.to_owned() } else { OTHERS.to_owned() };
    let mut by_category: BTreeMap<String, Category> = BTreeMap::new();
    let mut by_month: BTreeMap<Option<(i16, i8)>, BTreeMap<String, u64>> = BTreeMap::new();
    for (category, month, used) in usage.iter() {
        let name = named(category);
        *by_month.entry(month).or_default().entry(name.clone()).or_default() += used.bytes;
        let new = || Category { name: name.clone(), images: 0, bytes: 0 };
        let category = by_category.entry(name.clone()).or_insert_with(new);
        category.images += used.images;
        category.bytes += used.bytes;
    }
    // An image without a valid date counts as older than all others.
    let mut sum = by_month.remove(&None).unwrap_or_default();
    let added_up = by_month.into_iter().filter_map(|(month, added)| {
        for (name, bytes) in added {
            *sum.entry(name).or_default() += bytes;
        }
        month.map(|(year, month)| Month { month: format!("{year:04}-{month:02}"), bytes: sum.clone() })
    });
    let history = added_up.collect();
    let mut by_category: Vec<Category> = by_category.into_values().collect();
    by_category.sort_by(|a, b| (b.bytes, &a.name).cmp(&(a.bytes, &b.name)));
    (by_category, history)
}

/// The names of the largest categories.
fn largest(usage: &Usage) -> HashSet<&str> {
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    for (category, _, used) in usage.iter() {
        *bytes.entry(category).or_default() += used.bytes;
    }
    let mut bytes: Vec<(&str, u64)> = bytes.into_iter().collect();
    bytes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    bytes.into_iter().take(MAX_CATEGORIES).map(|(name, _)| name).collect()
}
