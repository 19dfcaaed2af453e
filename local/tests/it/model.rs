//! What the store must hold, told by its answers alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use reqwest::StatusCode;
use serde_json::{Value, json};
use shared::digest::Digest;

use crate::server::Server;

/// An image as it is shown, or `None` where it was deleted.
pub type State = Option<Value>;

/// What was acknowledged, and what was asked for without an answer.
#[derive(Default)]
pub struct Model {
    /// Every image that was acknowledged or seen, and what it is now.
    pub images: BTreeMap<String, State>,
    /// Every content that was sent, by its digest.
    contents: HashMap<String, Arc<Vec<u8>>>,
    /// Changes whose answer did not come.
    doubts: Vec<Doubt>,
    /// Uploads whose answer did not come.
    unanswered: Vec<Sent>,
    /// Backups that were acknowledged or seen.
    pub backups: BTreeSet<String>,
    /// Images that were deleted since the last look.
    deleted: Vec<String>,
    pub figures: Figures,
}

/// What happened, for who reads the test's output.
#[derive(Default, Debug)]
pub struct Figures {
    pub requests: u64,
    pub uploads: u64,
    pub edits: u64,
    pub deletes: u64,
    pub backups: u64,
    pub restores: u64,
    /// Of the changes and uploads without an answer: how many had been made, and how many had not.
    pub unanswered_made: u64,
    pub unanswered_not_made: u64,
    pub images_compared: u64,
}

/// A change that was made as a whole, or not at all.
pub struct Doubt {
    pub what: String,
    pub before: BTreeMap<String, State>,
    pub after: BTreeMap<String, State>,
}

/// An upload: of what it says, each image's name occurs nowhere else.
#[derive(Clone)]
pub struct Sent {
    pub images: Vec<(String, Arc<Vec<u8>>)>,
    pub fields: Vec<(&'static str, String)>,
}

impl Sent {
    /// What an item must say that came of the image at `index`.
    fn is(&self, index: usize, item: &Value) -> bool {
        let (name, bytes) = &self.images[index];
        item["originalName"] == *name
            && item["size"] == bytes.len()
            && item["sha256"] == Digest::of(bytes).to_string()
            && self.fields.iter().all(|(field, value)| item[*field] == *value)
    }

    fn index_of(&self, item: &Value) -> Option<usize> {
        self.images.iter().position(|(name, _)| item["originalName"] == *name)
    }
}

impl Model {
    /// Takes note of what an upload will bring, before it is sent.
    pub fn sending(&mut self, sent: &Sent) {
        let contents = sent.images.iter().map(|(_, bytes)| (Digest::of(bytes).to_string(), Arc::clone(bytes)));
        self.contents.extend(contents);
    }

    /// Takes note of the answer to an upload; returns the ids.
    pub fn uploaded(&mut self, sent: &Sent, mut answer: Value) -> Vec<String> {
        let items = match answer["images"].take() {
            Value::Array(items) => items,
            _ => vec![answer],
        };
        assert_eq!(items.len(), sent.images.len());
        self.figures.uploads += 1;
        let take = |(index, mut item): (usize, Value)| {
            item.as_object_mut().unwrap().retain(|name, _| !["copies", "backup", "images"].contains(&name.as_str()));
            assert!(sent.is(index, &item), "{item} was answered to an upload of {:?}", sent.images[index].0);
            let id = item["id"].as_str().unwrap().to_owned();
            assert!(self.images.insert(id.clone(), Some(item)).is_none(), "{id} was given out twice");
            id
        };
        items.into_iter().enumerate().map(take).collect()
    }

    pub fn upload_unanswered(&mut self, sent: Sent) {
        self.unanswered.push(sent);
    }

    /// Takes note of a change that was acknowledged.
    pub fn changed(&mut self, states: BTreeMap<String, State>) {
        self.deleted.extend(states.iter().filter(|(_, state)| state.is_none()).map(|(id, _)| id.clone()));
        self.images.extend(states);
    }

    pub fn doubt(&mut self, doubt: Doubt) {
        self.doubts.push(doubt);
    }

    /// Images that are there.
    pub fn live(&self) -> BTreeMap<String, State> {
        self.images.iter().filter(|(_, state)| state.is_some()).map(|(id, s)| (id.clone(), s.clone())).collect()
    }

    pub fn population(&self) -> usize {
        self.images.values().flatten().count()
    }

    /// The bytes that an item stands for.
    pub fn content(&self, item: &Value) -> Arc<Vec<u8>> {
        Arc::clone(&self.contents[item["sha256"].as_str().unwrap()])
    }

    /// Compares the store with what it must hold, and settles from what it shows what was in doubt.
    pub async fn check(&mut self, server: &Server, after: &str) {
        let listed = listed(server).await;
        self.settle_doubts(&listed, after);
        self.settle_uploads(&listed, after);

        for (id, state) in &self.images {
            let shown = listed.get(id);
            match (state, shown) {
                (Some(_), None) => panic!("LOST: {id} ({after})"),
                (None, Some(item)) => panic!("BACK AGAIN: {item} ({after})"),
                (state, shown) => assert_eq!(state.as_ref(), shown, "ANOTHER RECORD ({after})"),
            }
        }
        let unknown: Vec<&Value> =
            listed.iter().filter(|(id, _)| !self.images.contains_key(*id)).map(|(_, item)| item).collect();
        assert!(unknown.is_empty(), "NEVER SENT: {unknown:?} ({after})");
        self.check_bytes(server, &listed, after).await;
        self.check_backups(server, after).await;
    }

    fn settle_doubts(&mut self, listed: &BTreeMap<String, Value>, after: &str) {
        for doubt in std::mem::take(&mut self.doubts) {
            let shown: BTreeMap<String, State> =
                doubt.before.keys().map(|id| (id.clone(), listed.get(id).cloned())).collect();
            if shown == doubt.after {
                self.figures.unanswered_made += 1;
            } else {
                assert_eq!(shown, doubt.before, "HALF MADE: {} ({after})", doubt.what);
                self.figures.unanswered_not_made += 1;
            }
            self.changed(shown);
        }
    }

    fn settle_uploads(&mut self, listed: &BTreeMap<String, Value>, after: &str) {
        for sent in std::mem::take(&mut self.unanswered) {
            let new = listed.iter().filter(|(id, _)| !self.images.contains_key(*id));
            let came: BTreeMap<usize, (String, Value)> =
                new.filter_map(|(id, item)| Some((sent.index_of(item)?, (id.clone(), item.clone())))).collect();
            if came.is_empty() {
                self.figures.unanswered_not_made += 1;
                continue;
            }
            assert_eq!(came.len(), sent.images.len(), "PART OF AN UPLOAD: {came:?} ({after})");
            self.figures.unanswered_made += 1;
            for (index, (id, item)) in came {
                assert!(sent.is(index, &item), "ANOTHER RECORD: {item} ({after})");
                self.images.insert(id, Some(item));
            }
        }
    }

    /// Takes what a server shows for what is there, after a disk was lost of which there was not a replica of
    /// everything; returns for how many images that is older than what was acknowledged.
    pub async fn give_up(&mut self, server: &Server, after: &str) -> usize {
        let listed = listed(server).await;
        self.settle_uploads(&listed, after);
        let doubts = std::mem::take(&mut self.doubts);
        let may_be = |id: &String, shown: &State| {
            let of = |doubt: &Doubt| doubt.before.get(id) == Some(shown) || doubt.after.get(id) == Some(shown);
            doubts.iter().any(of)
        };
        let mut lost = 0;
        for (id, state) in &mut self.images {
            let shown = listed.get(id).cloned();
            lost += usize::from(*state != shown && !may_be(id, &shown));
            *state = shown;
        }
        lost
    }

    async fn check_bytes(&mut self, server: &Server, listed: &BTreeMap<String, Value>, after: &str) {
        let compare = async |item: &Value| {
            let answer = server.get(item["url"].as_str().unwrap()).await;
            assert_eq!(answer.status(), StatusCode::OK, "LOST BYTES: {item} ({after})");
            assert!(answer.bytes().await.unwrap() == *self.content(item), "OTHER BYTES: {item} ({after})");
        };
        let compared = stream::iter(listed.values()).map(compare).buffer_unordered(8).count().await;
        self.figures.images_compared += compared as u64;
        for id in std::mem::take(&mut self.deleted) {
            if self.images[&id].is_none() {
                let answer = server.get(&format!("/uploads/{id}")).await;
                assert_eq!(answer.status(), StatusCode::NOT_FOUND, "BYTES BACK AGAIN: {id} ({after})");
            }
        }
    }

    /// Every backup that was ever seen is still there, and every new one can be restored.
    async fn check_backups(&mut self, server: &Server, after: &str) {
        let answer = server.get_json("/api/backups").await;
        let listed = answer["backups"].as_array().unwrap().iter();
        let listed: BTreeSet<String> = listed.map(|backup| backup["name"].as_str().unwrap().to_owned()).collect();
        assert!(self.backups.is_subset(&listed), "LOST BACKUPS: {:?} ({after})", self.backups.difference(&listed));
        for name in listed.difference(&self.backups) {
            let answer = server.post(&format!("/api/restore/{name}?dryRun=true")).await;
            let plan = crate::server::json(answer, StatusCode::OK).await;
            assert_eq!(plan["missingImages"], json!([]), "A BACKUP WITHOUT ITS IMAGES: {name} ({after})");
        }
        self.backups = listed;
    }

    /// All of `backups/` was lost.
    pub fn forget_backups(&mut self) {
        self.backups.clear();
    }
}

/// What a server shows, by id.
async fn listed(server: &Server) -> BTreeMap<String, Value> {
    let answer = server.get_json("/api/images?limit=1000&flat=true").await;
    assert!(answer["next"].is_null(), "more images than one page shows");
    let listed = answer["images"].as_array().unwrap().iter();
    listed.map(|item| (item["id"].as_str().unwrap().to_owned(), item.clone())).collect()
}
