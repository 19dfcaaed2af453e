//! Positions outside of GPS directories: in XMP of every form, in JSON, in MP4s after a JPEG, in other directories of a
//! TIFF.

use super::tests::{contains, encode, mp4, patches, pixels, without};
use crate::testing::located::{self, Order, Tiff, app1, jpeg_with, segment};

/// The words of a text that is sent without positions.
fn words(text: &str) -> String {
    let after = String::from_utf8(without(text.as_bytes())).unwrap();
    assert!(patches(after.as_bytes()).is_empty(), "there is nothing more to find: {after}");
    after.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn elements_of_xmp_with_attributes_and_with_elements_inside_go() {
    for property in [
        "<exif:GPSLatitude xml:lang=\"en\">12,20.7N</exif:GPSLatitude>",
        "<exif:GPSLatitude rdf:parseType='Resource'><rdf:value>12,20.7N</rdf:value></exif:GPSLatitude>",
        "<exif:GPSLatitude rdf:value=\"12,20.7N\"/>",
        "<exif:GPSLatitude\n><rdf:Alt><rdf:li a='>'>12,20.7N</rdf:li></rdf:Alt></exif:GPSLatitude >",
        "<Item name=\"Latitude\" value=\"12:20:44.16\"/>",
    ] {
        assert_eq!(words(&format!("<a:b>c</a:b> {property} <d:e/>")), "<a:b>c</a:b> <d:e/>", "{property}");
    }
}

#[test]
fn positions_of_other_vocabularies_go() {
    let names = "geo:lat geo:long geo:alt geo:lat_long dwc:decimalLatitude dwc:decimalLongitude dwc:footprintWKT \
                 dwc:verbatimCoordinates drone-dji:GpsLongtitude drone-dji:Latitude Device:EarthPosLongitude \
                 georss:point video:GPSCoordinates exif:GPSDestLatitude Camera:gpsTrack";
    for name in names.split_whitespace() {
        assert_eq!(words(&format!("<r:D a:b='1' {name}=\"12.3456\" c:d='2'>")), "<r:D a:b='1' c:d='2'>", "{name}");
        assert_eq!(words(&format!("<r:D> <{name}>12.3456</{name}> </r:D>")), "<r:D> </r:D>", "{name}");
    }
}

#[test]
fn names_that_only_look_like_a_position_stay() {
    for text in [
        "<r:D exifEX:ISOSpeedLatitudeyyy=\"100\" Iptc4xmpCore:Location='x' x:lattice=\"1\" crs:alt='2' dc:longer='3'>",
        "<r:D xmlns:GPS=\"http://example.com/gps\" xmlns:lat='http://example.com/lat'>",
        "<x:longest>1</x:longest> latitude=\"12\" <x:latitude/>",
        "{\"title\": \"latitude\", \"GPS\", \"a\": {\"ISOSpeedLatitudeyyy\": 1}}",
    ] {
        assert!(patches(text.as_bytes()).is_empty(), "{text}");
    }
}

#[test]
fn members_of_json_go_with_one_of_their_commas() {
    for (before, after) in [
        (r#"{"a":1,"exif:GPSLatitude":"12,20.7N","b":2}"#, r#"{"a":1 ,"b":2}"#),
        (r#"{"exif:GPSLatitude": "12", "exif:GPSLongitude": "98", "b":2}"#, r#"{ "b":2}"#),
        (r#"{"exif:GPSLatitude": "12", "exif:GPSLongitude": "98"}"#, "{ }"),
        (r#"{"a":1, "exif:GPSVersionID": [2, 3], "exif:GPSLongitude":-98.7}"#, r#"{"a":1 }"#),
        (
            r#"{"a":1 , "latitude" : 12.3 , "c":"\"", "geo":{"x":"}"} , "longitude":9 }"#,
            r#"{"a":1 , "c":"\"", "geo":{"x":"}"} }"#,
        ),
        (r#"{"gpsPosition": {"x": [1, "}"], "y": 2}, "b": null}"#, r#"{ "b": null}"#),
    ] {
        let sent = words(before);
        assert_eq!(sent, after);
        let others: serde_json::Value = serde_json::from_str(&sent).unwrap();
        let mut expected: serde_json::Value = serde_json::from_str(before).unwrap();
        expected.as_object_mut().unwrap().retain(|name, _| !super::names::is_position_with_prefix(name.as_bytes()));
        assert_eq!(others, expected);
    }
}

#[test]
fn content_credentials_lose_the_position_in_their_json() {
    let json =
        r#"{"@context":{"exif":"http://ns.adobe.com/exif/1.0/"},"exif:GPSLatitude":"12,20.7N","exif:Make":"Keepsake"}"#;
    let jumbf = segment(0xeb, &[b"JP\0\x01\0\0\0\x01\0\0\0\x99jumb\0\0\0\x77json", json.as_bytes()].concat());
    let before = jpeg_with(&encode(image::ImageFormat::Jpeg), &[jumbf]);
    let after = without(&before);
    assert!(!contains(&after, b"12,20") && contains(&after, br#""exif:Make":"Keepsake""#));
    assert_eq!(pixels(&after), pixels(&before));
}

#[test]
fn the_video_behind_a_picture_loses_its_position() {
    let video = mp4(&[
        &b"\0\0\0\x1e\xa9xyz\0\x12\x15\xc7+52.5200+013.4050/"[..],
        b"\0\0\0\x2adata\0\0\0\x01\0\0\0\0+27.5916-086.5640+8850/CRS",
    ]
    .concat());
    let jpeg = jpeg_with(&encode(image::ImageFormat::Jpeg), &[app1(&located::exif(Order::Little))]);
    for space in [0, 1, 100_000] {
        let before = [&jpeg[..], &vec![0; space], &video].concat();
        let after = without(&before);
        assert!(!contains(&after, b"52.5200") && !contains(&after, b"27.5916"));
        assert_eq!(after[jpeg.len() + space..], without(&video));
        assert_eq!(pixels(&after), pixels(&before));
    }
}

#[test]
fn a_position_below_another_directory_goes() {
    for order in [Order::Little, Order::Big] {
        for big in [false, true] {
            let mut tiff = if big { Tiff::big(order) } else { Tiff::new(order) };
            let place = tiff.place();
            let other = tiff.directory(&[tiff.entry(0x0112, 3, &[6])], 0);
            let below = tiff.directory(&[tiff.entry(0x0112, 3, &[6]), tiff.entry(0x8825, 4, &[place])], 0);
            // One offset is in the entry itself, three are elsewhere.
            for (kind, leads_to) in [(4, vec![below]), (4, vec![other, other, below]), (13, vec![below])] {
                let mut tiff = tiff.clone();
                let entries = [
                    tiff.entry(0x0112, 3, &[6]),
                    tiff.entry(if kind == 13 { 0xc100 } else { 0x014a }, kind, &leads_to),
                ];
                let first = tiff.directory(&entries, 0);
                let before = tiff.finish(first);
                let after = without(&before);
                let (_, _, _, latitude) = Tiff::new(order).entry(2, 5, &located::LATITUDE);
                assert!(contains(&before, &latitude) && !contains(&after, &latitude), "{order:?} {big} {leads_to:?}");
                assert!(patches(&after).is_empty());
            }
        }
    }
}

#[test]
fn a_position_in_the_last_of_many_directories_goes() {
    let mut tiff = Tiff::new(Order::Little);
    let place = tiff.place();
    let mut next = tiff.directory(&[tiff.entry(0x8825, 4, &[place])], 0);
    for _ in 0..200 {
        next = tiff.directory(&[tiff.entry(0x0112, 3, &[6])], next);
    }
    let before = tiff.finish(next);
    let (_, _, _, latitude) = Tiff::new(Order::Little).entry(2, 5, &located::LATITUDE);
    assert!(contains(&before, &latitude) && !contains(&without(&before), &latitude));
}

#[test]
fn a_thermal_camera_s_position_goes() {
    let mut record = vec![0; 0x68];
    record[..12].copy_from_slice(b"\x01\0\0\0\x02\x02\0\0N\0E\0");
    record[0x10..0x18].copy_from_slice(&12.3456_f64.to_le_bytes());
    record[0x18..0x20].copy_from_slice(&98.7654_f64.to_le_bytes());
    let thermal = segment(0xe1, &[&b"FLIR\0\x01\0\0FFF\0"[..], &record, b"ThermaCAM"].concat());
    let before = jpeg_with(&encode(image::ImageFormat::Jpeg), &[thermal]);
    let after = without(&before);
    assert!(!contains(&after, &record[0x10..0x20]) && contains(&after, b"ThermaCAM"));
    assert_eq!(pixels(&after), pixels(&before));
    // Without the segment's name these bytes may be anything.
    assert!(patches(&record).is_empty());
}
