//! The boxes of HEIF files (HEIC and AVIF): the primary image as displayed, whichever way the file describes it.
//!
//! The primary item counts, with the properties that crop and rotate it, in their order; the file's largest image may
//! be another one. A sequence without a primary item has the size of its track. ISO/IEC 23008-12.

use super::geometry::{Geometry, Orientation};
use super::reader::BodyReader;
use super::video::{self, Part, count, mp4_box};
use super::{Fault, Format};

/// The most boxes and properties that are read.
const MOST_PARTS: u32 = 10_000;

const DAMAGED: Fault = Fault::Damaged("its header is damaged");
const NO_PICTURE: Fault = Fault::Damaged("it holds no picture");
const NO_HEADER: Fault = Fault::Damaged("it ends before its header does");

/// A property that affects the size or the display of an image.
#[derive(Clone, Copy)]
enum Property {
    Size(u32, u32),
    Turn(Orientation),
    Crop(Crop),
    Other,
}

/// A clean aperture: the part of an image that remains after cropping.
#[derive(Clone, Copy)]
struct Crop {
    width: (u32, u32),
    height: (u32, u32),
    /// The offset of its center from the center of the image, as fractions.
    offset: [(i32, u32); 2],
}

/// The contents of the box `meta`.
#[derive(Default)]
struct Meta {
    primary: Option<u32>,
    properties: Vec<Property>,
    /// The properties of items, by their position in `properties`, counted from 1.
    associations: Vec<(u32, Vec<u16>)>,
}

/// The primary image of the file, and whether the file ends before its content does.
pub(super) fn read(format: Format, reader: &mut BodyReader<'_>) -> Result<(Geometry, bool), Fault> {
    let (mut found, mut track, mut is_truncated) = (None, None, false);
    let (mut at, mut parts, end) = (0, 0, reader.size());
    while at < end {
        let part = match outer_box(reader, at) {
            // Appended data does no harm, and everything needed may precede it.
            Err(Fault::Damaged(_)) if found.is_some() || track.is_some() => break,
            part => part?,
        };
        if part.end > end {
            match &part.name {
                b"mdat" => is_truncated = true,
                b"ftyp" | b"meta" | b"moov" | b"mini" => return Err(NO_HEADER),
                _ => {}
            }
            break;
        }
        match &part.name {
            b"meta" if found.is_none() => found = Some(meta(reader, &part, &mut parts)?.picture(format)?),
            b"mini" if found.is_none() => found = Some(mini(reader, &part)?),
            b"moov" if track.is_none() => track = video::mp4_pictures(reader, &part, &mut parts)?,
            _ => {}
        }
        at = part.end;
        count(&mut parts, MOST_PARTS)?;
    }
    let geometry = found.or(track).ok_or(if is_truncated { NO_HEADER } else { NO_PICTURE })?;
    Ok((geometry, is_truncated))
}

/// The box at this position of the file, which may end beyond the file's end.
fn outer_box(reader: &mut BodyReader<'_>, at: u64) -> Result<Part<[u8; 4]>, Fault> {
    mp4_box(reader, at, u64::MAX).map(|part| match part.end {
        // A box that extends to the end of the file.
        u64::MAX => Part { end: reader.size(), ..part },
        _ => part,
    })
}

/// The boxes in this one, whose content begins at `start`.
fn children(reader: &mut BodyReader<'_>, start: u64, end: u64, parts: &mut u32) -> Result<Vec<Part<[u8; 4]>>, Fault> {
    let (mut at, mut found) = (start, Vec::new());
    while at < end {
        let part = mp4_box(reader, at, end)?;
        at = part.end;
        found.push(part);
        count(parts, MOST_PARTS)?;
    }
    Ok(found)
}

fn meta(reader: &mut BodyReader<'_>, of: &Part<[u8; 4]>, parts: &mut u32) -> Result<Meta, Fault> {
    let mut meta = Meta::default();
    // Version and flags come first.
    for part in children(reader, of.start + 4, of.end, parts)? {
        match &part.name {
            b"pitm" => {
                let [version, ..]: [u8; 4] = reader.bytes_at(part.start)?;
                meta.primary = Some(item_id(reader, version > 0)?);
            }
            b"iprp" => {
                for part in children(reader, part.start, part.end, parts)? {
                    match &part.name {
                        b"ipco" => {
                            for part in children(reader, part.start, part.end, parts)? {
                                meta.properties.push(property(reader, &part)?);
                            }
                        }
                        b"ipma" => associations(reader, &part, &mut meta.associations)?,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(meta)
}

fn item_id(reader: &mut BodyReader<'_>, is_long: bool) -> Result<u32, Fault> {
    Ok(if is_long { u32::from_be_bytes(reader.bytes()?) } else { u16::from_be_bytes(reader.bytes()?).into() })
}

fn property(reader: &mut BodyReader<'_>, part: &Part<[u8; 4]>) -> Result<Property, Fault> {
    let length = part.end - part.start;
    Ok(match &part.name {
        b"ispe" if length >= 12 => {
            let _version: [u8; 4] = reader.bytes_at(part.start)?;
            Property::Size(u32::from_be_bytes(reader.bytes()?), u32::from_be_bytes(reader.bytes()?))
        }
        b"irot" if length >= 1 => {
            let [quarters] = reader.bytes_at(part.start)?;
            let turns =
                (0..quarters & 3).fold(Orientation::UPRIGHT, |turned, _| turned.then(Orientation::QUARTER_LEFT));
            Property::Turn(turns)
        }
        b"imir" if length >= 1 => {
            let [axis] = reader.bytes_at(part.start)?;
            Property::Turn(if axis & 1 == 0 { Orientation::FLIPPED } else { Orientation::MIRRORED })
        }
        b"clap" if length >= 32 => {
            reader.fill_at(part.start, &mut [])?;
            let mut fraction = || Ok::<_, Fault>((reader.bytes()?, reader.bytes()?));
            let [width, height, x, y]: [([u8; 4], [u8; 4]); 4] = [fraction()?, fraction()?, fraction()?, fraction()?];
            let size = |(n, d)| (u32::from_be_bytes(n), u32::from_be_bytes(d));
            let offset = |(n, d)| (i32::from_be_bytes(n), u32::from_be_bytes(d));
            Property::Crop(Crop { width: size(width), height: size(height), offset: [offset(x), offset(y)] })
        }
        _ => Property::Other,
    })
}

fn associations(
    reader: &mut BodyReader<'_>,
    part: &Part<[u8; 4]>,
    found: &mut Vec<(u32, Vec<u16>)>,
) -> Result<(), Fault> {
    let [version, _, _, flags]: [u8; 4] = reader.bytes_at(part.start)?;
    let items = u32::from_be_bytes(reader.bytes()?);
    for _ in 0..items {
        if reader.position() >= part.end || found.len() >= MOST_PARTS as usize {
            break;
        }
        let item = item_id(reader, version > 0)?;
        let [many] = reader.bytes()?;
        let mut properties = Vec::new();
        for _ in 0..many {
            // The first bit marks an essential property.
            properties.push(if flags & 1 == 1 {
                u16::from_be_bytes(reader.bytes()?) & 0x7fff
            } else {
                let [index] = reader.bytes()?;
                u16::from(index & 0x7f)
            });
        }
        found.push((item, properties));
    }
    Ok(())
}

impl Meta {
    fn picture(&self, format: Format) -> Result<Geometry, Fault> {
        let of_primary = self.associations.iter().filter(|(item, _)| Some(*item) == self.primary);
        let indices = of_primary.flat_map(|(_, properties)| properties);
        let property = |index: &u16| self.properties.get(usize::from(*index).checked_sub(1)?);
        let properties: Vec<Property> = indices.filter_map(property).copied().collect();
        let size = |property: &Property| match property {
            Property::Size(width, height) => Some((*width, *height)),
            _ => None,
        };
        let Some(stored) = properties.iter().find_map(size) else {
            // The size of the primary image is unknown; that of the largest is an upper bound.
            let largest = self.properties.iter().filter_map(size).max_by_key(|(w, h)| u64::from(*w) * u64::from(*h));
            return largest.map(Geometry::upright).ok_or(NO_PICTURE);
        };
        Ok(properties.iter().fold(Geometry::upright(stored), |picture, property| match property {
            Property::Turn(by) => picture.turned(*by),
            Property::Crop(crop) => crop.of(picture, format),
            Property::Size(..) | Property::Other => picture,
        }))
    }
}

impl Crop {
    /// The cropped picture. An invalid crop, or one larger than the picture, has no effect.
    fn of(&self, picture: Geometry, format: Format) -> Geometry {
        let rounded = |(n, d): (u32, u32)| (u64::from(n) + u64::from(d) / 2).checked_div(d.into()).unwrap_or(0);
        let (width, height) = (rounded(self.width), rounded(self.height));
        let fits = (1..=picture.width.into()).contains(&width) && (1..=picture.height.into()).contains(&height);
        let is_shown = match format {
            // Browsers crop an AVIF only at its right and lower edge, and show others uncropped.
            Format::Avif => {
                let [x, y] = self.offset;
                starts_at_zero(width, picture.width, x) && starts_at_zero(height, picture.height, y)
            }
            _ => true,
        };
        if fits && is_shown { Geometry { width: width as u32, height: height as u32, ..picture } } else { picture }
    }
}

/// Whether a crop to this length begins at the picture's edge: its offset is half of what is cut off.
fn starts_at_zero(length: u64, of: u32, (n, d): (i32, u32)) -> bool {
    d != 0 && 2 * i64::from(n) == (length as i64 - i64::from(of)) * i64::from(d)
}

/// The box of a minimal file (brand `mif3`), which is bit-packed.
fn mini(reader: &mut BodyReader<'_>, part: &Part<[u8; 4]>) -> Result<Geometry, Fault> {
    let bits = u64::from_be_bytes(reader.bytes_at(part.start)?);
    // Version, nine flags, chroma subsampling; then the orientation minus one, and whether sizes are long.
    let field = |from: u32, length: u32| bits << from >> (64 - length);
    if field(0, 2) != 0 {
        return Err(DAMAGED);
    }
    let orientation = Orientation::new(field(13, 3) + 1).ok_or(DAMAGED)?;
    let length = if field(16, 1) == 1 { 15 } else { 7 };
    let side = |from| field(from, length) as u32 + 1;
    Ok(Geometry::upright((side(17), side(17 + length))).turned(orientation))
}
