//! Truncated files are accepted and marked; complete ones are not marked, whatever follows them.

use std::io::Cursor;

use super::*;
use store::Body;

fn is_truncated(bytes: &[u8]) -> bool {
    inspect(&Body::from(bytes.to_vec()), &Limits::default()).unwrap().is_truncated
}

/// Noise, so that the pixels make up most of the file.
fn noise(format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let pixel = |x: u32, y: u32| image::Rgb([((x * 37) ^ (y * 91)) as u8, (x * y * 13) as u8, (x * 5 + y * 7) as u8]);
    image::DynamicImage::from(image::RgbImage::from_fn(64, 48, pixel)).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

const FORMATS: [image::ImageFormat; 5] = [
    image::ImageFormat::Jpeg,
    image::ImageFormat::Png,
    image::ImageFormat::Gif,
    image::ImageFormat::WebP,
    image::ImageFormat::Bmp,
];

#[test]
fn an_image_of_which_half_is_missing_is_kept_as_truncated() {
    for format in FORMATS {
        let whole = noise(format);
        assert!(!is_truncated(&whole), "{format:?}");
        assert!(is_truncated(&whole[..whole.len() / 2]), "{format:?}");
        assert!(is_truncated(&whole[..whole.len() * 9 / 10]), "{format:?}");
    }
}

#[test]
fn what_follows_a_whole_image_does_not_make_it_truncated() {
    for format in FORMATS {
        for added in [&[0; 3000][..], &[0xff; 3000], b"\0\0\0\x18ftypmp42", &noise(format)[..900]] {
            assert!(!is_truncated(&[&noise(format)[..], added].concat()), "{format:?}");
        }
    }
}

#[test]
fn a_jpeg_filled_up_with_zeros_is_truncated() {
    let whole = noise(image::ImageFormat::Jpeg);
    assert!(is_truncated(&[&whole[..whole.len() / 2], &vec![0; whole.len() / 2]].concat()));
}

#[test]
fn an_end_marker_within_a_thumbnail_does_not_make_a_jpeg_whole() {
    let whole = noise(image::ImageFormat::Jpeg);
    let segment = [&[0xff, 0xe1, 0, 12][..], b"Exif\0\0", &[0xff, 0xd8, 0xff, 0xd9]].concat();
    let with_thumbnail = [&whole[..2], &segment, &whole[2..]].concat();
    assert!(!is_truncated(&[&with_thumbnail[..], b"trailer"].concat()));
    assert!(is_truncated(&with_thumbnail[..with_thumbnail.len() / 2]));
}

#[test]
fn an_animation_is_truncated_where_it_breaks_off_within_a_frame() {
    let mut whole = Vec::new();
    let mut encoder = gif::Encoder::new(&mut whole, 30, 20, &[0, 0, 0, 255, 255, 255]).unwrap();
    for shade in 0..3 {
        encoder.write_frame(&gif::Frame::from_indexed_pixels(30, 20, vec![shade % 2; 600], None)).unwrap();
    }
    drop(encoder);
    assert!(!is_truncated(&whole));
    assert!(!is_truncated(&whole[..whole.len() - 1]), "nothing but the trailer is missing");
    assert!(is_truncated(&whole[..whole.len() - 4]));
}
