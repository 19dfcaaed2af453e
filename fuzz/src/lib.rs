//! What must hold of everything that reads bytes which others wrote: one function for each target, which panics where
//! something does not hold.
//!
//! Two things run them, so that neither can drift from the other: the targets in `fuzz_targets/`, which cargo-fuzz feeds
//! with what it makes up, and `local/tests/it/corpus.rs`, which feeds them with every file in `corpus/`.

mod documents;
mod form;
mod headers;
mod http;
mod image;
mod list;
mod location;
mod names;
mod paths;
mod scale;
mod settings;
mod zip;

/// A target by its name, which is also that of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 17] = [
    ("chunk", documents::chunk),
    ("commit", documents::commit),
    ("form", form::form),
    ("headers", headers::headers),
    ("image", image::image),
    ("list", list::list),
    ("location", location::location),
    ("manifest", documents::manifest),
    ("metadata_file", documents::metadata_file),
    ("names", names::names),
    ("notes", documents::notes),
    ("parts", form::parts),
    ("paths", paths::paths),
    ("root", documents::root),
    ("scale", scale::scale),
    ("settings", settings::settings),
    ("zip", zip::zip),
];

/// The target of this name.
pub fn target(name: &str) -> fn(&[u8]) {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("there is no target {name}")).1
}
