//! Each command on an empty store, on a filled one, beside a running server and without one, and without rights.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::run::{Ran, run, run_with};
use crate::photos::photo;
use crate::server::{self, Server, eventually, names};

async fn filled(server: &Server, numbers: std::ops::Range<u32>) -> Vec<String> {
    let mut ids = Vec::new();
    for n in numbers {
        let (name, bytes) = photo(n);
        ids.push(server.upload(&name, &bytes, "by hand").await["id"].as_str().unwrap().to_owned());
    }
    ids
}

fn only_backup(folder: &Path) -> String {
    run(folder, &["backups", "--json"]).ends(0).json()["backups"][0]["name"].as_str().unwrap().to_owned()
}

#[test]
fn each_command_works_on_an_empty_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert!(run(path, &["backups"]).ends(0).said.contains("There are no backups."));
    let health = run(path, &["status", "--json"]);
    assert_eq!(health.json()["storage"]["images"], 0, "{health:?}");
    // Where no metadata are, it may be that they were lost, so nothing is pruned.
    for (arguments, code) in [
        (&["verify"][..], 0),
        (&["verify", "--repair", "--slice", "1/2"], 0),
        (&["prune"], 3),
        (&["prune", "--dry-run"], 3),
    ] {
        run(path, arguments).ends(code);
        assert!(run(path, &[arguments, &["--json"]].concat()).ends(code).json().is_object());
    }
    let refused = run(path, &["restore", "backup-2026-11-24T10-51-01-760Z"]).ends(1);
    assert!(refused.complained.contains("There are no backups at all."), "{refused:?}");
    let outside = tempfile::tempdir().unwrap();
    let migrated = run(path, &["migrate", ".", outside.path().join("new").to_str().unwrap()]).ends(1);
    assert!(migrated.complained.contains("it has no root"), "{migrated:?}");
    let zip = outside.path().join("nothing.zip");
    run(path, &["export", zip.to_str().unwrap()]).ends(0);
    assert_eq!(run(path, &["import", "--json", zip.to_str().unwrap()]).ends(0).json()["restored"], 0);
    assert_eq!(run(path, &["backup", "--json"]).ends(0).json()["fileCount"], 0);
}

#[tokio::test]
async fn commands_answer_what_the_api_answers() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    filled(&server, 0..3).await;
    let commits = folder.path().join("image-metadata.d");
    eventually("the commits are compacted", || names(commits.clone()).is_empty()).await;
    let made = run(folder.path(), &["backup", "--json"]).ends(0).json();
    assert_eq!((&made["success"], &made["fileCount"]), (&json!(true), &json!(3)));
    let name = made["backupName"].as_str().unwrap();
    let backups = run(folder.path(), &["backups", "--json"]).ends(0).json();
    assert_eq!(backups, server.get_json("/api/backups").await, "the server sees it at once, and says the same of it");
    let post = async |path: String| server::json(server.post(&path).await, reqwest::StatusCode::OK).await;
    let plan = run(folder.path(), &["restore", name, "--dry-run", "--json"]).ends(0).json();
    assert_eq!(plan, post(format!("/api/restore/{name}?dryRun=true")).await);
    let pruned = run(folder.path(), &["prune", "--dry-run", "--json"]).ends(0).json();
    assert_eq!(pruned, post("/api/prune?dryRun=true".to_owned()).await);
    let verified = run(folder.path(), &["verify", "--json"]).ends(0).json();
    assert_eq!(verified, post("/api/verify".to_owned()).await);
    let fields = |health: &Value| health.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let (ours, theirs) = (run(folder.path(), &["status", "--json"]).json(), server.get_json("/api/health").await);
    assert_eq!(fields(&ours), fields(&theirs));
    assert_eq!((&ours["backups"]["newest"], &ours["storage"]["images"]), (&json!(name), &json!(3)));
    assert_eq!(ours["persistence"]["verdict"], theirs["persistence"]["verdict"]);
    let text = run(folder.path(), &["backups"]).ends(0).said;
    assert!(text.lines().nth(1).unwrap().starts_with(name) && text.contains("manual"), "{text}");
}

#[tokio::test]
async fn what_a_server_shows_and_what_commands_do_beside_it_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let ids = filled(&server, 0..4).await;
    run(folder.path(), &["backup"]).ends(0);
    let name = only_backup(folder.path());
    server.delete(&ids[0]).await;
    server.edit(&ids[1], &json!({ "description": "changed" })).await;
    let all = server.get_json("/api/images").await;

    let refused = run(folder.path(), &["restore", &name]).ends(2);
    assert!(refused.said.contains("1 brought back, 1 changed") && refused.complained.contains("--yes"), "{refused:?}");
    assert_eq!(run(folder.path(), &["restore", &name, "--json"]).ends(2).json()["type"], "not-confirmed");
    let looked = run(folder.path(), &["restore", &name, "--dry-run"]).ends(0);
    assert!(looked.said.contains(&format!("comes back {}", ids[0])), "{looked:?}");
    assert_eq!(server.get_json("/api/images").await, all, "none of these changed anything");

    let done = run(folder.path(), &["restore", &name, "--yes", "--json"]).ends(0).json();
    assert_eq!((&done["restored"], &done["changed"]), (&json!(1), &json!(1)), "{done}");
    let restored = server.get_json("/api/images").await;
    assert_eq!(restored["images"].as_array().unwrap().len(), 4);
    assert_eq!(server.get(&format!("/uploads/{}", ids[0])).await.status(), 200);
    assert!(names(folder.path().join("image-metadata.d")).is_empty(), "whoever opens the metadata sees it");
    run(folder.path(), &["restore", done["safetyBackup"].as_str().unwrap(), "--mode", "exact", "-y"]).ends(0);
    assert_eq!(server.get_json("/api/images").await, all, "and it is undone");

    // Both write at once.
    let (uploads, backups) = futures::join!(
        filled(&server, 10..20),
        tokio::task::spawn_blocking({
            let folder = folder.path().to_owned();
            move || (0..4).map(|_| run(&folder, &["backup", "--json"]).ends(0).json()).collect::<Vec<_>>()
        })
    );
    assert_eq!((uploads.len(), backups.unwrap().len()), (10, 4));
    assert!(run(folder.path(), &["verify"]).ends(0).said.contains("images    13 read"));
    run(folder.path(), &["prune"]).ends(0);
    server.kill();
    let again = Server::start(folder.path());
    assert_eq!(again.get_json("/api/images").await["images"].as_array().unwrap().len(), 13);
}

#[tokio::test]
async fn what_is_exported_is_imported_elsewhere_beside_a_server_too() {
    let (folder, outside, other) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(folder.path());
    let ids = filled(&server, 0..5).await;
    run(folder.path(), &["backup"]).ends(0);
    let name = only_backup(folder.path());
    server.delete(&ids[0]).await;
    let (zip, plain) = (outside.path().join("then.zip"), outside.path().join("now"));
    let (zip, plain) = (zip.to_str().unwrap(), plain.to_str().unwrap());
    assert_eq!(run(folder.path(), &["export", &name, zip, "--json"]).ends(0).json()["fileCount"], 5);
    assert_eq!(run(folder.path(), &["export", plain, "--json"]).ends(0).json()["fileCount"], 4);
    let bytes = fs::read(zip).unwrap();
    assert!(run(folder.path(), &["export", zip]).ends(1).complained.contains("is there already"));
    assert_eq!(
        (fs::read(zip).unwrap(), names(outside.path().to_owned())),
        (bytes, vec!["now".into(), "then.zip".into()])
    );
    let unknown = run(folder.path(), &["export", "backup-2026", zip]).ends(1);
    assert!(unknown.complained.contains(&format!("most similar names: {name}")), "{unknown:?}");

    let serving = Server::start(other.path());
    let planned = run(other.path(), &["import", plain, "--dry-run", "--json"]).ends(0).json();
    assert_eq!((&planned["restored"], &planned["dryRun"]), (&json!(4), &json!(true)), "{planned}");
    let both = reqwest::Client::new().post(serving.url("/api/backups?dryRun=true")).body(fs::read(zip).unwrap());
    let both: Value = both.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        both,
        run(other.path(), &["import", zip, "--dry-run", "--json"]).ends(0).json(),
        "both ways say the same"
    );
    assert_eq!(serving.get_json("/api/images").await["images"], json!([]));
    assert_eq!(run(other.path(), &["import", plain, "--json"]).ends(0).json()["restored"], 4);
    assert_eq!(run(other.path(), &["import", zip, "--json"]).ends(0).json()["restored"], 1);
    let again = run(other.path(), &["import", zip, "--json"]).ends(0).json();
    assert_eq!((&again["restored"], &again["kept"], &again["safetyBackup"]), (&json!(0), &json!(5), &Value::Null));
    for (n, id) in ids.iter().enumerate() {
        let served = serving.get(&format!("/uploads/{id}")).await.bytes().await.unwrap();
        assert!(served == photo(n as u32).1, "{id}");
    }
    fs::write(outside.path().join("no.zip"), b"this is no zip").unwrap();
    let refused = run(other.path(), &["import", outside.path().join("no.zip").to_str().unwrap(), "--json"]).ends(1);
    assert_eq!(refused.json()["status"], 422, "{refused:?}");
}

#[tokio::test]
async fn exports_to_one_zip_leave_it_whole_and_other_files_alone() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(folder.path());
    filled(&server, 0..3).await;
    let (zip, stranger) = (outside.path().join("now.zip"), outside.path().join("now.zip.part"));
    fs::write(&stranger, b"of somebody else").unwrap();
    let at_once = std::thread::scope(|scope| {
        let run = || run(folder.path(), &["export", zip.to_str().unwrap()]);
        [(); 2].map(|()| scope.spawn(run)).map(|running| running.join().unwrap())
    });
    let (done, refused): (Vec<_>, Vec<_>) = at_once.iter().partition(|ran| ran.code == 0);
    assert_eq!((done.len(), refused.len()), (1, 1), "{at_once:?}");
    assert!(refused[0].code == 1 && refused[0].complained.contains("is there already"), "{refused:?}");
    assert_eq!(fs::read(&stranger).unwrap(), b"of somebody else");
    assert_eq!(names(outside.path().to_owned()), ["now.zip", "now.zip.part"]);
    let whole = run(folder.path(), &["import", "--dry-run", "--json", zip.to_str().unwrap()]).ends(0).json();
    assert_eq!((&whole["kept"], &whole["restored"]), (&json!(3), &json!(0)), "{whole}");
}

#[tokio::test]
async fn unusable_outside_folder_is_not_reported_as_store_failure() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(folder.path());
    filled(&server, 0..2).await;
    // A file where the folder should be, and a file system that takes none, whoever asks.
    let file = outside.path().join("out.txt");
    fs::write(&file, b"mine").unwrap();
    for target in [file.to_str().unwrap(), "/proc/keepsake-export", "/proc/keepsake-export.zip"] {
        let failed = run(folder.path(), &["export", target]).ends(1);
        let sentence = format!("keepsake: {target} cannot be written (");
        assert!(failed.complained.starts_with(&sentence), "{failed:?}");
        assert!(!failed.complained.contains("store"), "{failed:?}");
        assert_eq!(run(folder.path(), &["export", target, "--json"]).ends(1).json()["type"], "unwritable");
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    // Nobody can open a socket as a file, not even root.
    let source = outside.path().join("photos.zip");
    let _socket = std::os::unix::net::UnixListener::bind(&source).unwrap();
    let failed = run(folder.path(), &["import", source.to_str().unwrap()]).ends(1);
    let sentence = format!("keepsake: {} cannot be read (", source.display());
    assert!(failed.complained.starts_with(&sentence), "{failed:?}");
}

#[tokio::test]
async fn what_needs_attention_ends_with_3_and_a_misspelt_name_with_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let ids = filled(&server, 0..2).await;
    run(folder.path(), &["backup"]).ends(0);
    server.stop();
    let name = only_backup(folder.path());
    let misspelt = name.replacen("backup-2", "backup-3", 1);
    for wrong in [misspelt.as_str(), "backup", "../../etc/passwd", "%2e%2e", "é", ""] {
        let refused = run(folder.path(), &["restore", wrong, "--yes"]).ends(1);
        assert!(refused.complained.contains(&name) || wrong.is_empty(), "{refused:?}");
    }
    let problem = run(folder.path(), &["restore", &misspelt, "--json", "--yes"]).ends(1).json();
    assert_eq!((&problem["type"], &problem["nearest"][0]), (&json!("no-such-backup"), &json!(name)));

    let image = folder.path().join("uploads").join(&ids[0]);
    fs::write(&image, vec![7; fs::metadata(&image).unwrap().len() as usize]).unwrap();
    let found = run(folder.path(), &["verify", "--json"]).ends(3).json();
    assert_eq!((&found["ok"], &found["damaged"]), (&json!(false), &json!([ids[0]])));
    assert_eq!(run(folder.path(), &["status", "--json"]).ends(3).json()["status"], "warn");
    run(folder.path(), &["verify", "--repair"]).ends(0);
    let manifest = folder.path().join("backups").join(&name).join("manifest.json");
    fs::write(&manifest, b"{}").unwrap();
    assert!(run(folder.path(), &["prune", "--json"]).ends(3).json()["heldBack"].is_string());
}

/// Whether this process may do what it likes, as a test in a container often may.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn without_rights_nothing_is_changed_and_the_reason_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    filled(&server, 0..2).await;
    server.stop();
    // A file in the place of a folder keeps out root as well.
    let archive = folder.path().join("backups");
    fs::rename(&archive, folder.path().join("away")).unwrap();
    fs::write(&archive, b"").unwrap();
    let fails = |ran: Ran| assert!(ran.code == 1 && ran.complained.contains("keepsake: "), "{ran:?}");
    fails(run(folder.path(), &["backup"]));
    fails(run(folder.path(), &["prune"]));
    assert!(run(folder.path(), &["migrate", "/dev/null", "new"]).ends(2).complained.contains("There is no folder"));
    if !is_root() {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
        fails(run(folder.path(), &["backup"]));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::remove_file(&archive).unwrap();
    fs::rename(folder.path().join("away"), &archive).unwrap();
    run(folder.path(), &["verify"]).ends(0);
    let unreachable = [("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), ("AWS_REGION", "us-east-1")];
    let keys = [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    let bucket = [("STORE_URL", "s3://bucket")];
    let away = run_with(folder.path(), &[&unreachable[..], &keys, &bucket].concat(), &["backups", "--json"]).ends(1);
    assert!(away.json()["detail"].is_string(), "{away:?}");
}
