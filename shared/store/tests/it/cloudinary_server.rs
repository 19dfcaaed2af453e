//! A Cloudinary in this process: the calls that the store makes, with what the documentation says that they answer. It
//! keeps what it is sent, minds signatures, and has a cache in front that never forgets. The end-to-end tests of `local`
//! use it as well.
#![allow(dead_code, reason = "each of its users needs another part")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use store::digest::Digest;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

pub const CLOUD: &str = "demo-cloud";
pub const KEY: &str = "123456789012345";
pub const SECRET: &str = "abcd-EFGH_ijkl";
/// The first second of its clock, which each upload moves on.
const BEGINNING: u64 = 1_780_000_000;

/// What happens to a request other than that it is carried out.
#[derive(Clone, Debug)]
pub enum Mishap {
    /// It is answered with this status and message, and not carried out.
    Refused(u16, &'static str),
    /// It is carried out, and answered with an error of some gateway.
    LostReply,
}

/// By kind (`image` or `raw`), type of delivery and public id.
type Id = (String, String, String);

#[derive(Clone, Debug)]
pub struct Stored {
    pub bytes: Vec<u8>,
    version: u64,
}

#[derive(Debug, Default)]
pub struct State {
    pub objects: BTreeMap<Id, Stored>,
    /// By path, whatever was delivered there once.
    cache: BTreeMap<String, Vec<u8>>,
    uploads: u64,
    /// How many uploads there are in a second.
    pub uploads_in_a_second: u64,
    /// Whether images are delivered otherwise than they were sent.
    pub alters_images: bool,
    /// Whether it overwrites whatever it is asked to store.
    pub forgets: bool,
    /// The longest file there may be.
    pub most_bytes: usize,
    /// How many objects a page of a list has.
    pub page: usize,
    /// What comes over the next requests whose method and path hold this.
    pub mishaps: VecDeque<(&'static str, Mishap)>,
    /// Method and path of each request.
    pub requests: Vec<String>,
    endpoint: String,
}

/// The server; it ends with the last of these.
#[derive(Clone)]
pub struct Fake {
    server: Arc<MockServer>,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub fn endpoint(&self) -> String {
        self.server.uri()
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What comes over the next `times` requests whose method and path hold `call`.
    pub fn next(&self, call: &'static str, mishap: Mishap, times: usize) {
        self.state().mishaps.extend(std::iter::repeat_n((call, mishap), times));
    }

    /// How many requests had a method and path that hold `call`.
    pub fn count(&self, call: &str) -> usize {
        self.state().requests.iter().filter(|request| request.contains(call)).count()
    }

    /// The public ids of this kind.
    pub fn ids(&self, kind: &str) -> Vec<String> {
        self.state().objects.keys().filter(|id| id.0 == kind).map(|id| id.2.clone()).collect()
    }
}

pub async fn start() -> Fake {
    let server = MockServer::builder().disable_request_recording().start().await;
    let state =
        State { uploads_in_a_second: 1, most_bytes: 10 << 20, page: 500, endpoint: server.uri(), ..State::default() };
    let fake = Fake { server: Arc::new(server), state: Arc::new(Mutex::new(state)) };
    Mock::given(any()).respond_with(Answers(Arc::clone(&fake.state))).mount(&fake.server).await;
    fake
}

struct Answers(Arc<Mutex<State>>);

impl Respond for Answers {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut state = self.0.lock().unwrap();
        let call = format!("{} {}", request.method, request.url.path());
        let mishap = state.mishaps.iter().position(|(on, _)| call.contains(on));
        let mishap = mishap.and_then(|at| state.mishaps.remove(at)).map(|(_, mishap)| mishap);
        state.requests.push(call);
        match mishap {
            Some(Mishap::Refused(status, message)) => error(status, message),
            Some(Mishap::LostReply) => {
                state.answer(request);
                ResponseTemplate::new(502).set_body_string("<html>Bad Gateway</html>")
            }
            None => state.answer(request),
        }
    }
}

fn error(status: u16, message: &str) -> ResponseTemplate {
    let answer = ResponseTemplate::new(status).set_body_json(json!({ "error": { "message": message } }));
    match status {
        420 => answer
            .insert_header("x-featureratelimit-limit", "500")
            .insert_header("x-featureratelimit-remaining", "0")
            .insert_header("x-featureratelimit-reset", "Wed, 08 Jul 2026 16:00:00 GMT"),
        _ => answer,
    }
}

impl State {
    fn answer(&mut self, request: &Request) -> ResponseTemplate {
        let path: Vec<&str> = request.url.path().trim_start_matches('/').split('/').collect();
        match (request.method.as_str(), &path[..]) {
            ("GET", [CLOUD, ..]) => self.deliver(request.url.path()),
            (_, ["v1_1", cloud, ..]) if *cloud != CLOUD => error(401, "Invalid cloud_name"),
            ("POST", ["v1_1", _, kind, call]) => {
                let fields = fields(request);
                let field = |name: &str| fields.get(name).map(|v| String::from_utf8_lossy(v).into_owned());
                match refusal(&fields) {
                    Some(reason) => error(401, &reason),
                    None => {
                        let id = ((*kind).to_owned(), field("type").unwrap(), field("public_id").unwrap());
                        match *call {
                            "upload" => {
                                self.upload(id, fields["file"].clone(), field("overwrite").as_deref() == Some("true"))
                            }
                            "destroy" => {
                                let gone = self.objects.remove(&id).map_or("not found", |_| "ok");
                                ResponseTemplate::new(200).set_body_json(json!({ "result": gone }))
                            }
                            _ => error(404, "Unknown call"),
                        }
                    }
                }
            }
            ("GET", ["v1_1", _, kind, "download"]) => {
                let query: Vec<(String, String)> = request.url.query_pairs().into_owned().collect();
                let fields = query.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
                let text = |name: &str| String::from_utf8(BTreeMap::get(&fields, name).unwrap().clone()).unwrap();
                let found = self.objects.get(&((*kind).to_owned(), text("type"), text("public_id")));
                match (refusal(&fields), found) {
                    (Some(reason), _) => error(401, &reason),
                    (None, None) => error(404, &format!("Resource not found - {}", text("public_id"))),
                    (None, Some(found)) => ResponseTemplate::new(200).set_body_bytes(found.bytes.clone()),
                }
            }
            ("GET", ["v1_1", _, rest @ ..]) => {
                let pair = format!("Basic {}", BASE64_STANDARD.encode(format!("{KEY}:{SECRET}")));
                if request.headers.get("authorization").is_none_or(|given| given.as_bytes() != pair.as_bytes()) {
                    return error(401, "Invalid credentials");
                }
                match rest {
                    ["ping"] => ResponseTemplate::new(200).set_body_json(json!({ "status": "ok" })),
                    ["resources", kind, delivery] => self.list(kind, delivery, request),
                    ["resources", kind, delivery, id @ ..] => {
                        let id = ((*kind).to_owned(), (*delivery).to_owned(), id.join("/"));
                        match self.objects.get(&id) {
                            Some(_) => ResponseTemplate::new(200).set_body_json(self.description(&id, false)),
                            None => error(404, &format!("Resource not found - {}", id.2)),
                        }
                    }
                    _ => error(404, "Unknown call"),
                }
            }
            _ => error(404, "Unknown call"),
        }
    }

    fn upload(&mut self, id: Id, bytes: Vec<u8>, overwrite: bool) -> ResponseTemplate {
        if bytes.is_empty() {
            return error(400, "Empty file");
        }
        if bytes.len() > self.most_bytes {
            let message = format!("File size too large. Got {}. Maximum is {}.", bytes.len(), self.most_bytes);
            return error(400, &message);
        }
        let is_image = [&b"\xff\xd8\xff"[..], b"\x89PNG", b"GIF8"].iter().any(|magic| bytes.starts_with(magic));
        if id.0 == "image" && !is_image {
            return error(400, "Invalid image file");
        }
        if self.objects.contains_key(&id) && !overwrite && !self.forgets {
            return ResponseTemplate::new(200).set_body_json(self.description(&id, true));
        }
        let version = BEGINNING + self.uploads / self.uploads_in_a_second;
        self.uploads += 1;
        self.objects.insert(id.clone(), Stored { bytes, version });
        ResponseTemplate::new(200).set_body_json(self.description(&id, false))
    }

    fn description(&self, id: &Id, existing: bool) -> Value {
        let (Stored { bytes, version }, (kind, delivery, name)) = (&self.objects[id], id);
        let url = format!("{}/{CLOUD}/{kind}/{delivery}/v{version}/{name}", self.endpoint);
        let mut description = json!({
            "asset_id": "3515c6000a548515f1134043f9785c2f",
            "public_id": name,
            "version": version,
            "resource_type": kind,
            "type": delivery,
            "created_at": "2026-06-03T10:40:00Z",
            "bytes": bytes.len(),
            "url": url,
            "secure_url": url,
        });
        if existing {
            description["existing"] = true.into();
        }
        description
    }

    fn list(&self, kind: &str, delivery: &str, request: &Request) -> ResponseTemplate {
        let query: BTreeMap<String, String> = request.url.query_pairs().into_owned().collect();
        let from = query.get("next_cursor").map_or(0, |cursor| cursor.parse().unwrap());
        let wanted = |id: &&Id| id.0 == kind && id.1 == delivery && id.2.starts_with(&query["prefix"]);
        let all: Vec<&Id> = self.objects.keys().filter(wanted).collect();
        let size = self.page.min(query["max_results"].parse().unwrap());
        let page: Vec<Value> = all.iter().skip(from).take(size).map(|id| self.description(id, false)).collect();
        let mut answer = json!({ "resources": page });
        if from + size < all.len() {
            answer["next_cursor"] = (from + size).to_string().into();
        }
        ResponseTemplate::new(200).set_body_json(answer)
    }

    /// What lies there now is fetched once, whatever version the path tells, and delivered from then on.
    fn deliver(&mut self, path: &str) -> ResponseTemplate {
        let parts: Vec<&str> = path.trim_start_matches('/').splitn(4, '/').collect();
        let [_, kind, delivery, rest] = parts[..] else { return ResponseTemplate::new(404) };
        if delivery == "authenticated" {
            return ResponseTemplate::new(401).insert_header("x-cld-error", "deny or ACL failure");
        }
        let id = (kind.to_owned(), delivery.to_owned(), rest.split_once('/').unwrap().1.to_owned());
        if !self.cache.contains_key(path) {
            let Some(stored) = self.objects.get(&id) else {
                return ResponseTemplate::new(404)
                    .insert_header("x-cld-error", format!("Resource not found - {}", id.2));
            };
            let mut bytes = stored.bytes.clone();
            if self.alters_images && kind == "image" {
                bytes.truncate(bytes.len() - 1);
            }
            self.cache.insert(path.to_owned(), bytes);
        }
        ResponseTemplate::new(200).set_body_bytes(self.cache[path].clone())
    }
}

/// Why a signed request is not believed.
fn refusal(fields: &BTreeMap<String, Vec<u8>>) -> Option<String> {
    let text = |name: &str| Some(String::from_utf8_lossy(fields.get(name)?).into_owned());
    if text("api_key") != Some(KEY.to_owned()) {
        return Some("Invalid api_key".to_owned());
    }
    let signed = fields.keys().filter(|name| !["api_key", "file", "signature"].contains(&name.as_str()));
    let signed: Vec<_> = signed.map(|name| format!("{name}={}", text(name).unwrap())).collect();
    let signed = signed.join("&");
    let right = Digest::of(format!("{signed}{SECRET}").as_bytes()).to_string();
    (text("signature") != Some(right)).then(|| format!("Invalid Signature. String to sign - '{signed}'."))
}

/// The fields of a form, the file among them.
fn fields(request: &Request) -> BTreeMap<String, Vec<u8>> {
    let kind = request.headers["content-type"].to_str().unwrap();
    let Some(boundary) = kind.strip_prefix("multipart/form-data; boundary=") else {
        let text = std::str::from_utf8(&request.body).unwrap();
        let pairs = text.split('&').map(|pair| pair.split_once('=').unwrap());
        return pairs.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).collect();
    };
    let find = |bytes: &[u8], what: &str| bytes.windows(what.len()).position(|part| part == what.as_bytes());
    let (mut rest, between) = (&request.body[2 + boundary.len()..], format!("\r\n--{boundary}"));
    let mut fields = BTreeMap::new();
    while rest != b"--\r\n" {
        let head = find(rest, "\r\n\r\n").unwrap();
        let value = &rest[head + 4..];
        let end = find(value, &between).unwrap();
        let name = std::str::from_utf8(&rest[..head]).unwrap().split('"').nth(1).unwrap().to_owned();
        fields.insert(name, value[..end].to_vec());
        rest = &value[end + between.len()..];
    }
    fields
}
