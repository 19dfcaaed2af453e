//! Width and height of pictures that browsers rotate.

use super::*;

/// Exif with this orientation, without its JPEG prefix: one entry of this type.
fn exif(kind: u8, orientation: u8) -> Vec<u8> {
    let value = if kind == 3 { [0, orientation, 0, 0] } else { [0, 0, 0, orientation] };
    [&b"MM\0*\0\0\0\x08\0\x01\x01\x12\0"[..], &[kind, 0, 0, 0, 1], &value, &[0; 4]].concat()
}

fn with_exif(jpeg: &[u8], exif: &[u8]) -> Vec<u8> {
    let length = (exif.len() as u16 + 8).to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, b"Exif\0\0", exif, &jpeg[2..]].concat()
}

/// A PNG with this chunk before or after its pixels.
fn with_chunk(png: &[u8], name: &[u8; 4], content: &[u8], is_first: bool) -> Vec<u8> {
    let chunk = [&(content.len() as u32).to_be_bytes()[..], name, content, &[0; 4]].concat();
    let at = if is_first { 33 } else { png.len() - 12 };
    [&png[..at], &chunk, &png[at..]].concat()
}

#[test]
fn a_jpeg_and_a_png_are_measured_as_browsers_turn_them() {
    let (jpeg, png) = (encode(image::ImageFormat::Jpeg, 40, 30), encode(image::ImageFormat::Png, 40, 30));
    for orientation in 1..=8 {
        let (width, height) = if orientation < 5 { (40, 30) } else { (30, 40) };
        let expected = |format| {
            let orientation = Orientation::new(orientation.into()).unwrap();
            Media { orientation, ..upright(format, width, height) }
        };
        assert_eq!(judge(with_exif(&jpeg, &exif(3, orientation))).unwrap(), expected(Format::Jpeg));
        let png = with_chunk(&png, b"eXIf", &exif(3, orientation), true);
        assert_eq!(judge(png).unwrap(), expected(Format::Png));
    }
}

#[test]
fn an_orientation_that_browsers_ignore_is_ignored() {
    let (jpeg, png) = (encode(image::ImageFormat::Jpeg, 40, 30), encode(image::ImageFormat::Png, 40, 30));
    let webp = riff_chunk(b"VP8 ", &[0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x42, 0xe0, 1]);
    let webp = extended_webp(0x08, &[webp, riff_chunk(b"EXIF", &exif(3, 6))].concat());
    assert_eq!(judge(webp).unwrap(), upright(Format::WebP, 640, 480));
    let ignored = [exif(4, 6), exif(3, 0), exif(3, 9), exif(3, 6)[..20].to_vec(), b"Exif\0\0".to_vec(), vec![]];
    for exif in ignored {
        assert_eq!(judge(with_exif(&jpeg, &exif)).unwrap(), upright(Format::Jpeg, 40, 30), "{exif:?}");
        let png = with_chunk(&png, b"eXIf", &exif, true);
        assert_eq!(judge(png).unwrap(), upright(Format::Png, 40, 30), "{exif:?}");
    }
    // A second one does not count, even if the first has no orientation; nor does one after the pixels of a PNG.
    for first in [exif(3, 1), exif(3, 9), vec![0; 30]] {
        let two = with_exif(&with_exif(&jpeg, &exif(3, 6)), &first);
        assert_eq!(judge(two).unwrap(), upright(Format::Jpeg, 40, 30));
    }
    assert_eq!(judge(with_chunk(&png, b"eXIf", &exif(3, 6), false)).unwrap(), upright(Format::Png, 40, 30));
}
