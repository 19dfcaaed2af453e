//! Images come from the `image` crate or, for formats it cannot encode, are written by hand.

mod turned;

use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::testing::iso_box;
use store::{Body, Spool};

pub(super) fn judge(bytes: impl Into<Vec<u8>>) -> Result<Media, MediaError> {
    inspect(&Body::from(bytes.into()), &Limits::default())
}

/// A complete image that is stored as displayed.
fn upright(format: Format, width: u32, height: u32) -> Media {
    Media { format, width, height, orientation: Orientation::UPRIGHT, is_truncated: false }
}

fn encode(format: image::ImageFormat, width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image::DynamicImage::new_rgba8(width, height).into_rgb8().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A HEIF file with these brands, the major one first, and pictures of these dimensions.
fn heif(brands: &[&[u8; 4]], pictures: &[(u32, u32)]) -> Vec<u8> {
    let compatible: Vec<u8> = brands.iter().copied().flatten().copied().collect();
    let ftyp = [&brands[0][..], &[0; 4], &compatible].concat();
    let ispe = |(w, h): &(u32, u32)| iso_box(b"ispe", &[[0; 4], w.to_be_bytes(), h.to_be_bytes()].concat());
    let ipco = iso_box(b"ipco", &pictures.iter().flat_map(ispe).collect::<Vec<_>>());
    let iprp = iso_box(b"iprp", &[ipco, iso_box(b"ipma", &[0; 12])].concat());
    let hdlr = iso_box(b"hdlr", b"\0\0\0\0\0\0\0\0pict\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let meta = iso_box(b"meta", &[vec![0; 4], hdlr, iprp].concat());
    [iso_box(b"ftyp", &ftyp), meta, iso_box(b"mdat", &[0x5a; 64])].concat()
}

fn animated_png(frames: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
    encoder.set_animated(frames, 0).unwrap();
    let mut writer = encoder.write_header().unwrap();
    for _ in 0..frames {
        writer.write_image_data(&[0, 0]).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

fn animated_gif(frames: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = gif::Encoder::new(&mut bytes, 3, 2, &[0, 0, 0, 255, 255, 255]).unwrap();
    for _ in 0..frames {
        encoder.write_frame(&gif::Frame::from_indexed_pixels(3, 2, vec![0; 6], None)).unwrap();
    }
    drop(encoder);
    bytes
}

fn riff_chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let padding = &[0][..content.len() % 2];
    [&name[..], &(content.len() as u32).to_le_bytes(), content, padding].concat()
}

/// An extended WebP of 640 × 480 pixels with these flags and chunks.
fn extended_webp(flags: u8, chunks: &[u8]) -> Vec<u8> {
    let vp8x = riff_chunk(b"VP8X", &[flags, 0, 0, 0, 0x7f, 2, 0, 0xdf, 1, 0]);
    riff_chunk(b"RIFF", &[b"WEBP", &vp8x[..], chunks].concat())
}

fn animated_webp(frames: usize) -> Vec<u8> {
    let frame = riff_chunk(b"ANMF", &[&[0; 16][..], &riff_chunk(b"VP8L", &[0x2f, 0, 0, 0, 0])].concat());
    extended_webp(0x02, &[riff_chunk(b"ANIM", &[0; 6]), frame.repeat(frames)].concat())
}

fn bmp(width: i32, height: i32) -> Vec<u8> {
    let mut bytes = encode(image::ImageFormat::Bmp, 4, 4);
    bytes[18..22].copy_from_slice(&width.to_le_bytes());
    bytes[22..26].copy_from_slice(&height.to_le_bytes());
    bytes
}

/// One image of each format, all of 40 × 30 pixels.
fn samples() -> Vec<(Format, Vec<u8>)> {
    use image::ImageFormat as Encoder;
    let encoded = [
        (Format::Jpeg, Encoder::Jpeg),
        (Format::Png, Encoder::Png),
        (Format::Gif, Encoder::Gif),
        (Format::WebP, Encoder::WebP),
        (Format::Bmp, Encoder::Bmp),
        (Format::Tiff, Encoder::Tiff),
        (Format::Ico, Encoder::Ico),
    ];
    let mut samples: Vec<_> = encoded.map(|(format, encoder)| (format, encode(encoder, 40, 30))).into();
    samples.push((Format::Avif, heif(&[b"avif", b"mif1", b"miaf"], &[(40, 30)])));
    samples.push((Format::Heic, heif(&[b"heic", b"mif1"], &[(40, 30)])));
    samples
}

#[test]
fn an_image_of_each_format_is_recognised_and_measured() {
    for (format, bytes) in samples() {
        assert_eq!(judge(bytes).unwrap(), upright(format, 40, 30));
    }
}

#[test]
fn bytes_behind_an_image_do_no_harm() {
    for (format, bytes) in samples() {
        assert_eq!(judge([bytes, vec![0xff; 5_000]].concat()).unwrap().format, format);
    }
}

#[test]
fn what_is_no_image_is_refused_whatever_it_begins_with() {
    let others: &[&[u8]] = &[
        b"",
        b"G",
        b"<?php system($_GET['c']); ?>",
        b"<!DOCTYPE html><html><body><img src=x></body></html>",
        b"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1\" height=\"1\"/>",
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0",
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj",
        b"PK\x03\x04\x14\0\0\0\x08\0word/document.xml",
        b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0",
        b"#!/bin/sh\nrm -rf /\n",
        b"GIF88a\x01\0\x01\0\0\0\0",
        b"\x89PNG\n\x1a\n\0\0\0\rIHDR",
        b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0",
        b"ID3\x03\0\0\0\0\0\x0fTIT2",
        b"\xff\xfb\x90\x64\0\0\0\0\0\0\0\0",
        b"\0\x01\0\0\0\x0f\0\x80\0\x03\0\x70GSUB",
        b"BM is how this letter begins, which goes on for a while and is no bitmap at all.",
        b"BM",
        b"II and MM are initials.",
        b"8BPS\0\x01\0\0\0\0\0\0\0\x03",
    ];
    for other in others {
        let refusal = judge(*other).unwrap_err();
        assert!(matches!(refusal, MediaError::NotAnImage), "{:?}: {refusal:?}", other.escape_ascii().to_string());
    }
}

#[test]
fn a_film_is_no_image_even_if_it_lists_an_images_brand() {
    for brands in [&[b"qt  ", b"avif", b"heic"][..], &[b"qt  "], &[b"crx ", b"isom"], &[b"mif1"]] {
        assert!(matches!(judge(heif(brands, &[(40, 30)])), Err(MediaError::NotAnImage)), "{brands:?}");
    }
}

#[test]
fn avif_and_heic_are_told_apart_by_their_brands() {
    let cases: &[(&[&[u8; 4]], Format)] = &[
        (&[b"avis", b"avif", b"msf1"], Format::Avif),
        (&[b"mif1", b"miaf", b"MA1B", b"avif"], Format::Avif),
        (&[b"heix", b"mif1"], Format::Heic),
        (&[b"mif1", b"heic", b"avif"], Format::Heic),
        (&[b"msf1", b"hevc"], Format::Heic),
    ];
    for (brands, format) in cases {
        assert_eq!(judge(heif(brands, &[(40, 30)])).unwrap().format, *format, "{brands:?}");
    }
}

#[test]
fn a_heic_that_names_no_primary_image_is_as_large_as_the_largest() {
    let media = judge(heif(&[b"heic"], &[(512, 512), (4032, 3024), (320, 240)])).unwrap();
    assert_eq!((media.width, media.height), (4032, 3024));
}

#[test]
fn a_header_that_is_cut_off_is_undecodable() {
    let headers = [
        (Format::Jpeg, 3..600),
        (Format::Png, 8..40),
        (Format::Gif, 6..20),
        (Format::WebP, 12..24),
        (Format::Bmp, 18..54),
        (Format::Tiff, 4..10),
        (Format::Ico, 4..60),
        (Format::Avif, 16..100),
        (Format::Heic, 12..100),
    ];
    for (format, bytes) in samples() {
        let lengths = headers.iter().find(|(of, _)| *of == format).unwrap().1.clone();
        for length in lengths {
            let refusal = judge(&bytes[..length]).unwrap_err();
            assert!(matches!(refusal, MediaError::Undecodable { .. }), "{format} of {length} bytes: {refusal:?}");
        }
    }
}

#[test]
fn an_image_without_extent_is_undecodable() {
    for bytes in [bmp(0, 7), bmp(-3, 7), heif(&[b"heic"], &[(0, 0)]), heif(&[b"avif"], &[])] {
        assert!(matches!(judge(bytes), Err(MediaError::Undecodable { .. })));
    }
}

#[test]
fn an_image_of_more_pixels_than_allowed_is_refused_without_decoding_it() {
    let mut png = Vec::new();
    png::Encoder::new(&mut png, 20_000, 20_000).write_header().unwrap();
    for bytes in [png, bmp(20_000, -20_000), heif(&[b"heic"], &[(20_000, 20_000)])] {
        let refusal = judge(bytes).unwrap_err();
        assert!(
            matches!(refusal, MediaError::TooManyPixels { pixels: 400_000_000, limit: 100_000_000 }),
            "{refusal:?}"
        );
    }
    let limits = Limits { max_pixels: 1_200, ..Limits::default() };
    for (_, bytes) in samples() {
        inspect(&Body::from(bytes.clone()), &limits).unwrap();
        assert!(inspect(&Body::from(bytes), &Limits { max_pixels: 1_199, ..limits }).is_err());
    }
}

#[test]
fn a_large_picture_cannot_hide_in_a_small_icon_or_screen() {
    let mut gif = animated_gif(1);
    let frame = gif.iter().rposition(|byte| *byte == b',').unwrap();
    gif[frame + 5..frame + 9].fill(0xff);
    assert!(matches!(judge(gif), Err(MediaError::TooManyPixels { pixels: 4_294_836_225, .. })));

    let mut ico = encode(image::ImageFormat::Ico, 16, 16);
    let header = ico.windows(4).position(|name| name == b"IHDR").unwrap();
    ico[header + 4..header + 12].copy_from_slice(&[0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x20]);
    assert!(matches!(judge(ico), Err(MediaError::TooManyPixels { pixels: 400_000_000, .. })));
}

#[test]
fn an_animation_of_more_frames_than_allowed_is_refused() {
    let make: [(_, &dyn Fn(u32) -> Vec<u8>); 3] =
        [("gif", &animated_gif), ("png", &animated_png), ("webp", &|frames| animated_webp(frames as usize))];
    for (name, make) in make {
        judge(make(1_000)).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        let refusal = judge(make(1_001)).unwrap_err();
        assert!(matches!(refusal, MediaError::TooManyFrames { frames: 1_001, limit: 1_000 }), "{name}: {refusal:?}");
    }
}

#[test]
fn a_png_that_declares_more_frames_than_it_has_is_not_refused() {
    let mut png = animated_png(3);
    let declared = png.windows(4).position(|name| name == b"acTL").unwrap() + 4;
    png[declared..declared + 4].fill(0xff);
    assert!(!judge(&png[..]).unwrap().is_truncated);
    judge(&png[..png.len() - 20]).unwrap();
}

#[test]
fn an_animation_that_breaks_off_counts_as_far_as_it_goes() {
    let whole = animated_gif(10);
    assert!(judge(&whole[..whole.len() - 20]).is_ok());
    assert!(matches!(judge(animated_gif(0)), Err(MediaError::Undecodable { .. })));
}

#[test]
fn a_webp_is_accepted_without_the_exif_that_it_promises() {
    let picture = riff_chunk(b"VP8 ", &[0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x42, 0xe0, 1]);
    let media = judge(extended_webp(0x08, &picture)).unwrap();
    assert_eq!((media.width, media.height), (640, 480));
    let media = judge(riff_chunk(b"RIFF", &[b"WEBP", &picture[..]].concat())).unwrap();
    assert_eq!((media.width, media.height), (640, 480), "the upper bits are not part of the width");
    assert!(matches!(judge(extended_webp(0, b"")), Err(MediaError::Undecodable { .. })));
}

#[test]
fn a_jpeg_is_measured_behind_fill_bytes_and_thumbnails() {
    let plain = encode(image::ImageFormat::Jpeg, 40, 30);
    let thumbnail = encode(image::ImageFormat::Jpeg, 8, 8);
    let segment = [&[0xff, 0xe1][..], &(thumbnail.len() as u16 + 8).to_be_bytes(), b"Exif\0\0", &thumbnail].concat();
    for inserted in [vec![0xff; 7], segment, vec![0, 0, 0xff, 0x01]] {
        // After the first segment, which is 18 bytes long.
        let media = judge([&plain[..20], &inserted, &plain[20..]].concat()).unwrap();
        assert_eq!((media.width, media.height), (40, 30));
    }
}

#[test]
fn a_gif_without_a_table_of_colours_is_an_image() {
    let frame = b"\x2c\0\0\0\0\x03\0\x02\0\0\x02\x02\x84\x51\0\x3b";
    let gif = [&b"GIF89a\x03\0\x02\0\0\0\0"[..], frame].concat();
    assert_eq!(judge(gif).unwrap(), upright(Format::Gif, 3, 2));
}

#[test]
fn a_first_frame_beyond_the_screen_of_a_gif_makes_it_larger() {
    let gif = |screen: [u8; 4], frame: [u8; 8]| {
        [&b"GIF89a"[..], &screen, &[0, 0, 0, b','], &frame, &[0, 2, 2, 0x84, 0x51, 0, b';']].concat()
    };
    for (screen, frame, expected) in [
        ([0; 4], [0, 0, 0, 0, 4, 0, 3, 0], (4, 3)),
        ([2, 0, 2, 0], [0, 0, 0, 0, 4, 0, 3, 0], (4, 3)),
        ([4, 0, 3, 0], [3, 0, 3, 0, 4, 0, 3, 0], (7, 6)),
        ([20, 0, 10, 0], [3, 0, 3, 0, 4, 0, 3, 0], (20, 10)),
    ] {
        assert_eq!(judge(gif(screen, frame)).unwrap(), upright(Format::Gif, expected.0, expected.1));
    }
    assert!(matches!(judge(gif([0; 4], [0; 8])), Err(MediaError::Undecodable { .. })));
}

#[test]
fn a_cursor_is_an_icon_with_a_hot_spot() {
    let mut cursor = encode(image::ImageFormat::Ico, 16, 24);
    cursor[2] = 2;
    cursor[10..14].copy_from_slice(&[9, 0, 7, 0]);
    assert_eq!(judge(cursor).unwrap(), upright(Format::Ico, 16, 24));
}

#[test]
fn old_and_upside_down_bitmaps_are_measured() {
    let media = judge(bmp(640, -480)).unwrap();
    assert_eq!((media.width, media.height), (640, 480));
    let core_header = [&b"BM\x1a\0\0\0\0\0\0\0\x1a\0\0\0\x0c\0\0\0"[..], &[0x80, 2, 0xe0, 1, 1, 0, 24, 0], &[0; 30]];
    let media = judge(core_header.concat()).unwrap();
    assert_eq!((media.width, media.height), (640, 480));
    // OS/2's second header may omit trailing zeros.
    for length in [16, 20, 36, 42, 46, 48, 60, 64] {
        let header = [&[length, 0, 0, 0][..], &640_i32.to_le_bytes(), &480_i32.to_le_bytes(), &[1, 0, 24, 0]].concat();
        let bitmap = [&b"BM\x1a\0\0\0\0\0\0\0\x5a\0\0\0"[..], &header, &[0; 100]].concat();
        assert_eq!(judge(bitmap).unwrap().width, 640, "a header of {length} bytes");
    }
    let unknown = [&b"BM\x1a\0\0\0\0\0\0\0\x5a\0\0\0\x18\x01\0\0"[..], &[0; 100]].concat();
    assert!(matches!(judge(unknown), Err(MediaError::NotAnImage)));
}

#[test]
fn an_icon_is_one_only_if_its_directory_fits_the_file() {
    let ico = encode(image::ImageFormat::Ico, 16, 16);
    let changed = |offset: usize, bytes: &[u8]| {
        let mut ico = ico.clone();
        ico[offset..offset + bytes.len()].copy_from_slice(bytes);
        judge(ico)
    };
    assert!(changed(9, &[255]).is_ok(), "a byte that one well-known encoder sets");
    let not_icons: [(usize, &[u8]); 6] =
        [(2, &[3]), (4, &[0, 0]), (10, &[9]), (14, &[1, 0, 0, 0]), (18, &[3, 0, 0, 0]), (22, &[0])];
    for (offset, bytes) in not_icons {
        assert!(matches!(changed(offset, bytes), Err(MediaError::NotAnImage)), "at {offset}");
    }
    assert!(matches!(changed(14, &[0xff; 4]), Err(MediaError::Undecodable { .. })));

    let bitmap = [&[40, 0, 0, 0, 32, 0, 0, 0, 64, 0, 0, 0, 1, 0, 32, 0][..], &[0; 100]].concat();
    let directory = [&[0, 0, 1, 0, 1, 0, 32, 32, 0, 0, 1, 0, 32, 0, bitmap.len() as u8, 0, 0, 0, 22, 0, 0, 0][..]];
    let media = judge([&directory.concat()[..], &bitmap].concat()).unwrap();
    assert_eq!((media.format, media.width, media.height), (Format::Ico, 32, 32));
}

#[tokio::test]
async fn a_large_jpeg_in_a_file_is_measured_behind_its_profiles() {
    let plain = encode(image::ImageFormat::Jpeg, 40, 30);
    let segment = [&[0xff, 0xe2, 0xff, 0xff][..], &[0xd9; 65_533]].concat();
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::new(folder.path());
    for part in [&plain[..2], &segment.repeat(20), &plain[2..]] {
        spool.write(part).await.unwrap();
    }
    let body = spool.finish().await.unwrap();
    assert!(body.in_memory().is_none());
    let media = inspect(&body, &Limits::default()).unwrap();
    assert_eq!((media.format, media.width, media.height), (Format::Jpeg, 40, 30));
}

#[test]
fn every_refusal_is_one_sentence_for_the_sender() {
    for bytes in [vec![], vec![0xff, 0xd8, 0xff], bmp(20_000, 20_000), animated_gif(1_001)] {
        let sentence = judge(bytes).unwrap_err().to_string();
        assert!(sentence.ends_with('.') && sentence.matches('.').count() == 1, "{sentence}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(start in 0..9usize, mut bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        // Half of them begin like an image; otherwise only the first comparison would be tested.
        if bytes.first().is_some_and(|byte| byte % 2 == 0) {
            bytes.splice(0..0, samples()[start].1[..12].iter().copied());
        }
        let _ = judge(bytes);
    }

    #[test]
    fn no_damage_to_an_image_makes_it_panic(
        (sample, cut) in (0..12usize, any::<proptest::sample::Index>()),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let animations = [animated_gif(5), animated_png(5), animated_webp(5)];
        let mut bytes = samples().into_iter().map(|(_, bytes)| bytes).chain(animations).nth(sample).unwrap();
        for (place, byte) in damage {
            // Headers lie at the start; most of the damage should too.
            let place = place.index(bytes.len().min(if byte % 4 == 0 { usize::MAX } else { 120 }));
            bytes[place] = byte;
        }
        if cut.index(4) == 0 {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = judge(bytes);
    }
}
