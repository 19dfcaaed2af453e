//! Zips that mean harm: refused as a whole with a sentence, and nothing is changed.

use std::io::{Cursor, Write};

use uuid::Uuid;
use zip::write::SimpleFileOptions;

use super::{open, zip_of};
use crate::domain::{World, png, seen};
use shared::Error;
use shared::catalog::{Change, Commit, Content, Record};
use shared::images::Patch;
use shared::layout::{self, ImageId};
use shared::portable::Source;

/// Replaces a text everywhere, by one of the same length.
fn replaced(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut found = 0;
    for at in 0..bytes.len() - from.len() {
        if &bytes[at..at + from.len()] == from {
            bytes[at..at + to.len()].copy_from_slice(to);
            found += 1;
        }
    }
    assert!(found > 0);
    bytes
}

/// Overwrites a field of the first entry, in its local header and in the directory.
fn with_field(mut zip: Vec<u8>, local: usize, value: &[u8]) -> Vec<u8> {
    let directory = zip.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    zip[local..local + value.len()].copy_from_slice(value);
    zip[directory + local + 2..directory + local + 2 + value.len()].copy_from_slice(value);
    zip
}

/// Reads a zip and imports it, which must fail with a sentence that holds `says`.
async fn refuse(zip: Vec<u8>, says: &str) {
    let world = World::new();
    let keepsake = world.open();
    let outcome = match open(&zip).await {
        Ok(source) => keepsake.imports.import(&source).await.map(drop),
        Err(error) => Err(error),
    };
    match outcome {
        Err(Error::UnusableArchive(sentence)) => assert!(sentence.contains(says), "{sentence} does not say {says}"),
        other => panic!("{other:?} instead of {says}"),
    }
    assert_eq!(world.keys("").await, [] as [String; 0], "nothing was changed");
}

#[tokio::test]
async fn an_image_of_the_highest_version_can_still_be_changed_and_deleted() {
    let world = World::new();
    let keepsake = world.open();
    let (commit, name) = (Uuid::from_u128(7), ImageId::new("a.png").unwrap());
    let change = Change { version: u64::MAX, content: Content::Live(Record::default()) };
    let commit = Commit { id: commit, entries: vec![(name.clone(), change.stamped(commit))] };
    let key = layout::commit(commit.id);
    let files = [(key.as_str(), commit.encode(world.clock.now()).to_vec()), ("uploads/a.png", png(1))];
    keepsake.imports.import(&open(&zip_of(files)).await.unwrap()).await.unwrap();
    let patch = Patch { description: Some(Some("changed".to_owned())), ..Patch::default() };
    keepsake.images.edit("a.png", &patch, shared::Any).await.unwrap();
    assert_eq!(seen(&world.open()).await[&name].0.as_deref(), Some("changed"));
    keepsake.images.delete("a.png", shared::Any).await.unwrap();
    assert!(seen(&world.open()).await.is_empty());
}

#[tokio::test]
async fn a_name_that_leaves_the_root_refuses_the_zip() {
    let long = format!("uploads/{}.png", "x".repeat(5000));
    for name in [
        "/etc/cron.d/x.png",
        "../x.png",
        "uploads/../../x.png",
        "uploads/./x.png",
        "uploads//x.png",
        "uploads\\..\\x.png",
        "\\x.png",
        "C:/x.png",
        "uploads/x\u{1}.png",
        &long,
    ] {
        let placeholder = "p".repeat(name.len());
        let zip = zip_of([("uploads/good.png", png(1)), (placeholder.as_str(), png(2))]);
        refuse(replaced(zip, placeholder.as_bytes(), name.as_bytes()), "is refused").await;
    }
    let zip = zip_of([("uploads/good.png", png(1)), ("uploads/a0b.png", png(2))]);
    refuse(replaced(zip, b"uploads/a0b.png", b"uploads/a\0b.png"), "zip").await;
}

#[tokio::test]
async fn of_two_entries_of_one_name_neither_hides_the_other() {
    let keepsake = World::new().open();
    let metadata = super::older(serde_json::json!({ "a.png": { "description": "a" } }));
    let zip = zip_of([
        ("image-metadata.json", metadata),
        ("uploads/a (2).png", png(3)),
        ("uploads/a.png", png(1)),
        ("uploads/b.png", png(2)),
    ]);
    let zip = replaced(zip, b"uploads/b.png", b"uploads/a.png");
    let plan = super::import(&keepsake, &zip).await.plan;
    assert_eq!(plan.renamed_files, [("uploads/a.png".to_owned(), "uploads/a (3).png".to_owned())]);
    let seen = seen(&keepsake).await;
    assert_eq!(seen[&super::id("a.png")], (Some("a".to_owned()), Some(png(1))));
    assert_eq!((&seen[&super::id("a (2).png")].1, &seen[&super::id("a (3).png")].1), (&Some(png(3)), &Some(png(2))));
}

#[tokio::test]
async fn names_that_differ_in_case_only_are_two_images() {
    let keepsake = World::new().open();
    let zip = zip_of([("uploads/a.png", png(1)), ("uploads/A.png", png(2))]);
    assert_eq!(super::import(&keepsake, &zip).await.plan.adopted.len(), 2);
    let seen = seen(&keepsake).await;
    assert_eq!((&seen[&super::id("a.png")].1, &seen[&super::id("A.png")].1), (&Some(png(1)), &Some(png(2))));
}

#[tokio::test]
async fn links_refuse_the_zip() {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("uploads/a.png", SimpleFileOptions::default()).unwrap();
    zip.write_all(&png(1)).unwrap();
    zip.add_symlink("uploads/b.png", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    refuse(zip.finish().unwrap().into_inner(), "is a link").await;
}

#[tokio::test]
async fn encrypted_and_strangely_packed_entries_refuse_the_zip() {
    let zip = || zip_of([("uploads/a.png", png(1))]);
    let flags = u16::from_le_bytes(zip()[6..8].try_into().unwrap());
    refuse(with_field(zip(), 6, &(flags | 1).to_le_bytes()), "is encrypted").await;
    refuse(with_field(zip(), 8, &12_u16.to_le_bytes()), "other than deflate").await;
    refuse(with_field(zip(), 8, &99_u16.to_le_bytes()), "").await;
}

#[tokio::test]
async fn an_entry_that_is_longer_or_shorter_than_it_declares_refuses_the_zip() {
    for declared in [10_u32, 100_000] {
        let zip = with_field(zip_of([("uploads/a.png", png(1))]), 22, &declared.to_le_bytes());
        refuse(zip, "").await;
    }
}

#[tokio::test]
async fn a_wrong_checksum_refuses_the_zip() {
    let zip = zip_of([("uploads/a.png", png(1)), ("uploads/b.png", png(2))]);
    refuse(with_field(zip, 14, &7_u32.to_le_bytes()), "damaged").await;
}

#[tokio::test]
async fn what_would_unpack_to_far_more_than_it_is_refuses_the_zip() {
    let zip = zip_of([("uploads/a.png", vec![0; 80 << 20])]);
    assert!(zip.len() < 100_000);
    refuse(zip, "too much").await;
}

#[tokio::test]
async fn a_small_zip_whose_text_would_fill_the_memory_is_refused() {
    // A million records as far apart as a zip can press them together, and a few that hold millions of values.
    let pale: Vec<String> =
        (0..400_000).map(|n| format!("\"{n}\":{{\"description\":\"{}\"}}", "x".repeat(120))).collect();
    let long = format!("{{{}}}", pale.join(",")).into_bytes();
    let dense = format!("{{\"a.png\":{{\"tags\":[{}0]}}}}", "[],".repeat(2_500_000)).into_bytes();
    let many: Vec<String> = (0..200_000).map(|n| format!("\"{n}.png\":{{}}")).collect();
    let many = format!("{{{}}}", many.join(",")).into_bytes();
    for text in [long, dense, many] {
        let zip = zip_of([("image-metadata.json", text)]);
        assert!(zip.len() < 2_500_000, "{}", zip.len());
        refuse(zip, "too much text").await;
    }
}

#[tokio::test]
async fn zip_with_too_many_entries_is_refused_before_memory_fills() {
    // A directory of nothing but the beginnings of entries, and the end that points to it.
    let (count, one) = (2_000_000_u64, {
        let mut one = b"PK\x01\x02".to_vec();
        one.resize(47, 0);
        one[28] = 1;
        one[46] = b'a';
        one
    });
    let mut zip = one.repeat(count as usize);
    let length = zip.len() as u64;
    let mut end = b"PK\x06\x06".to_vec();
    end.extend(44_u64.to_le_bytes());
    end.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for number in [count, count, length, 0] {
        end.extend(number.to_le_bytes());
    }
    end.extend(b"PK\x06\x07\0\0\0\0");
    end.extend(length.to_le_bytes());
    end.extend(1_u32.to_le_bytes());
    end.extend(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
    zip.extend(end);
    refuse(zip, "directory is too long").await;
}

#[tokio::test]
async fn entries_that_share_their_bytes_refuse_the_zip() {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("uploads/a.png", SimpleFileOptions::default()).unwrap();
    zip.write_all(&png(1)).unwrap();
    zip.shallow_copy_file("uploads/a.png", "uploads/b.png").unwrap();
    refuse(zip.finish().unwrap().into_inner(), "overlap").await;
}

#[tokio::test]
async fn what_is_no_zip_or_breaks_off_anywhere_is_refused() {
    refuse(Vec::new(), "zip").await;
    refuse(png(1), "zip").await;
    let zip = zip_of([("image-metadata.json", b"{}".to_vec()), ("uploads/a.png", png(1))]);
    for end in 0..zip.len() {
        assert!(open(&zip[..end]).await.is_err(), "the first {end} bytes");
    }
}

#[tokio::test]
async fn a_place_that_no_file_reaches_is_the_fault_of_the_zip() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.zip");
    for place in [1_u64 << 63, u64::MAX] {
        let mut zip = b"PK\x06\x07\0\0\0\0".to_vec();
        zip.extend(place.to_le_bytes());
        zip.extend(b"\x01\0\0\0PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
        std::fs::write(&path, zip).unwrap();
        let outcome = Source::zip_file(&path).await;
        assert!(matches!(outcome, Err(Error::UnusableArchive(_))), "{outcome:?}");
    }
}

#[tokio::test]
async fn metadata_that_cannot_be_read_refuse_the_zip() {
    for metadata in ["", "[]", "{\"a.png\": ", "{\"$keepsake\": {}}"] {
        let zip = zip_of([("image-metadata.json", metadata.as_bytes().to_vec()), ("uploads/a.png", png(1))]);
        refuse(zip, "image-metadata.json").await;
    }
}

#[tokio::test]
async fn a_zip_inside_is_not_opened_and_no_file_leaves_the_store() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.zip"), zip_of([("a.png", png(1)), ("b.zip", zip_of([("c.png", png(2))]))]))
        .unwrap();
    let keepsake = World::new().open();
    let source = Source::zip_file(&folder.path().join("a.zip")).await.unwrap();
    let imported = keepsake.imports.import(&source).await.unwrap();
    assert_eq!((imported.plan.adopted.len(), imported.plan.skipped), (1, vec!["b.zip".to_owned()]));
}
