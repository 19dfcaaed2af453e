//! What is taken in from zips that other programs made, or that are not whole.

use std::io::{Cursor, Write};

use axum::Router;
use axum::body::Body;
use serde_json::{Value, json};
use shared::backup::Kind;
use shared::catalog::Record;
use shared::http::{App, finish};
use shared::images::Filter;
use shared::testing::{Answer, app, png, request, send, store_image};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime};

fn server(app: &App) -> Router {
    finish(backup::server_routes().into_router(app.clone()), app)
}

async fn take_in(app: &App, zip: Vec<u8>) -> Answer {
    send(&server(app), request("POST", "/api/backups", &[], zip)).await
}

/// What a plan of the zip answers.
async fn plan(app: &App, zip: Vec<u8>) -> Value {
    send(&server(app), request("POST", "/api/backups?dryRun=true", &[], zip)).await.json()
}

fn dated(year: u16, month: u8, day: u8, hour: u8) -> SimpleFileOptions {
    let time = DateTime::from_date_and_time(year, month, day, hour, 0, 0).unwrap();
    SimpleFileOptions::default().compression_method(CompressionMethod::Stored).last_modified_time(time)
}

/// A zip whose entries are stored as they are.
fn zip_of(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let all = dated(2024, 1, 1, 0);
    zip_at(&entries.iter().map(|(name, bytes)| (*name, bytes.clone(), all)).collect::<Vec<_>>())
}

fn zip_at(entries: &[(&str, Vec<u8>, SimpleFileOptions)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes, options) in entries {
        zip.start_file(*name, *options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Replaces a name everywhere by one of the same length, which need not be text.
fn renamed(mut zip: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> = (0..zip.len() - from.len()).filter(|at| zip[*at..].starts_with(from)).collect();
    assert_eq!(places.len(), 2, "once before the bytes and once in the directory");
    for at in places {
        zip[at..at + to.len()].copy_from_slice(to);
    }
    zip
}

/// The records of all images, newest first, as the page lists them.
async fn listed(app: &App) -> Vec<Record> {
    let found = app.keepsake.images.list(&Filter::default(), None, 1_000).await.unwrap();
    found.images.iter().map(|(_, entry)| entry.live().unwrap().clone()).collect()
}

async fn names(app: &App) -> Vec<String> {
    listed(app).await.into_iter().map(|record| record.original_name.unwrap()).collect()
}

async fn refuse(zip: &[u8], says: &str) {
    let app = app();
    let answer = take_in(&app, zip.to_vec()).await;
    assert_eq!(answer.problem(), (422, "unusable-archive".to_owned()), "{}", answer.json());
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(says), "{detail}");
    assert!(listed(&app).await.is_empty(), "something was taken in");
}

#[tokio::test]
async fn a_cut_zip_is_not_mistaken_for_a_zip_stored_in_it() {
    let inner = zip_of(&[("in.png", png(9))]);
    let whole = zip_of(&[("a.png", png(1)), ("b.png", png(2)), ("other/inner.zip", inner.clone()), ("c.png", png(3))]);
    assert_eq!(take_in(&app(), whole.clone()).await.json()["adopted"], 3, "the whole zip is right");
    let behind_inner = whole.windows(inner.len()).position(|bytes| bytes == inner).unwrap() + inner.len();
    for end in [behind_inner, behind_inner + 10, whole.len() - 30, whole.len() - 1] {
        refuse(&whole[..end], "cut off").await;
    }
}

#[tokio::test]
async fn a_cut_backup_is_refused_where_an_image_in_it_ends_in_a_zip() {
    let before = app();
    let picture = [png(1), zip_of(&[("in.png", png(9))])].concat();
    store_image(&before.keepsake, picture.clone()).await;
    store_image(&before.keepsake, png(2)).await;
    let name = before.keepsake.backups.create(Kind::Manual).await.unwrap().name;
    let download = request("GET", &format!("/api/backups/{name}/download"), &[], Body::empty());
    let whole = send(&server(&before), download).await.body;
    let end = whole.windows(picture.len()).position(|bytes| bytes == picture).unwrap() + picture.len();
    refuse(&whole[..end], "cut off").await;
    refuse(&whole[..whole.len() - 30], "cut off").await;
    assert_eq!(take_in(&app(), whole.to_vec()).await.json()["restored"], 2);
}

#[tokio::test]
async fn a_zip_with_bytes_before_or_behind_it_is_refused() {
    let zip = zip_of(&[("a.png", png(1))]);
    refuse(&[b"#!/bin/sh\n", zip.as_slice()].concat(), "before or behind").await;
    refuse(&[zip.as_slice(), b"\n"].concat(), "before or behind").await;
    let mut commented = zip.clone();
    let length = commented.len();
    commented[length - 2] = 5;
    commented.extend(b"hello");
    assert_eq!(take_in(&app(), commented).await.json()["adopted"], 1, "a comment belongs to the zip");
}

#[tokio::test]
async fn backslashes_in_a_zip_separate_folders_and_are_reported() {
    let app = app();
    let zip = zip_of(&[("Holiday/a.png", png(1)), ("b.png", png(2))]);
    let zip = renamed(zip, b"Holiday/a.png", b"Holiday\\a.png");
    let answer = take_in(&app, zip.clone()).await;
    let done = answer.json();
    assert_eq!((answer.status.as_u16(), &done["adopted"]), (200, &json!(2)), "{done}");
    assert_eq!(done["renamedFiles"], json!([{ "from": "Holiday\\a.png", "to": "Holiday/a.png" }]));
    assert!(names(&app).await.contains(&"Holiday/a.png".to_owned()));
    let again = take_in(&app, zip).await.json();
    assert_eq!((&again["adopted"], &again["kept"]), (&json!(0), &json!(2)));
}

#[tokio::test]
async fn names_in_shift_jis_with_the_byte_5c_are_read() {
    let app = app();
    let zip = zip_of(&[("XX/YYA.png", png(1)), ("ZZZZ.png", png(2)), ("b.png", png(3))]);
    let zip = renamed(zip, b"XX/YYA.png", b"\x95\x5c/\x83\x5cA.png");
    // No byte 5C, but the same encoding.
    let zip = renamed(zip, b"ZZZZ.png", b"\x97\xb7\x8d\x73.png");
    let done = take_in(&app, zip).await.json();
    assert_eq!(done["adopted"], 3, "{done}");
    let names = names(&app).await;
    for name in ["表/ソA.png", "旅行.png", "b.png"] {
        assert!(names.contains(&name.to_owned()), "{name} in {names:?}");
    }
    assert_eq!(done["renamedFiles"].as_array().unwrap().len(), 2, "{done}");
}

#[tokio::test]
async fn files_of_one_name_in_a_zip_are_all_taken_and_reported() {
    let app = app();
    let zip = zip_of(&[("a/x.png", png(1)), ("a/y.png", png(2)), ("a/z.png", png(3)), ("b.png", png(4))]);
    let zip = renamed(renamed(zip, b"a/y.png", b"a/x.png"), b"a/z.png", b"a\\x.png");
    let planned = plan(&app, zip.clone()).await;
    let done = take_in(&app, zip.clone()).await.json();
    assert_eq!((&planned["adopted"], &done["adopted"]), (&json!(4), &json!(4)), "{done}");
    let expected = json!([
        { "from": "a/x.png", "to": "a/x (2).png" },
        { "from": "a\\x.png", "to": "a/x (3).png" },
    ]);
    assert_eq!((&planned["renamedFiles"], &done["renamedFiles"]), (&expected, &expected));
    assert!(done["message"].as_str().unwrap().contains("under another name: 2"), "{}", done["message"]);
    let mut names = names(&app).await;
    names.sort();
    assert_eq!(names, ["a/x (2).png", "a/x (3).png", "a/x.png", "b.png"]);
    let digests: std::collections::BTreeSet<_> = listed(&app).await.into_iter().map(|r| r.sha256).collect();
    assert_eq!(digests.len(), 4);
    let again = take_in(&app, zip).await.json();
    assert_eq!((&again["adopted"], &again["kept"]), (&json!(0), &json!(4)));
}

#[tokio::test]
async fn two_metadata_files_in_a_zip_are_refused_by_name() {
    let zip = zip_of(&[("image-metadata.json", b"{}".to_vec()), ("image-metadatb.json", b"{}".to_vec())]);
    refuse(&renamed(zip, b"image-metadatb.json", b"image-metadata.json"), "image-metadata.json").await;
}

#[tokio::test]
async fn a_date_in_the_future_becomes_that_of_the_import_and_is_reported() {
    let app = app();
    // It is 08:00 UTC on 2026-11-20.
    let zip = zip_at(&[
        ("a year.png", png(1), dated(2107, 12, 31, 23)),
        ("a zone.png", png(2), dated(2026, 11, 20, 17)),
        ("past.png", png(3), dated(2026, 11, 20, 7)),
    ]);
    let done = take_in(&app, zip.clone()).await.json();
    assert_eq!(done["redatedFiles"], json!(["a year.png", "a zone.png"]), "{done}");
    assert!(done["message"].as_str().unwrap().contains("dated in the future"), "{}", done["message"]);
    let now = app.keepsake.core.clock.now();
    for record in listed(&app).await {
        let date: jiff::Timestamp = record.upload_date.clone().unwrap().parse().unwrap();
        assert!(date <= now, "{record:?}");
    }
    assert_eq!(names(&app).await, ["a zone.png", "a year.png", "past.png"]);
    store_image(&app.keepsake, png(7)).await;
    assert_eq!(listed(&app).await[0].sha256, Some(shared::digest::Digest::of(&png(7))), "a new image stands first");
}

#[tokio::test]
async fn images_of_one_second_keep_the_order_of_their_names() {
    let app = app();
    let files: Vec<_> = (0..12).map(|n| (format!("IMG_{n:04}.png"), png(n))).collect();
    let entries: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let done = take_in(&app, zip_of(&entries)).await.json();
    assert_eq!((&done["adopted"], &done["undated"]), (&json!(12), &json!(0)));
    // Newest first, so that a camera's last picture stands first.
    let expected: Vec<_> = files.iter().rev().map(|(name, _)| name.clone()).collect();
    assert_eq!(names(&app).await, expected);
    for record in listed(&app).await {
        assert!(record.upload_date.unwrap().starts_with("2024-01-01T00:00:00."), "within their second");
    }
}

#[tokio::test]
async fn the_plan_counts_images_without_a_date_and_keeps_their_order() {
    let app = app();
    let files: Vec<_> = (0..12).map(|n| (format!("IMG_{n:04}.png"), png(n))).collect();
    let none = dated(1980, 1, 1, 0);
    let mut entries: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone(), none)).collect();
    entries.push(("dated.png", png(99), dated(2024, 1, 1, 0)));
    let zip = zip_at(&entries);
    let planned = plan(&app, zip.clone()).await;
    assert_eq!(planned["undated"], 12, "{planned}");
    assert!(planned["message"].as_str().unwrap().contains("without a date of their own: 12"), "{planned}");
    take_in(&app, zip).await;
    let mut expected: Vec<_> = files.iter().rev().map(|(name, _)| name.clone()).collect();
    expected.push("dated.png".to_owned());
    assert_eq!(names(&app).await, expected);
}
