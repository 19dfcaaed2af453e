//! [`ConfigError`]: a setting that cannot be right.

use std::fmt;

/// A setting that cannot be right. Its display is the sentence to stop with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable's name.
    pub name: &'static str,
    /// Its value without anything secret; `None` where it is the lack of one that is wrong.
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
