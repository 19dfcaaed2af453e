//! What the command line says of itself, and what it makes of words that it does not know.

use std::collections::BTreeSet;

use super::run::run;

const COMMANDS: [&str; 12] = [
    "serve",
    "status",
    "backup",
    "backups",
    "restore",
    "token",
    "verify",
    "prune",
    "import",
    "export",
    "migrate",
    "clear-uploads",
];

#[test]
fn the_help_of_each_command_has_examples_and_the_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let all = run(folder.path(), &["--help"]).ends(0).said;
    for command in COMMANDS {
        assert!(all.contains(&format!("\n  {command} ")), "{command} is not listed in {all}");
        let help = run(folder.path(), &[command, "--help"]).ends(0).said;
        for part in
            ["Example", &format!("keepsake {command}"), "Exit codes:", "\n  3  done, but", "--data-dir", "--json"]
        {
            assert!(help.contains(part), "{part} is not in the help of {command}: {help}");
        }
    }
}

#[test]
fn cli_page_shows_each_command_with_arguments_that_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let page = include_str!("../../../../docs/cli.md");
    let (_, section) = page.split_once("\n## Commands\n").unwrap();
    let (examples, _) = section.split_once("```sh\n").unwrap().1.split_once("```").unwrap();
    let mut shown = BTreeSet::from(["serve"]);
    for example in examples.lines() {
        let (line, _) = example.split_once('#').unwrap_or((example, ""));
        let words: Vec<&str> = line.strip_prefix("keepsake ").unwrap().split_whitespace().collect();
        shown.insert(words[0]);
        // Help goes before what is to be done, but after what cannot be read.
        let ran = run(folder.path(), &[&words[..], &["--help"]].concat()).ends(0);
        assert!(ran.said.contains("Exit codes:"), "{ran:?}");
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(ran.said.contains(flag), "{flag} of {example}");
        }
    }
    assert_eq!(shown, BTreeSet::from(COMMANDS));
}

#[test]
fn what_the_command_line_does_not_know_ends_with_2_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for wrong in [
        &["statsu"][..],
        &["status", "--jsno"],
        &["verify", "--slice", "31/30"],
        &["restore"],
        &["restore", "backup-2026-11-24T10-51-01-760Z", "--mode", "exactly"],
        &["token"],
        &["token", "new", "phone"],
        &["token", "new", "phone", "--scope", "everything"],
        &["prune", "--dry-rum"],
        &["migrate", "here"],
        &["status", "--port", "many"],
        &["backups", "--store-url", "ftp://somewhere"],
        &["status", "--data-dir", "misspelt"],
        &["migrate", "misspelt", "new"],
        &["migrate", ".", "./inside"],
        &["import", "misspelt"],
        &["status", "--rust-log", "a=b=c"],
    ] {
        let ran = run(folder.path(), wrong).ends(2);
        assert!(ran.said.is_empty() && !ran.complained.is_empty(), "{ran:?}");
    }
    let problem = run(folder.path(), &["status", "--json", "--data-dir", "misspelt"]).ends(2).json();
    assert_eq!(problem["type"], "wrong-configuration");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    // The last but one opened the store that it was to import into.
    assert!(left.iter().all(|name| name == ".keepsake.lock"), "{left:?}");
}
