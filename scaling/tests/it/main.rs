//! What comes out of images of all kinds, good and bad.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod kinds;
mod small;
mod tiff;

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, GrayImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage, load_from_memory};
use scaling::Engine;
use shared::media::{self, Format, Limits};
use shared::store::Body;
use shared::thumbnails::{Bounds, Form, Formats, Pinned, Scaler, Thumbnail, Unscalable};

const ENOUGH: u64 = 1 << 30;

fn form(width: u32) -> Form {
    Form { bounds: Bounds::asked(Some(width), None).unwrap().unwrap(), formats: Formats::WithWebP }
}

/// Scales as the server does: what is no image of its format by its header, or costs too much, is refused before.
fn scale(bytes: &[u8], form: Form) -> Result<Thumbnail, Unscalable> {
    let bytes = Bytes::copy_from_slice(bytes);
    let body = Body::from(bytes.clone());
    let format = media::measure(&body, &Limits::default()).map_err(|_| Unscalable::Damaged)?.format;
    let cost = Engine.cost(&body, format, form)?;
    if cost > ENOUGH {
        return Err(Unscalable::TooLarge);
    }
    Engine.scale(&bytes, format, form, cost)
}

fn decoded(bytes: &[u8], width: u32) -> DynamicImage {
    load_from_memory(&scale(bytes, form(width)).unwrap().bytes).unwrap()
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Red, green, blue and white in the corners, so that every turn shows.
fn corners(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| match (x < width / 2, y < height / 2) {
        (true, true) => Rgb([255, 0, 0]),
        (false, true) => Rgb([0, 255, 0]),
        (true, false) => Rgb([0, 0, 255]),
        (false, false) => Rgb([255, 255, 255]),
    })
}

fn jpeg(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(image).unwrap();
    bytes
}

/// A JPEG with one more segment behind its first two bytes.
fn with_segment(jpeg: &[u8], marker: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length, content, &jpeg[2..]].concat()
}

/// EXIF that says how the camera was held and no more.
fn exif(orientation: u8) -> Vec<u8> {
    let entry = [0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0];
    [&b"Exif\0\0MM\0*\0\0\0\x08\0\x01"[..], &entry, &[0; 4]].concat()
}

/// The names of the colours in the four corners, read as a book is.
fn seen(image: &RgbImage) -> String {
    let (width, height) = image.dimensions();
    let name = |x, y| match image.get_pixel(x, y).0.map(|channel| channel > 128) {
        [true, false, false] => 'r',
        [false, true, false] => 'g',
        [false, false, true] => 'b',
        [true, true, true] => 'w',
        _ => '?',
    };
    let (left, right, top, bottom) = (width / 8, width - 1 - width / 8, height / 8, height - 1 - height / 8);
    [name(left, top), name(right, top), name(left, bottom), name(right, bottom)].iter().collect()
}

#[test]
fn every_orientation_is_applied() {
    let plain = jpeg(&corners(640, 320));
    for (orientation, expected, size) in [
        (1, "rgbw", (160, 80)),
        (2, "grwb", (160, 80)),
        (3, "wbgr", (160, 80)),
        (4, "bwrg", (160, 80)),
        (5, "rbgw", (160, 320)),
        (6, "brwg", (160, 320)),
        (7, "wgbr", (160, 320)),
        (8, "gwrb", (160, 320)),
    ] {
        let small = decoded(&with_segment(&plain, 0xe1, &exif(orientation)), 160).into_rgb8();
        assert_eq!((seen(&small).as_str(), small.dimensions()), (expected, size), "{orientation}");
    }
}

#[test]
fn no_metadata_is_left() {
    let exif = [&exif(6)[..], b"where I live"].concat();
    let source = with_segment(&jpeg(&corners(640, 320)), 0xe1, &exif);
    let small = scale(&with_segment(&source, 0xfe, b"a comment"), form(160)).unwrap().bytes;
    for left in [&b"Exif"[..], b"where I live", b"a comment", b"ICC_PROFILE"] {
        assert!(!small.windows(left.len()).any(|window| window == left));
    }
}

#[test]
fn every_format_that_can_be_decoded_becomes_what_its_reader_takes() {
    let picture = corners(200, 100);
    for format in
        [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff]
    {
        for formats in [Formats::WithWebP, Formats::Common] {
            let form = Form { formats, ..form(160) };
            let made = scale(&encoded(picture.clone(), format), form).unwrap_or_else(|e| panic!("{format:?}: {e}"));
            let small = load_from_memory(&made.bytes).unwrap().into_rgb8();
            assert!(formats.include(made.format), "{format:?} became {:?}", made.format);
            assert_eq!((small.dimensions(), seen(&small)), ((160, 80), "rgbw".to_owned()));
        }
    }
}

#[test]
fn depths_and_kinds_of_colour_are_seen_alike() {
    let picture = DynamicImage::from(corners(320, 160));
    let gray = GrayImage::from_fn(320, 160, |x, _| image::Luma([if x < 160 { 0 } else { 255 }]));
    for source in [
        encoded(picture.to_rgb16(), ImageFormat::Png),
        encoded(picture.to_rgba16(), ImageFormat::Png),
        encoded(picture.to_rgba8(), ImageFormat::Png),
    ] {
        for formats in [Formats::WithWebP, Formats::Common] {
            let made = scale(&source, Form { formats, ..form(160) }).unwrap();
            assert!(formats.include(made.format) && made.format != Format::Gif);
            assert_eq!(seen(&load_from_memory(&made.bytes).unwrap().into_rgb8()), "rgbw");
        }
    }
    for format in [ImageFormat::Jpeg, ImageFormat::Png] {
        let small = decoded(&encoded(gray.clone(), format), 160).into_rgb8();
        assert!(
            small.get_pixel(20, 20).0.iter().all(|c| *c < 30) && small.get_pixel(140, 20).0.iter().all(|c| *c > 225)
        );
    }
}

#[test]
fn jpegs_of_every_making_are_decoded() {
    use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
    let picture = corners(320, 160);
    // Inks are the inverse of light; Adobe's marker says that they are stored inverted.
    let inks: Vec<u8> = picture.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2], 255]).map(|light| 255 - light).collect();
    let mut making = 0;
    for (bytes, color) in [(picture.as_raw(), ColorType::Rgb), (&inks, ColorType::Cmyk), (&inks, ColorType::CmykAsYcck)]
    {
        for (progressive, interval) in [(false, 0), (true, 0), (false, 4)] {
            for sampling in [SamplingFactor::F_1_1, SamplingFactor::F_2_2, SamplingFactor::F_2_1] {
                making += 1;
                let is_thinned = sampling != SamplingFactor::F_1_1 && color != ColorType::Rgb;
                let mut jpeg = Vec::new();
                let mut encoder = Encoder::new(&mut jpeg, 95);
                encoder.set_progressive(progressive);
                encoder.set_restart_interval(interval);
                encoder.set_sampling_factor(sampling);
                encoder.encode(bytes, 320, 160, color).unwrap();
                if is_thinned {
                    assert!(matches!(scale(&jpeg, form(160)), Err(Unscalable::Kind)), "{making}");
                    continue;
                }
                let small = decoded(&jpeg, 160).into_rgb8();
                assert_eq!((seen(&small).as_str(), small.dimensions()), ("rgbw", (160, 80)), "{making}");
            }
        }
    }
}

#[test]
fn a_jpeg_that_would_be_decoded_wrongly_is_refused() {
    let mut planes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut planes, 95);
    // Which makes a scan for each colour.
    encoder.set_optimized_huffman_tables(true);
    encoder.encode(corners(320, 160).as_raw(), 320, 160, jpeg_encoder::ColorType::Rgb).unwrap();
    assert!(matches!(scale(&planes, form(160)), Err(Unscalable::Kind)));
}

#[test]
fn what_is_transparent_stays_so_and_lends_no_colour() {
    // Green that nobody can see, beside red.
    let picture =
        RgbaImage::from_fn(640, 320, |x, _| if x % 2 == 0 { Rgba([255, 0, 0, 255]) } else { Rgba([0, 255, 0, 0]) });
    let source = encoded(picture, ImageFormat::Png);
    for (formats, format) in [(Formats::Only(Pinned::WebP), Format::WebP), (Formats::Common, Format::Png)] {
        let made = scale(&source, Form { formats, ..form(160) }).unwrap();
        assert_eq!(made.format, format);
        let small = load_from_memory(&made.bytes).unwrap().into_rgba8();
        let [red, green, _, alpha] = small.get_pixel(80, 40).0;
        assert!(red > 250 && green < 5 && (100..156).contains(&alpha), "{:?}", small.get_pixel(80, 40));
    }
}

#[test]
fn a_webp_is_shorter_than_the_jpeg_and_like_the_original() {
    // Waves and noise, as in a photograph of the sea.
    let mut noise = 1_u32;
    let picture = RgbImage::from_fn(320, 200, |x, y| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let wave = 60.0 * (f64::from(x) / 9.0).sin() + 40.0 * (f64::from(x + 2 * y) / 23.0).cos() + 128.0;
        let light = wave + f64::from(noise >> 29);
        Rgb([light * 0.7, light * 0.85, light].map(|channel| channel.clamp(0.0, 255.0) as u8))
    });
    let source = encoded(picture.clone(), ImageFormat::Png);
    let [(webp, webp_off), (jpeg, jpeg_off)] = [Formats::WithWebP, Formats::Common].map(|formats| {
        let made = scale(&source, Form { formats, ..form(320) }).unwrap();
        let small = load_from_memory(&made.bytes).unwrap().into_rgb8();
        let squares = small.iter().zip(picture.iter()).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
        (made.bytes.len(), squares.sum::<f64>() / picture.len() as f64)
    });
    assert!(webp * 10 < jpeg * 9, "{webp} and {jpeg} bytes");
    // A peak signal-to-noise ratio of 35 dB.
    assert!(webp_off < 20.0 && jpeg_off < 20.0, "{webp_off} and {jpeg_off}");
}

#[test]
fn nothing_is_enlarged() {
    assert_eq!(decoded(&encoded(corners(20, 10), ImageFormat::Png), 2560).into_rgb8().dimensions(), (20, 10));
}

#[test]
fn colours_with_a_profile_are_converted() {
    let profile = moxcms::ColorProfile::new_display_p3().encode().unwrap();
    let picture = RgbImage::from_pixel(64, 64, Rgb([200, 100, 100]));
    let icc = [&b"ICC_PROFILE\0\x01\x01"[..], &profile].concat();
    let plain = decoded(&jpeg(&picture), 160).into_rgb8();
    let wide = decoded(&with_segment(&jpeg(&picture), 0xe2, &icc), 160).into_rgb8();
    let ([plain, ..], [wide, ..]) = (plain.get_pixel(32, 32).0, wide.get_pixel(32, 32).0);
    assert!(wide > plain + 5, "the same numbers are a stronger red in a wider space: {plain}, {wide}");
    let nonsense = [&b"ICC_PROFILE\0\x01\x01"[..], &profile[..200]].concat();
    let unread = decoded(&with_segment(&jpeg(&picture), 0xe2, &nonsense), 160).into_rgb8().get_pixel(32, 32).0[0];
    assert_eq!(unread, plain, "a profile that cannot be read is none");
}
