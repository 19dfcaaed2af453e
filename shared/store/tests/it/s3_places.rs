//! Stores in S3 as an operator names them: endpoints, regions and credentials of their own, and what a start finds out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use store::digest::Digest;
use store::{AwsCredentials, Secret};
use store::{ErrorKind, ObjectStore, S3Options, S3Store, ServedAs, Store};

use crate::backend::{key, put, read};
use crate::s3_server::{self, BUCKET};
use crate::wire::{Reply, Server};

async fn connect(endpoint: &str, id: &str, secret: &str) -> S3Store {
    connect_from(endpoint, id, secret, false).await
}

async fn connect_from(endpoint: &str, id: &str, secret: &str, environment_alone: bool) -> S3Store {
    let credentials = AwsCredentials { access_key_id: id.to_owned(), secret_access_key: Secret::new(secret) };
    let options = S3Options {
        bucket: BUCKET.to_owned(),
        region: Some("us-east-1".to_owned()),
        endpoint: Some(endpoint.to_owned()),
        credentials: Some(credentials),
        environment_alone,
    };
    S3Store::connect(options).await.unwrap()
}

#[tokio::test]
async fn nothing_is_copied_by_one_service_from_another_but_through_here() {
    let (first_folder, first) = s3_server::start().await;
    let (second_folder, second) = s3_server::start().await;
    let (here, there) = (connect(&first, "key", "secret").await, connect(&second, "key", "secret").await);
    let service = |store: &S3Store| store.address(&key("x")).unwrap().service;
    assert_ne!(service(&here), service(&there));
    assert_eq!(service(&here), service(&connect(&first, "key", "secret").await));
    assert_ne!(
        service(&here),
        service(&connect(&first, "another", "secret").await),
        "one may not read what the other may"
    );
    let (here, there) = [here, there].map(|store| Store::new(Arc::new(store), first_folder.path())).into();
    put(&here, "x", b"bytes").await;
    here.copy_to(&key("x"), &there, &key("images/y"), Digest::of(b"bytes"), None).await.unwrap();
    assert_eq!(read(&there, "images/y").await, b"bytes");
    let lies = |folder: &Path, name: &str| folder.join(BUCKET).join(name).exists();
    assert!(lies(second_folder.path(), "images/y") && !lies(first_folder.path(), "images/y"));
}

#[tokio::test]
async fn an_endpoint_may_lie_below_a_path() {
    for path in ["", "/", "/storage/v1/s3", "/storage/v1/s3/"] {
        let server = Server::start(|_, _| Reply::object("e", b"x")).await;
        let store = connect(&format!("{}{path}", server.endpoint), "key", "secret").await;
        store.head(&key("x")).await.unwrap();
        let signed = store.signed_url(&key("x"), ServedAs::default(), Duration::from_secs(60)).await.unwrap().unwrap();
        let expected = format!("{}/{BUCKET}/x", path.trim_end_matches('/'));
        assert_eq!(server.requests()[0].target, expected);
        assert!(signed.starts_with(&format!("{}{expected}?", server.endpoint)), "{signed}");
    }
}

#[tokio::test]
async fn credentials_of_its_own_are_used_and_never_shown() {
    let (_folder, endpoint) = s3_server::start().await;
    for environment_alone in [false, true] {
        let store = connect_from(&endpoint, "key", "hunter2", environment_alone).await;
        let error = store.check_conditional_writes(&key("scratch")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused);
        assert!(!format!("{error:?} {store:?}").contains("hunter2"));
        let store = connect_from(&endpoint, "key", "secret", environment_alone).await;
        store.check_conditional_writes(&key("scratch")).await.unwrap();
    }
}
