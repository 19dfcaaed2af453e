//! Color spaces: everything is converted to sRGB, the default for a picture without a color space.

use moxcms::{
    Chromaticity, CicpColorPrimaries, CicpProfile, ColorPrimaries, ColorProfile, DataColorSpace, Layout,
    MatrixCoefficients, TransferCharacteristics, TransformOptions, curve_from_gamma,
};

use crate::resize::Pixels;

/// The color space of a decoded picture, if it is not sRGB.
#[derive(Debug)]
pub(crate) enum Space {
    /// An ICC profile.
    Icc(Vec<u8>),
    /// Shades of gray with an ICC profile.
    Gray(Vec<u8>),
    /// By code points of ITU-T H.273.
    Coded(CicpColorPrimaries, TransferCharacteristics),
    /// gAMA and cHRM of a PNG.
    Gamma(Gamma),
}

/// The contents of gAMA and cHRM.
#[derive(Debug)]
pub(crate) struct Gamma {
    exponent: f32,
    /// x and y of white, red, green and blue.
    chromaticities: Option<[f32; 8]>,
}

impl Gamma {
    /// `None` if the difference is invisible, since many programs write them for sRGB, or if the values are invalid.
    pub(crate) fn new(encoding: f32, chromaticities: Option<[f32; 8]>) -> Option<Self> {
        const SRGB: [f32; 8] = [0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06];
        if !(0.05..=5.0).contains(&encoding) {
            return None;
        }
        let sane = chromaticities
            .filter(|all| all.chunks(2).all(|xy| (0.0..1.0).contains(&xy[0]) && (0.001..=1.0).contains(&xy[1])));
        let other = sane.filter(|all| all.iter().zip(SRGB).any(|(is, srgb)| (is - srgb).abs() > 0.005));
        let is_usual = (encoding * 2.2 - 1.0).abs() < 0.05;
        (!is_usual || other.is_some()).then_some(Self { exponent: 1.0 / encoding, chromaticities: other })
    }
}

impl Space {
    /// The space with these code points; `None` if they mean sRGB, or high dynamic range, which cannot be converted
    /// without a decision about the brightness of the client's screen.
    pub(crate) fn coded(primaries: u8, transfer: u8) -> Option<Self> {
        let (primaries, transfer) = (primaries.try_into().ok()?, transfer.try_into().ok()?);
        let is_hdr = matches!(transfer, TransferCharacteristics::Smpte2084 | TransferCharacteristics::Hlg);
        let is_srgb = primaries == CicpColorPrimaries::Bt709 && transfer == TransferCharacteristics::Srgb;
        (!is_hdr && !is_srgb).then_some(Self::Coded(primaries, transfer))
    }

    /// The color profile; `None` if it cannot be used or is for another color model than the picture's.
    fn profile(&self) -> Option<ColorProfile> {
        let of =
            |icc: &[u8], space| ColorProfile::new_from_slice(icc).ok().filter(|profile| profile.color_space == space);
        match self {
            Self::Icc(icc) => of(icc, DataColorSpace::Rgb),
            Self::Gray(icc) => of(icc, DataColorSpace::Gray).or_else(|| of(icc, DataColorSpace::Rgb)),
            Self::Coded(color_primaries, transfer_characteristics) => {
                let mut profile = ColorProfile::new_srgb();
                profile.red_trc = None;
                // The return value is always false; a curve is set last, where all of it is known.
                profile.update_rgb_colorimetry_from_cicp(CicpProfile {
                    color_primaries: *color_primaries,
                    transfer_characteristics: *transfer_characteristics,
                    matrix_coefficients: MatrixCoefficients::Identity,
                    full_range: true,
                });
                profile.red_trc.is_some().then_some(profile)
            }
            Self::Gamma(Gamma { exponent, chromaticities }) => {
                let mut profile = ColorProfile::new_srgb();
                profile.cicp = None;
                if let Some([wx, wy, rx, ry, gx, gy, bx, by]) = *chromaticities {
                    let [red, green, blue] = [(rx, ry), (gx, gy), (bx, by)].map(|(x, y)| Chromaticity::new(x, y));
                    profile.update_rgb_colorimetry(
                        Chromaticity::new(wx, wy).to_xyyb(),
                        ColorPrimaries { red, green, blue },
                    );
                }
                let curve = Some(curve_from_gamma(*exponent));
                (profile.red_trc, profile.green_trc, profile.blue_trc) = (curve.clone(), curve.clone(), curve);
                Some(profile)
            }
        }
    }
}

/// Converts colors to sRGB.
pub(crate) fn to_srgb(mut pixels: Pixels, space: Option<&Space>) -> Pixels {
    let converted = space.and_then(Space::profile).and_then(|profile| {
        let (srgb, options) = (ColorProfile::new_srgb(), TransformOptions::default());
        if profile.color_space == DataColorSpace::Gray {
            let shades: Vec<u8> = (0..=u8::MAX).collect();
            let mut table = vec![0; 3 * shades.len()];
            let transform = profile.create_transform_8bit(Layout::Gray, &srgb, Layout::Rgb, options).ok()?;
            transform.transform(&shades, &mut table).ok()?;
            let mut converted = pixels.bytes.clone();
            for pixel in converted.chunks_exact_mut(if pixels.alpha { 4 } else { 3 }) {
                let shade = 3 * usize::from(pixel[0]);
                pixel[..3].copy_from_slice(&table[shade..shade + 3]);
            }
            return Some(converted);
        }
        let layout = if pixels.alpha { Layout::Rgba } else { Layout::Rgb };
        let transform = profile.create_transform_8bit(layout, &srgb, layout, options).ok()?;
        let mut converted = vec![0; pixels.bytes.len()];
        transform.transform(&pixels.bytes, &mut converted).ok()?;
        Some(converted)
    });
    if let Some(converted) = converted {
        pixels.bytes = converted;
    }
    pixels
}

/// Converts ink amounts, 0 being none, to light with the usual formula, which ignores the paper. Ink profiles are not
/// used.
pub(crate) fn cmyk([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    let light = |ink: u8| ((255 - u32::from(ink)) * (255 - u32::from(black)) + 127) / 255;
    [cyan, magenta, yellow].map(|ink| light(ink) as u8)
}

/// Converts luma and two chroma values, as in JPEG.
pub(crate) fn ycbcr([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb]
        .map(|light| light.round().clamp(0.0, 255.0) as u8)
}

/// CIE L*a*b* under the light D50, `lightness` of 0 to 255, as sRGB.
pub(crate) fn lab(lightness: u8, a: i8, b: i8) -> [u8; 3] {
    let fy = (f32::from(lightness) / 2.55 + 16.0) / 116.0;
    let (fx, fz) = (fy + f32::from(a) / 500.0, fy - f32::from(b) / 200.0);
    let part = |f: f32| if f > 6.0 / 29.0 { f.powi(3) } else { (f - 4.0 / 29.0) * 108.0 / 841.0 };
    let (x, y, z) = (0.964_22 * part(fx), part(fy), 0.825_21 * part(fz));
    // From D50 to sRGB's white D65 and its primaries, by Bradford's method.
    let linear = [
        3.133_856 * x - 1.616_867 * y - 0.490_615 * z,
        -0.978_768 * x + 1.916_142 * y + 0.033_454 * z,
        0.071_945 * x - 0.228_991 * y + 1.405_243 * z,
    ];
    linear.map(|light| {
        let light = light.clamp(0.0, 1.0);
        let encoded = if light <= 0.003_130_8 { 12.92 * light } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 };
        (encoded * 255.0).round() as u8
    })
}
