//! Texts of PNGs that contain a position: compressed, in hexadecimal digits, or under a keyword for one.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::scan::scan_inside;
use super::tests::{contains, encode, patches, pixels, without};
use super::texts::{Rewritten, Text, packed};
use crate::testing::located::{self, MAKE, ORIENTATION, Order, XMP, chunk, png_with};

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn unpack(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut decoder = ZlibDecoder::new(bytes);
    decoder.read_to_end(&mut text).unwrap();
    // A decoder may reject bytes after the stream.
    assert_eq!(decoder.total_in(), bytes.len() as u64);
    text
}

fn png() -> Vec<u8> {
    encode(image::ImageFormat::Png)
}

/// The chunks of a PNG; checks their checksums.
fn chunks(png: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (mut at, mut chunks) = (8, Vec::new());
    while at < png.len() {
        let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        let checked = &png[at + 4..at + 8 + length];
        assert_eq!(png[at + 8 + length..at + 12 + length], crc32fast::hash(checked).to_be_bytes());
        chunks.push((String::from_utf8(checked[..4].to_vec()).unwrap(), checked[4..].to_vec()));
        at += 12 + length;
    }
    chunks
}

/// This chunk in a PNG that is sent without positions.
#[track_caller]
fn sent(name: &[u8; 4], content: &[u8]) -> (String, Vec<u8>) {
    let before = png_with(&png(), &[chunk(name, content), chunk(b"tEXt", b"Author\0Ada")]);
    let after = without(&before);
    assert_eq!(pixels(&after), pixels(&before));
    assert!(patches(&after).is_empty(), "there is nothing more to find");
    let chunks = chunks(&after);
    assert_eq!(chunks[2], ("tEXt".to_owned(), b"Author\0Ada".to_vec()));
    assert_eq!(chunks[1].1.len(), content.len());
    chunks[1].clone()
}

/// A profile as written by ImageMagick, in hexadecimal digits.
fn profile(kind: &str, bytes: &[u8]) -> String {
    let digits = hex::encode(bytes);
    let lines: Vec<&str> = digits.as_bytes().chunks(72).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("\n{kind}\n{:8}\n{}\n", bytes.len(), lines.join("\n"))
}

fn bytes_of(profile: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(profile.to_vec()).unwrap();
    hex::decode(text.lines().skip(3).collect::<String>()).unwrap()
}

#[test]
fn packed_xmp_loses_its_position_and_nothing_else() {
    for (name, head) in [(b"zTXt", &b"XML:com.adobe.xmp\0\0"[..]), (b"iTXt", b"XML:com.adobe.xmp\0\x01\0\0\0")] {
        let (kept, content) = sent(name, &[head, &zlib(XMP.as_bytes())].concat());
        assert_eq!(kept.as_bytes(), name);
        let text = String::from_utf8(unpack(content.strip_prefix(head).unwrap())).unwrap();
        assert_eq!(text.len(), XMP.len());
        assert!(text.contains("dc:creator='Ada'") && text.contains("<tiff:Orientation>6</tiff:Orientation>"), "{text}");
        assert!(!text.contains("52,30") && !text.to_lowercase().contains(":gps"), "{text}");
    }
}

#[test]
fn a_raw_profile_with_exif_loses_its_position_and_keeps_the_rest() {
    let exif = [b"Exif\0\0", &located::exif(Order::Big)[..]].concat();
    let text = profile("exif", &exif);
    let raw = sent(b"tEXt", &[b"Raw profile type exif\0", text.as_bytes()].concat()).1;
    let packed = sent(b"zTXt", &[b"Raw profile type APP1\0\0", &zlib(text.as_bytes())[..]].concat()).1;
    for profile in [raw[22..].to_vec(), unpack(&packed[23..])] {
        assert_eq!(profile.len(), text.len());
        let after = bytes_of(&profile);
        assert_eq!(after, without(&exif));
        let read = exif::Reader::new().read_raw(after[6..].to_vec()).unwrap();
        let orientation = read.get_field(exif::Tag::Orientation, exif::In::PRIMARY).unwrap();
        assert_eq!(orientation.value.get_uint(0), Some(u32::from(ORIENTATION)));
        assert!(contains(&after, MAKE.as_bytes()));
    }
}

#[test]
fn packed_exif_as_exiftool_writes_it_loses_its_position() {
    let exif = located::exif(Order::Little);
    let head = [&[0][..], &(exif.len() as u32).to_be_bytes()].concat();
    let (name, content) = sent(b"zxIf", &[&head[..], &zlib(&exif)].concat());
    assert_eq!((name.as_str(), unpack(content.strip_prefix(&head[..]).unwrap())), ("zxIf", without(&exif)));
}

#[test]
fn exif_that_does_not_fit_any_more_keeps_its_orientation() {
    let exif = [b"Exif\0\0", &located::exif(Order::Big)[..]].concat();
    let (head, content) = (b"Raw profile type exif\0\0", zlib(profile("exif", &exif).as_bytes()));
    let text = Text::of(b"zTXt", head).unwrap();
    let made = |room| match text.without_positions(&content, room, &mut (1 << 20), scan_inside) {
        Rewritten::As(bytes) => Some(bytes_of(&unpack(&bytes))),
        _ => None,
    };
    assert_eq!(made(content.len()), Some(without(&exif)));
    let alone = made(100).unwrap();
    assert_eq!(alone.len(), exif.len());
    let read = exif::Reader::new().read_raw(alone[6..].to_vec()).unwrap();
    assert_eq!(read.fields().map(|field| field.tag).collect::<Vec<_>>(), [exif::Tag::Orientation]);
    assert_eq!(read.fields().next().unwrap().value.get_uint(0), Some(u32::from(ORIENTATION)));
    // Not even that fits.
    assert_eq!(made(30), None);
}

#[test]
fn a_text_is_packed_into_any_room_that_is_large_enough() {
    let text = XMP.as_bytes();
    let least = (0..2000).find(|room| packed(text, *room).is_some()).unwrap();
    for room in least..least + 40 {
        let made = packed(text, room).unwrap();
        assert_eq!((made.len(), unpack(&made)), (room, text.to_vec()));
    }
}

#[test]
fn a_keyword_that_names_a_position_goes_with_its_text() {
    for keyword in
        ["exif:GPSLatitude", "exif:GPSInfo", "xmp:GPSLongitude", "Latitude", "Longitude", "longitude", "GPS", "geo:lat"]
    {
        for (name, head) in [(b"tEXt", &b"\0"[..]), (b"zTXt", b"\0\0"), (b"iTXt", b"\0\0\0\0\0")] {
            let (name, content) = sent(name, &[keyword.as_bytes(), head, b"12/1, 20/1, 1104/25"].concat());
            assert_eq!((name.as_str(), content.iter().all(|byte| *byte == 0)), ("blNk", true), "{keyword}");
        }
    }
    for keyword in ["Author", "exif:Orientation", "exif:ISOSpeedLatitudeyyy", "Location", "Title"] {
        let content = [keyword.as_bytes(), b"\x006"].concat();
        assert_eq!(sent(b"tEXt", &content), ("tEXt".to_owned(), content));
    }
}

#[test]
fn texts_without_a_position_stay_as_they_are() {
    let plain = "<x:xmpmeta><rdf:Description dc:creator='Ada'/></x:xmpmeta>";
    let exif = hex::encode(b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0");
    for (name, content) in [
        (b"zTXt", [&b"XML:com.adobe.xmp\0\0"[..], &zlib(plain.as_bytes())].concat()),
        (b"zTXt", [&b"Comment\0\0"[..], &zlib(b"by the sea")].concat()),
        (b"zTXt", b"Comment\0\0not packed at all".to_vec()),
        (b"tEXt", [&b"Raw profile type exif\0\nexif\n      32\n"[..], exif.as_bytes(), b"\n"].concat()),
    ] {
        assert_eq!(sent(name, &content).1, content);
    }
}

#[test]
fn texts_of_xmp_and_exif_that_cannot_be_unpacked_go() {
    let long = zlib(&vec![b' '; (4 << 20) + 1]);
    for (name, content) in [
        (b"zTXt", b"Raw profile type exif\0\0packed".to_vec()),
        (b"tEXt", b"Raw profile type APP1\0no digits".to_vec()),
        (b"iTXt", b"XML:com.adobe.xmp\0\x01\0\0\0packed".to_vec()),
        (b"zTXt", [&b"XML:com.adobe.xmp\0\0"[..], &long].concat()),
    ] {
        let (name, content) = sent(name, &content);
        assert_eq!((name.as_str(), content.iter().all(|byte| *byte == 0)), ("blNk", true));
    }
}

#[test]
fn pngs_inside_of_another_file_are_looked_into() {
    let png = png_with(&png(), &[chunk(b"eXIf", &located::exif(Order::Big)), chunk(b"tEXt", b"Latitude\x0012.3456")]);
    let head = b"\0\0\x01\0\x02\0an icon's directory";
    let after = without(&[head, &png[..], &png].concat());
    for part in [&after[head.len()..head.len() + png.len()], &after[head.len() + png.len()..]] {
        assert_eq!(chunks(part)[2].0, "blNk");
        assert!(patches(part).is_empty());
    }
}
