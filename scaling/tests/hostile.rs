//! Images that want to harm whoever decodes them: each is answered, and nothing more is taken than was foreseen.
//!
//! A binary of its own: a test here reads the peak memory of its process, to which the tests in `it/` would add.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::io::{Cursor, Write};

use bytes::Bytes;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage, load_from_memory};
use scaling::Engine;
use shared::media::{self, Format};
use shared::store::Body;
use shared::thumbnails::{Bounds, Form, Formats, Limits, Scaler, Thumbnail, Unscalable};

fn scale(bytes: &[u8]) -> Result<Thumbnail, Unscalable> {
    let form = Form { bounds: Bounds::asked(Some(160), None).unwrap().unwrap(), formats: Formats::WithWebP };
    let bytes = Bytes::copy_from_slice(bytes);
    let body = Body::from(bytes.clone());
    let format = media::measure(&body, &media::Limits::default()).map_err(|_| Unscalable::Damaged)?.format;
    let cost = Engine.cost(&body, format, form)?;
    if cost > Limits::default().memory_bytes {
        return Err(Unscalable::TooLarge);
    }
    Engine.scale(&bytes, format, form, cost)
}

/// A picture with something in each of its parts.
fn picture() -> RgbImage {
    RgbImage::from_fn(400, 300, |x, y| Rgb([(x * y % 251) as u8, (x * 7 % 253) as u8, (y * 5 % 255) as u8]))
}

fn encoded(format: ImageFormat) -> Vec<u8> {
    encoded_as(picture().into(), format)
}

fn encoded_as(picture: DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

const FORMATS: [ImageFormat; 6] =
    [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff];

fn progressive(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 90);
    encoder.set_progressive(true);
    let picture = DynamicImage::from(picture()).crop_imm(0, 0, width.into(), height.into()).into_rgb8();
    encoder.encode(picture.as_raw(), width, height, jpeg_encoder::ColorType::Rgb).unwrap();
    bytes
}

#[test]
fn an_image_that_is_cut_off_anywhere_is_answered() {
    let whole = FORMATS.map(encoded).into_iter().chain([progressive(400, 300)]);
    for (number, whole) in whole.enumerate() {
        assert!(scale(&whole).is_ok(), "{number}");
        for tenth in 0..10 {
            let cut = &whole[..whole.len() * tenth / 10];
            if let Ok(made) = scale(cut) {
                assert_eq!(load_from_memory(&made.bytes).unwrap().width(), 160);
            }
        }
    }
    let jpeg = encoded(ImageFormat::Jpeg);
    assert!(scale(&jpeg[..jpeg.len() / 2]).is_ok(), "half a photograph is shown as far as it goes");
}

#[test]
fn an_image_with_any_byte_changed_is_answered() {
    // Small, since each is decoded some hundreds of times.
    let small = |format| encoded_as(DynamicImage::from(picture()).crop_imm(0, 0, 32, 24), format);
    for whole in FORMATS.map(small).into_iter().chain([progressive(32, 24)]) {
        // The header byte by byte, the rest here and there.
        let places = (0..whole.len().min(200)).chain((200..whole.len()).step_by(whole.len() / 20 + 1));
        for place in places {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[place] ^= flip;
                let _ = scale(&damaged);
            }
        }
    }
}

/// A chunk of a PNG.
fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let checked = [&name[..], content].concat();
    let sum = crc32fast::hash(&checked).to_be_bytes();
    [&(content.len() as u32).to_be_bytes()[..], &checked, &sum].concat()
}

#[test]
fn a_colour_profile_without_end_is_not_unpacked() {
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..256 {
        packed.write_all(&[0; 1 << 20]).unwrap();
    }
    let profile = chunk(b"iCCP", &[b"x\0\0".to_vec(), packed.finish().unwrap()].concat());
    let plain = encoded(ImageFormat::Png);
    // Behind the signature and the header.
    let bomb = [&plain[..33], &profile, &plain[33..]].concat();
    let _ = scale(&bomb);
    let length = (bomb.len() as u32).to_le_bytes();
    let entry = [&[0, 0, 1, 0, 1, 0, 144, 44, 0, 0, 1, 0, 32, 0][..], &length, &[22, 0, 0, 0]].concat();
    let icon = [entry, bomb].concat();
    assert!(matches!(scale(&icon), Err(Unscalable::Format(Format::Ico))));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 250_000, "{peak} kB");
}

/// A PNG that claims a size and holds hardly any pixels.
fn png_of(width: u32, height: u32, kind: [u8; 2]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &kind, &[0, 0, 0]].concat();
    // The smallest stream of zlib.
    let pixels = [0x78, 0x9c, 0x03, 0, 0, 0, 0, 1];
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", &pixels), chunk(b"IEND", b"")].concat()
}

#[test]
fn a_small_file_that_claims_to_be_huge_is_refused_before_it_is_decoded() {
    for bomb in [
        png_of(100_000, 100_000, [8, 2]),
        png_of(u32::MAX >> 1, u32::MAX >> 1, [16, 6]),
        // Few enough pixels, and too many bytes for each.
        png_of(10_000, 10_000, [16, 6]),
        b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x01\0\0;".to_vec(),
    ] {
        assert!(matches!(scale(&bomb), Err(Unscalable::TooLarge | Unscalable::Damaged)));
    }
    let mut jpeg = encoded(ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    assert!(matches!(scale(&jpeg), Err(Unscalable::Damaged)));
    // A GIF whose frame is larger than its canvas.
    let _ = scale(b"GIF89a\x01\0\x01\0\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x01\0\0;");
}

#[test]
fn what_is_an_image_and_something_else_becomes_an_image_and_nothing_else() {
    for other in [&b"PK\x03\x04 a zip"[..], b"<script>alert(1)</script>", b"#!/bin/sh\nrm -rf /\n", b"%PDF-1.7"] {
        for format in FORMATS {
            let made = scale(&[encoded(format), other.to_vec()].concat()).unwrap();
            assert!(!made.bytes.windows(other.len()).any(|window| window == other), "{format:?}");
            assert_eq!(load_from_memory(&made.bytes).unwrap().width(), 160);
        }
    }
    // What is no image, whatever it begins with.
    for none in [&b"\xff\xd8\xff\xe0<html>"[..], b"GIF89a/*", b"BM", b"RIFF\0\0\0\0WEBPVP8 ", b"", b"II*\0\0\0\0\0"] {
        assert!(scale(none).is_err());
    }
}

#[test]
fn a_jpeg_with_more_scans_than_any_encoder_makes_is_not_waited_for() {
    let jpeg = progressive(400, 300);
    let scan = jpeg.windows(2).rposition(|marker| marker == [0xff, 0xda]).unwrap();
    let (head, last) = jpeg[..jpeg.len() - 2].split_at(scan);
    let many = [head, &last.repeat(1000), &[0xff, 0xd9]].concat();
    // Whether it is shown or not: a thousand scans would be decoded for each byte that they take.
    let _ = scale(&many);
}
