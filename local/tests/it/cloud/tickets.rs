//! Images too large for a request, by one client that does not know whether it speaks to a server or to functions.

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::digest::Digest;
use shared::testing::lambda::EventBody;

use super::bucket::Bucket;
use super::lambda::{Function, Lambda};
use crate::photos::photo;
use crate::server::Server;

const SIXTY_MEGABYTES: usize = 60_000_000;

/// Where the API answers.
enum Api {
    Server(Server),
    /// A function, and what an API Gateway passes on to it.
    Function(Function),
}

impl Api {
    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        match self {
            Self::Server(server) => {
                let answer = server.post_json(path, body).await;
                (answer.status(), answer.json().await.unwrap())
            }
            Self::Function(function) => {
                let headers = [("content-type", "application/json")];
                let answer = function.ask("POST", path, &headers, EventBody::Text(&body.to_string())).await;
                (answer.status, answer.json())
            }
        }
    }

    /// An address that may be relative to the API's.
    fn resolve(&self, address: &str) -> String {
        match self {
            Self::Server(server) if address.starts_with('/') => server.url(address),
            _ => address.to_owned(),
        }
    }
}

/// The client: announces an image, sends it where it is told to, and completes it.
///
/// Returns the statuses of: the announcement, the bytes, the bytes once more, the completion. An answer that comes before
/// all has been sent may be lost with its connection, which leaves none.
async fn upload(api: &Api, bytes: &[u8], announced: &[u8]) -> ([Option<StatusCode>; 4], Value) {
    let announcement = json!({
        "filename": "large.jpg", "contentType": "image/jpeg", "size": announced.len(),
        "sha256": Digest::of(announced).to_string(), "description": "under a ticket",
    });
    let (asked, ticket) = api.post("/api/upload/tickets", &announcement).await;
    let text = |name: &str| ticket[name].as_str().unwrap_or_else(|| panic!("{ticket}")).to_owned();
    let send = async || {
        let method = text("method").parse().unwrap();
        let mut request = reqwest::Client::new().request(method, api.resolve(&text("uploadUrl"))).body(bytes.to_vec());
        for (name, value) in ticket["headers"].as_object().unwrap() {
            request = request.header(name, value.as_str().unwrap());
        }
        request.send().await.ok().map(|answer| answer.status())
    };
    let (first, second) = (send().await, send().await);
    let (completed, item) = api.post(&text("completeUrl"), &Value::Null).await;
    if completed == StatusCode::CREATED {
        assert_eq!(api.post(&text("completeUrl"), &Value::Null).await, (completed, item.clone()), "once more");
    }
    ([Some(asked), first, second, Some(completed)], item)
}

async fn takes_what_was_announced_and_nothing_else(api: &Api) -> Value {
    let (_, start) = photo(3);
    let mut bytes = start;
    bytes.resize(SIXTY_MEGABYTES, 7);
    let ([asked, first, second, completed], item) = upload(api, &bytes, &bytes).await;
    let created = Some(StatusCode::CREATED);
    assert_eq!([asked, first, completed], [created, Some(StatusCode::OK), created], "{item}");
    assert!(second.is_none_or(|status| status == StatusCode::PRECONDITION_FAILED), "{second:?}");
    assert_eq!((&item["size"], &item["contentType"]), (&json!(SIXTY_MEGABYTES), &json!("image/jpeg")));
    assert_eq!(item["sha256"], Digest::of(&bytes).to_string());

    let (small, mut other) = (bytes[..50_000].to_vec(), bytes[..50_000].to_vec());
    other[40_000] ^= 1;
    let ([_, sent, _, completed], problem) = upload(api, &other, &small).await;
    // The service in this process refuses the bytes and keeps them all the same; then completing finds it out.
    let refused = [StatusCode::CONFLICT, StatusCode::UNPROCESSABLE_ENTITY].contains(&completed.unwrap());
    assert!(sent.is_none_or(|status| status.is_client_error()) && refused, "{sent:?} {completed:?} {problem}");
    item
}

async fn on_functions(bucket: &Bucket) {
    let lambda = Lambda::start().await;
    let api = Api::Function(lambda.function("upload", &bucket.access));
    let item = takes_what_was_announced_and_nothing_else(&api).await;
    // What was taken is served from the bucket, with the type that its bytes say.
    let images = lambda.function("images", &bucket.access);
    let sent_on = images.get(item["url"].as_str().unwrap()).await;
    assert_eq!(sent_on.status, StatusCode::TEMPORARY_REDIRECT);
    let served = reqwest::get(sent_on.header("location")).await.unwrap();
    assert_eq!(served.headers()["content-type"], "image/jpeg");
    assert_eq!(Digest::of(&served.bytes().await.unwrap()).to_string(), item["sha256"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_megabytes_reach_a_server_on_a_disk_under_a_ticket() {
    let folder = tempfile::tempdir().unwrap();
    takes_what_was_announced_and_nothing_else(&Api::Server(Server::start(folder.path()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_megabytes_reach_the_bucket_of_functions_under_a_ticket() {
    on_functions(&Bucket::in_process().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs LocalStack: .ci/localstack run"]
async fn sixty_megabytes_reach_localstack_under_a_ticket() {
    on_functions(&Bucket::in_localstack("tickets").await).await;
}
