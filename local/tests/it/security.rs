//! `docs/security.md` names tests that hold what it says; they are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const PAGE: &str = include_str!("../../../docs/security.md");

/// The names of all functions of a folder that are tests: an attribute that ends in `test` stands above them.
fn collect(folder: &Path, tests: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&path, tests);
        }
        if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                if line.starts_with("#[") {
                    let attribute = line.trim_start_matches("#[").split(['(', ']']).next().unwrap();
                    is_test |= attribute.ends_with("test");
                } else if let Some(rest) = line.trim_start_matches("async ").strip_prefix("fn ") {
                    if is_test {
                        tests.insert(rest.split('(').next().unwrap().to_owned());
                    }
                    is_test = false;
                }
            }
        }
    }
}

/// The rows of every table: what is demanded, what is done, and the tests that hold it.
fn rows() -> Vec<(String, Vec<String>)> {
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let is_row = |line: &&str| line.starts_with('|') && !line.starts_with("|---") && !line.contains("| Held by |");
    let row = |line: &str| {
        let [demand, done, held] = &cells(line)[..] else { panic!("three cells: {line}") };
        assert!(!demand.is_empty() && !done.is_empty(), "{line}");
        (demand.clone(), held.split('`').skip(1).step_by(2).map(str::to_owned).collect())
    };
    PAGE.lines().filter(is_row).map(row).collect()
}

#[test]
fn each_line_of_the_security_page_names_tests_that_there_are() {
    let mut tests = BTreeSet::new();
    collect(Path::new(ROOT), &mut tests);
    assert!(tests.len() > 500, "{}", tests.len());
    for (demand, held) in rows() {
        assert!(!held.is_empty(), "{demand}: no test");
        for name in held {
            assert!(tests.contains(&name), "{demand}: there is no test {name}");
        }
    }
}

#[test]
fn every_requirement_on_files_stands_on_the_security_page() {
    let required = "5.1.1 5.2.1 5.2.2 5.2.3 5.2.4 5.2.5 5.2.6 5.3.1 5.3.2 5.3.3 5.4.1 5.4.2 5.4.3";
    let rows = rows();
    for number in required.split(' ') {
        let standing = rows.iter().filter(|(demand, _)| demand.split(' ').next() == Some(number)).count();
        assert_eq!(standing, 1, "{number}");
    }
}
