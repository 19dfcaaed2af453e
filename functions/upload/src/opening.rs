//! Judging an upload that comes in parts by its first bytes, so that what is refused in the end is refused at once.

use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use shared::media::{self, MediaError};
use shared::resumable::Begun;
use shared::store::Body;
use shared::{Keepsake, Result};

/// So many bytes at the start of a file decide whether it can be an image or a video at all.
pub(crate) const ENOUGH: usize = 64 * 1024;
/// Fewer do not: a later part may complete what they begin.
const TOO_FEW: usize = 512;

/// Refuses an upload whose first bytes are not those of an image or a video, before the rest of it is sent.
pub(crate) fn check(keepsake: &Keepsake, begun: &Begun, start: &[u8]) -> Result<()> {
    let stated = begun.headers.iter().find(|(name, _)| name == CONTENT_TYPE.as_str()).map(|(_, value)| value.as_str());
    let is_form = stated.is_some_and(|stated| stated.to_ascii_lowercase().starts_with("multipart/"));
    let file = if is_form { first_file(start) } else { Some(start) };
    let Some(file) = file.filter(|file| file.len() >= TOO_FEW) else { return Ok(()) };
    match media::measure(&Body::from(Bytes::copy_from_slice(file)), &keepsake.settings.media) {
        Err(MediaError::NotAnImage) => Err(MediaError::NotAnImage.into()),
        // Whatever else is wrong may be for want of the rest.
        _ => Ok(()),
    }
}

/// What has come of the first file of a form; `None` while that is nothing.
fn first_file(form: &[u8]) -> Option<&[u8]> {
    let mut rest = form;
    loop {
        let end = find(rest, b"\r\n\r\n")?;
        let (head, content) = (rest.get(..end)?, rest.get(end + 4..)?);
        let head = head.rsplit(|byte| *byte == b'\n').take(4).map(<[u8]>::to_ascii_lowercase);
        if head.into_iter().any(|line| find(&line, b"filename").is_some()) {
            return Some(content);
        }
        rest = content;
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
