//! Bytes that are stored as images and asked for in a thumbnail.

use bytes::Bytes;
use scaling::Engine;
use shared::media::{Limits, inspect, measure};
use shared::store::Body;
use shared::thumbnails::{Bounds, Form, Formats, Pinned, Scaler};

/// So that inputs are tried by the thousand; a server allows more.
const MOST: u64 = 64 << 20;

pub fn scale(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let source = Body::from(bytes.clone());
    let Ok(media) = measure(&source, &Limits::default()) else { return };
    let bounds =
        Bounds::asked(Some(160), Some(160)).ok().flatten().unwrap_or_else(|| unreachable!("a size of the ladder"));
    let pinned = [Pinned::Jpeg, Pinned::Png, Pinned::WebP].map(Formats::Only);
    for formats in [Formats::Common, Formats::WithWebP].into_iter().chain(pinned) {
        let form = Form { bounds, formats };
        let Ok(cost) = Engine.cost(&source, media.format, form) else { continue };
        assert!(cost >= data.len() as u64, "{cost} for {} bytes", data.len());
        if cost > MOST {
            continue;
        }
        assert!(Engine.scale(&bytes, media.format, form, data.len() as u64).is_err(), "nothing is free");
        let Ok(made) = Engine.scale(&bytes, media.format, form, cost) else { continue };
        let small = inspect(&Body::from(made.bytes.to_vec()), &Limits::default());
        let small = small.unwrap_or_else(|error| panic!("what comes out is no image: {error}"));
        assert_eq!(small.format, made.format);
        assert!(formats.include(made.format), "{formats:?} {}", made.format);
        assert!(small.width <= 160 && small.height <= 160, "{small:?}");
        let again = Engine.scale(&bytes, media.format, form, cost);
        assert!(again.is_ok_and(|again| again == made), "it depends on more than the bytes");
    }
}
