//! HEIC and AVIF files of every structure, written by hand: no encoder is available here.

use super::tests::judge;
use super::*;
use crate::testing::iso_box;

fn ftyp(brands: &[&[u8; 4]]) -> Vec<u8> {
    let compatible: Vec<u8> = brands.iter().copied().flatten().copied().collect();
    iso_box(b"ftyp", &[&brands[0][..], &[0; 4], &compatible].concat())
}

fn ispe(width: u32, height: u32) -> Vec<u8> {
    iso_box(b"ispe", &[[0; 4], width.to_be_bytes(), height.to_be_bytes()].concat())
}

fn irot(quarters: u8) -> Vec<u8> {
    iso_box(b"irot", &[quarters])
}

fn imir(axis: u8) -> Vec<u8> {
    iso_box(b"imir", &[axis])
}

/// A crop to this size, with its center offset in half pixels from the image's.
fn clap(width: u32, height: u32, halves: [i32; 2]) -> Vec<u8> {
    let [x, y] = halves.map(i32::to_be_bytes);
    let two = 2_u32.to_be_bytes();
    let half = |length: u32| (2 * length).to_be_bytes();
    iso_box(b"clap", &[half(width), two, half(height), two, x, two, y, two].concat())
}

/// A `meta` whose primary item is number 2 and has these properties; item 1 has only the first property.
fn meta(properties: &[Vec<u8>], of_primary: &[u8]) -> Vec<u8> {
    let associations = [&[0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 1, 1, 0, 2, of_primary.len() as u8][..], of_primary].concat();
    let iprp = iso_box(b"iprp", &[iso_box(b"ipco", &properties.concat()), iso_box(b"ipma", &associations)].concat());
    let hdlr = iso_box(b"hdlr", b"\0\0\0\0\0\0\0\0pict\0\0\0\0\0\0\0\0\0\0\0\0\0");
    iso_box(b"meta", &[vec![0; 4], hdlr, iso_box(b"pitm", &[0, 0, 0, 0, 0, 2]), iprp].concat())
}

fn mdat() -> Vec<u8> {
    iso_box(b"mdat", &[0x5a; 64])
}

fn heic(properties: &[Vec<u8>], of_primary: &[u8]) -> Vec<u8> {
    [ftyp(&[b"heic", b"mif1"]), meta(properties, of_primary), mdat()].concat()
}

fn avif(properties: &[Vec<u8>], of_primary: &[u8]) -> Vec<u8> {
    [ftyp(&[b"avif", b"mif1"]), meta(properties, of_primary), mdat()].concat()
}

fn is(bytes: Vec<u8>, width: u32, height: u32, orientation: u64) {
    let media = judge(bytes).unwrap();
    let found = (media.width, media.height, media.orientation, media.is_truncated);
    assert_eq!(found, (width, height, Orientation::new(orientation).unwrap(), false));
}

#[test]
fn a_heif_is_as_large_as_its_primary_image() {
    let properties = [ispe(4032, 3024), ispe(64, 48)];
    is(heic(&properties, &[2]), 64, 48, 1);
    is(avif(&properties, &[0x82]), 64, 48, 1);
    is(heic(&properties, &[1]), 4032, 3024, 1);
}

#[test]
fn a_heif_is_turned_as_its_primary_image_is() {
    let properties = [ispe(64, 48), irot(1), irot(2), irot(3), imir(0), imir(1)];
    for (of_primary, expected) in [
        (&[1][..], (64, 48, 1)),
        (&[1, 2], (48, 64, 8)),
        (&[1, 3], (64, 48, 3)),
        (&[1, 4], (48, 64, 6)),
        (&[1, 5], (64, 48, 4)),
        (&[1, 6], (64, 48, 2)),
        (&[1, 2, 5], (48, 64, 5)),
        (&[1, 4, 5], (48, 64, 7)),
    ] {
        let (width, height, orientation) = expected;
        is(heic(&properties, of_primary), width, height, orientation);
        is(avif(&properties, of_primary), width, height, orientation);
    }
}

#[test]
fn a_heic_is_cropped_before_and_after_it_is_turned() {
    let properties = [ispe(64, 48), clap(29, 21, [0, 0]), irot(1), clap(65, 1, [0, 0]), clap(0, 0, [0, 0])];
    is(heic(&properties, &[1, 2]), 29, 21, 1);
    is(heic(&properties, &[1, 2, 3]), 21, 29, 8);
    is(heic(&properties, &[1, 3, 2]), 29, 21, 8);
    is(heic(&properties, &[1, 4]), 64, 48, 1);
    is(heic(&properties, &[1, 5]), 64, 48, 1);
}

#[test]
fn an_avif_is_cropped_where_browsers_crop_it() {
    let properties = [ispe(64, 48), clap(30, 20, [-34, -28]), clap(30, 20, [0, 0])];
    is(avif(&properties, &[1, 2]), 30, 20, 1);
    is(avif(&properties, &[1, 3]), 64, 48, 1);
}

#[test]
fn pixels_may_come_before_the_header_of_a_heif() {
    let long = [&1_u32.to_be_bytes()[..], b"mdat", &80_u64.to_be_bytes(), &[1; 64]].concat();
    let meta = meta(&[ispe(64, 48)], &[1]);
    is([ftyp(&[b"avif"]), long.clone(), meta.clone()].concat(), 64, 48, 1);
    is([ftyp(&[b"heic"]), long, meta.clone()].concat(), 64, 48, 1);
    let to_the_end = [&[0; 4], &meta[4..]].concat();
    is([ftyp(&[b"avif"]), mdat(), to_the_end].concat(), 64, 48, 1);
}

#[test]
fn a_sequence_without_a_still_image_is_as_large_as_its_track() {
    let mut tkhd = [0; 84];
    tkhd[41] = 1;
    tkhd[57] = 1;
    tkhd[76..78].copy_from_slice(&[2, 0x80]);
    tkhd[80..82].copy_from_slice(&[1, 0x68]);
    let moov = iso_box(b"moov", &iso_box(b"trak", &iso_box(b"tkhd", &tkhd)));
    for brands in [&[b"msf1", b"hevc"][..], &[b"hevc"], &[b"avis"]] {
        is([ftyp(brands), moov.clone(), mdat()].concat(), 640, 360, 1);
    }
}

#[test]
fn a_minimal_heif_is_measured() {
    // Version, nine flags, chroma; orientation 6; sizes of 7 and of 15 bits.
    let small = 5_u64 << 48 | 63 << 40 | 47 << 33;
    let large = 1_u64 << 47 | 3999 << 32 | 2999 << 17;
    for (bits, expected) in [(small, (48, 64, 6)), (large, (4000, 3000, 1))] {
        let mini = iso_box(b"mini", &[&bits.to_be_bytes()[..], &[0; 20]].concat());
        for (coding, format) in [(b"avif", Format::Avif), (b"heic", Format::Heic)] {
            let file = [iso_box(b"ftyp", &[&b"mif3"[..], coding].concat()), mini.clone()].concat();
            assert_eq!(judge(file.clone()).unwrap().format, format);
            is(file, expected.0, expected.1, expected.2);
        }
    }
    let other = iso_box(b"ftyp", b"mif3vvic");
    assert!(matches!(judge([other, iso_box(b"mini", &[0; 28])].concat()), Err(MediaError::NotAnImage)));
}

#[test]
fn a_heif_without_a_picture_is_damaged() {
    for bytes in [
        [ftyp(&[b"heic"]), mdat()].concat(),
        ftyp(&[b"avif"]),
        heic(&[irot(1)], &[1]),
        heic(&[ispe(0, 48)], &[1]),
        [ftyp(&[b"heic"]), iso_box(b"moov", &[])].concat(),
        [ftyp(&[b"heic"]), meta(&[ispe(4, 2)], &[1])[..60].to_vec()].concat(),
    ] {
        assert!(matches!(judge(bytes), Err(MediaError::Undecodable { .. })));
    }
}

#[test]
fn a_heif_of_boxes_without_end_is_damaged() {
    let many = [ftyp(&[b"heic"]), iso_box(b"free", &[]).repeat(100_001), meta(&[ispe(4, 2)], &[1])].concat();
    assert!(matches!(judge(many), Err(MediaError::Undecodable { .. })));
    let properties = vec![ispe(1, 1); 20_000];
    assert!(matches!(judge(heic(&properties, &[1])), Err(MediaError::Undecodable { .. })));
}

#[test]
fn a_heif_whose_pixels_are_cut_off_is_truncated() {
    let whole = heic(&[ispe(64, 48)], &[1]);
    assert!(judge(&whole[..whole.len() - 1]).unwrap().is_truncated);
    assert!(!judge(whole).unwrap().is_truncated);
}
