//! Checks the first bytes of an upload in parts, so that an upload that would be rejected at the end is rejected at
//! once.

use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use shared::media::{self, MediaError};
use shared::resumable::Begun;
use shared::store::Body;
use shared::{Keepsake, Result};

/// This many bytes at the start of a file determine whether it can be an image or a video at all.
pub(crate) const ENOUGH: usize = 64 * 1024;
/// Fewer bytes do not: a later part may complete them.
const TOO_FEW: usize = 512;

/// Refuses an upload whose first bytes are not those of an image or a video, before the rest of it is sent.
pub(crate) fn check(keepsake: &Keepsake, begun: &Begun, start: &[u8]) -> Result<()> {
    let stated = begun.headers.iter().find(|(name, _)| name == CONTENT_TYPE.as_str()).map(|(_, value)| value.as_str());
    let is_form = stated.is_some_and(|stated| stated.to_ascii_lowercase().starts_with("multipart/"));
    let boundary = stated.filter(|_| is_form).and_then(|stated| multer::parse_boundary(stated).ok());
    let file = if is_form { boundary.and_then(|boundary| first_file(start, &boundary)) } else { Some(start) };
    let Some(file) = file.filter(|file| file.len() >= TOO_FEW) else { return Ok(()) };
    match media::measure(&Body::from(Bytes::copy_from_slice(file)), &keepsake.core.settings.media) {
        Err(MediaError::NotAnImage) => Err(MediaError::NotAnImage.into()),
        // Any other error may be due to the missing rest.
        _ => Ok(()),
    }
}

/// The received bytes of the first file of a form; `None` while there are none.
fn first_file<'a>(form: &'a [u8], boundary: &str) -> Option<&'a [u8]> {
    let (mut rest, delimiter) = (form, format!("--{boundary}"));
    loop {
        let end = find(rest, b"\r\n\r\n")?;
        let (head, content) = (rest.get(..end)?, rest.get(end + 4..)?);
        // Bytes before the delimiter are content of the previous field.
        let lines: Vec<_> = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).collect();
        let begins = lines.iter().rposition(|line| *line == delimiter.as_bytes());
        if begins.is_some_and(|begins| lines[begins..].iter().any(|line| names_file(line))) {
            return Some(content);
        }
        rest = content;
    }
}

/// Whether a header declares the content of its part as a file.
fn names_file(header: &[u8]) -> bool {
    let header = header.to_ascii_lowercase();
    let Some(disposition) = header.strip_prefix(b"content-disposition:") else { return false };
    let mut parameters = disposition.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    parameters.any(|parameter| parameter.starts_with(b"filename=") || parameter.starts_with(b"filename*="))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
