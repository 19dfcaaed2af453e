//! The root folder of a store, and its parents.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::fs::{FileSystem, RealFolder};
use super::path::sync_names;

/// Creates a store's folder if it is missing and makes its whole path durable; returns the path with links resolved.
pub(super) fn make(root: &Path) -> io::Result<PathBuf> {
    make_with(root, |folder| match RealFolder::new(folder).root().and_then(|folder| sync_names(&*folder)) {
        // A process that may not look into a folder has created nothing in it.
        Err(Errno::ACCESS | Errno::PERM) => Ok(()),
        synced => Ok(synced?),
    })
}

/// Syncs each folder above the root that holds a part of its path, up to the top of the file system. Also if all of
/// them exist: their creator, a process that died or a user, may not have synced them.
fn make_with(root: &Path, mut sync: impl FnMut(&Path) -> io::Result<()>) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(root)?;
    match std::fs::create_dir_all(&absolute) {
        // A file has this name; opening the root will report it.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let root = absolute.canonicalize()?;
    let device = root.metadata()?.dev();
    for folder in root.ancestors().skip(1) {
        if folder.metadata()?.dev() != device {
            break;
        }
        sync(folder)?;
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_on_the_path_to_a_root_is_synced() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        for _ in 0..2 {
            let mut synced = Vec::new();
            let made = make_with(&top.join("a/b/store"), |folder| {
                synced.push(folder.to_owned());
                Ok(())
            });
            assert_eq!(made.unwrap(), top.join("a/b/store"));
            assert_eq!(synced[..3], [top.join("a/b"), top.join("a"), top.clone()]);
        }
        let failed = make_with(&top.join("a/b/store"), |_| Err(io::Error::other("the disk is gone")));
        assert!(failed.is_err(), "a root that may not be there after a crash is not opened");
    }
}
