//! The files in `deploy/` themselves: they can be read, and agree with what the server does and with each other.

use serde_json::Value;

use super::deploy::{documents, image, text, tree, unit};

/// How long the server may take to let uploads in flight end, in seconds.
const DRAIN: u64 = 25;

fn seconds(text: &str) -> u64 {
    text.trim_end_matches('s').parse().unwrap()
}

/// Each host gives a stop as long as the server may take for it.
#[test]
fn every_host_waits_for_uploads_in_flight() {
    let set = documents("kubernetes/keepsake.yaml").pop().unwrap();
    let waits = [
        ("railway.json", tree("railway.json")["deploy"]["drainingSeconds"].as_u64().unwrap()),
        ("fly.toml", tree("fly.toml")["kill_timeout"].as_u64().unwrap()),
        ("fly.uploads-only.toml", tree("fly.uploads-only.toml")["kill_timeout"].as_u64().unwrap()),
        ("render.yaml", tree("render.yaml")["services"][0]["maxShutdownDelaySeconds"].as_u64().unwrap()),
        ("compose.yaml", seconds(tree("compose.yaml")["services"]["keepsake"]["stop_grace_period"].as_str().unwrap())),
        ("keepsake.service", seconds(&unit("systemd/keepsake.service")["TimeoutStopSec"])),
        ("keepsake.yaml", set["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap()),
    ];
    for (name, wait) in waits {
        assert!(wait > DRAIN, "{name} kills after {wait} seconds");
    }
}

/// Where a volume is mounted, there the store lies.
#[test]
fn every_host_mounts_its_volume_where_the_store_lies() {
    let variable = |list: &Value, name: &str| {
        let list = list.as_array().unwrap();
        let found = list.iter().find(|v| v["key"] == name || v["name"] == name).unwrap();
        found["value"].as_str().unwrap().to_owned()
    };
    let fly = tree("fly.toml");
    assert_eq!(fly["mounts"]["destination"], fly["env"]["DATA_DIR"]);
    let fly = tree("fly.uploads-only.toml");
    assert_eq!(fly["mounts"]["destination"], format!("{}/uploads", fly["env"]["DATA_DIR"].as_str().unwrap()));
    let render = &tree("render.yaml")["services"][0];
    assert_eq!(render["disk"]["mountPath"], variable(&render["envVars"], "DATA_DIR"));
    assert!(tree("render-free.yaml")["services"][0]["disk"].is_null(), "the free tier has no disks");
    let compose = &tree("compose.yaml")["services"]["keepsake"];
    assert_eq!(compose["volumes"][0], format!("images:{}", compose["environment"]["DATA_DIR"].as_str().unwrap()));
    let pod = &documents("kubernetes/keepsake.yaml")[1]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(pod["volumeMounts"][0]["mountPath"], variable(&pod["env"], "DATA_DIR"));
    let unit = unit("systemd/keepsake.service");
    assert!(unit["Environment"].contains(&format!("DATA_DIR=/var/lib/{} ", unit["StateDirectory"])));
}

/// Hosts ask whether it is ready before they send people there, and never kill it for a store that is away.
#[test]
fn every_host_asks_the_routes_that_are_there_for_it() {
    assert_eq!(tree("railway.json")["deploy"]["healthcheckPath"], "/readyz");
    for name in ["fly.toml", "fly.uploads-only.toml"] {
        assert_eq!(tree(name)["http_service"]["checks"][0]["path"], "/readyz");
    }
    for name in ["render.yaml", "render-free.yaml"] {
        assert_eq!(tree(name)["services"][0]["healthCheckPath"], "/readyz");
    }
    let pod = &documents("kubernetes/keepsake.yaml")[1]["spec"]["template"]["spec"]["containers"][0];
    for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(pod[probe]["httpGet"]["path"], path, "{probe}");
    }
}

/// Two servers with a volume each would be two stores.
#[test]
fn no_host_runs_a_second_server_on_a_disk() {
    assert_eq!(tree("railway.json")["deploy"]["numReplicas"], 1);
    let set = &documents("kubernetes/keepsake.yaml")[1];
    assert_eq!((set["kind"].as_str(), set["spec"]["replicas"].as_u64()), (Some("StatefulSet"), Some(1)));
}

#[test]
fn the_image_runs_as_nobody_special_and_hides_no_missing_volume() {
    let image = image(&[]);
    assert!(image.user != 0 && image.group != 0);
    assert!(image.instructions.iter().all(|(instruction, _)| instruction != "VOLUME"));
    // Where it lies would go before the volume that Railway names.
    assert!(!image.variables.contains_key("DATA_DIR"));
    assert_eq!(image.command, ["/usr/local/bin/keepsake"]);
    assert_eq!(image.stop_signal, "SIGTERM");
    let owned: Vec<&str> = image.folders.iter().map(|(folder, _)| folder.as_str()).collect();
    assert_eq!(owned, ["/data", "/app"]);
    assert!(image.folders.iter().all(|(_, owner)| *owner == image.user));
    let toolchain: Value = toml::from_str(include_str!("../../../../rust-toolchain.toml")).unwrap();
    let base = format!("rust:{}-slim-bookworm", toolchain["toolchain"]["channel"].as_str().unwrap());
    assert!(image.instructions[0].1.starts_with(&base), "another toolchain would be downloaded in each build");
}

/// Proxies let through what the server takes, and do not lose patience before it does.
#[test]
fn proxies_are_more_patient_than_the_server() {
    let nginx = text("nginx/keepsake.conf");
    let setting = |name: &str| {
        let line = nginx.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}")).trim_end_matches(';').to_owned()
    };
    assert_eq!(setting("proxy_request_buffering"), "off");
    assert!(setting("client_max_body_size").trim_end_matches('m').parse::<u64>().unwrap() > 100);
    for name in ["client_body_timeout", "proxy_send_timeout"] {
        assert!(seconds(&setting(name)) > 75, "{name}");
    }
    let (_, imports) = nginx.split_once("location /api/backups {").expect("an import may be of any size");
    assert!(imports.split_once('}').unwrap().0.contains("client_max_body_size 0;"));
    let before = nginx.split_once("location ").unwrap().0;
    assert!(!before.contains("client_max_body_size"), "it would be for every place");
    let caddy = text("caddy/Caddyfile");
    assert!(caddy.contains("@no_import not path /api/backups\n\trequest_body @no_import {"));
    let size = caddy.split_once("max_size ").unwrap().1.split_once("MB").unwrap().0;
    assert!(size.parse::<u64>().unwrap() * 1_000_000 > 100 << 20);
}
