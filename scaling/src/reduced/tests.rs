//! Reduced pictures beside whole ones, and damaged ones.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use bytes::Bytes;
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use shared::media::{BodyReader, Format};
use shared::store::Body;

use super::*;
use crate::decode;

/// A picture with soft shapes, edges and a little grain.
fn picture(width: u16, height: u16, channels: usize) -> Vec<u8> {
    let mut grain = 1_u32;
    let mut bytes = Vec::new();
    for y in 0..height {
        for x in 0..width {
            grain = grain.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let wave = ((f32::from(x) / 31.0).sin() + (f32::from(y) / 23.0).cos()) * 50.0;
            let edge = if (x / 64 + y / 48) % 2 == 0 { 30.0 } else { 0.0 };
            for channel in 0..channels {
                bytes.push((100.0 + wave * (1.0 - channel as f32 * 0.6) + edge + (grain >> 29) as f32) as u8);
            }
        }
    }
    bytes
}

fn encoded(width: u16, height: u16, color: ColorType, set: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, 90);
    set(&mut encoder);
    let channels = if color == ColorType::Luma { 1 } else { 3 };
    encoder.encode(&picture(width, height, channels), width, height, color).unwrap();
    jpeg
}

/// The picture decoded whole and then shrunk.
fn whole(jpeg: &[u8], target: (u32, u32)) -> Pixels {
    let (source, body) = (Bytes::copy_from_slice(jpeg), Body::from(jpeg.to_vec()));
    let look = decode::look(&|| BodyReader::new(&body), Format::Jpeg).unwrap();
    resize::resize(decode::pixels(&source, Format::Jpeg, &look, u64::MAX).unwrap(), target.0, target.1).unwrap()
}

/// The peak signal-to-noise ratio in dB.
fn similarity(one: &Pixels, other: &Pixels) -> f64 {
    let squares = one.bytes.iter().zip(&other.bytes).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
    10.0 * (255.0 * 255.0 * one.bytes.len() as f64 / squares.sum::<f64>()).log10()
}

#[test]
fn reduced_picture_is_like_the_whole_one_shrunk() {
    let samplings = [SamplingFactor::F_1_1, SamplingFactor::F_2_1, SamplingFactor::F_1_2, SamplingFactor::F_2_2];
    for (width, height) in [(800, 640), (803, 641), (817, 655)] {
        for (target, sampling) in
            [(160, 128), (80, 64), (40, 32)].into_iter().flat_map(|target| samplings.map(|sampling| (target, sampling)))
        {
            let jpeg = encoded(width, height, ColorType::Rgb, |encoder| encoder.set_sampling_factor(sampling));
            let reduced = pixels(&jpeg, (width.into(), height.into()), target).unwrap();
            let similarity = similarity(&reduced, &whole(&jpeg, target));
            assert!(similarity > 40.0, "{similarity:.1} dB for {sampling:?} of {width} × {height} to {target:?}");
        }
    }
}

#[test]
fn shades_of_gray_restarts_and_own_tables_are_decoded() {
    for (color, interval, optimized) in [
        (ColorType::Luma, 0, false),
        (ColorType::Luma, 3, false),
        (ColorType::Rgb, 1, false),
        (ColorType::Rgb, 7, false),
        // Without restarts, for which this encoder's own tables lack codes; and with colors it would make several scans.
        (ColorType::Luma, 0, true),
    ] {
        let jpeg = encoded(810, 650, color, |encoder| {
            encoder.set_optimized_huffman_tables(optimized);
            if interval > 0 {
                encoder.set_restart_interval(interval);
            }
        });
        let reduced = pixels(&jpeg, (810, 650), (160, 128)).unwrap();
        let similarity = similarity(&reduced, &whole(&jpeg, (160, 128)));
        assert!(similarity > 40.0, "{similarity:.1} dB for {color:?}, {interval}, {optimized}");
    }
}

#[test]
fn unusual_and_small_pictures_are_left_to_the_other_decoder() {
    let usual = encoded(810, 650, ColorType::Rgb, |_| {});
    assert!(pixels(&usual, (810, 650), (160, 128)).is_some());
    assert!(pixels(&usual, (810, 650), (320, 257)).is_none(), "not worth reducing");
    assert!(pixels(&usual, (811, 650), (160, 128)).is_none(), "another size than in the header");
    let progressive = encoded(810, 650, ColorType::Rgb, |encoder| encoder.set_progressive(true));
    assert!(pixels(&progressive, (810, 650), (160, 128)).is_none());
}

#[test]
fn truncated_or_damaged_pictures_are_refused_or_decoded_and_never_panic() {
    let jpeg = encoded(320, 256, ColorType::Rgb, |encoder| encoder.set_restart_interval(5));
    let decode = |jpeg: &[u8]| pixels(jpeg, (320, 256), (80, 64));
    assert!(decode(&jpeg).is_some());
    for length in 0..jpeg.len() - 2 {
        assert!(decode(&jpeg[..length]).is_none(), "{length} of {} bytes", jpeg.len());
    }
    let mut random = 1_u32;
    for _ in 0..2_000 {
        let mut damaged = jpeg.clone();
        for _ in 0..3 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = random as usize % damaged.len();
            damaged[at] = (random >> 24) as u8;
        }
        decode(&damaged);
    }
}
