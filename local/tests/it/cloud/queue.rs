//! The queue between S3 and the maintenance function, as S3 and SQS promise it and no better: every commit is told of
//! at least once, some twice, late, and in no order; what was not dealt with comes again.

use std::sync::Mutex;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use shared::layout;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;

use super::counts::Target;
use super::lambda::{Function, Outcome};

/// Messages in one event, as the template asks for.
const BATCH: usize = 10;
/// So many messages are kept back until others came after them.
const LATE: usize = 12;
/// Every so manyth commit is told of twice.
const TWICE: u64 = 3;
/// A message that comes so often would go to the dead-letter queue of the template.
pub const MOST_RECEIVED: u32 = 10;

#[derive(Debug, Clone)]
struct Message {
    id: String,
    body: String,
    received: u32,
}

#[derive(Default)]
struct State {
    waiting: Vec<Message>,
    in_flight: usize,
    closed: bool,
    /// Commits that were told of.
    commits: u64,
    messages: u64,
    batches: u64,
    redelivered: u64,
    random: u64,
}

/// What went through a queue.
#[derive(Debug, Clone, Copy)]
pub struct Passed {
    pub commits: u64,
    pub messages: u64,
    pub batches: u64,
    /// Messages that came again because they had not been dealt with.
    pub redelivered: u64,
}

/// A queue; it ends once it is closed and everything in it was dealt with.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

impl Queue {
    /// Takes in what S3 tells of, until S3 is gone.
    pub async fn listen(&self, mut created: UnboundedReceiver<Target>) {
        while let Some(target) = created.recv().await {
            if target.key.starts_with(layout::COMMITS) {
                self.tell(&target);
            }
        }
    }

    fn tell(&self, target: &Target) {
        let state = &mut *self.state.lock().unwrap();
        state.commits += 1;
        let times = if state.commits.is_multiple_of(TWICE) { 2 } else { 1 };
        for _ in 0..times {
            state.messages += 1;
            let id = format!("message-{}", state.messages);
            state.waiting.push(Message { id, body: s3_event(target).to_string(), received: 0 });
        }
        self.changed.notify_waiters();
    }

    /// Nothing more will be told: from now on, nothing is kept back.
    pub fn close(&self) {
        self.state.lock().unwrap().closed = true;
        self.changed.notify_waiters();
    }

    /// Hands batches to a process, one after the other, until the queue has ended.
    pub async fn feed(&self, function: &Function) {
        while let Some(batch) = self.take().await {
            let outcome = function.invoke(sqs_event(&batch)).await;
            self.finish(batch, outcome);
        }
    }

    /// Hands a batch to a process which, as far as the queue learns, did not come to its end.
    pub async fn feed_in_vain(&self, function: &Function, killed: impl Future<Output = ()>) {
        let Some(batch) = self.take().await else { return };
        let outcome = tokio::select! {
            outcome = function.invoke(sqs_event(&batch)) => outcome,
            () = killed => Err(Value::from("it was killed")),
        };
        self.finish(batch, outcome);
    }

    async fn take(&self) -> Option<Vec<Message>> {
        loop {
            let changed = self.changed.notified();
            {
                let state = &mut *self.state.lock().unwrap();
                let ready = state.waiting.len();
                if state.closed && ready == 0 && state.in_flight == 0 {
                    return None;
                }
                if ready >= BATCH + LATE || (state.closed && ready > 0) {
                    let batch: Vec<Message> = (0..BATCH.min(ready)).map(|_| state.pick()).collect();
                    state.in_flight += batch.len();
                    state.batches += 1;
                    return Some(batch);
                }
            }
            changed.await;
        }
    }

    /// Puts back what was not dealt with: the messages that the function names, or all if it failed.
    fn finish(&self, batch: Vec<Message>, outcome: Outcome) {
        let state = &mut *self.state.lock().unwrap();
        state.in_flight -= batch.len();
        let failed = outcome.map(|answer| {
            let failures = answer["batchItemFailures"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
            failures.iter().map(|f| f["itemIdentifier"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        });
        for message in batch {
            if failed.as_ref().is_ok_and(|failed| !failed.contains(&message.id)) {
                continue;
            }
            state.redelivered += 1;
            let received = message.received + 1;
            assert!(received < MOST_RECEIVED, "{message:?} is never dealt with: {failed:?}");
            state.waiting.push(Message { received, ..message });
        }
        self.changed.notify_waiters();
    }

    pub fn passed(&self) -> Passed {
        let state = self.state.lock().unwrap();
        let State { commits, messages, batches, redelivered, .. } = *state;
        Passed { commits, messages, batches, redelivered }
    }
}

impl State {
    /// Takes out any message; which one follows from how many were taken before.
    fn pick(&mut self) -> Message {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let index = (self.random >> 33) as usize % self.waiting.len();
        self.waiting.swap_remove(index)
    }
}

/// What S3 writes of one object.
fn s3_event(target: &Target) -> Value {
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'*');
    json!({ "Records": [{
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": "2026-11-20T08:00:00.000Z",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "commits",
            "bucket": { "name": target.bucket, "arn": format!("arn:aws:s3:::{}", target.bucket) },
            "object": { "key": utf8_percent_encode(&target.key, PLAIN).to_string(), "size": 512, "sequencer": "0055AED6DCD9" },
        },
    }]})
}

/// The event that tells a function of these commits, each in a message of its own.
pub fn event_of(commits: &[Target]) -> Value {
    let message = |(n, target)| Message { id: format!("message-{n}"), body: s3_event(target).to_string(), received: 0 };
    sqs_event(&commits.iter().enumerate().map(message).collect::<Vec<_>>())
}

/// What SQS hands to a function.
fn sqs_event(batch: &[Message]) -> Value {
    let record = |message: &Message| {
        json!({
            "messageId": message.id,
            "receiptHandle": format!("{}-{}", message.id, message.received),
            "body": message.body,
            "attributes": { "ApproximateReceiveCount": (message.received + 1).to_string() },
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:commits",
            "awsRegion": "us-east-1",
        })
    };
    json!({ "Records": batch.iter().map(record).collect::<Vec<_>>() })
}
