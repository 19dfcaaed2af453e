//! [`Json`]: a line of JSON per event.

use std::error::Error;
use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// One flat object per event: its time, level and target, its own fields, and those of its spans, so that every line of
/// a request has its `request_id`. If a name occurs twice, the event's own field comes first, then that of the
/// innermost span. An error is written with all its causes, which the crate's own format and
/// `json-subscriber` omit.
#[derive(Debug)]
pub struct Json;

/// Names and values in output order.
#[derive(Default)]
struct Line(Vec<(String, Value)>);

impl Line {
    fn add(&mut self, name: &str, value: impl Into<Value>) {
        if !self.0.iter().any(|(known, _)| known == name) {
            self.0.push((name.to_owned(), value.into()));
        }
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (mut line, mut time) = (Line::default(), String::new());
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        line.add("timestamp", time);
        line.add("level", event.metadata().level().as_str());
        event.record(&mut line);
        line.add("target", event.metadata().target());
        // Innermost first.
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map_or("{}", |fields| fields.as_str());
            let fields: Map<String, Value> = serde_json::from_str(fields).unwrap_or_default();
            fields.into_iter().for_each(|(name, value)| line.add(&name, value));
        }
        writeln!(writer, "{}", serde_json::to_string(&line).map_err(|_| fmt::Error)?)
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.add(field.name(), super::with_causes(value));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::fmt::format::JsonFields;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::testing::Written;
    use store::{ErrorKind, StoreError};

    /// The lines written while `work` runs.
    fn written(work: impl FnOnce()) -> String {
        let written = Written::default();
        let (writer, fields) = (written.clone(), JsonFields::new());
        let layer =
            tracing_subscriber::fmt::layer().fmt_fields(fields).event_format(Json).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        written.text()
    }

    #[test]
    fn an_error_is_written_with_its_causes() {
        let disk = std::io::Error::other("disk on fire");
        let error = StoreError::caused("put", "uploads/a.png", ErrorKind::Unavailable, disk);
        let error = crate::Error::from(error);
        let line = written(|| tracing::warn!(error = &error as &dyn Error, tries = 3, "it failed"));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            line["error"],
            "a store failed: put \"uploads/a.png\": the store did not answer as it should: disk on fire"
        );
        assert_eq!(
            (&line["message"], &line["tries"], &line["level"]),
            (&"it failed".into(), &3.into(), &"WARN".into())
        );
    }

    #[test]
    fn a_line_has_the_fields_of_all_spans_around_it_and_its_own_before_them() {
        let lines = written(|| {
            let _request = tracing::info_span!("request", request_id = "r-1", path = "/", size = 1).entered();
            let _step = tracing::info_span!("step", path = "inner").entered();
            tracing::info!(size = 2, "done");
        });
        let line: Value = serde_json::from_str(&lines).unwrap();
        assert_eq!(
            (&line["request_id"], &line["path"], &line["size"]),
            (&"r-1".into(), &"inner".into(), &2.into()),
            "{lines}"
        );
    }

    #[test]
    fn whatever_is_said_takes_one_line() {
        let said = "first\nsecond\r\u{2028}\"}\u{1b}[31m";
        let lines = written(|| tracing::info!(said, debugged = ?said, "{said}"));
        assert_eq!(lines.lines().count(), 1, "{lines}");
        let line: Value = serde_json::from_str(&lines).unwrap();
        assert_eq!((&line["said"], &line["message"]), (&said.into(), &said.into()));
        assert!(!lines.contains('\u{1b}'), "{lines}");
    }
}
