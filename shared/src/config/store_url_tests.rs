//! Store URLs: services other than AWS, separate credentials for an archive, and Cloudinary.

use super::tests::{read, refused};
use super::*;

fn backup(url: &str) -> Result<StoreUrl, ConfigError> {
    read(&[("BACKUP_URL", url)]).map(|config| config.backup.unwrap())
}

fn s3(prefix: Option<&str>, endpoint: Option<&str>, region: Option<&str>) -> StoreUrl {
    let [prefix, endpoint, region] = [prefix, endpoint, region].map(|part| part.map(str::to_owned));
    StoreUrl::S3 { bucket: "photos".to_owned(), prefix, endpoint, region }
}

#[test]
fn a_bucket_may_name_its_service_and_its_region() {
    let minio = s3(None, Some("http://127.0.0.1:9000"), None);
    assert_eq!(backup("s3://photos?endpoint=http://127.0.0.1:9000"), Ok(minio.clone()));
    assert_eq!(backup("s3://photos/?endpoint=http%3A%2F%2F127.0.0.1%3A9000%2F"), Ok(minio.clone()));
    assert_eq!(minio.to_string(), "s3://photos at http://127.0.0.1:9000");
    let r2 = "https://account.r2.cloudflarestorage.com";
    let url = format!("s3://photos/a%3Fb?region=auto&endpoint={r2}");
    assert_eq!(backup(&url), Ok(s3(Some("a?b"), Some(r2), Some("auto"))));
    assert_eq!(read(&[("STORE_URL", &url)]).unwrap().store, backup(&url).unwrap());
    assert_eq!(backup("s3://photos?region=eu-central-1"), Ok(s3(None, None, Some("eu-central-1"))));
    let wrong = [
        "s3://photos?endpoint=minio:9000",
        "s3://photos?endpoint=",
        "s3://photos?endpoint=ftp://minio",
        "s3://photos?endpoint=http://minio/?x",
        "s3://photos?region=",
        "s3://photos?region=eu central",
        "s3://photos?region=a&region=b",
        "s3://photos?versions=1",
        "s3://photos#fragment",
    ];
    refused("BACKUP_URL", &wrong);
    refused("STORE_URL", &wrong);
    for url in ["s3://photos?endpoint=https://id:hunter2@minio", "s3://id:hunter2@photos"] {
        let sentence = backup(url).unwrap_err().to_string();
        assert!(!sentence.contains("hunter2"), "{sentence}");
    }
}

#[test]
fn two_services_may_have_buckets_of_one_name_and_one_service_has_one() {
    let both = |store, backup, variable| read(&[("STORE_URL", store), ("BACKUP_URL", backup), variable]).map(|_| ());
    let none = ("PORT", "1");
    let (here, there) = ("s3://photos?endpoint=http://one:1", "s3://photos?endpoint=http://two:2");
    assert_eq!(both(here, there, none), Ok(()));
    assert_eq!(both("s3://photos", here, none), Ok(()));
    for (store, backup, variable) in [
        (here, "s3://photos?endpoint=http://one:1/&region=x", none),
        (here, "s3://photos", ("AWS_ENDPOINT_URL", "http://one:1/")),
        ("s3://photos", here, ("AWS_ENDPOINT_URL_S3", "http://one:1")),
        ("s3://photos", "s3://photos/uploads", ("AWS_ENDPOINT_URL", "http://one:1")),
    ] {
        assert_eq!(both(store, backup, variable).unwrap_err().name, "BACKUP_URL");
    }
}

#[test]
fn dots_between_the_slashes_of_a_url_are_refused() {
    for path in ["a/../b", "..", "./a", "a/%2E%2e/b", "a/.%2e", "a/b/."] {
        for url in [format!("s3://bucket/{path}"), format!("cloudinary://1:2@cloud/{path}"), format!("file:///{path}")]
        {
            let error = read(&[("BACKUP_URL", &url)]).unwrap_err();
            assert_eq!(error.remedy, "write the path without . and .. between its slashes", "{url}");
        }
    }
    for url in ["s3://bucket/a..b/.c", "s3://bucket/a?endpoint=http://host/x/../y"] {
        read(&[("BACKUP_URL", url)]).unwrap();
    }
}

#[test]
fn an_archive_has_credentials_of_its_own_or_those_of_the_primary() {
    let (id, secret) = (("BACKUP_AWS_ACCESS_KEY_ID", "AKIA"), ("BACKUP_AWS_SECRET_ACCESS_KEY", "hunter2"));
    assert_eq!(read(&[]).unwrap().backup_credentials, None);
    let config = read(&[id, secret]).unwrap();
    let own = config.backup_credentials.as_ref().unwrap();
    assert_eq!((own.access_key_id.as_str(), own.secret_access_key.expose()), ("AKIA", "hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    for (one, other) in [(id, secret), (secret, id)] {
        let error = read(&[one]).unwrap_err();
        assert_eq!(error.name, other.0);
        assert!(error.to_string().contains(one.0) && !error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn an_archive_may_lie_at_cloudinary_and_a_store_may_not() {
    let at = |folder: &str, endpoint: Option<&str>| StoreUrl::Cloudinary {
        cloud: "my-cloud".to_owned(),
        key: "123".to_owned(),
        secret: Secret::new("hunter2"),
        folder: folder.to_owned(),
        endpoint: endpoint.map(str::to_owned),
    };
    assert_eq!(backup("cloudinary://123:hunter2@my-cloud"), Ok(at("keepsake", None)));
    assert_eq!(backup("cloudinary://123:hunter2@my-cloud/photos/2026/"), Ok(at("photos/2026", None)));
    let elsewhere = backup("cloudinary://123:hunter2@my-cloud/?endpoint=http://127.0.0.1:1");
    assert_eq!(elsewhere, Ok(at("keepsake", Some("http://127.0.0.1:1"))));
    assert_ne!(backup("cloudinary://123:hunter3@my-cloud"), Ok(at("keepsake", None)));
    assert_eq!(at("photos", None).to_string(), "cloudinary://my-cloud/photos");
    assert_eq!(read(&[("BACKUP_URL", "cloudinary://123:hunter2@my-cloud")]).unwrap().archive, ArchiveMode::Sync);
    let wrong = [
        "cloudinary://123:hunter2",
        "cloudinary:123:hunter2@my-cloud",
        "cloudinary://123@my-cloud",
        "cloudinary://:hunter2@my-cloud",
        "cloudinary://123:hun/ter2@my-cloud",
        "cloudinary://123:hunter2@",
        "cloudinary://123:hunter2@my-cloud:80",
        "cloudinary://123:hunter2@my-cloud/v1/photos",
        "cloudinary://123:hunter2@my-cloud/my%20photos",
        "cloudinary://123:hunter2@my-cloud?region=x",
        "cloudinary://123:hunter2@my-cloud#x",
    ];
    let as_store = ("STORE_URL", "cloudinary://123:hunter2@my-cloud");
    for variable in wrong.map(|url| ("BACKUP_URL", url)).into_iter().chain([as_store]) {
        let error = read(&[variable]).unwrap_err();
        assert_eq!(error.name, variable.0, "{}", variable.1);
        let sentence = error.to_string();
        assert!(sentence.ends_with('.') && !sentence.contains("hun"), "{sentence}");
    }
    assert!(read(&[as_store]).unwrap_err().remedy.starts_with("name Cloudinary in BACKUP_URL instead"));
}

#[test]
fn a_location_contains_itself_and_what_is_below_it() {
    let cloudinary = |folder: &str| backup(&format!("cloudinary://1:hunter2@cloud/{folder}")).unwrap();
    let folder = |path: &str| StoreUrl::File(path.into());
    let pairs = [
        (folder("/nowhere/data"), folder("/nowhere/data/below"), folder("/nowhere/data-2")),
        (s3(None, None, None), s3(Some("a"), None, None), s3(None, Some("http://127.0.0.1:9000"), None)),
        (s3(Some("a"), None, None), s3(Some("a/b"), None, None), s3(Some("ab"), None, None)),
        (cloudinary("photos"), cloudinary("photos/old"), cloudinary("photos-2")),
        (cloudinary("photos"), cloudinary("photos"), s3(None, None, None)),
    ];
    for (outer, inner, other) in pairs {
        assert!(outer.contains(&outer) && outer.contains(&inner), "{outer} and {inner}");
        assert!(inner == outer || !inner.contains(&outer), "{inner} and {outer}");
        assert!(!outer.contains(&other) && !other.contains(&outer), "{outer} and {other}");
    }
}
