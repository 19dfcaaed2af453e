//! [`Values`]: the environment variables, as text and as numbers.

use std::str::FromStr;

use super::error::ConfigError;

/// The variables, from any source.
pub(super) struct Values<'a>(pub(super) &'a dyn Fn(&str) -> Option<String>);

pub(super) fn wrong(name: &'static str, value: &str, remedy: impl Into<String>) -> ConfigError {
    ConfigError { name, value: Some(without_password(value)), remedy: remedy.into() }
}

/// Removes the password from a value that may be a URL, even if it is malformed.
fn without_password(value: &str) -> String {
    match (value.split_once("://"), value.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://***@{rest}"),
        (None, Some((_, rest))) => format!("***@{rest}"),
        (_, None) if value.trim_start().to_ascii_lowercase().starts_with("cloudinary:") => {
            "cloudinary://***".to_owned()
        }
        (_, None) => value.to_owned(),
    }
}

impl Values<'_> {
    /// The value of this variable, trimmed; `None` if it is unset or empty.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// Whether this variable is set and not empty.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    /// The value, trimmed; `None` if it is unset or empty.
    pub(super) fn get(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        let value = self.text(name);
        // Invalid UTF-8 has been replaced by this character before, and the value would denote another folder.
        if value.as_ref().is_some_and(|value| value.contains(char::REPLACEMENT_CHARACTER)) {
            return Err(ConfigError { name, value: Some("***".to_owned()), remedy: "write it in UTF-8".to_owned() });
        }
        Ok(value)
    }

    /// A number; `what` describes the valid ones.
    pub(super) fn number<T: FromStr>(&self, name: &'static str, what: &str) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        let number = value.replace('_', "").parse();
        number.map(Some).map_err(|_| wrong(name, &value, format!("set it to {what}")))
    }
}
