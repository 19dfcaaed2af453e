//! Every input in `fuzz/corpus/`, through the target it belongs to, as fuzzing would do it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

macro_rules! replay {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                let inputs = folder().join("corpus").join(stringify!($target));
                let mut inputs: Vec<_> = fs::read_dir(inputs).unwrap().map(|entry| entry.unwrap().path()).collect();
                assert!(!inputs.is_empty(), "nothing was tried");
                inputs.sort();
                for input in inputs {
                    // The last one that is named is the one that failed.
                    println!("{}", input.display());
                    fuzz::target(stringify!($target))(&fs::read(&input).unwrap());
                }
            }
        )*

        /// Those that have a test here.
        const REPLAYED: &[&str] = &[$(stringify!($target)),*];
    };
}

replay! {
    chunk commit form headers image list location manifest metadata_file names notes parts paths root scale settings zip
}

#[test]
fn every_target_has_a_corpus_a_binary_and_a_test() {
    let targets: BTreeSet<String> = fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let replayed: BTreeSet<String> = REPLAYED.iter().map(|name| (*name).to_owned()).collect();
    let entries = fs::read_dir(folder().join("corpus")).unwrap();
    let corpora: BTreeSet<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    let binaries = manifest.split("[[bin]]").skip(1).map(|bin| bin.split('"').nth(1).unwrap().to_owned());
    assert_eq!((&replayed, &corpora, binaries.collect()), (&targets, &targets, targets.clone()));
}
