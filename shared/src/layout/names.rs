//! [`ImageId`] and [`BackupName`]: the two names in the layout that clients can choose.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::{BACKUPS, LINK, RESERVED_NAME, parse_uuid};
use store::Key;

/// The name of an image's file, which is also its id: one segment of a [`Key`] that does not start with a dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(Arc<str>);

impl ImageId {
    /// Validates a file name.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let valid = !name.contains('/') && !name.starts_with('.') && name != RESERVED_NAME && Key::new(name).is_ok();
        if valid { Ok(Self(name.into())) } else { Err(InvalidName(name.to_owned())) }
    }

    /// The id of a new image: a UUID and the extension of its format.
    pub fn generate(uuid: Uuid, extension: &str) -> Self {
        Self(format!("{uuid}.{extension}").into())
    }

    /// The id of a new link, which has no file.
    pub fn of_link(uuid: Uuid) -> Self {
        Self::generate(uuid, LINK)
    }

    /// Whether [`ImageId::of_link`] created this id. No file here has such a name.
    pub fn is_link(&self) -> bool {
        let stem = self.0.strip_suffix(LINK).and_then(|stem| stem.strip_suffix('.'));
        stem.is_some_and(|stem| parse_uuid(stem).is_some())
    }

    /// The UUID in a name of the form of [`ImageId::generate`]; if there is one, Keepsake itself wrote the file.
    pub fn uuid(&self) -> Option<Uuid> {
        let (stem, _) = self.0.split_once('.')?;
        parse_uuid(stem)
    }

    /// The name as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A string that is not a valid name of an image or of a backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid name")]
pub struct InvalidName(pub String);

impl Borrow<str> for ImageId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for ImageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ImageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::new(&name).map_err(serde::de::Error::custom)
    }
}

/// The name of a backup: `backup-` and its time, in UTC with milliseconds, as in `backup-2024-01-01T12-00-00-000Z`.
/// Names sort by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupName(Timestamp);

impl BackupName {
    /// The name for a time; truncates to milliseconds.
    pub fn at(moment: Timestamp) -> Self {
        Self(Timestamp::from_millisecond(moment.as_millisecond()).unwrap_or(moment))
    }

    /// The name for the next millisecond.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(SignedDuration::from_millis(1)).unwrap_or(self.0))
    }

    /// The time in the name.
    pub fn moment(self) -> Timestamp {
        self.0
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = crate::base::clock::format_millis(self.0).replace([':', '.'], "-");
        write!(f, "{BACKUPS}{moment}")
    }
}

impl fmt::Debug for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BackupName {
    type Err = InvalidName;

    /// Accepts only the documented form, so that no other string ever becomes part of a key.
    fn from_str(name: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName(name.to_owned());
        let moment = name.strip_prefix(BACKUPS).filter(|m| m.len() == 24 && m.is_ascii()).ok_or_else(invalid)?;
        let (date, time) = moment.split_once('T').ok_or_else(invalid)?;
        let mut time = time.splitn(4, '-');
        let mut next = || time.next().ok_or_else(invalid);
        let rfc3339 = format!("{date}T{}:{}:{}.{}", next()?, next()?, next()?, next()?);
        let parsed = Self(rfc3339.parse().map_err(|_| invalid())?);
        if parsed.to_string() == name { Ok(parsed) } else { Err(invalid()) }
    }
}

impl Serialize for BackupName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BackupName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{image, manifest, parse_image, parse_manifest};
    use super::*;

    #[test]
    fn a_backup_name_reads_back_as_it_was_written() {
        let name: BackupName = "backup-2024-01-01T12-00-00-000Z".parse().unwrap();
        assert_eq!(name.to_string(), "backup-2024-01-01T12-00-00-000Z");
        assert_eq!(parse_manifest(&manifest(name)), Some(name));
    }

    #[test]
    fn nothing_but_the_documented_form_is_a_backup_name() {
        for bad in [
            "",
            "backup-",
            "backup-2024-01-01T12-00-00-000",
            "backup-2024-01-01T12-00-00Z",
            "backup-2024-13-01T12-00-00-000Z",
            "backup-2024-01-01T12:00:00.000Z",
            "backup-2024-01-01t12-00-00-000z",
            "backup-2024-01-01T12-00-00-000Z/..",
            "../backup-2024-01-01T12-00-00-000Z",
            "backup-2024-01-01T24-00-00-000Z",
        ] {
            assert!(bad.parse::<BackupName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_image_id_is_one_visible_file_name() {
        for bad in ["", "a/b", ".hidden", "$keepsake", "..", "a\\b"] {
            assert!(ImageId::new(bad).is_err(), "{bad}");
        }
        let id = ImageId::generate(Uuid::from_u128(7), "jpg");
        assert!(id.uuid() == Some(Uuid::from_u128(7)) && ImageId::new("holiday.jpg").unwrap().uuid().is_none());
        assert_eq!(parse_image(&image(&id)), Some(id));
    }
}
