//! The template that deploys Keepsake to AWS, compared with the routers and the layout that it deploys, and the events in
//! `events/` with the routes that they are for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value as Json;
use serde_yaml_ng::Value;
use shared::layout;
use shared::store::Key;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// The one function that serves no route.
const MAINTENANCE: &str = "maintenance";
/// The one bucket that holds nothing of a store.
const PAGES: &str = "Pages";

fn template() -> Value {
    serde_yaml_ng::from_str(include_str!("../../../template.yaml")).unwrap()
}

fn resource(name: &str) -> Value {
    template()["Resources"][name].clone()
}

fn resources(kind: &str) -> BTreeMap<String, Value> {
    let all = template()["Resources"].as_mapping().unwrap().clone();
    let all = all.into_iter().map(|(name, resource)| (name.as_str().unwrap().to_owned(), resource));
    all.filter(|(_, resource)| resource["Type"] == kind).collect()
}

/// The template's functions, by the binary that each of them runs.
fn functions() -> BTreeMap<String, Value> {
    let functions = resources("AWS::Serverless::Function").into_values();
    functions.map(|f| (f["Metadata"]["BuildProperties"]["Binary"].as_str().unwrap().to_owned(), f)).collect()
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
    let http = functions().into_iter().filter(|(name, _)| name != MAINTENANCE);
    let deployed: BTreeMap<String, Routes> = http.map(deployed).collect();
    assert_eq!(deployed, served());
}

#[test]
fn browsers_are_told_of_every_method_that_a_route_has() {
    let listed: BTreeSet<String> =
        texts(&resource("Api")["Properties"]["CorsConfiguration"]["AllowMethods"]).into_iter().collect();
    let routes = served().into_values().flatten();
    let methods: BTreeSet<String> = routes.map(|route| route.split_once(' ').unwrap().0.to_owned()).collect();
    assert_eq!(listed, methods);
}

#[test]
fn every_crate_of_a_function_is_deployed() {
    let folders = std::fs::read_dir(Path::new(ROOT).join("functions")).unwrap();
    let folders: BTreeSet<String> = folders.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(folders, functions().into_keys().collect());
}

#[test]
fn every_function_runs_where_its_binary_can() {
    // No linter notices a runtime that does not exist.
    let globals = &template()["Globals"]["Function"];
    assert_eq!((&globals["Runtime"], &globals["Handler"]), (&"provided.al2023".into(), &"bootstrap".into()));
    assert_eq!(texts(&globals["Architectures"]), ["arm64"]);
    for (name, function) in functions() {
        for same_for_all in ["Runtime", "Handler", "Architectures"] {
            assert!(function["Properties"].get(same_for_all).is_none(), "{name}: {same_for_all}");
        }
        assert_eq!(function["Metadata"]["BuildMethod"], "rust-cargolambda", "{name}");
    }
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
                let (actions, resources) = (texts(&statement["Action"]), texts(&statement["Resource"]));
                if resources == ["Commits.Arn"] {
                    let takes = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"];
                    assert_eq!((name.as_str(), actions), (MAINTENANCE, takes.map(str::to_owned).to_vec()));
                    continue;
                }
                let known = ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"];
                assert!(matches!(&actions[..], [action] if known.contains(&action.as_str())), "{name}: {actions:?}");
                for resource in resources {
                    let whole = ["Images.Arn", "Archive.Arn"].contains(&resource.as_str());
                    let part = ["${Images.Arn}/", "${Archive.Arn}/"].iter().find_map(|b| resource.strip_prefix(b));
                    assert!(whole == (actions[0] == "s3:ListBucket"), "{name}: {resource}");
                    assert!(whole || part.is_some_and(|keys| !keys.starts_with('*')), "{name}: {resource}");
                }
            }
        }
    }
}

/// The places, as the policies write them, on whose objects a function may do something.
fn allowed(function: &Value, action: &str) -> BTreeSet<String> {
    let policies = function["Properties"]["Policies"].as_sequence().unwrap().iter();
    let statements = policies.flat_map(|policy| policy["Statement"].as_sequence().unwrap());
    let allowing = statements.filter(|statement| texts(&statement["Action"]).iter().any(|allowed| allowed == action));
    allowing.flat_map(|statement| texts(&statement["Resource"])).collect()
}

#[test]
fn only_pruning_functions_may_delete_replicas_and_backups() {
    let prunes = [
        "backup-*/intent-*",
        "backup-*/manifest.json",
        "catalog/*",
        "images/*",
        "pruned.json",
        "restore.json",
        "scratch/*",
    ];
    for (name, function) in functions() {
        let deletes = allowed(&function, "s3:DeleteObject");
        let in_the_archive: Vec<_> = deletes.iter().filter_map(|place| place.strip_prefix("${Archive.Arn}/")).collect();
        let expected: Vec<&str> = match name.as_str() {
            MAINTENANCE => [&prunes[..3], &["image-metadata.d/*"][..], &prunes[3..]].concat(),
            "backup" => prunes.to_vec(),
            "restore" => vec!["backup-*/intent-*", "restore.json"],
            _ => Vec::new(),
        };
        assert_eq!(in_the_archive, expected, "{name}");
        let prunes = [MAINTENANCE, "backup"].contains(&name.as_str());
        assert_eq!(deletes.contains("${Images.Arn}/catalog/*"), prunes, "{name}: a page may go with a prune alone");
    }
}

#[test]
fn every_function_may_read_all_of_the_catalog() {
    // A page that is damaged in one bucket is read from the other.
    for (name, function) in functions() {
        let reads = allowed(&function, "s3:GetObject");
        for bucket in ["Images", "Archive"] {
            for part in ["catalog.json", "catalog/*", "image-metadata.json", "image-metadata.d/*"] {
                assert!(reads.contains(&format!("${{{bucket}.Arn}}/{part}")), "{name}: {part} in {bucket}");
            }
        }
    }
}

#[test]
fn whoever_may_write_may_also_read_what_is_there() {
    // A put that finds its place taken looks whether it was its own earlier try.
    for (name, function) in functions() {
        let (writes, reads) = (allowed(&function, "s3:PutObject"), allowed(&function, "s3:GetObject"));
        assert!(writes.is_subset(&reads), "{name}: {:?}", writes.difference(&reads));
    }
}

#[test]
fn the_buckets_are_private_versioned_encrypted_and_outlive_the_stack() {
    let buckets = resources("AWS::S3::Bucket");
    assert_eq!(buckets.keys().collect::<Vec<_>>(), ["Archive", "Images", PAGES]);
    for (name, bucket) in buckets {
        let (kept, properties) = ((&bucket["DeletionPolicy"], &bucket["UpdateReplacePolicy"]), &bucket["Properties"]);
        if name != PAGES {
            assert_eq!(kept, (&"Retain".into(), &"Retain".into()), "{name}");
            assert_eq!(properties["VersioningConfiguration"]["Status"], "Enabled", "{name}");
        }
        assert!(properties["BucketEncryption"].is_mapping(), "{name}");
        assert_eq!(properties["OwnershipControls"]["Rules"][0]["ObjectOwnership"], "BucketOwnerEnforced", "{name}");
        for what in ["BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"] {
            assert_eq!(properties["PublicAccessBlockConfiguration"][what], true, "{name}: {what}");
        }
        let policy = &resource(&format!("{name}Policy"))["Properties"]["PolicyDocument"]["Statement"][0];
        assert_eq!((&policy["Sid"], &policy["Effect"]), (&"OnlyOverTls".into(), &"Deny".into()), "{name}");
    }
}

#[test]
fn behind_the_cdn_every_route_leads_to_the_api_and_the_rest_is_pages() {
    let config = resource("Distribution")["Properties"]["DistributionConfig"].clone();
    assert_eq!(config["DefaultCacheBehavior"]["TargetOriginId"], PAGES);
    let patterns: Vec<String> =
        config["CacheBehaviors"].as_sequence().unwrap().iter().flat_map(|b| texts(&b["PathPattern"])).collect();
    // Each pattern has one star.
    let leads = |path: &str| {
        let mut parts = patterns.iter().filter_map(|pattern| pattern.split_once('*'));
        parts.any(|(start, end)| path.starts_with(start) && path.ends_with(end))
    };
    for route in served().into_values().flatten() {
        let path = route.split_once(' ').unwrap().1.to_owned();
        assert!(leads(&path), "{path}");
    }
    for page in ["/", "/index.html", "/safety", "/assets/style.css", "/assets/gallery/main.js"] {
        assert!(!leads(page), "{page}");
    }
}

#[test]
fn nothing_expires_but_tickets() {
    for (name, bucket) in resources("AWS::S3::Bucket").into_iter().filter(|(name, _)| name != PAGES) {
        for rule in bucket["Properties"]["LifecycleConfiguration"]["Rules"].as_sequence().unwrap() {
            let expires = rule.as_mapping().unwrap().keys().any(|key| {
                let key = key.as_str().unwrap();
                key.starts_with("Expiration") || key.starts_with("Transition")
            });
            let only_tickets = rule["Prefix"] == layout::INCOMING && name == "Images";
            assert_eq!(expires, only_tickets, "{name}: {rule:?}");
        }
    }
}

#[test]
fn new_commits_come_to_maintenance_by_a_queue_that_gives_it_time() {
    let queues = &resource("Images")["Properties"]["NotificationConfiguration"]["QueueConfigurations"];
    let [queues] = &queues.as_sequence().unwrap()[..] else { panic!("{queues:?}") };
    assert_eq!(texts(&queues["Queue"]), ["Commits.Arn"]);
    let rules = &queues["Filter"]["S3Key"]["Rules"];
    assert_eq!((&rules[0]["Name"], &rules[0]["Value"]), (&"prefix".into(), &layout::COMMITS.into()));
    assert!(rules.get(1).is_none());

    let (queue, function) = (resource("Commits")["Properties"].clone(), functions()[MAINTENANCE].clone());
    let timeout = function["Properties"]["Timeout"].as_u64().unwrap();
    assert!(queue["VisibilityTimeout"].as_u64().unwrap() >= 6 * timeout);
    assert_eq!(texts(&queue["RedrivePolicy"]["deadLetterTargetArn"]), ["DeadLetters.Arn"]);
    let mapping = resource("CommitsToMaintenance")["Properties"].clone();
    assert_eq!(texts(&mapping["EventSourceArn"]), ["Commits.Arn"]);
    assert_eq!(texts(&mapping["FunctionName"]), ["MaintenanceFunction.Arn"]);
    assert_eq!(texts(&mapping["FunctionResponseTypes"]), ["ReportBatchItemFailures"]);
}

/// What stands behind an intrinsic function.
fn argument(value: &Value) -> &Value {
    let Value::Tagged(tagged) = value else { panic!("no intrinsic function: {value:?}") };
    &tagged.value
}

#[test]
fn the_queue_lets_in_the_bucket_of_images_by_the_name_it_will_have() {
    let (bucket, policy) = (resource("Images"), resource("CommitsPolicy"));
    let name = argument(&bucket["Properties"]["BucketName"]);
    let (between, first, last) = (name[0].as_str().unwrap(), name[1][0].as_str().unwrap(), &name[1][1]);
    let condition = &policy["Properties"]["PolicyDocument"]["Statement"][0]["Condition"];
    let source = argument(&condition["ArnEquals"]["aws:SourceArn"]);
    assert_eq!(source[0], format!("arn:${{AWS::Partition}}:s3:::{first}{between}${{Stack}}").as_str());
    assert_eq!(&source[1]["Stack"], last);
    assert_eq!(texts(&condition["StringEquals"]["aws:SourceAccount"]), ["AWS::AccountId"]);
}

#[test]
fn what_a_scanner_is_told_to_pass_over_has_a_reason() {
    let mut skips = 0;
    for (name, resource) in template()["Resources"].as_mapping().unwrap() {
        for skip in resource["Metadata"]["checkov"]["skip"].as_sequence().into_iter().flatten() {
            skips += 1;
            assert!(skip["id"].as_str().unwrap().starts_with("CKV"), "{name:?}");
            assert!(skip["comment"].as_str().is_some_and(|reason| reason.len() > 20), "{name:?}: {skip:?}");
        }
        assert!(
            resource["Metadata"]["cfn-lint"].is_null(),
            "{name:?}: a rule switched off needs a check of its reason"
        );
    }
    assert!(skips > 0);
}

/// Every event in `events/`, by its file's name without the ending.
fn events() -> BTreeMap<String, Json> {
    let files = std::fs::read_dir(Path::new(ROOT).join("events")).unwrap().map(|file| file.unwrap().path());
    let event = |file: std::path::PathBuf| {
        assert_eq!(file.extension().unwrap(), "json", "{}", file.display());
        let event = serde_json::from_slice(&std::fs::read(&file).unwrap());
        (file.file_stem().unwrap().to_str().unwrap().to_owned(), event.unwrap_or_else(|e| panic!("{file:?}: {e}")))
    };
    files.map(event).collect()
}

/// The function that an event is for: what its name begins with.
fn function_of(event: &str) -> &str {
    event.split_once('-').map_or(event, |(function, _)| function)
}

#[test]
fn there_is_one_event_for_each_route() {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, event) in events().into_iter().filter(|(name, _)| function_of(name) != MAINTENANCE) {
        let route = event["routeKey"].as_str().unwrap_or_else(|| panic!("{name}")).to_owned();
        found.entry(function_of(&name).to_owned()).or_default().push(route);
    }
    found.values_mut().for_each(|routes| routes.sort());
    let expected = served().into_iter().map(|(function, routes)| (function, routes.into_iter().collect()));
    assert_eq!(found, expected.collect());
}

#[test]
fn the_events_of_routes_are_as_api_gateway_makes_them() {
    for (name, event) in events().into_iter().filter(|(name, _)| function_of(name) != MAINTENANCE) {
        let (method, route) = event["routeKey"].as_str().unwrap().split_once(' ').unwrap();
        let context = &event["requestContext"];
        assert_eq!((&event["version"], &context["stage"]), (&"2.0".into(), &"$default".into()), "{name}");
        assert_eq!((&context["routeKey"], &context["http"]["method"]), (&event["routeKey"], &method.into()), "{name}");
        let parameters = event["pathParameters"].as_object().cloned().unwrap_or_default();
        let path = parameters.iter().fold(route.to_owned(), |path, (parameter, value)| {
            path.replace(&format!("{{{parameter}}}"), value.as_str().unwrap())
        });
        assert_eq!((&event["rawPath"], &context["http"]["path"]), (&path.as_str().into(), &event["rawPath"]), "{name}");
        assert!(!path.contains('{'), "{name}");
        assert_eq!(event["headers"]["host"], context["domainName"], "{name}");
        let is_image = event["headers"]["content-type"] == "image/png";
        assert_eq!(event["isBase64Encoded"], is_image, "{name}");
        let body = event["body"].as_str().unwrap_or_default();
        // The beginning of every PNG in base64.
        assert_eq!(body.starts_with("iVBORw0KGgo"), is_image, "{name}");
        if event["headers"]["content-type"] == "application/json" {
            assert!(serde_json::from_str::<Json>(body).is_ok_and(|body| body.is_object()), "{name}");
        }
    }
}

#[test]
fn the_events_of_maintenance_are_what_its_queue_and_its_schedules_send() {
    let mut events = events();
    events.retain(|name, _| function_of(name) == MAINTENANCE);
    let schedules = functions()[MAINTENANCE]["Properties"]["Events"].as_mapping().unwrap().clone();
    for (name, schedule) in schedules {
        assert_eq!(schedule["Type"], "ScheduleV2", "{name:?}");
        let input: Json = serde_json::from_str(schedule["Properties"]["Input"].as_str().unwrap()).unwrap();
        let event = format!("{MAINTENANCE}-{}", input["task"].as_str().unwrap());
        assert_eq!(events.remove(&event), Some(input));
    }
    let batch = events.remove("maintenance-commit").unwrap();
    assert!(events.is_empty(), "{events:?}");
    for message in batch["Records"].as_array().unwrap() {
        assert_eq!(message["eventSource"], "aws:sqs");
        let event: Json = serde_json::from_str(message["body"].as_str().unwrap()).unwrap();
        let object = &event["Records"][0]["s3"]["object"];
        assert!(layout::parse_commit(&Key::new(object["key"].as_str().unwrap()).unwrap()).is_some(), "{object}");
    }
}
