//! Files of every kind that contain a position, checked with another reader before and after.

use std::io::Cursor;

use exif::{In, Tag};
use proptest::prelude::*;

use super::*;
use crate::testing::located::{
    self, MAKE, ORIENTATION, Order, Tiff, app1, app1_xmp, chunk, exif_in, jpeg_with, png_with, segment,
};
use store::Body;

pub(super) fn patches(bytes: &[u8]) -> Patches {
    find(&Body::from(bytes.to_vec())).unwrap()
}

/// The same file without positions.
pub(super) fn without(bytes: &[u8]) -> Vec<u8> {
    let patches = patches(bytes);
    let mut patched = bytes.to_vec();
    patches.apply(0, &mut patched);
    // The reported parts are the only ones that differ.
    let mut expected = bytes.to_vec();
    patches.parts().for_each(|part| {
        let part = part.start as usize..part.end as usize;
        expected[part.clone()].copy_from_slice(&patched[part]);
    });
    assert!(patched == expected && patched.len() == bytes.len());
    patched
}

pub(super) fn encode(format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image::RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, 7]))
        .write_to(&mut bytes, format)
        .unwrap();
    bytes.into_inner()
}

pub(super) fn pixels(bytes: &[u8]) -> Vec<u8> {
    image::load_from_memory(bytes).unwrap().into_rgb8().into_raw()
}

pub(super) fn contains(bytes: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(bytes, text).is_some()
}

/// How many Exif entries another reader recognizes as parts of a position.
fn gps_in(exif: &exif::Exif) -> usize {
    exif.fields()
        .filter(|field| field.tag.context() == exif::Context::Gps || field.tag == Tag::GPSInfoIFDPointer)
        .count()
}

fn read(container: &[u8]) -> exif::Exif {
    exif::Reader::new().read_from_container(&mut Cursor::new(container)).unwrap()
}

/// Checks that a file with a position in Exif loses it, stays complete, and keeps all other data.
#[track_caller]
fn loses_its_place_only(before: &[u8]) -> Vec<u8> {
    assert!(gps_in(&read(before)) >= 6);
    let after = without(before);
    let exif = read(&after);
    assert_eq!(gps_in(&exif), 0);
    assert_eq!(exif.get_field(Tag::Orientation, In::PRIMARY).unwrap().value.get_uint(0), Some(u32::from(ORIENTATION)));
    assert_eq!(exif.get_field(Tag::Make, In::PRIMARY).unwrap().display_value().to_string(), format!("{MAKE:?}"));
    assert!(exif.get_field(Tag::DateTimeOriginal, In::PRIMARY).is_some());
    // The numbers themselves are gone too, not only the entries that point to them.
    for order in [Order::Little, Order::Big] {
        let (_, _, _, latitude) = Tiff::new(order).entry(2, 5, &located::LATITUDE);
        assert!(!contains(&after, &latitude));
    }
    assert!(patches(&after).is_empty(), "there is nothing more to find");
    after
}

const ORDERS: [Order; 2] = [Order::Little, Order::Big];

#[test]
fn jpeg_loses_gps_and_keeps_camera_orientation_and_pixels() {
    let jpeg = encode(image::ImageFormat::Jpeg);
    for order in ORDERS {
        let before = jpeg_with(&jpeg, &[app1(&located::exif(order))]);
        assert_eq!(pixels(&loses_its_place_only(&before)), pixels(&before));
    }
}

#[test]
fn the_second_picture_of_a_file_loses_its_place_as_well() {
    let one = jpeg_with(&encode(image::ImageFormat::Jpeg), &[app1(&located::exif(Order::Big))]);
    let both = [one.clone(), one.clone()].concat();
    let after = loses_its_place_only(&both);
    assert_eq!(gps_in(&read(&after[one.len()..])), 0);
}

#[test]
fn png_loses_its_gps_position_and_keeps_valid_checksums() {
    let png = encode(image::ImageFormat::Png);
    let xmp = [b"XML:com.adobe.xmp\0\0\0\0\0", located::XMP.as_bytes()].concat();
    for order in ORDERS {
        let before = png_with(&png, &[chunk(b"eXIf", &located::exif(order)), chunk(b"iTXt", &xmp)]);
        let after = loses_its_place_only(&before);
        assert_eq!(pixels(&after), pixels(&before));
        // Even if the decoder ignores checksums of such chunks.
        let mut at = 8;
        while at < after.len() {
            let length = u32::from_be_bytes(after[at..at + 4].try_into().unwrap()) as usize;
            let checksum = u32::from_be_bytes(after[at + 8 + length..at + 12 + length].try_into().unwrap());
            assert_eq!(crc32fast::hash(&after[at + 4..at + 8 + length]), checksum);
            at += 12 + length;
        }
        assert!(!contains(&after, b"52,30") && contains(&after, b"dc:creator='Ada'"));
    }
}

#[test]
fn webp_loses_its_gps_position() {
    let webp = encode(image::ImageFormat::WebP);
    for prefix in [&b""[..], b"Exif\0\0"] {
        let mut exif = [prefix, &located::exif(Order::Little)].concat();
        exif.resize(exif.len().next_multiple_of(2), 0);
        let vp8x = [&b"VP8X\x0a\0\0\0\x08\0\0\0"[..], &[8, 0, 0, 6, 0, 0]].concat();
        let chunk = [&b"EXIF"[..], &(exif.len() as u32).to_le_bytes(), &exif].concat();
        let content = [b"WEBP", &vp8x[..], &webp[12..], &chunk].concat();
        let before = [b"RIFF", &(content.len() as u32).to_le_bytes()[..], &content].concat();
        let after = if prefix.is_empty() { loses_its_place_only(&before) } else { without(&before) };
        assert!(patches(&after).is_empty() && !patches(&before).is_empty());
        assert_eq!(pixels(&after), pixels(&before));
    }
}

#[test]
fn heic_and_avif_lose_their_gps_positions() {
    for brand in [b"heic", b"avif"] {
        let exif = located::exif(Order::Big);
        let item = [&0_u32.to_be_bytes()[..], &exif].concat();
        let iso_box =
            |name: &[u8; 4], content: &[u8]| [&(content.len() as u32 + 8).to_be_bytes()[..], name, content].concat();
        let ftyp = iso_box(b"ftyp", &[&brand[..], &[0; 4], b"mif1", brand].concat());
        let infe = iso_box(b"infe", b"\x02\0\0\0\0\x01\0\0Exif\0");
        let iinf = iso_box(b"iinf", &[&[0, 0, 0, 0, 0, 1][..], &infe].concat());
        let hdlr = iso_box(b"hdlr", b"\0\0\0\0\0\0\0\0pict\0\0\0\0\0\0\0\0\0\0\0\0\0");
        let meta = |offset: u32| {
            let location = [
                &b"\0\0\0\0\x44\0\0\x01\0\x01\0\0\0\x01"[..],
                &offset.to_be_bytes(),
                &(item.len() as u32).to_be_bytes(),
            ];
            iso_box(b"meta", &[&[0; 4][..], &hdlr, &iso_box(b"iloc", &location.concat()), &iinf].concat())
        };
        let offset = ftyp.len() + meta(0).len() + 8;
        loses_its_place_only(&[ftyp, meta(offset as u32), iso_box(b"mdat", &item)].concat());
    }
}

#[test]
fn tiff_and_bigtiff_lose_their_gps_positions() {
    for order in ORDERS {
        loses_its_place_only(&located::exif(order));
        let big = exif_in(Tiff::big(order), &[]);
        let after = without(&big);
        assert!(patches(&after).is_empty());
        let (_, _, _, latitude) = Tiff::new(order).entry(2, 5, &located::LATITUDE);
        assert!(contains(&big, &latitude) && !contains(&after, &latitude));
        assert!(contains(&after, MAKE.as_bytes()));
    }
}

#[test]
fn a_directory_of_nothing_but_a_place_keeps_an_entry() {
    for order in ORDERS {
        let mut tiff = Tiff::new(order);
        let place = tiff.place();
        let entries = [tiff.entry(0x8825, 4, &[place])];
        let first = tiff.directory(&entries, 0);
        let after = without(&tiff.finish(first));
        let exif = exif::Reader::new().read_raw(after).unwrap();
        assert_eq!((exif.fields().count(), gps_in(&exif)), (1, 0));
    }
}

#[test]
fn where_the_directory_of_a_place_is_none_the_way_to_it_goes() {
    let mut tiff = Tiff::new(Order::Little);
    let text = tiff.directory(&[(0x9003, 2, 20, b"2026:11:20 08:00:00\0".to_vec())], 0);
    for leads_to in [text, 8_000_000, 0, u32::MAX] {
        let mut tiff = tiff.clone();
        let entries = [tiff.entry(0x0112, 3, &[6]), tiff.entry(0x8825, 4, &[leads_to])];
        let first = tiff.directory(&entries, 0);
        let before = tiff.finish(first);
        let found = patches(&before);
        let whole = u64::from(first)..before.len() as u64;
        assert_eq!(found.parts().collect::<Vec<_>>(), [whole], "{leads_to}");
        assert_eq!(gps_in(&exif::Reader::new().read_raw(without(&before)).unwrap()), 0);
    }
}

#[test]
fn nothing_outside_of_an_exif_block_is_touched_whatever_it_leads_to() {
    let mut tiff = Tiff::new(Order::Big);
    // The latitude is after the block, in the picture.
    let gps = tiff.directory(&[(1, 2, 2, b"N\0".to_vec()), (2, 5, 3, vec![0; 24])], 0);
    let entries = [tiff.entry(0x8825, 4, &[gps])];
    let first = tiff.directory(&entries, 0);
    let mut exif = tiff.finish(first);
    let offset = gps as usize + 2 + 12 + 8;
    let beyond = exif.len() as u32;
    exif[offset..offset + 4].copy_from_slice(&beyond.to_be_bytes());
    let before = jpeg_with(&encode(image::ImageFormat::Jpeg), &[app1(&exif)]);
    let end = (2 + 10 + exif.len()) as u64;
    let found = patches(&before);
    assert!(!found.is_empty() && found.parts().all(|part| part.end <= end));
    assert_eq!(pixels(&without(&before)), pixels(&before));
}

#[test]
fn properties_of_xmp_that_say_a_place_are_gone_and_all_others_stand() {
    let before = jpeg_with(&encode(image::ImageFormat::Jpeg), &[app1_xmp()]);
    let after = String::from_utf8_lossy(&without(&before)).into_owned();
    let (start, end) = (after.find("<rdf:Description").unwrap(), after.find("</rdf:RDF>").unwrap());
    let words = after[start..end].split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(
        words,
        "<rdf:Description xmlns:exif=\"http://ns.adobe.com/exif/1.0/\" dc:creator='Ada' > \
         <tiff:Orientation>6</tiff:Orientation> </rdf:Description>"
    );
    assert!(patches(&without(&before)).is_empty());
}

#[test]
fn what_is_no_property_of_a_place_stays() {
    for text in
        ["a :GPS b", "<x:GPS/>", "</exif:GPSLatitude>", "exif:GPS=52", " :GPS=\"x\"", "a:GPSx", "x:GPS=", "GPS=\"1\""]
    {
        assert!(patches(text.as_bytes()).is_empty(), "{text}");
    }
    // If the end is not found, the value extends as far as it is available.
    let long = format!("<a exif:GPSAreaInformation=\"{}", "x".repeat(10_000));
    let after = without(long.as_bytes());
    assert!(after.starts_with(b"<a exif:GPSAreaInformation=\"   ") && contains(&after, b"   xxx"));
}

pub(super) fn mp4(udta: &[u8]) -> Vec<u8> {
    let iso_box =
        |name: &[u8; 4], content: &[u8]| [&(content.len() as u32 + 8).to_be_bytes()[..], name, content].concat();
    let moov = iso_box(b"moov", &iso_box(b"udta", udta));
    [iso_box(b"ftyp", b"isom\0\0\x02\0isom"), moov, iso_box(b"mdat", &[9; 3000])].concat()
}

#[test]
fn mp4_loses_its_gps_positions() {
    let xyz = b"\0\0\0\x1e\xa9xyz\0\x12\x15\xc7+52.5200+013.4050/";
    let loci = [
        &b"\0\0\0\x22loci\0\0\0\0\x15\xc7\0\0"[..],
        &(13_i32 << 16).to_be_bytes(),
        &(52_i32 << 16).to_be_bytes(),
        &[0; 4],
        b"earth\0",
    ]
    .concat();
    let apple = [
        &b"\0\0\0\x28keys\0\0\0\0\0\0\0\0com.apple.quicktime"[..],
        b"\0\0\0\x2adata\0\0\0\x01\0\0\0\0+27.5916-086.5640+8850/CRS",
    ]
    .concat();
    let other = b"\0\0\0\x16data\0\0\0\x01\0\0\0\0iPhone";
    for (place, name) in [(&xyz[..], &b"free"[..]), (&loci, b"free"), (&apple, b"data")] {
        let before = mp4(&[place, other].concat());
        let after = without(&before);
        assert!(!contains(&after, b"52.5") && !contains(&after, b"27.5") && !contains(&after, b"loci\0\0"));
        assert!(contains(&after, name) && contains(&after, other), "{place:?}");
        assert!(patches(&after).is_empty());
    }
    assert!(patches(&mp4(other)).is_empty());
    // A file that is not an MP4 may contain such bytes by chance.
    assert!(patches(xyz).is_empty());
}

#[test]
fn images_without_gps_position_are_unchanged() {
    let jpeg = encode(image::ImageFormat::Jpeg);
    let mut tiff = Tiff::new(Order::Big);
    let entries = [tiff.entry(0x0112, 3, &[6])];
    let first = tiff.directory(&entries, 0);
    let plain = jpeg_with(&jpeg, &[app1(&tiff.finish(first)), segment(0xfe, b"GPS: none")]);
    for bytes in
        [plain, encode(image::ImageFormat::Png), encode(image::ImageFormat::WebP), Vec::new(), b"II*\0".to_vec()]
    {
        assert!(patches(&bytes).is_empty());
    }
}

/// A body that counts the bytes read from it.
struct Counted(Body, std::sync::atomic::AtomicU64);

impl ReadAt for Counted {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.1.fetch_add(buffer.len() as u64, std::sync::atomic::Ordering::Relaxed);
        self.0.read_at(offset, buffer)
    }
}

#[test]
fn whatever_a_file_holds_it_is_read_three_times_at_most() {
    // Headers that all point to the same large directory, circular directories, and properties without an end.
    let mut directory = vec![0x00, 0x04];
    directory.extend([0x88, 0x25, 0, 4, 0, 0, 0, 1, 0, 0, 0, 8].repeat(1024));
    directory.extend([0, 0, 0, 8]);
    let headers = [&b"MM\0*\0\0\0\x08"[..], &directory].concat().repeat(60);
    let circle = b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0".repeat(20_000);
    let properties = b"a:GPS>".repeat(100_000);
    let quotes = b" a:GPS=\"".repeat(100_000);
    for bytes in [headers, b"MM\0*".repeat(200_000), b"II*\0".repeat(200_000), circle, properties, quotes] {
        let size = bytes.len() as u64;
        let counted = Counted(Body::from(bytes), 0.into());
        let found = find(&counted).unwrap();
        let read = counted.1.into_inner();
        assert!(read <= 3 * size + (6 << 20), "{read} of {size}");
        assert!(found.weight() < 8 << 20, "{}", found.weight());
    }
}

/// A file with a position at any offset and in any surroundings.
fn located_file() -> impl Strategy<Value = Vec<u8>> {
    let exif = (any::<bool>(), any::<bool>()).prop_map(|(order, big)| {
        let order = if order { Order::Little } else { Order::Big };
        if big { exif_in(Tiff::big(order), &[]) } else { located::exif(order) }
    });
    let part = prop_oneof![
        exif.clone(),
        exif.prop_map(|exif| app1(&exif)),
        Just(app1_xmp()),
        Just(mp4(b"\0\0\0\x1e\xa9xyz\0\x12\x15\xc7+52.5200+013.4050/")),
        prop::collection::vec(any::<u8>(), 0..200),
        (0..70_000_usize).prop_map(|length| vec![0x20; length]),
    ];
    prop::collection::vec(part, 1..6).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_reader_finds_a_gps_position_and_nothing_else_changes(more in prop::collection::vec((0x0100_u16..0x8000, 0..300_usize), 0..40), order in any::<bool>()) {
        let order = if order { Order::Little } else { Order::Big };
        let mut more: Vec<located::Entry> = more
            .into_iter()
            .filter(|(tag, _)| ![0x010f, 0x0112].contains(tag))
            .map(|(tag, length)| (tag, 7, length as u64, vec![0x33; length]))
            .collect();
        more.sort_by_key(|entry| entry.0);
        more.dedup_by_key(|entry| entry.0);
        let before = jpeg_with(&encode(image::ImageFormat::Jpeg), &[app1(&exif_in(Tiff::new(order), &more))]);
        let after = loses_its_place_only(&before);
        let others = |bytes: &[u8]| read(bytes).fields().filter(|field| field.tag.context() != exif::Context::Gps && field.tag != Tag::GPSInfoIFDPointer).count();
        prop_assert_eq!(others(&after), others(&before));
    }

    #[test]
    fn it_does_not_matter_in_which_pieces_the_bytes_come(bytes in located_file(), piece in 1..70_000_usize) {
        let whole = patches(&bytes);
        let mut scanner = Scanner::default();
        bytes.chunks(piece).for_each(|piece| scanner.update(piece));
        prop_assert_eq!(&scanner.finish().resolve(&Body::from(bytes.clone())).unwrap(), &whole);
        let mut at_once = bytes.clone();
        whole.apply(0, &mut at_once);
        let pieces = bytes.chunks(piece).enumerate();
        let in_pieces = pieces.flat_map(|(n, part)| whole.applied((n * piece) as u64, part.to_vec().into()));
        prop_assert!(in_pieces.eq(at_once));
    }

    #[test]
    fn damaged_files_make_it_neither_panic_nor_patch_beyond_the_end(
        mut bytes in located_file(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
    ) {
        if !bytes.is_empty() {
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(bytes.len()) + 1);
        }
        without(&bytes);
        let parts: Vec<_> = patches(&bytes).parts().collect();
        prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= bytes.len() as u64));
        prop_assert!(parts.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }
}
