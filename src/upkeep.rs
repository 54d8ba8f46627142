//! Upkeep beside the service: what is old in the journal is packed, what nothing needs is forgotten, blobs that nothing names and secrets
//! whose time is over are removed. Decides nothing: the engine knows what may go.

use std::sync::Arc;
use std::time::Duration;

use kedge_drivers::secrets::FileSecrets;
use kedge_engine::executor::{Engine, Retention, Sweep};
use kedge_engine::ports::Clock as _;
use kedge_workflows::ports::World;

use crate::runtime::SystemClock;

/// Pause between two looks for tasks that have become old.
const EVERY: Duration = Duration::from_secs(3600);
/// Tasks packed or forgotten at one look: a bound for a journal that has never been looked through; the others come with the next ones.
const AT_ONCE: usize = 5000;
/// Pause between two looks for secrets whose time is over: they cannot be read any more by then.
const SECRETS_EVERY: Duration = Duration::from_secs(300);
const DAY_MS: u64 = 24 * 3600 * 1000;

/// How old a finished task may become, in days since it was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ages {
    /// Its events are packed after so many.
    pub(crate) archive: u32,
    /// It is forgotten after so many, if it succeeded. 0: never.
    pub(crate) forget: u32,
    /// The same, if it was rolled back or canceled. 0: never.
    pub(crate) forget_rolled_back: u32,
    /// So many of each site's newest tasks are never forgotten.
    pub(crate) keep_per_site: usize,
}

impl Default for Ages {
    /// A month in which everything is at hand, and a year and a month of history.
    fn default() -> Self {
        Self { archive: 30, forget: 400, forget_rolled_back: 400, keep_per_site: 20 }
    }
}

/// Looks now and every hour, for as long as the service runs.
pub(crate) async fn run(engine: Engine<dyn World>, ages: Ages, sweep: Sweep) {
    match sweep.finish().await {
        Ok(0) => {}
        Ok(blobs) => tracing::info!(blobs, "removed what an earlier process had left beside the journal"),
        Err(error) => tracing::warn!(%error, "what is unused beside the journal was not removed"),
    }
    loop {
        let now = SystemClock.now();
        let before = |days: u32| (days > 0).then(|| now.saturating_sub(u64::from(days) * DAY_MS));
        match engine.archive(now.saturating_sub(u64::from(ages.archive) * DAY_MS), AT_ONCE).await {
            Ok(0) => {}
            Ok(tasks) => tracing::info!(tasks, "archived"),
            Err(error) => tracing::warn!(%error, "the journal could not be looked through for old tasks"),
        }
        let retention = Retention {
            succeeded_before: before(ages.forget),
            rolled_back_before: before(ages.forget_rolled_back),
            keep_per_site: ages.keep_per_site,
        };
        match engine.forget(retention, AT_ONCE).await {
            Ok(0) => {}
            Ok(tasks) => tracing::info!(tasks, "forgotten"),
            Err(error) => {
                tracing::warn!(%error, "the journal could not be looked through for what nothing needs")
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Removes secrets whose time is over, now and every few minutes, for as long as the service runs.
pub(crate) async fn forget_secrets(secrets: Arc<FileSecrets>) {
    loop {
        match secrets.sweep().await {
            Ok(0) => {}
            Ok(secrets) => tracing::info!(secrets, "secrets whose time was over are gone"),
            Err(error) => tracing::warn!(%error, "secrets whose time is over were not removed"),
        }
        tokio::time::sleep(SECRETS_EVERY).await;
    }
}
