//! [`ConfigError`]: an invalid setting.

use std::fmt;

/// An invalid setting. Its display is the sentence with which the start fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable's name.
    pub name: &'static str,
    /// Its value without secrets; `None` if the value is missing.
    pub value: Option<String>,
    /// What to do, as an imperative half-sentence.
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} is {value:?}; {}.", self.name, self.remedy),
            None => write!(f, "{} is not set; {}.", self.name, self.remedy),
        }
    }
}

impl std::error::Error for ConfigError {}
