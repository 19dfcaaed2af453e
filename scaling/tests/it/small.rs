//! Small images and drawings: a form is not longer than what it is made of, and drawings stay sharp.

use image::{ImageFormat, Rgb, RgbImage, Rgba, RgbaImage, load_from_memory};
use shared::media::Format;
use shared::thumbnails::{Form, Formats, Pinned};

use super::{corners, encoded, exif, form, jpeg, scale, with_segment};

/// Black lines on white.
fn drawing(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([if x % 40 < 3 || (x + y) % 56 < 3 { 0 } else { 255 }; 3]))
}

#[test]
fn line_art_loses_nothing_and_is_not_longer_than_the_original() {
    let source = encoded(drawing(600, 400), ImageFormat::Png);
    for formats in [Formats::Common, Formats::WithWebP, Formats::Only(Pinned::WebP), Formats::Only(Pinned::Png)] {
        let made = scale(&source, Form { formats, ..form(640) }).unwrap();
        assert_eq!(load_from_memory(&made.bytes).unwrap().into_rgb8(), drawing(600, 400), "{formats:?}");
        assert!(formats.include(made.format));
        if formats != Formats::Only(Pinned::WebP) {
            assert!(made.bytes.len() <= source.len(), "{formats:?}: {} of {}", made.bytes.len(), source.len());
        }
    }
}

#[test]
fn line_art_that_shrinks_is_shorter_or_loses_nothing() {
    let source = encoded(drawing(1200, 800), ImageFormat::Png);
    let made = scale(&source, form(640)).unwrap();
    let is_lossless = made.format == Format::Png || made.bytes.windows(4).any(|chunk| chunk == b"VP8L");
    assert!(is_lossless || made.bytes.len() < source.len());
    assert_eq!(load_from_memory(&made.bytes).unwrap().width(), 640);
}

#[test]
fn small_image_whose_form_would_be_longer_is_sent_as_it_is() {
    for (format, same) in [
        (ImageFormat::Jpeg, Format::Jpeg),
        (ImageFormat::Png, Format::Png),
        (ImageFormat::Gif, Format::Gif),
        (ImageFormat::WebP, Format::WebP),
    ] {
        // Of one pixel, which no format can say in fewer bytes than the one that it has.
        let source = encoded(RgbImage::from_pixel(1, 1, Rgb([200, 50, 50])), format);
        let kept = [Formats::Common, Formats::WithWebP].into_iter().filter(|formats| formats.include(same));
        for formats in kept {
            let made = scale(&source, Form { formats, ..form(160) }).unwrap();
            assert!(made.bytes.len() <= source.len(), "{format:?}, {formats:?}");
        }
    }
    // Of a quality below that of forms.
    let mut poor = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut poor, 20);
    encoder.set_progressive(true);
    let noise =
        RgbImage::from_fn(200, 100, |x, y| Rgb([(x * y * 7 % 251) as u8, (x * 13 % 253) as u8, (y * 5 % 255) as u8]));
    encoder.encode(noise.as_raw(), 200, 100, jpeg_encoder::ColorType::Rgb).unwrap();
    for formats in [Formats::Common, Formats::WithWebP, Formats::Only(Pinned::Jpeg)] {
        let made = scale(&poor, Form { formats, ..form(320) }).unwrap();
        assert!(made.format == Format::Jpeg && made.bytes == poor, "{formats:?}");
    }
    let turned = scale(&with_segment(&poor, 0xe1, &exif(1)), form(320)).unwrap();
    assert!(!turned.bytes.windows(4).any(|window| window == b"Exif"), "no metadata goes with a form");
    let smaller = scale(&poor, form(160)).unwrap();
    assert_eq!(load_from_memory(&smaller.bytes).unwrap().width(), 160, "what is too wide is made smaller");
}

#[test]
fn pinned_format_is_what_comes_out() {
    let clear = RgbaImage::from_fn(64, 32, |x, _| Rgba([255, 0, 0, if x < 32 { 0 } else { 255 }]));
    let sources = [
        jpeg(&corners(64, 32)),
        encoded(clear.clone(), ImageFormat::Png),
        encoded(clear, ImageFormat::WebP),
        encoded(corners(64, 32), ImageFormat::Gif),
    ];
    for (pinned, format) in [(Pinned::Jpeg, Format::Jpeg), (Pinned::Png, Format::Png), (Pinned::WebP, Format::WebP)] {
        for source in &sources {
            let made = scale(source, Form { formats: Formats::Only(pinned), ..form(160) }).unwrap();
            assert_eq!(made.format, format);
            assert_eq!(load_from_memory(&made.bytes).unwrap().width(), 64);
        }
    }
    let flat = scale(&sources[1], Form { formats: Formats::Only(Pinned::Jpeg), ..form(160) }).unwrap();
    let flat = load_from_memory(&flat.bytes).unwrap().into_rgb8();
    let ([left, right], near) = ([5, 60].map(|x| flat.get_pixel(x, 15).0), |a: [u8; 3], b: [u8; 3]| {
        a.iter().zip(b).all(|(a, b)| a.abs_diff(b) < 12)
    });
    assert!(near(left, [255; 3]) && near(right, [255, 0, 0]), "{left:?} {right:?}");
}
