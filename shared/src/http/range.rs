//! Byte ranges: RFC 9110, section 14. `headers::Range` does not distinguish a malformed range, which must be ignored, from
//! one that cannot be satisfied; `http_range_header` does.

use std::ops::Range;

use axum::http::header::{CONTENT_RANGE, HeaderValue, RANGE};
use axum::http::{HeaderMap, StatusCode};
use headers::{ETag, HeaderMapExt, IfRange, LastModified};

use super::Problem;

/// The meaning of a `Range` header.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The whole: also if the header is malformed, and if it requests several parts, for which the whole is an allowed
    /// response.
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// A range with no existing bytes.
    Nothing,
}

/// What a request wants of a representation of `length` bytes: the whole, also if `If-Range` is another version.
pub fn asked_for(headers: &HeaderMap, etag: &ETag, modified: Option<&LastModified>, length: u64) -> Wanted {
    let Some(range) = headers.get(RANGE).and_then(|range| range.to_str().ok()) else { return Wanted::Whole };
    match headers.typed_try_get::<IfRange>() {
        Ok(Some(condition)) if condition.is_modified(Some(etag), modified) => Wanted::Whole,
        Err(_) => Wanted::Whole,
        _ => wanted(range, length),
    }
}

/// Parses a `Range` header for a representation of `length` bytes.
fn wanted(header: &str, length: u64) -> Wanted {
    let Ok(asked) = http_range_header::parse_range_header(header) else { return Wanted::Whole };
    if asked.len() > 1 {
        return Wanted::Whole;
    }
    match asked.validate(length).unwrap_or_default().first() {
        Some(range) => Wanted::Part(*range.start()..*range.end() + 1),
        None => Wanted::Nothing,
    }
}

/// The response to a range with no existing bytes.
pub fn unsatisfiable(length: u64) -> Problem {
    let detail = format!("The requested range is outside of the {length} bytes.");
    let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range-not-satisfiable", detail);
    match HeaderValue::try_from(format!("bytes */{length}")) {
        Ok(value) => problem.with_header(CONTENT_RANGE, value),
        Err(_) => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_off_at_the_end() {
        for (header, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=2-4", 2..5),
            ("bytes=9-", 9..10),
            ("bytes=0-99", 0..10),
            ("bytes=-3", 7..10),
            ("bytes=-99", 0..10),
            ("Bytes= 4-5", 4..6),
            ("bytes=0-99999999999999999999999", 0..10),
        ] {
            assert_eq!(wanted(header, 10), Wanted::Part(part), "{header}");
        }
    }

    #[test]
    fn bytes_that_are_not_there_cannot_be_had() {
        for header in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(wanted(header, 10), Wanted::Nothing, "{header}");
        }
        assert_eq!(wanted("bytes=-5", 0), Wanted::Nothing);
    }

    #[test]
    fn what_is_malformed_or_asks_for_several_parts_gets_the_whole() {
        for header in
            ["bytes", "bytes=", "bytes=-", "bytes=5-3", "bytes=a-b", "bytes=+1-2", "bytes=0-1,3-4", "lines=1-2", "=1-2"]
        {
            assert_eq!(wanted(header, 10), Wanted::Whole, "{header}");
        }
    }
}
