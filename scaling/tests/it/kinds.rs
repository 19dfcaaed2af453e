//! Which picture of an image is shown, how it is turned, and in which colours: as browsers do.

use image::{GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use shared::thumbnails::Unscalable;

use super::{corners, decoded, encoded, exif, form, jpeg, scale, seen, with_segment};

#[test]
fn first_of_two_exif_segments_counts() {
    let plain = jpeg(&corners(640, 320));
    for (first, second, expected) in [(6, 1, "brwg"), (1, 6, "rgbw")] {
        let both = with_segment(&with_segment(&plain, 0xe1, &exif(second)), 0xe1, &exif(first));
        assert_eq!(seen(&decoded(&both, 160).into_rgb8()), expected, "{first}, {second}");
    }
}

#[test]
fn webp_is_not_turned_since_browsers_do_not_turn_it() {
    let simple = encoded(corners(640, 320), ImageFormat::WebP);
    let turned = [exif(6)[6..].to_vec(), vec![0; exif(6).len() % 2]].concat();
    let extended = [8, 0, 0, 0, 0x7f, 2, 0, 0x3f, 1, 0];
    let chunks = [
        &b"WEBPVP8X\x0a\0\0\0"[..],
        &extended,
        &simple[12..],
        b"EXIF",
        &(exif(6).len() as u32 - 6).to_le_bytes(),
        &turned,
    ]
    .concat();
    let whole = [&b"RIFF"[..], &(chunks.len() as u32).to_le_bytes(), &chunks].concat();
    let small = decoded(&whole, 160).into_rgb8();
    assert_eq!((seen(&small).as_str(), small.dimensions()), ("rgbw", (160, 80)));
}

#[test]
fn animated_png_shows_its_first_frame_and_not_a_hidden_picture() {
    for hides in [true, false] {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 64, 32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_animated(2, 0).unwrap();
        encoder.set_sep_def_img(hides).unwrap();
        let mut writer = encoder.write_header().unwrap();
        let frames = if hides { &[[255, 0, 0], [0, 255, 0], [0, 0, 255]][..] } else { &[[0, 255, 0], [0, 0, 255]] };
        for color in frames {
            writer.write_image_data(&color.repeat(64 * 32)).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(decoded(&bytes, 160).into_rgb8().get_pixel(30, 15).0, [0, 255, 0], "{hides}");
    }
}

#[test]
fn jpegs_that_no_decoder_here_reads_are_not_called_damaged() {
    let plain = jpeg(&corners(64, 32));
    let frame = plain.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    for (name, marker, precision) in
        [("arithmetic", 0xc9, 8), ("arithmetic, progressive", 0xca, 8), ("lossless", 0xc3, 8), ("12 bits", 0xc1, 12)]
    {
        let mut other = plain.clone();
        (other[frame + 1], other[frame + 4]) = (marker, precision);
        let refused = scale(&other, form(160));
        assert!(matches!(refused, Err(Unscalable::Kind)), "{name}: {refused:?}");
    }
}

/// A chunk of a PNG, behind the header of one.
fn with_chunk(png: &[u8], name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let checked = [&name[..], content].concat();
    let (length, sum) = ((content.len() as u32).to_be_bytes(), crc32fast::hash(&checked).to_be_bytes());
    [&png[..33], &length, &checked, &sum, &png[33..]].concat()
}

#[test]
fn greys_with_a_profile_are_as_light_as_it_says() {
    let profile = moxcms::ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
    let gray = GrayImage::from_pixel(64, 32, Luma([100]));
    let segment = [&b"ICC_PROFILE\0\x01\x01"[..], &profile].concat();
    let photo = with_segment(&encoded(gray.clone(), ImageFormat::Jpeg), 0xe2, &segment);
    let linear = with_chunk(&encoded(gray, ImageFormat::Png), b"gAMA", &100_000_u32.to_be_bytes());
    for (name, image) in [("profile", photo), ("gAMA", linear)] {
        // As many in sRGB as 100 of 255 are where numbers are light.
        let found = decoded(&image, 160).into_rgb8().get_pixel(30, 15).0;
        assert!(found.iter().all(|channel| channel.abs_diff(168) < 4), "{name}: {found:?}");
    }
}

#[test]
fn colours_that_a_png_describes_are_converted() {
    let plain = encoded(RgbImage::from_pixel(64, 32, Rgb([200, 100, 100])), ImageFormat::Png);
    let red = |image: &[u8]| decoded(image, 160).into_rgb8().get_pixel(30, 15).0[0];
    let chromaticities = |values: [u32; 8]| values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<u8>>();
    // White, red, green and blue of Display P3, and of sRGB.
    let p3 = chromaticities([31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000]);
    let srgb = chromaticities([31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000]);
    let described =
        |primaries: &[u8]| with_chunk(&with_chunk(&plain, b"cHRM", primaries), b"gAMA", &45_455_u32.to_be_bytes());
    assert!(red(&described(&p3)) > 205, "the same numbers are a stronger red in a wider space");
    assert!(red(&described(&srgb)).abs_diff(200) < 3, "sRGB stays what it is");
    assert!(red(&with_chunk(&plain, b"cICP", &[12, 13, 0, 1])) > 205);
    assert!(red(&with_chunk(&plain, b"cICP", &[1, 13, 0, 1])).abs_diff(200) < 3);
    assert!(red(&with_chunk(&described(&p3), b"sRGB", &[0])).abs_diff(200) < 3, "sRGB comes before cHRM");
}
