//! Stores in S3 as an operator names them: endpoints, regions and credentials of their own, and what a start finds out.

use std::path::Path;
use std::sync::Arc;

use shared::config::{AwsCredentials, Secret};
use shared::digest::Digest;
use shared::store::{ErrorKind, ObjectStore, S3Options, S3Store, Store};

use crate::backend::{client, key, put, read};
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

#[tokio::test]
async fn the_probe_catches_a_service_that_ignores_checksums() {
    let cases = [
        (Reply::error(400, "XAmzContentChecksumMismatch"), None),
        (Reply::error(400, "BadDigest"), None),
        (Reply::error(400, "InvalidRequest"), None),
        (Reply::object("new", b""), Some(ErrorKind::Refused)),
        (Reply::error(503, "SlowDown"), Some(ErrorKind::Unavailable)),
    ];
    for (answer, found) in cases {
        let server = Server::start(move |n, sent| match sent.last().unwrap() {
            request if request.method == "HEAD" => Reply::object("theirs", b"other"),
            request if request.method == "DELETE" => Reply::status(204),
            request
                if n > 0
                    && (request.headers.contains_key("if-none-match") || request.headers.contains_key("if-match")) =>
            {
                Reply::error(412, "PreconditionFailed")
            }
            _ if n > 0 => answer.clone(),
            _ => Reply::object("new", b""),
        })
        .await;
        let outcome = client(&server.endpoint, BUCKET).check_conditional_writes(&key("scratch")).await;
        assert_eq!(outcome.as_ref().err().map(|e| e.kind), found);
        if found == Some(ErrorKind::Refused) {
            let sentence = std::error::Error::source(&outcome.unwrap_err()).unwrap().to_string();
            assert!(sentence.starts_with("the client of bucket ignores x-amz-checksum-sha256"), "{sentence}");
        }
        assert!(server.methods().ends_with("DELETE"), "it cleans up: {}", server.methods());
    }
}
