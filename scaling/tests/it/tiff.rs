//! TIFFs of every usual kind: each becomes what other programs show, or is refused with the true reason.

use std::io::Write;

use image::Rgb;
use shared::thumbnails::Unscalable;

use super::{corners, decoded, form, scale, seen};

/// Entries of a directory: tag, type (1: bytes, 3: 16 bits, 4: 32 bits) and values.
type Entry = (u16, u16, Vec<u32>);

const SIZE: (u32, u32) = (32, 16);

/// A little-endian TIFF of one strip.
fn tiff(photometric: u16, bits: &[u16], data: &[u8], more: &[Entry]) -> Vec<u8> {
    let mut entries: Vec<Entry> = vec![
        (256, 4, vec![SIZE.0]),
        (257, 4, vec![SIZE.1]),
        (258, 3, bits.iter().map(|bits| u32::from(*bits)).collect()),
        (259, 3, vec![1]),
        (262, 3, vec![photometric.into()]),
        (277, 3, vec![bits.len() as u32]),
        (278, 4, vec![SIZE.1]),
        (273, 4, vec![8]),
        (279, 4, vec![data.len() as u32]),
    ];
    for entry in more {
        entries.retain(|(tag, ..)| *tag != entry.0);
        entries.push(entry.clone());
    }
    entries.sort();
    let directory = 8 + data.len().next_multiple_of(2);
    let (mut fixed, mut beyond) = (Vec::new(), Vec::new());
    let values_at = directory + 2 + entries.len() * 12 + 4;
    for (tag, kind, values) in &entries {
        let mut bytes: Vec<u8> = match kind {
            1 => values.iter().map(|value| *value as u8).collect(),
            3 => values.iter().flat_map(|value| (*value as u16).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        fixed.extend([&tag.to_le_bytes()[..], &kind.to_le_bytes(), &(values.len() as u32).to_le_bytes()].concat());
        if bytes.len() > 4 {
            fixed.extend(((values_at + beyond.len()) as u32).to_le_bytes());
            beyond.extend(bytes);
        } else {
            bytes.resize(4, 0);
            fixed.extend(bytes);
        }
    }
    let mut file = [&b"II*\0"[..], &(directory as u32).to_le_bytes(), data].concat();
    file.resize(directory, 0);
    [file, (entries.len() as u16).to_le_bytes().to_vec(), fixed, vec![0; 4], beyond].concat()
}

/// Samples of each pixel of a picture with red, green, blue and white in its corners.
fn samples(of: impl Fn([u8; 3]) -> Vec<u8>) -> Vec<u8> {
    corners(SIZE.0, SIZE.1).pixels().flat_map(|pixel| of(pixel.0)).collect()
}

fn assert_corners(name: &str, tiff: &[u8]) {
    match scale(tiff, form(160)) {
        Ok(_) => {
            let small = decoded(tiff, 160).into_rgb8();
            assert_eq!((seen(&small).as_str(), small.dimensions()), ("rgbw", SIZE), "{name}");
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

fn inks([red, green, blue]: [u8; 3]) -> [u8; 4] {
    [255 - red, 255 - green, 255 - blue, 0]
}

#[test]
fn tiffs_of_every_sample_kind_show_the_right_colours() {
    let wide = |value: u8| u16::from(value) * 257;
    let cases: [(&str, Vec<u8>); 9] = [
        ("8 bits", tiff(2, &[8; 3], &samples(|rgb| rgb.to_vec()), &[])),
        ("16 bits", tiff(2, &[16; 3], &samples(|rgb| rgb.iter().flat_map(|v| wide(*v).to_le_bytes()).collect()), &[])),
        (
            "16 bits in the other bit order",
            tiff(
                2,
                &[16; 3],
                // 0xfeff where there is light, so that the order of bits shows.
                &samples(|rgb| {
                    rgb.iter().flat_map(|v| (wide(*v) & 0xfe7f).to_le_bytes().map(u8::reverse_bits)).collect()
                }),
                &[(266, 3, vec![2])],
            ),
        ),
        (
            "32 bits",
            tiff(
                2,
                &[32; 3],
                &samples(|rgb| rgb.iter().flat_map(|v| (u32::from(*v) << 24).to_le_bytes()).collect()),
                &[],
            ),
        ),
        (
            "floating point",
            tiff(
                2,
                &[32; 3],
                &samples(|rgb| rgb.iter().flat_map(|v| (f32::from(*v) / 255.0).to_le_bytes()).collect()),
                &[(339, 3, vec![3; 3])],
            ),
        ),
        ("inks", tiff(5, &[8; 4], &samples(|rgb| inks(rgb).to_vec()), &[])),
        ("inks and one more", tiff(5, &[8; 5], &samples(|rgb| [&inks(rgb)[..], &[77]].concat()), &[(338, 3, vec![0])])),
        (
            "L*a*b*",
            tiff(
                8,
                &[8; 3],
                &samples(|rgb| match rgb {
                    [255, 0, 0] => vec![138, 80, 70],
                    [0, 255, 0] => vec![224, 177, 81],
                    [0, 0, 255] => vec![75, 68, 144],
                    _ => vec![255, 0, 0],
                }),
                &[],
            ),
        ),
        (
            "planes",
            tiff(
                2,
                &[8; 3],
                &(0..3).flat_map(|channel| samples(move |rgb| vec![rgb[channel]])).collect::<Vec<u8>>(),
                &[
                    (284, 3, vec![2]),
                    (273, 4, (0..3).map(|plane| 8 + plane * SIZE.0 * SIZE.1).collect()),
                    (279, 4, vec![SIZE.0 * SIZE.1; 3]),
                ],
            ),
        ),
    ];
    for (name, tiff) in cases {
        assert_corners(name, &tiff);
    }
}

#[test]
fn tiffs_with_a_palette_show_its_colours() {
    // Red, green, blue and white, and black for what follows.
    let map = |bits: u32| -> Vec<u32> {
        let channel = |of: [u32; 4]| (0..1_usize << bits).map(move |n| of.get(n).map_or(0, |v| v * 257));
        channel([255, 0, 0, 255]).chain(channel([0, 255, 0, 255])).chain(channel([0, 0, 255, 255])).collect()
    };
    for bits in [2_u32, 4, 8] {
        let numbers = samples(|rgb| {
            vec![match rgb {
                [255, 0, 0] => 0,
                [0, 255, 0] => 1,
                [0, 0, 255] => 2,
                _ => 3,
            }]
        });
        let packed: Vec<u8> = numbers
            .chunks(8 / bits as usize)
            .map(|some| some.iter().fold(0_u16, |byte, n| byte << bits | u16::from(*n)) as u8)
            .collect();
        assert_corners(&format!("{bits} bits"), &tiff(3, &[bits as u16], &packed, &[(320, 3, map(bits))]));
    }
}

#[test]
fn greys_of_few_bits_are_spread_over_the_whole_range() {
    for bits in [1_u32, 2, 4] {
        for (photometric, first, last) in [(1, 0, 255), (0, 255, 0)] {
            // The left half has the lowest value, the right half the highest.
            let row = [vec![0; 2 * bits as usize], vec![0xff; 2 * bits as usize]].concat();
            let small = decoded(&tiff(photometric, &[bits as u16], &row.repeat(16), &[]), 160).into_rgb8();
            let found = [small.get_pixel(0, 0).0[0], small.get_pixel(31, 15).0[0]];
            assert_eq!(found, [first, last], "{bits} bits, interpretation {photometric}");
        }
    }
}

#[test]
fn inks_with_one_more_channel_and_a_predictor_are_right() {
    let rows = samples(|rgb| [&inks(rgb)[..], &[77]].concat());
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    for row in rows.chunks(5 * SIZE.0 as usize) {
        // Each sample is stored as its difference from the one to its left.
        let differences: Vec<u8> =
            (0..row.len()).map(|at| if at < 5 { row[at] } else { row[at].wrapping_sub(row[at - 5]) }).collect();
        packed.write_all(&differences).unwrap();
    }
    let more = [(338, 3, vec![0]), (259, 3, vec![8]), (317, 3, vec![2])];
    assert_corners("predicted inks", &tiff(5, &[8; 5], &packed.finish().unwrap(), &more));
}

/// A BigTIFF of one strip in which every value stands within its entry; the directory says that `next` follows it.
fn big_tiff(bits: &[u16], data: &[u8], next: impl Fn(u64) -> u64) -> Vec<u8> {
    let number = |value: u32| u64::from(value).to_le_bytes();
    let mut depths = [0; 8];
    depths.chunks_exact_mut(2).zip(bits).for_each(|(bytes, depth)| bytes.copy_from_slice(&depth.to_le_bytes()));
    let entries: [(u16, u64, [u8; 8]); 9] = [
        (256, 1, number(SIZE.0)),
        (257, 1, number(SIZE.1)),
        (258, bits.len() as u64, depths),
        (259, 1, number(1)),
        (262, 1, number(2)),
        (273, 1, number(16)),
        (277, 1, number(3)),
        (278, 1, number(SIZE.1)),
        (279, 1, number(data.len() as u32)),
    ];
    let directory = 16 + data.len() as u64;
    let mut file = [&b"II\x2b\0\x08\0\0\0"[..], &directory.to_le_bytes(), data].concat();
    file.extend((entries.len() as u64).to_le_bytes());
    for (tag, count, value) in entries {
        file.extend([&tag.to_le_bytes()[..], &3_u16.to_le_bytes(), &count.to_le_bytes(), &value].concat());
    }
    file.extend(next(directory).to_le_bytes());
    file
}

#[test]
fn what_follows_the_first_page_does_not_matter() {
    let rgb = samples(|rgb| rgb.to_vec());
    let plain = tiff(2, &[8; 3], &rgb, &[]);
    let directory = plain[4..8].try_into().unwrap();
    let at = u32::from_le_bytes(directory) as usize;
    let next = at + 2 + 12 * usize::from(u16::from_le_bytes(plain[at..at + 2].try_into().unwrap()));
    for (name, follows) in [("itself", directory), ("beyond the end", [0xff; 4]), ("the header", [2, 0, 0, 0])] {
        let mut file = plain.clone();
        file[next..next + 4].copy_from_slice(&follows);
        assert_corners(name, &file);
    }
    assert_corners("itself, in a BigTIFF", &big_tiff(&[8; 3], &rgb, |directory| directory));
}

#[test]
fn bits_of_samples_that_no_pixel_has_do_not_matter() {
    let rgb = samples(|rgb| rgb.to_vec());
    let depths = |depths: &[u32]| (258, 3, depths.to_vec());
    assert_corners("one more", &tiff(2, &[8; 3], &rgb, &[depths(&[8, 8, 8, 1])]));
    assert_corners("one more, in a BigTIFF", &big_tiff(&[8, 8, 8, 1], &rgb, |_| 0));
    // One number stands in the entry itself, two likewise, more elsewhere.
    for more in [&[8, 1][..], &[8, 8, 8, 8]] {
        let row = [vec![0; SIZE.0 as usize / 2], vec![0xff; SIZE.0 as usize / 2]].concat();
        let small = decoded(&tiff(1, &[8], &row.repeat(16), &[depths(more)]), 160).into_rgb8();
        assert_eq!([small.get_pixel(0, 0).0[0], small.get_pixel(31, 15).0[0]], [0, 255], "{more:?}");
    }
    // Samples of a pixel that differ are another matter.
    let mixed = tiff(2, &[8; 3], &rgb, &[depths(&[8, 8, 4, 8])]);
    assert!(scale(&mixed, form(160)).is_err());
}

#[test]
fn jpegs_in_a_tiff_show_the_right_colours() {
    let mut jpeg = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut jpeg, 95);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2);
    encoder.encode(corners(SIZE.0, SIZE.1).as_raw(), 32, 16, jpeg_encoder::ColorType::Rgb).unwrap();
    let more = [(259, 3, vec![7]), (530, 3, vec![2, 2])];
    assert_corners("JPEG", &tiff(6, &[8; 3], &jpeg, &more));
    // One that claims to be larger than its strip would be decoded to more than was foreseen.
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x40; 4]);
    assert!(matches!(scale(&tiff(6, &[8; 3], &jpeg, &more), form(160)), Err(Unscalable::Damaged)));
}

#[test]
fn premultiplied_colours_are_as_light_as_straight_ones() {
    let pixel =
        |rgba: [u8; 4], kind| tiff(2, &[8; 4], &rgba.repeat((SIZE.0 * SIZE.1) as usize), &[(338, 3, vec![kind])]);
    for (bytes, kind) in [([100, 50, 0, 128], 1), ([199, 100, 0, 128], 2)] {
        let [red, green, blue, alpha] = decoded(&pixel(bytes, kind), 160).into_rgba8().get_pixel(5, 5).0;
        assert!(
            red.abs_diff(199) < 3 && green.abs_diff(100) < 3 && blue == 0 && alpha == 128,
            "{red} {green} {blue} {alpha}"
        );
    }
}

#[test]
fn tiffs_that_no_decoder_here_reads_are_not_called_damaged() {
    let gray = vec![0x55; (SIZE.0 * SIZE.1) as usize];
    for (name, tiff) in [
        ("CCITT Group 3", tiff(0, &[1], &gray, &[(259, 3, vec![3])])),
        ("old JPEG", tiff(6, &[8; 3], &gray, &[(259, 3, vec![6])])),
        ("signed", tiff(1, &[8], &gray, &[(339, 3, vec![2])])),
        ("12 bits", tiff(1, &[12], &gray.repeat(2), &[])),
        ("a camera's filter", tiff(32_803, &[8], &gray, &[])),
        ("packed in the other bit order", tiff(1, &[8], &gray, &[(266, 3, vec![2]), (259, 3, vec![5])])),
        ("subsampled", tiff(6, &[8; 3], &gray, &[])),
    ] {
        let refused = scale(&tiff, form(160));
        assert!(matches!(refused, Err(Unscalable::Kind)), "{name}: {refused:?}");
    }
    let cut = tiff(2, &[8; 3], &[Rgb([1, 2, 3]).0; 4].concat(), &[]);
    assert!(matches!(scale(&cut, form(160)), Err(Unscalable::Damaged)), "that one is");
}
