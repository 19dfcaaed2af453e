//! Decodes a JPEG at a half, a quarter or an eighth of its size, which is much faster than decoding it whole.
//!
//! A block of 8 × 8 pixels is a sum of cosines. Its low frequencies alone, as many as there are pixels wanted, give the
//! same block in fewer pixels. This is what libjpeg does for `scale_denom`. Brightness and colors stay separate, as they
//! are stored, until they have the size of the thumbnail.
//!
//! Only the usual kind is decoded here: sequential, Huffman, eight bits, shades of gray or YCbCr, one scan. Everything
//! else, and whatever is damaged, is left to the decoder for whole images.

mod bits;

use bits::{Bits, Table};

use crate::resize::{self, Pixels};

/// The picture of a JPEG of this size, shrunk to `target`. `None` if it is not worth reducing or not of the usual kind.
///
/// The picture is decoded in at least twice the size of the target, so that the difference from shrinking the whole
/// picture is invisible.
pub(crate) fn pixels(jpeg: &[u8], (width, height): (u32, u32), target: (u32, u32)) -> Option<Pixels> {
    let fits = |divisor: &u32| target.0 * 2 * divisor <= width && target.1 * 2 * divisor <= height;
    let divisor = [8, 4, 2].into_iter().find(fits)?;
    let (frame, scan) = Frame::read(jpeg)?;
    if (frame.width, frame.height) != (width as usize, height as usize) {
        return None;
    }
    let planes = match divisor {
        2 => frame.decode::<4>(scan)?,
        4 => frame.decode::<2>(scan)?,
        _ => frame.decode::<1>(scan)?,
    };
    let mut small = Vec::with_capacity(planes.len());
    for Plane { width, height, used, bytes } in planes {
        small.push(resize::plane(bytes, (width, height), used, target)?);
    }
    let bytes = match &small[..] {
        [gray] => gray.iter().flat_map(|level| [*level; 3]).collect(),
        [y, cb, cr] => y.iter().zip(cb.iter().zip(cr)).flat_map(|(y, (cb, cr))| rgb(*y, *cb, *cr)).collect(),
        _ => return None,
    };
    Some(Pixels { width: target.0, height: target.1, alpha: false, bytes })
}

/// As JFIF defines it.
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y) + 0.5, f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    // The conversion to an integer rounds down, and takes what is out of range to its ends.
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|value| value as u8)
}

/// Brightness or a color of a picture.
struct Plane {
    width: u32,
    height: u32,
    /// The part of it that the picture takes, from the upper left: the last column and row may be in it in part.
    used: (f64, f64),
    bytes: Vec<u8>,
}

struct Frame {
    width: usize,
    height: usize,
    components: Vec<Component>,
    quantization: [Option<[u16; 64]>; 4],
    /// For the first coefficient of a block, and for the others.
    tables: [[Option<Table>; 4]; 2],
    restart_interval: usize,
    is_ycbcr: bool,
}

struct Component {
    id: u8,
    /// Blocks in a unit (MCU), across and down.
    across: usize,
    down: usize,
    quantization: usize,
    /// Numbers of its tables.
    tables: [usize; 2],
}

impl Frame {
    /// The header of a JPEG, and what follows it.
    fn read(jpeg: &[u8]) -> Option<(Self, &[u8])> {
        let mut frame = Self {
            width: 0,
            height: 0,
            components: Vec::new(),
            quantization: [None; 4],
            tables: Default::default(),
            restart_interval: 0,
            is_ycbcr: true,
        };
        let mut rest = jpeg.strip_prefix(&[0xff, 0xd8])?;
        loop {
            let fill = rest.iter().take_while(|byte| **byte == 0xff).count();
            let marker = *rest.get(fill)?;
            let (length, _) = rest.get(fill + 1..)?.split_first_chunk()?;
            let length = usize::from(u16::from_be_bytes(*length));
            let segment = rest.get(fill + 3..fill + 1 + length)?;
            rest = rest.get(fill + 1 + length..)?;
            if fill == 0 {
                return None;
            }
            match marker {
                0xc0 | 0xc1 if frame.components.is_empty() => frame.read_frame(segment)?,
                0xc4 => frame.read_tables(segment)?,
                0xdb => frame.read_quantization(segment)?,
                0xdd => frame.restart_interval = usize::from(u16::from_be_bytes(*segment.first_chunk()?)),
                0xda => {
                    frame.read_scan(segment)?;
                    return Some((frame, rest));
                }
                0xee if segment.starts_with(b"Adobe") => frame.is_ycbcr &= *segment.get(11)? == 1,
                0xe0..=0xef | 0xfe => {}
                _ => return None,
            }
        }
    }

    fn read_frame(&mut self, segment: &[u8]) -> Option<()> {
        let ([8, h1, h2, w1, w2, count], components) = segment.split_first_chunk()? else { return None };
        self.height = usize::from(u16::from_be_bytes([*h1, *h2]));
        self.width = usize::from(u16::from_be_bytes([*w1, *w2]));
        let (components, rest) = components.as_chunks();
        self.components = components
            .iter()
            .map(|[id, sampling, quantization]| Component {
                id: *id,
                across: usize::from(sampling >> 4),
                down: usize::from(sampling & 15),
                quantization: usize::from(*quantization),
                tables: [0; 2],
            })
            .collect();
        let sampled = |component: &Component| (component.across, component.down);
        match &mut self.components[..] {
            // The blocks of a single component come one by one, whatever its sampling.
            [only] => (only.across, only.down) = (1, 1),
            [first, second, third] => {
                let usual = matches!(sampled(first), (1 | 2, 1 | 2))
                    && [&*second, &*third].iter().all(|c| sampled(c) == (1, 1));
                // Unless Adobe's segment says so, letters are the only sign of red, green and blue.
                self.is_ycbcr &= (first.id, second.id, third.id) != (b'R', b'G', b'B');
                usual.then_some(())?;
            }
            _ => return None,
        }
        (self.width > 0 && self.height > 0 && rest.is_empty() && self.components.len() == usize::from(*count))
            .then_some(())
    }

    fn read_tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some(([kind, counts @ ..], rest)) = segment.split_first_chunk::<17>() {
            let length = counts.iter().map(|count| usize::from(*count)).sum();
            let table = Table::new(counts, rest.get(..length)?)?;
            *self.tables.get_mut(usize::from(kind >> 4))?.get_mut(usize::from(kind & 15))? = Some(table);
            segment = rest.get(length..)?;
        }
        Some(())
    }

    fn read_quantization(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((kind, rest)) = segment.split_first() {
            let size = match kind >> 4 {
                0 => 1,
                1 => 2,
                _ => return None,
            };
            let values = rest.get(..64 * size)?.chunks(size);
            let values = values.map(|value| value.iter().fold(0, |sum, byte| sum << 8 | u16::from(*byte)));
            let mut table = [0; 64];
            table.iter_mut().zip(values).for_each(|(to, value)| *to = value);
            *self.quantization.get_mut(usize::from(kind & 15))? = Some(table);
            segment = &rest[64 * size..];
        }
        Some(())
    }

    fn read_scan(&mut self, segment: &[u8]) -> Option<()> {
        let (count, rest) = segment.split_first()?;
        let (components, end) = rest.split_at_checked(2 * usize::from(*count))?;
        let whole = *count > 0 && usize::from(*count) == self.components.len() && end == [0, 63, 0];
        for (component, chosen) in self.components.iter_mut().zip(components.chunks(2)) {
            if component.id != chosen[0] {
                return None;
            }
            component.tables = [usize::from(chosen[1] >> 4), usize::from(chosen[1] & 15)];
        }
        (whole && (self.is_ycbcr || *count == 1)).then_some(())
    }

    /// Decodes the scan with `N` × `N` pixels for each block.
    fn decode<const N: usize>(&self, scan: &[u8]) -> Option<Vec<Plane>> {
        let (across, down) = (self.components[0].across, self.components[0].down);
        let columns = self.width.div_ceil(8 * across);
        let rows = self.height.div_ceil(8 * down);
        let mut decoders = Vec::new();
        for component in &self.components {
            decoders.push(Decoder::<N>::new(self, component, columns, (across, down))?);
        }
        let (mut bits, mut until_restart, mut restarts) = (Bits::new(scan), self.restart_interval, 0_u8);
        for _ in 0..rows {
            for column in 0..columns {
                if self.restart_interval > 0 {
                    if until_restart == 0 {
                        bits.restart(restarts % 8)?;
                        restarts = restarts.wrapping_add(1);
                        until_restart = self.restart_interval;
                        decoders.iter_mut().for_each(|decoder| decoder.last = 0);
                    }
                    until_restart -= 1;
                }
                for decoder in &mut decoders {
                    decoder.unit(&mut bits, column)?;
                }
            }
            if bits.is_overrun() {
                return None;
            }
            decoders.iter_mut().for_each(Decoder::end_row);
        }
        Some(decoders.into_iter().map(Decoder::finish).collect())
    }
}

/// Decodes one component.
struct Decoder<'a, const N: usize> {
    first: &'a Table,
    others: &'a Table,
    /// For the coefficients in the order of the file: the factor, and the position in the block. Those that are not
    /// wanted have the last position.
    factors: [f32; 64],
    positions: [u8; 64],
    across: usize,
    down: usize,
    /// The first coefficient of the last block.
    last: i32,
    /// The pixels of a row of units, `stride` in each line.
    lines: Vec<u8>,
    stride: usize,
    plane: Plane,
}

/// Positions of wanted coefficients, and one for all others.
const BLOCK: usize = 17;

impl<'a, const N: usize> Decoder<'a, N> {
    fn new(frame: &'a Frame, component: &Component, columns: usize, most: (usize, usize)) -> Option<Self> {
        let quantization = frame.quantization.get(component.quantization)?.as_ref()?;
        let mut factors = [0.0; 64];
        let mut positions = [BLOCK as u8 - 1; 64];
        for (index, (row, column)) in zigzag().enumerate() {
            if row < N && column < N {
                let half = |frequency| if frequency == 0 { std::f32::consts::FRAC_1_SQRT_2 / 2.0 } else { 0.5 };
                factors[index] = f32::from(quantization[index]) * half(row) * half(column);
                positions[index] = (row * N + column) as u8;
            }
        }
        // In pixels of this plane.
        let size = |edge: usize, own: usize, most: usize| (edge * own * N) as f64 / (8 * most) as f64;
        let used = (size(frame.width, component.across, most.0), size(frame.height, component.down, most.1));
        let (width, height) = (used.0.ceil() as u32, used.1.ceil() as u32);
        let stride = columns * component.across * N;
        Some(Self {
            first: frame.tables[0].get(component.tables[0])?.as_ref()?,
            others: frame.tables[1].get(component.tables[1])?.as_ref()?,
            factors,
            positions,
            across: component.across,
            down: component.down,
            last: 0,
            lines: vec![0; stride * component.down * N],
            stride,
            plane: Plane { width, height, used, bytes: Vec::with_capacity(width as usize * height as usize) },
        })
    }

    /// Decodes the blocks of a unit.
    fn unit(&mut self, bits: &mut Bits<'_>, column: usize) -> Option<()> {
        for down in 0..self.down {
            for across in 0..self.across {
                let at = down * N * self.stride + (column * self.across + across) * N;
                self.block(bits, at)?;
            }
        }
        Some(())
    }

    #[inline(always)]
    fn block(&mut self, bits: &mut Bits<'_>, at: usize) -> Option<()> {
        let mut block = [0.0; BLOCK];
        self.last = self.last.wrapping_add(bits.next(self.first)?.value);
        block[0] = self.last as f32 * self.factors[0];
        let mut index = 1;
        while index < 64 {
            let coded = bits.next(self.others)?;
            let run = usize::from(coded.symbol >> 4);
            if coded.symbol & 15 == 0 {
                if run < 15 {
                    break;
                }
                index += 16;
                continue;
            }
            index += run;
            if index > 63 {
                return None;
            }
            block[usize::from(self.positions[index]) % BLOCK] = coded.value as f32 * self.factors[index];
            index += 1;
        }
        let pixels = transform::<N>(&block);
        for (line, pixels) in pixels.iter().enumerate() {
            let at = at + line * self.stride;
            self.lines[at..at + N].copy_from_slice(pixels);
        }
        Some(())
    }

    /// Takes the lines of a row of units into the plane.
    fn end_row(&mut self) {
        let (width, height) = (self.plane.width as usize, self.plane.height as usize);
        for line in self.lines.chunks_exact(self.stride) {
            if self.plane.bytes.len() < width * height {
                self.plane.bytes.extend_from_slice(&line[..width]);
            }
        }
    }

    fn finish(self) -> Plane {
        self.plane
    }
}

/// The pixels of a block from its low frequencies.
#[inline(always)]
fn transform<const N: usize>(block: &[f32; BLOCK]) -> [[u8; N]; N] {
    let mut columns = [[0.0; N]; N];
    for (column, pixels) in columns.iter_mut().enumerate() {
        *pixels = line(std::array::from_fn(|row| block[(row * N + column) % BLOCK]));
    }
    std::array::from_fn(|row| {
        // The levels are around zero, and converting to an integer rounds down.
        line(std::array::from_fn(|column| columns[column][row])).map(|level| (level + 128.5) as u8)
    })
}

/// The inverse cosine transform of `N` values.
#[inline(always)]
fn line<const N: usize>(of: [f32; N]) -> [f32; N] {
    use std::f32::consts::FRAC_1_SQRT_2;
    /// The cosines of π/8 and 3π/8.
    const C1: f32 = 0.923_879_5;
    const C3: f32 = 0.382_683_43;
    let mut to = of;
    match N {
        4 => {
            let even = [of[0] + FRAC_1_SQRT_2 * of[2], of[0] - FRAC_1_SQRT_2 * of[2]];
            let odd = [C1 * of[1] + C3 * of[3], C3 * of[1] - C1 * of[3]];
            (to[0], to[1], to[2], to[3]) = (even[0] + odd[0], even[1] + odd[1], even[1] - odd[1], even[0] - odd[0]);
        }
        2 => (to[0], to[1]) = (of[0] + FRAC_1_SQRT_2 * of[1], of[0] - FRAC_1_SQRT_2 * of[1]),
        _ => {}
    }
    to
}

/// Row and column of each coefficient in the order of the file: along diagonals, in turns down and up.
fn zigzag() -> impl Iterator<Item = (usize, usize)> {
    (0..15_usize).flat_map(|diagonal| {
        let places = (0..8).filter_map(move |row| Some((row, diagonal.checked_sub(row).filter(|column| *column < 8)?)));
        let mut places: Vec<(usize, usize)> = places.collect();
        if diagonal % 2 == 0 {
            places.reverse();
        }
        places
    })
}

#[cfg(test)]
mod tests;
