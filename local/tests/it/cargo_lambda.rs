//! What Cargo.toml tells cargo-lambda, compared with what it has to agree with.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use shared::http::Routes;

/// What Cargo.toml says under `workspace.metadata.lambda`.
fn settings() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"]);
    let output = cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["metadata"]["lambda"].clone()
}

#[test]
fn watch_routes_each_path_to_the_function_that_serves_it() {
    let crates: [(&str, Routes); 5] = [
        ("backup", backup::routes()),
        ("health", health::routes()),
        ("images", images::routes()),
        ("restore", restore::routes()),
        ("upload", upload::routes()),
    ];
    let paths = |(function, routes): (&str, Routes)| {
        let paths = routes.list().into_iter().map(|(_, path)| format!("{path} {function}"));
        paths.collect::<Vec<_>>()
    };
    let served: BTreeSet<String> = crates.into_iter().flat_map(paths).collect();
    let settings = settings();
    let router = settings["watch"]["router"].as_object().unwrap();
    let watched = router.iter().map(|(path, function)| format!("{path} {}", function.as_str().unwrap()));
    assert_eq!(watched.collect::<BTreeSet<_>>(), served);
}

#[test]
fn a_release_by_cargo_lambda_is_what_the_lambda_profile_is() {
    let manifest = include_str!("../../../Cargo.toml");
    let (_, profile) = manifest.split_once("[profile.lambda]\ninherits = \"release\"\n").unwrap();
    let profile = profile.split("\n\n").next().unwrap().lines();
    let profile: BTreeSet<String> = profile.map(|setting| setting.replace('"', "'")).collect();
    let settings = settings();
    let passed_on = settings["build"]["config"].as_array().unwrap().iter().map(|setting| setting.as_str().unwrap());
    let passed_on = passed_on.filter_map(|setting| setting.strip_prefix("profile.release."));
    assert_eq!(passed_on.map(str::to_owned).collect::<BTreeSet<_>>(), profile);
}
