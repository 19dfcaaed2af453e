//! The destination and the format of the log.

mod json;

use std::error::Error;
use std::io::{IsTerminal, stderr};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Config, ConfigError, LogFormat};

/// Writes the events that `config.log_filter` selects to standard error, in `config.log_format` or, if that is unset,
/// as text on a terminal and else as JSON.
///
/// Fails if the filter is invalid. If the process has a log already, that one stays: servers that run side by side in a
/// test share it.
pub fn init(config: &Config) -> Result<(), ConfigError> {
    // Not `EnvFilter`, which can also filter by span fields: its regular expressions would be a large part of a Lambda
    // function's binary.
    let filter: Targets = config.log_filter.parse().map_err(|_| ConfigError {
        name: "RUST_LOG",
        value: Some(config.log_filter.clone()),
        remedy: "set it to a level, such as info, or to directives, such as info,shared=debug".to_owned(),
    })?;
    let on_terminal = stderr().is_terminal();
    let default_format = if on_terminal { LogFormat::Text } else { LogFormat::Json };
    let (log, lines) = (tracing_subscriber::registry().with(filter), fmt::layer().with_writer(stderr));
    let _already_set = match config.log_format.unwrap_or(default_format) {
        // On a terminal the crate itself decides about colors, by NO_COLOR.
        LogFormat::Text if on_terminal => log.with(lines).try_init(),
        LogFormat::Text => log.with(lines.with_ansi(false)).try_init(),
        LogFormat::Json => log.with(lines.fmt_fields(JsonFields::new()).event_format(json::Json)).try_init(),
    };
    Ok(())
}

/// An error and its causes, outermost first.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(filter: &str, format: &str) -> Config {
        let (filter, format) = (filter.to_owned(), format.to_owned());
        Config::from_lookup(&|name| match name {
            "RUST_LOG" => Some(filter.clone()),
            "LOG_FORMAT" => Some(format.clone()),
            _ => None,
        })
        .unwrap()
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_named_with_its_remedy() {
        for filter in ["info,shared=loud", "a=b=c"] {
            let sentence = init(&config(filter, "json")).unwrap_err().to_string();
            assert!(sentence.starts_with(&format!("RUST_LOG is {filter:?}; set it to")), "{sentence}");
        }
    }

    #[test]
    fn the_log_can_be_set_up_in_either_form_and_more_than_once() {
        for format in ["json", "text", ""] {
            init(&config("warn,shared=debug", format)).unwrap();
        }
    }
}
