//! Photographs of 12 megapixels that are made up.

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use crate::Result;

pub const WIDTH: u16 = 4000;
pub const HEIGHT: u16 = 3000;

/// As cameras of telephones encode them.
const QUALITY: u8 = 91;
/// Each has half the size of the one before in pixels, and a part of its strength.
const OCTAVES: [(u32, f32); 7] = [(1024, 70.0), (512, 40.0), (256, 24.0), (128, 14.0), (32, 9.0), (8, 6.0), (2, 5.0)];

/// A JPEG with noise in several octaves, as a landscape has it, and a little grain. Each seed gives another one.
pub fn photograph(seed: u32) -> Result<Vec<u8>> {
    let (width, height) = (usize::from(WIDTH), usize::from(HEIGHT));
    let mut pixels = vec![0; width * height * 3];
    let (mut light, mut warmth, mut grain) = (vec![0.0; width], vec![0.0; width], seed | 1);
    for (y, row) in pixels.chunks_exact_mut(width * 3).enumerate() {
        light.fill(128.0);
        for (octave, (size, strength)) in OCTAVES.into_iter().enumerate() {
            add_noise(&mut light, y as u32, size, strength, seed.wrapping_add(octave as u32 * 97));
        }
        warmth.fill(0.0);
        add_noise(&mut warmth, y as u32, 700, 40.0, seed ^ 0x5555);
        add_noise(&mut warmth, y as u32, 40, 8.0, seed ^ 0xaaaa);
        for (pixel, (light, warmth)) in row.chunks_exact_mut(3).zip(light.iter().zip(&warmth)) {
            grain = grain.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let light = light + (grain >> 28) as f32;
            for (value, part) in pixel.iter_mut().zip([1.0, 0.2, -0.9]) {
                *value = (light + warmth * part) as u8;
            }
        }
    }
    let mut encoded = Vec::new();
    let mut encoder = Encoder::new(&mut encoded, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.encode(&pixels, WIDTH, HEIGHT, ColorType::Rgb)?;
    Ok(encoded)
}

/// Adds smooth noise to a row: random values on a grid of squares of `size` pixels, and between them what a cubic curve
/// gives.
fn add_noise(row: &mut [f32], y: u32, size: u32, strength: f32, seed: u32) {
    let down = smooth((y % size) as f32 / size as f32);
    let value = |column: u32| {
        let [above, below] = [y / size, y / size + 1].map(|line| random(column, line, seed));
        (above + (below - above) * down) * strength
    };
    let mut left = value(0);
    for (column, pixels) in row.chunks_mut(size as usize).enumerate() {
        let right = value(column as u32 + 1);
        for (x, pixel) in pixels.iter_mut().enumerate() {
            *pixel += left + (right - left) * smooth(x as f32 / size as f32);
        }
        left = right;
    }
}

fn smooth(part: f32) -> f32 {
    part * part * (3.0 - 2.0 * part)
}

/// From -1 to 1, always the same for a point of the grid.
fn random(column: u32, line: u32, seed: u32) -> f32 {
    let mut value = column.wrapping_mul(0x9e37_79b1) ^ line.wrapping_mul(0x85eb_ca77) ^ seed.wrapping_mul(0xc2b2_ae3d);
    value ^= value >> 15;
    value = value.wrapping_mul(0x2c1b_3c6d);
    value ^= value >> 12;
    value = value.wrapping_mul(0x297a_2d39);
    value ^= value >> 15;
    value as f32 / (u32::MAX / 2) as f32 - 1.0
}
