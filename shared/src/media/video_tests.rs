//! Videos are written by hand: no encoder is available here.

use super::tests::judge;
use super::*;
use crate::testing::iso_box;

fn ftyp(brand: &[u8; 4]) -> Vec<u8> {
    iso_box(b"ftyp", &[&brand[..], &[0, 0, 2, 0], b"isom", brand].concat())
}

/// A track of these dimensions, version 0 or 1, upright or rotated by 90°.
fn trak(version: u8, width: u16, height: u16, turned: bool) -> Vec<u8> {
    let mut tkhd = vec![0; if version == 1 { 96 } else { 84 }];
    tkhd[0] = version;
    let matrix = tkhd.len() - 44;
    let (unit, other) = if turned { (matrix + 4, matrix + 12) } else { (matrix, matrix + 16) };
    tkhd[unit + 1] = 1;
    tkhd[other + 1] = 1;
    tkhd[matrix + 36..matrix + 38].copy_from_slice(&width.to_be_bytes());
    tkhd[matrix + 40..matrix + 42].copy_from_slice(&height.to_be_bytes());
    iso_box(b"trak", &[iso_box(b"tkhd", &tkhd), iso_box(b"mdia", b"")].concat())
}

fn moov(tracks: &[Vec<u8>]) -> Vec<u8> {
    iso_box(b"moov", &[iso_box(b"mvhd", &[0; 100]), tracks.concat()].concat())
}

fn mp4() -> Vec<u8> {
    [ftyp(b"isom"), moov(&[trak(0, 640, 360, false)]), iso_box(b"mdat", &[7; 300])].concat()
}

/// An element of a Matroska file, with its length in eight bytes.
fn element(name: u32, content: &[u8]) -> Vec<u8> {
    let name: Vec<u8> = name.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    let length = (1_u64 << 56 | content.len() as u64).to_be_bytes();
    [&name[..], &length, content].concat()
}

const SEGMENT: u32 = 0x1853_8067;
const CLUSTER: u32 = 0x1f43_b675;

fn ebml(doc_type: &[u8]) -> Vec<u8> {
    element(0x1a45_dfa3, &[element(0x4286, &[1]), element(0x4282, doc_type)].concat())
}

fn tracks(width: &[u8], height: &[u8]) -> Vec<u8> {
    let sound = element(0xae, &element(0x83, &[2]));
    let video = element(0xe0, &[element(0xb0, width), element(0xba, height)].concat());
    element(0x1654_ae6b, &[sound, element(0xae, &[element(0x83, &[1]), video].concat())].concat())
}

fn segment(parts: &[Vec<u8>]) -> Vec<u8> {
    element(SEGMENT, &parts.concat())
}

fn webm() -> Vec<u8> {
    let cluster = element(CLUSTER, &[9; 300]);
    [ebml(b"webm"), segment(&[element(0xec, &[0; 20]), tracks(&[2, 0x80], &[1, 0x68]), cluster])].concat()
}

fn is(bytes: Vec<u8>, format: Format, width: u32, height: u32) {
    let media = judge(bytes).unwrap();
    assert_eq!((media.format, media.width, media.height, media.is_truncated), (format, width, height, false));
}

fn is_damaged(bytes: Vec<u8>) {
    let refused = judge(bytes);
    assert!(matches!(refused, Err(MediaError::Undecodable { .. })), "{refused:?}");
}

#[test]
fn an_mp4_says_how_large_its_picture_is_upright() {
    is(mp4(), Format::Mp4, 640, 360);
    let with = |tracks: &[Vec<u8>]| [ftyp(b"mp42"), iso_box(b"mdat", &[1]), moov(tracks)].concat();
    is(with(&[trak(0, 0, 0, false), trak(1, 1920, 1080, false)]), Format::Mp4, 1920, 1080);
    is(with(&[trak(1, 1920, 1080, true)]), Format::Mp4, 1080, 1920);
    is(with(&[trak(0, 100, 100, false), trak(0, 640, 360, false)]), Format::Mp4, 640, 360);
    for brand in [b"avc1", b"M4V ", b"iso6", b"dash"] {
        is([ftyp(brand), moov(&[trak(0, 4, 2, false)]), iso_box(b"mdat", &[1])].concat(), Format::Mp4, 4, 2);
    }
}

#[test]
fn an_mp4_of_a_telephone_held_upright_is_turned() {
    // A clockwise rotation by 90° as written by phones: 1 where y comes from x, -1 where x comes from y.
    let mut tkhd = vec![0; 84];
    tkhd[45] = 1;
    tkhd[52..56].copy_from_slice(&[0xff, 0xff, 0, 0]);
    tkhd[76..78].copy_from_slice(&1920_u16.to_be_bytes());
    tkhd[80..82].copy_from_slice(&1080_u16.to_be_bytes());
    let moov = moov(&[iso_box(b"trak", &iso_box(b"tkhd", &tkhd))]);
    let media = judge([ftyp(b"isom"), moov, iso_box(b"mdat", &[1])].concat()).unwrap();
    assert_eq!((media.width, media.height, media.orientation.value()), (1080, 1920, 6));
}

#[test]
fn boxes_of_an_mp4_may_be_long_or_go_on_to_the_end() {
    let long = [&1_u32.to_be_bytes()[..], b"mdat", &20_u64.to_be_bytes(), &[1; 4]].concat();
    is([ftyp(b"isom"), long, moov(&[trak(0, 4, 2, false)])].concat(), Format::Mp4, 4, 2);
    let to_the_end = [&[0; 4][..], b"mdat", &[1; 40]].concat();
    is([ftyp(b"isom"), moov(&[trak(0, 4, 2, false)]), to_the_end].concat(), Format::Mp4, 4, 2);
    let fragment = [iso_box(b"moof", &[0; 16]), iso_box(b"mdat", &[0; 16])].concat();
    is([ftyp(b"iso5"), moov(&[trak(0, 4, 2, false)]), fragment.repeat(3)].concat(), Format::Mp4, 4, 2);
}

#[test]
fn a_webm_says_how_large_its_picture_is() {
    is(webm(), Format::WebM, 640, 360);
    // As recorded by a browser: the length is unknown when the beginning is written.
    let unknown = |name: u32| [&name.to_be_bytes()[..], &[0x01], &[0xff; 7]].concat();
    let recorded = [ebml(b"webm"), unknown(SEGMENT), tracks(&[4], &[2]), unknown(CLUSTER), vec![9; 50]].concat();
    is(recorded, Format::WebM, 4, 2);
    is([webm(), element(0xec, &[0; 9])].concat(), Format::WebM, 640, 360);
    let padded = [ebml(b"webm\0\0\0"), webm()[ebml(b"webm").len()..].to_vec()].concat();
    is(padded, Format::WebM, 640, 360);
}

#[test]
fn a_video_that_is_cut_off_anywhere_is_damaged() {
    for whole in [mp4(), webm()] {
        for length in 32..whole.len() {
            let refused = judge(&whole[..length]);
            assert!(
                matches!(refused, Err(MediaError::Undecodable { .. } | MediaError::NotAnImage)),
                "{length} bytes: {refused:?}"
            );
        }
        is_damaged(whole[..whole.len() - 1].to_vec());
    }
}

#[test]
fn what_was_added_to_the_end_of_a_video_is_not_taken() {
    for added in [&b"<html><script>alert(1)</script>"[..], b"PK\x03\x04 a zip follows", &[0], &[0xff; 40]] {
        is_damaged([&mp4()[..], added].concat());
        is_damaged([&webm()[..], added].concat());
    }
}

#[test]
fn a_video_without_a_picture_or_without_content_is_damaged() {
    let content = iso_box(b"mdat", &[1]);
    for bytes in [
        [ftyp(b"isom"), content.clone()].concat(),
        [ftyp(b"isom"), moov(&[]), content.clone()].concat(),
        [ftyp(b"isom"), moov(&[trak(0, 0, 0, false)]), content.clone()].concat(),
        [ftyp(b"isom"), moov(&[trak(0, 640, 0, false)]), content.clone()].concat(),
        [ftyp(b"isom"), moov(&[trak(0, 640, 360, false)])].concat(),
        [ftyp(b"isom"), moov(&[trak(0, 640, 360, false)]), iso_box(b"mdat", &[])].concat(),
        [ftyp(b"isom"), moov(&[iso_box(b"trak", &iso_box(b"tkhd", &[0; 20]))]), content].concat(),
        [ebml(b"webm"), segment(&[tracks(&[4], &[2])])].concat(),
        [ebml(b"webm"), segment(&[element(CLUSTER, &[1])])].concat(),
        [ebml(b"webm"), segment(&[tracks(&[], &[2]), element(CLUSTER, &[1])])].concat(),
        [ebml(b"webm"), segment(&[tracks(&[1; 5], &[2]), element(CLUSTER, &[1])])].concat(),
        [ebml(b"webm"), element(CLUSTER, &[1])].concat(),
    ] {
        is_damaged(bytes);
    }
    let huge = [ftyp(b"isom"), moov(&[trak(0, 50_000, 50_000, false)]), iso_box(b"mdat", &[1])].concat();
    assert!(matches!(judge(huge), Err(MediaError::TooManyPixels { .. })));
}

#[test]
fn tracks_in_tracks_and_boxes_without_end_do_not_keep_anyone_busy() {
    let mut nested = trak(0, 4, 2, false);
    for _ in 0..10_000 {
        nested = iso_box(b"trak", &nested);
    }
    is_damaged([ftyp(b"isom"), moov(&[nested]), iso_box(b"mdat", &[1])].concat());
    let many = [ftyp(b"isom"), moov(&[trak(0, 4, 2, false)]), iso_box(b"free", &[]).repeat(100_001)].concat();
    is_damaged(many);
    let shorter_than_its_head = [ftyp(b"isom"), [&4_u32.to_be_bytes()[..], b"free"].concat(), vec![0; 40]].concat();
    is_damaged(shorter_than_its_head);
}

#[test]
fn what_only_begins_like_a_video_is_none() {
    for bytes in [
        ftyp(b"qt  "),
        ftyp(b"crx "),
        ftyp(b"3gp4"),
        ebml(b"matroska"),
        ebml(b"html"),
        ebml(b"webm2"),
        ebml(b"\0webm"),
        element(0x1a45_dfa3, &[]),
        [b"\x1a\x45\xdf\xa3<html><script>alert(1)</script>".to_vec(), vec![b' '; 100]].concat(),
        b"<html><!-- ftypisom -->".to_vec(),
    ] {
        let refused = judge(bytes.clone());
        let none = matches!(refused, Err(MediaError::NotAnImage));
        let unreadable = bytes.starts_with(b"\x1a") && matches!(refused, Err(MediaError::Undecodable { .. }));
        assert!(none || unreadable, "{refused:?}: {}", bytes.escape_ascii());
    }
}
