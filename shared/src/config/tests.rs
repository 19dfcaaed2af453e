//! One test for each row of the table of settings, and one for each kind of invalid value.

use super::*;

/// Reads these variables in the folder `/srv/app`, outside a container.
pub(super) fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    read_in(variables, false)
}

fn read_in(variables: &[(&str, &str)], in_container: bool) -> Result<Config, ConfigError> {
    let lookup = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
    Config::assemble(&Values(&lookup), &Machine { current_dir: "/srv/app".into(), in_container })
}

fn file(path: &str) -> StoreUrl {
    StoreUrl::File(path.into())
}

fn s3(bucket: &str, prefix: Option<&str>) -> StoreUrl {
    StoreUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.map(str::to_owned), endpoint: None, region: None }
}

/// Checks that each of these values is refused with a sentence that contains the variable, the value and a remedy.
pub(super) fn refused(name: &str, values: &[&str]) {
    for value in values {
        let error = read(&[(name, value)]).unwrap_err();
        assert_eq!((error.name, error.value.as_deref()), (name, Some(*value)));
        let sentence = error.to_string();
        assert!(sentence.starts_with(&format!("{name} is {value:?}; ")) && sentence.ends_with('.'), "{sentence}");
    }
}

#[test]
fn without_any_setting_it_serves_the_current_folder_to_this_machine_only() {
    let config = read(&[]).unwrap();
    assert_eq!((config.host, config.port), (Ipv4Addr::LOCALHOST.into(), 3000));
    assert_eq!(config.platform, None);
    assert_eq!((config.data_dir.as_path(), &config.store), (Path::new("/srv/app"), &file("/srv/app")));
    assert_eq!((config.backup, config.archive, config.backup_every), (None, ArchiveMode::Sync, TEN));
    assert_eq!(
        (config.max_upload_bytes, config.max_pixels, config.reserve_bytes),
        (104_857_600, 100_000_000, 67_108_864)
    );
    assert!(config.api_token.is_none() && config.allowed_origins.is_empty());
    assert_eq!((config.log_filter.as_str(), config.log_format), ("info", None));
}

#[test]
fn an_empty_value_counts_as_none() {
    let names = "HOST PORT DATA_DIR PERSISTENT_DATA_DIR RAILWAY_VOLUME_MOUNT_PATH STORE_URL BACKUP_URL ARCHIVE \
                 ARCHIVE_BEHIND_MAX BACKUP_EVERY KEEP_LAST KEEP_DAILY KEEP_WEEKLY KEEP_MONTHLY MAX_UPLOAD_BYTES \
                 MAX_PIXELS RESERVE_BYTES DERIVATIVE_CACHE_BYTES STRIP_GPS OFFLOAD API_TOKEN READ ALLOWED_HOSTS PUBLIC_URL \
                 TRUST_PROXY RATE_LIMIT RATE_LIMIT_WRONG_TOKENS ALLOWED_ORIGINS RUST_LOG LOG_FORMAT \
                 RAILWAY_PROJECT_ID AWS_LAMBDA_FUNCTION_NAME";
    for blank in ["", " "] {
        let variables: Vec<_> = names.split_whitespace().map(|name| (name, blank)).collect();
        let config = read(&variables).unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", read(&[]).unwrap()));
    }
}

#[test]
fn host_is_an_address() {
    let host = |value| read(&[("HOST", value)]).unwrap().host.to_string();
    assert_eq!(["0.0.0.0", "::", "[::1]", "localhost"].map(host), ["0.0.0.0", "::", "::1", "127.0.0.1"]);
    refused("HOST", &["example.com", "127.0.0.1:3000", "256.0.0.1"]);
}

#[test]
fn platform_sets_listen_address_and_plain_container_uses_loopback() {
    let signs = [
        ("RAILWAY_PROJECT_ID", "railway"),
        ("FLY_APP_NAME", "fly"),
        ("RENDER", "render"),
        ("DYNO", "heroku"),
        ("K_SERVICE", "cloud-run"),
        ("KUBERNETES_SERVICE_HOST", "kubernetes"),
    ];
    for (sign, name) in signs {
        let config = read(&[(sign, "x")]).unwrap();
        assert_eq!((config.host.to_string().as_str(), config.platform.unwrap().name()), ("0.0.0.0", name));
        assert!(read(&[(sign, "x"), ("HOST", "127.0.0.1")]).unwrap().host.is_loopback());
    }
    let config = read_in(&[], true).unwrap();
    assert_eq!((config.host.to_string().as_str(), config.platform), ("127.0.0.1", Some(Platform::Container)));
    assert_eq!(read_in(&[("DYNO", "web.1")], true).unwrap().platform, Some(Platform::Heroku));
}

#[test]
fn port_is_a_number() {
    assert_eq!(read(&[("PORT", " 8080\n")]).unwrap().port, 8080);
    assert_eq!(read(&[("PORT", "0")]).unwrap().port, 0);
    refused("PORT", &["http", "65536", "-1", "80.0"]);
}

#[test]
fn data_dir_is_a_folder_and_has_two_names() {
    let folder = |variables: &[(&str, &str)]| {
        let config = read(variables).unwrap();
        assert_eq!(config.store, StoreUrl::File(config.data_dir.clone()));
        config.data_dir.display().to_string()
    };
    assert_eq!(folder(&[("DATA_DIR", "./data/")]), "/srv/app/data");
    assert_eq!(folder(&[("PERSISTENT_DATA_DIR", "/data")]), "/data");
    assert_eq!(folder(&[("PERSISTENT_DATA_DIR", "/srv/app/data"), ("DATA_DIR", "data")]), "/srv/app/data");
    assert_eq!(folder(&[("RAILWAY_VOLUME_MOUNT_PATH", "/vol")]), "/vol");
    assert_eq!(folder(&[("RAILWAY_VOLUME_MOUNT_PATH", "/vol"), ("DATA_DIR", "/vol/photos")]), "/vol/photos");

    refused("DATA_DIR", &["s3://bucket", "file:///data"]);
    let error = read(&[("DATA_DIR", "/a"), ("PERSISTENT_DATA_DIR", "/b")]).unwrap_err();
    let sentence = r#"PERSISTENT_DATA_DIR is "/b"; unset it, or DATA_DIR, which names another folder (/a)."#;
    assert_eq!(error.to_string(), sentence);
}

#[test]
fn a_value_that_is_not_utf_8_is_refused() {
    let error = read(&[("DATA_DIR", "/data/\u{fffd}")]).unwrap_err();
    assert_eq!(error.to_string(), r#"DATA_DIR is "***"; write it in UTF-8."#);
}

#[test]
fn store_url_is_a_folder_or_a_bucket() {
    let store = |value| read(&[("STORE_URL", value)]).unwrap().store;
    assert_eq!(store("file:///data/my%20photos/"), file("/data/my photos"));
    assert_eq!(store("s3://my-photos"), s3("my-photos", None));
    assert_eq!(store("s3://my-photos/"), s3("my-photos", None));
    assert_eq!(store("s3://my-photos/holiday%20pictures/2026/"), s3("my-photos", Some("holiday pictures/2026")));
    refused(
        "STORE_URL",
        &[
            "/data",
            "data",
            "file:data",
            "file://data",
            "file:///data?x=1",
            "file:///data#x",
            "https://example.com",
            "s3://",
            "s3:bucket",
        ],
    );
    refused("STORE_URL", &["s3://ab", "s3://b%C3%BCcket", "s3://bucket:9000/x", "s3://bucket/a//b", "s3://bucket/%ff"]);
}

#[test]
fn a_password_in_a_url_is_not_repeated() {
    let error = read(&[("STORE_URL", "s3://AKIA:hun/ter2@bucket/prefix")]).unwrap_err();
    assert_eq!(error.value.as_deref(), Some("s3://***@bucket/prefix"));
}

#[test]
fn the_store_on_a_disk_is_the_data_folder_and_there_is_one() {
    let config = read(&[("STORE_URL", "file:///data"), ("RAILWAY_VOLUME_MOUNT_PATH", "/vol")]).unwrap();
    assert_eq!((config.store, config.data_dir.as_path()), (file("/data"), Path::new("/data")));
    let config = read(&[("STORE_URL", "s3://bucket"), ("DATA_DIR", "/tmp")]).unwrap();
    assert_eq!((config.store, config.data_dir.as_path()), (s3("bucket", None), Path::new("/tmp")));
    assert!(read(&[("STORE_URL", "file:///data"), ("DATA_DIR", "/data/")]).is_ok());
    let error = read(&[("STORE_URL", "file:///data"), ("DATA_DIR", "other")]).unwrap_err();
    let sentence =
        r#"STORE_URL is "file:///data"; unset it, or DATA_DIR, which names another folder (/srv/app/other)."#;
    assert_eq!(error.to_string(), sentence);
}

#[test]
fn backup_url_is_a_place_apart() {
    let backup = |store, backup| read(&[("STORE_URL", store), ("BACKUP_URL", backup)]).map(|config| config.backup);
    assert_eq!(backup("file:///data", "file:///mnt/usb"), Ok(Some(file("/mnt/usb"))));
    assert_eq!(backup("file:///data", "file:///data/backups"), Ok(Some(file("/data/backups"))));
    assert_eq!(backup("file:///data", "s3://bucket/archive"), Ok(Some(s3("bucket", Some("archive")))));
    assert_eq!(
        backup("s3://bucket/photos", "s3://bucket/photos-archive"),
        Ok(Some(s3("bucket", Some("photos-archive"))))
    );
    assert_eq!(backup("s3://bucket", "s3://other/uploads"), Ok(Some(s3("other", Some("uploads")))));
    let collisions = [
        ("file:///data", "file:///data/"),
        ("file:///data", "file:///data/uploads/backup"),
        ("file:///data", "file:///data/image-metadata.d"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/photos", "s3://bucket/photos/uploads"),
    ];
    for (store, url) in collisions {
        let error = backup(store, url).unwrap_err();
        assert_eq!((error.name, error.value.as_deref()), ("BACKUP_URL", Some(url)));
    }
    refused("BACKUP_URL", &["/mnt/usb", "ftp://example.com/"]);
}

#[test]
fn the_archive_is_made_at_once_on_a_disk_and_soon_on_s3() {
    let archive = |variables: &[(&str, &str)]| read(variables).unwrap().archive;
    assert_eq!(archive(&[("STORE_URL", "s3://bucket")]), ArchiveMode::Async);
    assert_eq!(archive(&[("STORE_URL", "s3://bucket"), ("ARCHIVE", "sync")]), ArchiveMode::Sync);
    assert_eq!(archive(&[("ARCHIVE", "ASYNC")]), ArchiveMode::Async);
    assert_eq!(archive(&[("BACKUP_URL", "s3://bucket")]), ArchiveMode::Sync);
    refused("ARCHIVE", &["off", "true"]);
}

#[test]
fn backup_every_counts_uploads() {
    assert_eq!(read(&[("BACKUP_EVERY", "25")]).unwrap().backup_every.get(), 25);
    refused("BACKUP_EVERY", &["0", "-1", "ten", "2.5", "99999999999"]);
    assert_eq!(read(&[]).unwrap().archive_behind_max, 10_000);
    assert_eq!(read(&[("ARCHIVE_BEHIND_MAX", "25")]).unwrap().archive_behind_max, 25);
    refused("ARCHIVE_BEHIND_MAX", &["0", "-1", "some"]);
}

#[test]
fn sizes_are_bytes_or_have_a_unit() {
    let sizes = [
        ("1", 1),
        ("104_857_600", 104_857_600),
        ("100MB", 100_000_000),
        ("100 mb", 100_000_000),
        ("64MiB", 67_108_864),
        ("64 kib", 65_536),
        ("5kB", 5_000),
        ("2GB", 2_000_000_000),
        ("2GiB", 2_147_483_648),
        ("1TB", 1_000_000_000_000),
        ("1TiB", 1_099_511_627_776),
        ("7B", 7),
    ];
    for (value, bytes) in sizes {
        let config = read(&[("MAX_UPLOAD_BYTES", value), ("RESERVE_BYTES", value)]).unwrap();
        assert_eq!((config.max_upload_bytes, config.reserve_bytes), (bytes, bytes), "{value}");
    }
    assert_eq!(read(&[("RESERVE_BYTES", "0")]).unwrap().reserve_bytes, 0);
    refused("MAX_UPLOAD_BYTES", &["0", "MB", "100M", "1.5GB", "-1", "100 apples", "99999999TiB", "1e6"]);
    refused("RESERVE_BYTES", &["some", "64 MiB free"]);
}

#[test]
fn max_pixels_is_a_number() {
    assert_eq!(read(&[("MAX_PIXELS", "250_000_000")]).unwrap().max_pixels, 250_000_000);
    refused("MAX_PIXELS", &["0", "100M", "10000x10000"]);
}

#[test]
fn on_lambda_the_store_has_to_be_named() {
    let lambda = ("AWS_LAMBDA_FUNCTION_NAME", "keepsake-upload");
    let error = read(&[lambda]).unwrap_err();
    assert!(error.to_string().starts_with("STORE_URL is not set; set it to s3://bucket, because"), "{error}");
    assert_eq!(read(&[lambda, ("DATA_DIR", "/mnt/efs")]).unwrap().store, file("/mnt/efs"));
}

#[test]
fn the_token_is_never_shown() {
    let config = read(&[("API_TOKEN", "hunter2+/=\n")]).unwrap();
    assert_eq!(config.api_token.as_ref().map(Secret::expose), Some("hunter2+/="));
    assert!(!format!("{config:?}").contains("hunter2"));
    for token in ["hunter2 ", "hunter2\u{fffd}"] {
        let error = read(&[("API_TOKEN", &format!("x {token} x"))]).unwrap_err();
        assert!(error.name == "API_TOKEN" && !error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn allowed_origins_are_origins() {
    let origins = |value| read(&[("ALLOWED_ORIGINS", value)]).unwrap().allowed_origins;
    assert_eq!(
        origins("https://Example.com, http://localhost:5173,"),
        ["https://example.com", "http://localhost:5173"]
    );
    assert_eq!(origins("https://example.com:443/"), ["https://example.com"]);
    for wrong in ["*", "null", "example.com", "https://example.com/app", "https://u@example.com", "ftp://example.com"] {
        let error = read(&[("ALLOWED_ORIGINS", &format!("https://ok.example, {wrong}"))]).unwrap_err();
        assert_eq!(error.name, "ALLOWED_ORIGINS");
    }
    refused("ALLOWED_ORIGINS", &["*", "example.com", "https://example.com/?x"]);
}

#[test]
fn reading_is_open_or_needs_a_token() {
    assert_eq!(read(&[]).unwrap().read, Read::Open);
    assert_eq!(read(&[("READ", "OPEN")]).unwrap().read, Read::Open);
    assert_eq!(read(&[("READ", "token")]).unwrap().read, Read::Token);
    refused("READ", &["closed", "true", "private"]);
    let lambda = [("AWS_LAMBDA_FUNCTION_NAME", "images"), ("STORE_URL", "s3://bucket"), ("READ", "token")];
    assert_eq!(read(&lambda).unwrap_err().to_string(), r#"READ is "token"; set API_TOKEN as well."#);
    assert_eq!(read(&[&lambda[..], &[("API_TOKEN", "x")]].concat()).unwrap().read, Read::Token);
}

#[test]
fn gps_is_served_by_default_and_unstrippable_setup_fails_at_start() {
    assert!(!read(&[]).unwrap().strip_gps && !read(&[("STRIP_GPS", "false")]).unwrap().strip_gps);
    assert!(read(&[("STRIP_GPS", "TRUE")]).unwrap().strip_gps);
    refused("STRIP_GPS", &["1", "yes", "on"]);
    let lambda = [("AWS_LAMBDA_FUNCTION_NAME", "images"), ("STORE_URL", "s3://bucket"), ("STRIP_GPS", "true")];
    let sentence = read(&lambda).unwrap_err().to_string();
    assert!(sentence.starts_with(r#"STRIP_GPS is "true"; leave it out: on AWS Lambda "#), "{sentence}");
}

#[test]
fn the_public_url_is_an_origin() {
    let url = |value| read(&[("PUBLIC_URL", value)]).unwrap().public_url;
    assert_eq!(read(&[]).unwrap().public_url, None);
    assert_eq!(url("https://photos.example/").as_deref(), Some("https://photos.example"));
    assert_eq!(url("http://localhost:3000").as_deref(), Some("http://localhost:3000"));
    let hosts = |more| {
        let own = [("PUBLIC_URL", "http://nas:8080"), ("HOST", "127.0.0.1")];
        read(&[more, &own[..]].concat()).unwrap().allowed_hosts
    };
    assert_eq!(hosts(&[]), ["nas"]);
    assert_eq!(hosts(&[("PUBLIC_URL", "http://localhost:8080")]), Vec::<String>::new());
    assert_eq!(hosts(&[("HOST", "0.0.0.0")]), Vec::<String>::new(), "all are answered to");
    assert_eq!(hosts(&[("HOST", "0.0.0.0"), ("ALLOWED_HOSTS", "other")]), ["other", "nas"]);
    for wrong in ["photos.example", "https://photos.example/below", "ftp://photos.example", "https://"] {
        assert_eq!(read(&[("PUBLIC_URL", wrong)]).unwrap_err().name, "PUBLIC_URL", "{wrong}");
    }
}

#[test]
fn allowed_hosts_are_names_with_or_without_a_port() {
    let hosts = |value| read(&[("ALLOWED_HOSTS", value)]).unwrap().allowed_hosts;
    assert_eq!(hosts("Images.Example.com, nas:8443 ,"), ["images.example.com", "nas:8443"]);
    assert_eq!(hosts("bücher.example,192.0.2.1,[::2]:80"), ["xn--bcher-kva.example", "192.0.2.1", "[::2]:80"]);
    refused(
        "ALLOWED_HOSTS",
        &["https://example.com", "example.com/", "*", "*.example.com", "a b", "nas:http", "nas:70000"],
    );
}

#[test]
fn proxies_are_trusted_where_the_platform_has_them_or_somebody_says_so() {
    let proxies = |variables: &[(&str, &str)]| read(variables).unwrap().trusted_proxies;
    assert_eq!(proxies(&[]), 0);
    let signs = [("RAILWAY_PROJECT_ID", 1), ("DYNO", 1), ("K_SERVICE", 1), ("FLY_APP_NAME", 2), ("RENDER", 2)];
    for (sign, expected) in [&signs[..], &[("KUBERNETES_SERVICE_HOST", 0)]].concat() {
        assert_eq!(proxies(&[(sign, "x")]), expected, "{sign}");
        assert_eq!(proxies(&[(sign, "x"), ("TRUST_PROXY", "3")]), 3, "{sign}");
    }
    refused("TRUST_PROXY", &["yes", "-1", "256"]);
}

#[test]
fn limits_are_numbers_for_a_minute() {
    let limits = |variables: &[(&str, &str)]| {
        let config = read(variables).unwrap();
        (config.rate_limit, config.rate_limit_wrong_tokens)
    };
    assert_eq!(limits(&[]), (6_000, 20));
    assert_eq!(limits(&[("RATE_LIMIT", "60"), ("RATE_LIMIT_WRONG_TOKENS", "0")]), (60, 0));
    refused("RATE_LIMIT", &["many", "-1", "1/s"]);
    refused("RATE_LIMIT_WRONG_TOKENS", &["some", "1.5"]);
}

#[test]
fn logs_are_set_by_two_variables() {
    let config = read(&[("RUST_LOG", "warn,shared=debug"), ("LOG_FORMAT", "json")]).unwrap();
    assert_eq!((config.log_filter.as_str(), config.log_format), ("warn,shared=debug", Some(LogFormat::Json)));
    assert_eq!(read(&[("LOG_FORMAT", "Text")]).unwrap().log_format, Some(LogFormat::Text));
    refused("LOG_FORMAT", &["xml"]);
}

#[test]
fn the_public_ways_in_ask_this_machine() {
    let config = Config::from_lookup(&|name| (name == "DATA_DIR").then(|| "photos".to_owned())).unwrap();
    assert_eq!(config.data_dir, std::env::current_dir().unwrap().join("photos"));
}

#[test]
fn the_backups_that_a_prune_keeps_are_counted_by_last_day_week_and_month() {
    let config = read(&[]).unwrap();
    assert_eq!(config.keep, Keep { last: 20, daily: 14, weekly: 8, monthly: 12 });
    let set = [("KEEP_LAST", "1"), ("KEEP_DAILY", "2"), ("KEEP_WEEKLY", "3"), ("KEEP_MONTHLY", "0")];
    assert_eq!(read(&set).unwrap().keep, Keep { last: 1, daily: 2, weekly: 3, monthly: 0 });
    for (name, _) in set {
        refused(name, &["-1", "many", "1.5", "5000000000"]);
    }
}
