//! Every damage that the store is promised to survive: 25 images are uploaded, others deleted, the server is killed, the
//! store is damaged, the server is started, and everything is as it was.

use std::fs;
use std::path::{Path, PathBuf};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::photos::photo;
use crate::server::{STORE_FOLDERS, Server, eventually, names};

/// A store that has been used: 25 images, one of them edited, and two that were deleted.
struct Gallery {
    folder: tempfile::TempDir,
    images: Vec<(Value, Vec<u8>)>,
    deleted: Vec<String>,
}

impl Gallery {
    /// Uses a new store; all of it is compacted but for the last upload, as where a crash comes at a bad moment.
    async fn used() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut gallery = Self { folder, images: Vec::new(), deleted: Vec::new() };
        let server = Server::start(gallery.path());
        for n in 0..26 {
            gallery.upload(&server, n).await;
        }
        for at in [20, 5] {
            let (item, _) = gallery.images.remove(at);
            gallery.deleted.push(item["id"].as_str().unwrap().to_owned());
            server.delete(gallery.deleted.last().unwrap()).await;
        }
        let id = gallery.images[3].0["id"].as_str().unwrap();
        let edited = server.edit(id, &json!({ "description": "edited", "groupId": "trip", "order": 7 })).await;
        gallery.images[3].0 = edited;
        let commits = gallery.path().join("image-metadata.d");
        eventually("the commits are folded", || names(commits.clone()).is_empty()).await;
        gallery.upload(&server, 26).await;
        server.kill();
        gallery
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    async fn upload(&mut self, server: &Server, n: u32) {
        let (name, bytes) = photo(n);
        let mut item = server.upload(&name, &bytes, &format!("number {n}")).await;
        let fields = item.as_object_mut().unwrap();
        fields.remove("copies");
        fields.remove("backup");
        self.images.push((item, bytes));
    }

    /// Starts the server and finds everything as it was; twice, since the first start must not have broken anything.
    async fn is_whole(&self) {
        for _ in 0..2 {
            let server = Server::start(self.path());
            let listed = server.get_json("/api/images?flat=true").await["images"].clone();
            let mut listed: Vec<Value> = listed.as_array().unwrap().clone();
            let mut expected: Vec<Value> = self.images.iter().map(|(item, _)| item.clone()).collect();
            let id = |item: &Value| item["id"].as_str().unwrap().to_owned();
            listed.sort_by_key(id);
            expected.sort_by_key(id);
            assert_eq!(listed, expected, "{:?}", server.greeting);
            for (item, bytes) in &self.images {
                let answer = server.get(item["url"].as_str().unwrap()).await;
                assert_eq!(answer.status(), StatusCode::OK, "{}", item["id"]);
                assert!(answer.bytes().await.unwrap() == bytes, "{} has other bytes", item["id"]);
                let on_disk = fs::read(self.path().join("uploads").join(item["id"].as_str().unwrap())).unwrap();
                assert!(&on_disk == bytes, "{} has other bytes on the disk", item["id"]);
            }
            for id in &self.deleted {
                assert_eq!(
                    server.get(&format!("/uploads/{id}")).await.status(),
                    StatusCode::NOT_FOUND,
                    "{id} came back"
                );
            }
            server.kill();
        }
    }

    /// The commit that was not compacted yet. Rarely a slow machine compacts it before the kill; then more is uploaded.
    async fn unfolded_commit(&mut self) -> PathBuf {
        let commits = self.path().join("image-metadata.d");
        for n in 27.. {
            if let Some(name) = names(commits.clone()).pop() {
                return commits.join(name);
            }
            let server = Server::start(self.path());
            self.upload(&server, n).await;
            server.kill();
        }
        unreachable!()
    }

    fn newest_backup(&self) -> PathBuf {
        let backups = names(self.path().join("backups"));
        let newest = backups.iter().rfind(|name| name.starts_with("backup-")).unwrap();
        self.path().join("backups").join(newest)
    }

    /// The pages of the catalog in a folder.
    fn pages(&self, folder: &str) -> Vec<PathBuf> {
        let folder = self.path().join(folder);
        let pages: Vec<_> = names(folder.clone()).iter().map(|name| folder.join(name)).collect();
        assert!(!pages.is_empty(), "{folder:?} has no pages");
        pages
    }

    fn first_image(&self) -> PathBuf {
        self.path().join("uploads").join(self.images[0].0["id"].as_str().unwrap())
    }
}

fn truncate(file: &Path) {
    let bytes = fs::read(file).unwrap();
    fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
}

fn rot(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    fs::write(file, bytes).unwrap();
}

/// One test for each damage.
macro_rules! survives {
    ($($name:ident: |$gallery:ident| $damage:block)*) => {$(
        #[tokio::test]
        async fn $name() {
            #[allow(unused_mut, reason = "some damages upload more first")]
            let mut $gallery = Gallery::used().await;
            $damage
            $gallery.is_whole().await;
        }
    )*};
}

survives! {
    nothing_but_the_kill: |gallery| {}
    uploads_removed: |gallery| { fs::remove_dir_all(gallery.path().join("uploads")).unwrap(); }
    backups_removed: |gallery| { fs::remove_dir_all(gallery.path().join("backups")).unwrap(); }
    metadata_removed: |gallery| {
        for file in ["catalog.json", "image-metadata.json"] {
            fs::remove_file(gallery.path().join(file)).unwrap();
        }
        for folder in ["catalog", "image-metadata.d"] {
            fs::remove_dir_all(gallery.path().join(folder)).unwrap();
        }
    }
    commits_removed: |gallery| { fs::remove_dir_all(gallery.path().join("image-metadata.d")).unwrap(); }
    root_removed: |gallery| { fs::remove_file(gallery.path().join("catalog.json")).unwrap(); }
    root_truncated: |gallery| { truncate(&gallery.path().join("catalog.json")); }
    root_emptied: |gallery| { fs::write(gallery.path().join("catalog.json"), "").unwrap(); }
    root_rotten: |gallery| { rot(&gallery.path().join("catalog.json")); }
    root_garbage: |gallery| { fs::write(gallery.path().join("catalog.json"), [0xff; 3000]).unwrap(); }
    root_an_empty_object: |gallery| { fs::write(gallery.path().join("catalog.json"), "{}").unwrap(); }
    root_an_empty_list: |gallery| { fs::write(gallery.path().join("catalog.json"), "[]").unwrap(); }
    root_null: |gallery| { fs::write(gallery.path().join("catalog.json"), "null").unwrap(); }
    second_root_truncated: |gallery| { truncate(&gallery.path().join("backups/catalog.json")); }
    metadata_file_removed: |gallery| { fs::remove_file(gallery.path().join("image-metadata.json")).unwrap(); }
    metadata_file_truncated: |gallery| { truncate(&gallery.path().join("image-metadata.json")); }
    metadata_file_emptied: |gallery| { fs::write(gallery.path().join("image-metadata.json"), "").unwrap(); }
    metadata_file_rotten: |gallery| { rot(&gallery.path().join("image-metadata.json")); }
    metadata_file_garbage: |gallery| { fs::write(gallery.path().join("image-metadata.json"), [0xff; 3000]).unwrap(); }
    metadata_file_an_empty_object: |gallery| { fs::write(gallery.path().join("image-metadata.json"), "{}").unwrap(); }
    metadata_file_an_empty_list: |gallery| { fs::write(gallery.path().join("image-metadata.json"), "[]").unwrap(); }
    metadata_file_null: |gallery| { fs::write(gallery.path().join("image-metadata.json"), "null").unwrap(); }
    second_metadata_file_truncated: |gallery| { truncate(&gallery.path().join("backups/image-metadata.json")); }
    both_roots_removed: |gallery| {
        for file in ["catalog.json", "backups/catalog.json"] {
            fs::remove_file(gallery.path().join(file)).unwrap();
        }
    }
    both_roots_and_all_pages_removed: |gallery| {
        for place in ["", "backups"] {
            fs::remove_file(gallery.path().join(place).join("catalog.json")).unwrap();
            fs::remove_dir_all(gallery.path().join(place).join("catalog")).unwrap();
        }
    }
    pages_removed: |gallery| { fs::remove_dir_all(gallery.path().join("catalog")).unwrap(); }
    pages_truncated: |gallery| { gallery.pages("catalog").iter().for_each(|page| truncate(page)); }
    pages_rotten: |gallery| { gallery.pages("catalog").iter().for_each(|page| rot(page)); }
    second_copies_of_pages_removed: |gallery| { fs::remove_dir_all(gallery.path().join("backups/catalog")).unwrap(); }
    second_copies_of_pages_rotten: |gallery| { gallery.pages("backups/catalog").iter().for_each(|page| rot(page)); }
    image_truncated: |gallery| { truncate(&gallery.first_image()); }
    image_emptied: |gallery| { fs::write(gallery.first_image(), "").unwrap(); }
    image_removed: |gallery| { fs::remove_file(gallery.first_image()).unwrap(); }
    second_copy_truncated: |gallery| {
        let sha256 = gallery.images[0].0["sha256"].as_str().unwrap();
        truncate(&gallery.path().join("backups/images").join(sha256));
    }
    commit_truncated: |gallery| { truncate(&gallery.unfolded_commit().await); }
    commit_rotten: |gallery| { rot(&gallery.unfolded_commit().await); }
    second_copy_of_a_commit_truncated: |gallery| {
        let name = gallery.unfolded_commit().await.file_name().unwrap().to_owned();
        truncate(&gallery.path().join("backups/image-metadata.d").join(name));
    }
    half_made_temp_files_about: |gallery| {
        for folder in STORE_FOLDERS {
            fs::write(gallery.path().join(folder).join(".tmp-0b7e0a54-0000-4000-8000-000000000000"), "half").unwrap();
        }
    }
    half_made_backups_about: |gallery| {
        let half = gallery.path().join("backups/backup-2099-01-01T00-00-00-000Z");
        fs::create_dir(&half).unwrap();
        fs::write(half.join("manifest.json"), "{\"digest\": \"sha256:").unwrap();
        fs::create_dir(gallery.path().join("backups/backup-2098-01-01T00-00-00-000Z")).unwrap();
    }
    uploads_removed_and_the_newest_backup_half_made: |gallery| {
        fs::remove_dir_all(gallery.path().join("uploads")).unwrap();
        truncate(&gallery.newest_backup().join("manifest.json"));
    }
}

#[tokio::test]
async fn half_made_backups_are_never_listed() {
    let gallery = Gallery::used().await;
    truncate(&gallery.newest_backup().join("manifest.json"));
    let server = Server::start(gallery.path());
    let listed = server.get_json("/api/backups").await["backups"].clone();
    let broken = gallery.newest_backup().file_name().unwrap().to_str().unwrap().to_owned();
    assert!(listed.as_array().unwrap().iter().all(|backup| backup["name"] != *broken), "{listed}");
    assert_eq!(server.post(&format!("/api/restore/{broken}")).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn bit_rot_is_found_by_verify_and_repaired_on_read() {
    let gallery = Gallery::used().await;
    let verify = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_keepsake"));
        let output = command.current_dir(gallery.path()).env_clear().arg("verify").args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    assert!(verify(&[]).0);
    let path = gallery.first_image();
    let name = path.file_name().unwrap().to_str().unwrap();
    rot(&path);
    let (good, said) = verify(&[]);
    assert!(!good && said.contains(&format!("damaged   {name}")), "{said}");
    let (good, said) = verify(&["--repair"]);
    assert!(good && said.contains(&format!("repaired  {name}")), "{said}");
    assert!(fs::read(&path).unwrap() == gallery.images[0].1);

    let server = Server::start(gallery.path());
    rot(&path);
    let served = server.get(&format!("/uploads/{name}")).await.bytes().await.unwrap();
    assert!(served == gallery.images[0].1, "the replica is served");
    eventually("the image is repaired", || fs::read(&path).unwrap() == gallery.images[0].1).await;
}
