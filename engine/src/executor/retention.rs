//! Forgets finished tasks: their history, callbacks, logs and the keys under which they were asked for. Never an unfinished or stuck
//! one, one that can still be taken back, one whose callbacks are on their way, or one of a site's newest.

use super::Inner;
use super::submit::Used;
use crate::event::Outcome;
use crate::journal::archive::ArchiveError;
use crate::journal::{Head, keys};
use crate::machine::Machine;
use crate::outbox::{CallbackStatus, CallbacksOf, Outbox as _};
use crate::store::{Batch, CommitError, MAX_BATCH, ReadError};
use crate::task::{Millis, TaskId, TaskState};

/// Callbacks of one task looked at: each change of state has at most a few receivers.
const MAX_CALLBACKS: usize = 10_000;
/// Heads read at a time.
const PAGE: usize = 256;
/// Rows removed in one batch.
const ROWS: usize = MAX_BATCH / 4;

/// What is forgotten, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Tasks that succeeded and were accepted before this time; `None`: none of them.
    pub succeeded_before: Option<Millis>,
    /// Tasks that were rolled back or canceled and were accepted before this time; `None`: none of them.
    pub rolled_back_before: Option<Millis>,
    /// So many of the newest tasks of each site stay, whatever their age.
    pub keep_per_site: usize,
}

impl Retention {
    fn is_over(&self, head: &Head) -> bool {
        let before = match head.state {
            TaskState::Succeeded => self.succeeded_before,
            TaskState::RolledBack | TaskState::Canceled => self.rolled_back_before,
            TaskState::Queued
            | TaskState::Running
            | TaskState::Waiting
            | TaskState::Compensating
            | TaskState::Stuck => None,
        };
        before.is_some_and(|before| head.created_at < before)
    }
}

impl<P: ?Sized + Send + Sync + 'static> Inner<P> {
    /// See [`super::Engine::forget`].
    pub(super) async fn forget(&self, rule: Retention, limit: usize) -> Result<usize, ReadError> {
        if let Err(error) = self.outbox.drop_lost().await {
            tracing::warn!(%error, "places of callbacks that are gone are still in the queue");
        }
        let (mut after, mut forgotten): (Option<Vec<u8>>, usize) = (None, 0);
        'pages: loop {
            let page = self.journal.store().scan(keys::HEADS, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, value) in page {
                let task = TaskId::try_from(String::from_utf8_lossy(&key[keys::HEADS.len()..]).into_owned());
                // What does not read is quarantined, and fsck's to tell.
                let (Ok(task), Ok(head)) = (task, serde_json::from_slice::<Head>(&value)) else { continue };
                if !rule.is_over(&head) || self.live(&task).is_some() {
                    continue;
                }
                match self.is_needless(&task, &head, rule.keep_per_site) {
                    Ok(true) => {}
                    Ok(false) => continue,
                    // It stays, for `fsck` to tell; the others need not stay with it.
                    Err(ReadError::Damaged(why)) => {
                        tracing::warn!(%task, why, "not forgotten");
                        continue;
                    }
                    Err(error @ ReadError::Io(_)) => return Err(error),
                }
                match self.forget_task(&task, &head).await {
                    Ok(done) => forgotten += usize::from(done),
                    Err(ArchiveError::Journal(error)) => tracing::warn!(%task, %error, "not forgotten"),
                    Err(ArchiveError::Write(error)) => {
                        // The store itself has a say in whether the service can go on.
                        tracing::warn!(%task, %error, "not forgotten");
                        break 'pages;
                    }
                }
                if forgotten >= limit {
                    break 'pages;
                }
            }
        }
        if forgotten > 0
            && let Err(error) = self.drop_dedupe().await
        {
            tracing::warn!(%error, "keys of forgotten tasks are still there");
        }
        Ok(forgotten)
    }

    /// Whether nothing needs the finished task any more.
    fn is_needless(&self, task: &TaskId, head: &Head, keep: usize) -> Result<bool, ReadError> {
        if let Some(site) = &head.site {
            let newest = self.journal.store().scan_back(&keys::site(site), None, keep)?;
            if newest.iter().any(|(key, _)| *key == keys::site_task(site, task)) {
                return Ok(false);
            }
        }
        let callbacks = self.outbox.callbacks_of(CallbacksOf::Task(task), None, MAX_CALLBACKS)?;
        if callbacks.iter().any(|callback| matches!(callback.status, CallbackStatus::Due { .. })) {
            return Ok(false);
        }
        let now = self.clock.now();
        let holds = |machine: &Machine| machine.undo_until().is_some_and(|until| until >= now);
        let Ok(Some(machine)) = self.load(task) else { return Ok(false) };
        // Without the task that took it back, the original could be taken back once more.
        let original = machine.accepted().undo_of.as_ref().map(|original| self.load(original));
        let original = match original {
            Some(Ok(Some(original))) => holds(&original) && machine.outcome() == Some(Outcome::Succeeded),
            Some(Err(_)) => true,
            Some(Ok(None)) | None => false,
        };
        Ok(!holds(&machine) && !original)
    }

    /// The head goes last: a death before that leaves a task that is looked at again.
    async fn forget_task(&self, task: &TaskId, head: &Head) -> Result<bool, ArchiveError> {
        self.journal.archive(task).await?;
        let store = self.journal.store();
        let (Some(packed), Some((now, bytes))) = (self.journal.packed_blob(task)?, self.journal.head(task)?)
        else {
            // Too large for an archive: it stays.
            return Ok(false);
        };
        if now != *head {
            return Ok(false);
        }
        if !self.forget_callbacks(task).await? {
            return Ok(false);
        }
        self.logs.remove(task.as_str())?;
        let mut batch = Batch::new();
        batch.require_equals(keys::head(task), bytes);
        batch.delete(keys::head(task)).delete(keys::archived(task));
        if let Some(site) = &head.site {
            batch.delete(keys::site_task(site, task));
        }
        store.commit(batch).await?;
        store.delete_blob(&packed).await?;
        Ok(true)
    }

    /// `false`: one of them is due again since the task was looked at.
    async fn forget_callbacks(&self, task: &TaskId) -> Result<bool, ArchiveError> {
        for callback in self.outbox.callbacks_of(CallbacksOf::Task(task), None, MAX_CALLBACKS)? {
            if !self.outbox.forget(&callback.id).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes the keys under which forgotten tasks were asked for. A key and its task come in one batch: where there is no head,
    /// there is no task.
    async fn drop_dedupe(&self) -> Result<(), CommitError> {
        let failed = |error: ReadError| CommitError::Conflict(error.to_string());
        let mut stale = Vec::new();
        let store = self.journal.store();
        self.journal
            .each(keys::DEDUPE, |key, value| {
                if let Ok(used) = serde_json::from_slice::<Used>(&value)
                    && matches!(store.get(&keys::head(&used.task)), Ok(None))
                {
                    stale.push((key, value));
                }
            })
            .map_err(failed)?;
        for rows in stale.chunks(ROWS) {
            let mut batch = Batch::new();
            for (key, value) in rows {
                batch.require_equals(key.clone(), value.clone());
                batch.delete(key.clone());
            }
            match store.commit(batch).await {
                // A task was asked for under one of them meanwhile: the others go the next time.
                Ok(()) | Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
