//! Deferred work on AWS: replication, automatic backups, compaction, and an occasional recovery.
//!
//! S3 notifies a queue of each new commit, and the queue delivers the messages here in batches; a schedule triggers the
//! rest. Events arrive late, twice and out of order, and several of these functions run at once: every step may be
//! repeated.

mod event;
mod metrics;

use std::collections::{BTreeSet, HashMap, HashSet};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use lambda_runtime::Error;
use serde_json::{Value, json};
use shared::Keepsake;
use uuid::Uuid;

pub use event::{Event, Task};

/// Maintenance of one store.
#[derive(Debug)]
pub struct Maintenance {
    keepsake: Keepsake,
    /// The dimension of its metrics; none are written without it.
    metrics: Option<String>,
}

impl Maintenance {
    /// Maintenance of one store; writes metrics with the dimension `Stack` of this value, if there is one.
    pub fn new(keepsake: Keepsake, metrics: Option<String>) -> Self {
        Self { keepsake, metrics }
    }

    /// Handles an event and returns the result for Lambda. After an error, the sender sends the event again.
    pub async fn handle(&self, event: Event) -> Result<Value, Error> {
        let handled = match event {
            Event::Queue(batch) => self.replicate(batch).await,
            Event::Task { task } => self.perform(task).await,
        };
        handled.inspect_err(|error| {
            tracing::error!(error = &**error as &dyn std::error::Error, "an event could not be handled");
        })
    }

    /// Replicates the commits in a batch of messages; returns the messages to be redelivered.
    async fn replicate(&self, batch: SqsEvent) -> Result<Value, Error> {
        let mut failed = HashSet::new();
        let mut messages_of: HashMap<Uuid, Vec<String>> = HashMap::new();
        let mut last = None;
        for message in batch.records {
            let name = message.message_id.unwrap_or_default();
            match event::commits(message.body.as_deref().unwrap_or_default()) {
                Ok(commits) => {
                    for commit in commits {
                        messages_of.entry(commit).or_default().push(name.clone());
                    }
                }
                Err(error) => {
                    tracing::error!(message = name, %error, "a message cannot be read");
                    failed.insert(name.clone());
                }
            }
            last = Some(name);
        }
        let commits: BTreeSet<Uuid> = messages_of.keys().copied().collect();
        for (commit, error) in self.keepsake.replication.replicate_commits(&commits).await? {
            tracing::error!(%commit, error = &error as &dyn std::error::Error, "a commit could not be replicated");
            failed.extend(messages_of.get(&commit).into_iter().flatten().cloned());
        }
        if let Err(error) = self.keepsake.maintenance.follow_up().await {
            // One redelivered message is enough for all of them.
            tracing::error!(error = &error as &dyn std::error::Error, "backups or compaction failed after a batch");
            failed.extend(last);
        }
        let failure = |name| {
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = name;
            failure
        };
        let mut response = SqsBatchResponse::default();
        response.batch_item_failures = failed.into_iter().map(failure).collect();
        Ok(serde_json::to_value(response)?)
    }

    async fn perform(&self, task: Task) -> Result<Value, Error> {
        let answer = match task {
            Task::Compact => {
                self.keepsake.maintenance.tidy().await?;
                json!({ "task": "fold" })
            }
            Task::Recover => {
                self.keepsake.backups.make_due().await?;
                let report = self.keepsake.recovery.recover().await?;
                tracing::info!(?report, "recovered");
                json!({
                    "task": "recover",
                    "images": report.images,
                    "broughtBack": report.brought_back,
                    "archived": report.archived,
                    "missing": report.missing.len(),
                })
            }
            Task::Verify => {
                let (slice, findings) = self.keepsake.verifier.verify_next().await?;
                json!({ "task": "verify", "slice": slice.to_string(), "findings": findings })
            }
            Task::Prune => {
                let pruned = self.keepsake.pruner.prune_by_schedule().await?;
                if let Some(reason) = pruned.held_back {
                    tracing::error!(reason, "nothing more is pruned");
                }
                json!({
                    "task": "prune",
                    "backups": pruned.removed.len(),
                    "objects": pruned.objects(),
                    "bytes": pruned.bytes,
                    "heldBack": pruned.held_back,
                })
            }
        };
        if let Some(stack) = &self.metrics {
            let overdue = self.keepsake.maintenance.backup_overdue().await?;
            println!("{}", metrics::line(stack, overdue, self.keepsake.core.clock.now()));
        }
        Ok(answer)
    }
}
