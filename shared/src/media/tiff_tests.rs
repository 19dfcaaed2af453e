//! TIFFs and raw photos: which of their pictures counts, and its orientation.

use super::tests::judge;
use super::*;

/// A directory: tags with one value each, of type SHORT or LONG.
type Directory<'a> = &'a [(u16, u32)];

/// A TIFF of these directories, one after the other, in either byte order; the values of tag 330 are directory numbers
/// here, which are replaced by their offsets.
fn tiff(is_big_endian: bool, directories: &[Directory<'_>], chained: usize) -> Vec<u8> {
    let short = |n: u16| if is_big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
    let long = |n: u32| if is_big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
    let offset = |index: usize| 8 + directories[..index].iter().map(|d| 6 + 12 * d.len()).sum::<usize>() as u32;
    let mut bytes = [if is_big_endian { &b"MM"[..] } else { b"II" }, &short(42), &long(8)].concat();
    for (index, directory) in directories.iter().enumerate() {
        bytes.extend(short(directory.len() as u16));
        for (tag, value) in *directory {
            let value = if *tag == 330 { offset(*value as usize) } else { *value };
            let is_short = matches!(tag, 274 | 255);
            bytes.extend([short(*tag), short(if is_short { 3 } else { 4 })].concat());
            bytes.extend(long(1));
            bytes.extend(if is_short { [short(value as u16), [0; 2]].concat() } else { long(value).to_vec() });
        }
        let next = if index + 1 < chained { offset(index + 1) } else { 0 };
        bytes.extend(long(next));
    }
    bytes
}

fn is(directories: &[Directory<'_>], chained: usize, width: u32, height: u32, orientation: u64) {
    for is_big_endian in [false, true] {
        let media = judge(tiff(is_big_endian, directories, chained)).unwrap();
        assert_eq!(media.format, Format::Tiff);
        let found = (media.width, media.height, media.orientation);
        assert_eq!(found, (width, height, Orientation::new(orientation).unwrap()));
    }
}

#[test]
fn a_tiff_is_as_large_as_its_first_page_turned() {
    let page = |orientation| [(256, 64), (257, 48), (274, orientation)];
    for (orientation, (width, height)) in (1..=8).zip([(64, 48); 4].into_iter().chain([(48, 64); 4])) {
        is(&[&page(orientation), &[(256, 9), (257, 9)]], 2, width, height, orientation.into());
    }
    is(&[&page(9)], 1, 64, 48, 1);
    is(&[&[(256, 64), (257, 48)]], 1, 64, 48, 1);
}

#[test]
fn a_raw_photo_is_as_large_as_itself_not_as_its_preview() {
    let preview = [(254, 1), (256, 40), (257, 30), (274, 8), (330, 1)];
    is(&[&preview, &[(254, 0), (256, 240), (257, 160)]], 1, 160, 240, 8);
    // As in Sony's files: the first directory has no size.
    is(&[&[(254, 1), (330, 1)], &[(254, 0), (256, 64), (257, 48)]], 1, 64, 48, 1);
    // The first picture below is another preview; the next directory in the chain comes before those below it.
    is(&[&preview, &[(254, 1), (256, 80), (257, 60)]], 1, 60, 80, 8);
    is(&[&preview[..4], &[(255, 1), (256, 240), (257, 160)]], 2, 160, 240, 8);
    is(&[&[(255, 2), (256, 40), (257, 30)], &[(255, 1), (256, 240), (257, 160)]], 2, 240, 160, 1);
}

#[test]
fn a_tiff_of_masks_and_previews_is_as_large_as_the_largest() {
    is(&[&[(254, 4), (256, 40), (257, 30)], &[(254, 1), (256, 80), (257, 60)]], 2, 80, 60, 1);
}

#[test]
fn a_tiff_without_a_size_is_damaged() {
    for directory in [&[][..], &[(256, 64)], &[(256, 64), (257, 0)], &[(330, 0)]] {
        let refused = judge(tiff(false, &[directory], 1));
        assert!(matches!(refused, Err(MediaError::Undecodable { format: Format::Tiff, .. })), "{refused:?}");
    }
}

#[test]
fn directories_in_circles_keep_nobody_busy() {
    is(&[&[(254, 1), (256, 40), (257, 30), (330, 0)], &[(254, 1), (330, 1)]], 2, 40, 30, 1);
}

#[test]
fn a_large_picture_cannot_hide_below_a_preview() {
    let bytes = tiff(false, &[&[(254, 1), (256, 4), (257, 3), (330, 1)], &[(256, 20_000), (257, 20_000)]], 1);
    assert!(matches!(judge(&bytes[..]), Err(MediaError::TooManyPixels { pixels: 400_000_000, .. })));
}

#[test]
fn a_tiff_whose_strips_lie_behind_its_end_is_truncated() {
    let page = |compression, strip, length| {
        [(256, 4), (257, 3), (258, 8), (259, compression), (273, strip), (277, 3), (279, length)]
    };
    let truncated =
        |compression, strip, length| judge(tiff(false, &[&page(compression, strip, length)], 1)).unwrap().is_truncated;
    for compression in [1, 5] {
        assert!(!truncated(compression, 8, 36));
        assert!(truncated(compression, 1000, 36));
    }
    assert!(truncated(5, 8, 1000));
    assert!(!truncated(1, 8, 1000), "all of 4 × 3 pixels of 3 bytes is there");
    assert!(truncated(1, 80, 1000));
}
