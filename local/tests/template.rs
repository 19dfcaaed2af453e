//! The template that deploys Keepsake to AWS, compared with the routers that it deploys.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::collections::{BTreeMap, BTreeSet};

use serde_yaml_ng::Value;

/// The template's functions, by the binary that each of them runs.
fn functions() -> BTreeMap<String, Value> {
    let template: Value = serde_yaml_ng::from_str(include_str!("../../template.yaml")).unwrap();
    let resources = template["Resources"].as_mapping().unwrap().clone();
    let functions = resources.into_iter().map(|(_, resource)| resource);
    let functions = functions.filter(|resource| resource["Type"] == "AWS::Serverless::Function");
    functions.map(|f| (f["Metadata"]["BuildProperties"]["Binary"].as_str().unwrap().to_owned(), f)).collect()
}

/// Methods and paths, as text.
type Routes = BTreeSet<String>;

fn served() -> BTreeMap<String, Routes> {
    let text = |routes: shared::http::Routes| {
        routes.list().into_iter().map(|(method, path)| format!("{method} {path}")).collect::<Routes>()
    };
    let crates = [
        ("backup", backup::routes()),
        ("health", health::routes()),
        ("images", images::routes()),
        ("restore", restore::routes()),
        ("upload", upload::routes()),
    ];
    crates.into_iter().map(|(name, routes)| (name.to_owned(), text(routes))).collect()
}

#[test]
fn the_template_routes_to_each_function_what_its_router_serves() {
    let deployed = |(name, function): (String, Value)| {
        let events = function["Properties"]["Events"].as_mapping().unwrap().clone();
        let route = |(_, event): (Value, Value)| {
            assert_eq!(event["Type"], "HttpApi", "{name}");
            let text = |field: &str| event["Properties"][field].as_str().unwrap().to_owned();
            format!("{} {}", text("Method"), text("Path"))
        };
        let routes: Routes = events.into_iter().map(route).collect();
        (name, routes)
    };
    let deployed: BTreeMap<String, Routes> = functions().into_iter().map(deployed).collect();
    assert_eq!(deployed, served());
}

#[test]
fn every_crate_of_a_function_is_deployed() {
    let folders = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../functions")).unwrap();
    let folders: BTreeSet<String> = folders.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(folders, functions().into_keys().collect());
}

#[test]
fn no_function_may_do_everything_or_touch_everything() {
    for (name, function) in functions() {
        let policies = function["Properties"]["Policies"].as_sequence().unwrap();
        for policy in policies {
            // A policy that is written out; those that SAM ships allow more than their names say.
            let statements = policy["Statement"].as_sequence().unwrap_or_else(|| panic!("{name}: {policy:?}"));
            for statement in statements {
                assert_eq!(statement["Effect"], "Allow", "{name}");
                for action in texts(&statement["Action"]) {
                    assert!(action.starts_with("s3:") && !action.contains('*'), "{name}: {action}");
                }
                for resource in texts(&statement["Resource"]) {
                    assert!(resource.starts_with("${Images.Arn}/") || resource == "Images.Arn", "{name}: {resource}");
                    assert_ne!(resource, "${Images.Arn}/*", "{name}");
                }
            }
        }
    }
}

/// A text or a list of them, whatever intrinsic function each is given to.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Tagged(tagged) => texts(&tagged.value),
        Value::Sequence(values) => values.iter().flat_map(texts).collect(),
        other => panic!("neither a text nor a list: {other:?}"),
    }
}

#[test]
fn the_bucket_is_private_versioned_encrypted_and_outlives_the_stack() {
    let template: Value = serde_yaml_ng::from_str(include_str!("../../template.yaml")).unwrap();
    let bucket = &template["Resources"]["Images"];
    assert_eq!((&bucket["DeletionPolicy"], &bucket["UpdateReplacePolicy"]), (&"Retain".into(), &"Retain".into()));
    let properties = &bucket["Properties"];
    assert_eq!(properties["VersioningConfiguration"]["Status"], "Enabled");
    assert!(properties["BucketEncryption"].is_mapping());
    for what in ["BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"] {
        assert_eq!(properties["PublicAccessBlockConfiguration"][what], true, "{what}");
    }
}
