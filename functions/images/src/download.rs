//! `Content-Disposition`: the name under which a download is saved. RFC 6266 and RFC 8187.

use axum::http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
/// The characters that RFC 8187 leaves unencoded.
const ATTR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');
pub(crate) fn is_wanted(uri: &Uri) -> bool {
    uri.query().unwrap_or_default().split('&').any(|pair| matches!(pair, "download=1" | "download=true"))
}

/// The header value for a download under this safe name.
pub(crate) fn disposition(name: &str) -> String {
    // For clients that support no other form. Some clients interpret a percent sign, a quote or a backslash.
    let plain =
        |sign: char| if (sign.is_ascii_graphic() || sign == ' ') && !"%\"\\".contains(sign) { sign } else { '_' };
    let fallback: String = name.chars().map(plain).collect();
    format!("attachment; filename=\"{fallback}\"; filename*=UTF-8''{}", utf8_percent_encode(name, ATTR))
}

#[cfg(test)]
mod tests {
    use shared::file_name::safe;
    use shared::layout::ImageId;

    use super::*;

    #[test]
    fn a_file_is_saved_under_its_original_name_wherever_that_is_one() {
        let id = ImageId::new("1.png").unwrap();
        for (name, expected) in [
            (Some("Cat.png"), r#"attachment; filename="Cat.png"; filename*=UTF-8''Cat.png"#),
            (Some("Grüße 1.png"), r#"attachment; filename="Gr__e 1.png"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%201.png"#),
            (Some("a\"b;c%41.png"), r#"attachment; filename="a_b;c_41.png"; filename*=UTF-8''a_b%3Bc%2541.png"#),
            (Some("C:\\x\\..\\y.png"), r#"attachment; filename="y.png"; filename*=UTF-8''y.png"#),
            (Some("../../.bashrc"), r#"attachment; filename="bashrc"; filename*=UTF-8''bashrc"#),
            (Some("a\r\nb: c.png"), r#"attachment; filename="a__b_ c.png"; filename*=UTF-8''a__b_%20c.png"#),
            (Some("a\u{202e}gnp.exe"), r#"attachment; filename="agnp.exe"; filename*=UTF-8''agnp.exe"#),
            (Some("..."), r#"attachment; filename="1.png"; filename*=UTF-8''1.png"#),
            (Some(""), r#"attachment; filename="1.png"; filename*=UTF-8''1.png"#),
            (None, r#"attachment; filename="1.png"; filename*=UTF-8''1.png"#),
        ] {
            assert_eq!(disposition(&safe(name, &id)), expected, "{name:?}");
        }
    }

    #[test]
    fn only_a_query_for_it_saves() {
        for (query, wanted) in [("download=1", true), ("w=5&download=true", true), ("download=0", false), ("x", false)]
        {
            assert_eq!(is_wanted(&format!("/uploads/a?{query}").parse().unwrap()), wanted, "{query}");
        }
    }
}
