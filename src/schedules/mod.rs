//! Schedules: what the configuration wants done again and again, as tasks. A slot of a schedule becomes one task a site, however often
//! the service starts anew: its name is the task's idempotency key. What was missed is made up for once, or told and left.

mod slot;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kedge_engine::ports::Clock as _;
use kedge_engine::service::{DedupeKey, Submission, SubmitError, Submitted, Tasks};
use kedge_engine::store::{Batch, Store};
use kedge_engine::task::{Actor, Millis};
use kedge_engine::workflow::Facts;
use kedge_workflows::records::SITE;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::runtime::SystemClock;

pub(crate) use slot::{Slot, When};

/// Pause between two looks: a slot begins within it.
const EVERY: Duration = Duration::from_secs(5);
/// Scope of the keys under which the tasks of slots are found.
const SCOPE: &str = "schedule";
/// Where the store keeps since when a schedule is known.
const ROWS: &str = "w/schedule/";

/// A schedule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schedule {
    /// Its name.
    pub(crate) name: String,
    /// What is done.
    pub(crate) workflow: String,
    /// Parameters of the tasks, without the site.
    pub(crate) params: Map<String, Value>,
    /// Patterns of sites; empty: one task that is about no single site.
    pub(crate) sites: Vec<String>,
    /// When.
    pub(crate) when: When,
    /// How long after its beginning a slot may begin.
    pub(crate) window: Millis,
    /// The sites are spread over so much of the window.
    pub(crate) jitter: Millis,
    /// Whether a slot whose window passed while the service was down is made up for, once.
    pub(crate) catch_up: bool,
}

/// Something that is due now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// The site, if it is about one.
    pub(crate) site: Option<String>,
    /// The slot.
    pub(crate) slot: Slot,
    /// Its window has passed, and nobody makes up for it.
    pub(crate) missed: bool,
}

impl Schedule {
    /// What is due at a time. What began before the schedule was known is not.
    pub(crate) fn due(&self, now: Millis, known_since: Millis, sites: &[String]) -> Vec<Due> {
        let Some(slot) = self.when.last(now).filter(|slot| slot.at >= known_since) else { return Vec::new() };
        let missed = now > slot.at.saturating_add(self.window) && !self.catch_up;
        let due = |site: Option<&String>| {
            let begins = slot.at.saturating_add(self.spread(site.map_or("", String::as_str), &slot));
            (begins <= now).then(|| Due { site: site.cloned(), slot: slot.clone(), missed })
        };
        if self.sites.is_empty() {
            return due(None).into_iter().collect();
        }
        let fits = |site: &&String| self.sites.iter().any(|pattern| fits(pattern, site));
        sites.iter().filter(fits).filter_map(|site| due(Some(site))).collect()
    }

    /// How much later a site begins: the same for a slot whoever asks, another one for each slot.
    fn spread(&self, site: &str, slot: &Slot) -> Millis {
        if self.jitter == 0 {
            return 0;
        }
        let hash = Sha256::digest(format!("{}\0{site}\0{}", self.name, slot.name));
        let dice = hash.iter().take(8).fold(0, |dice: u64, byte| (dice << 8) | u64::from(*byte));
        dice % self.jitter
    }

    pub(crate) fn submission(&self, due: &Due) -> Submission {
        let mut params = self.params.clone();
        if let Some(site) = &due.site {
            params.insert("site".to_owned(), Value::from(site.as_str()));
        }
        let key = format!("{}\0{}\0{}", self.name, due.site.as_deref().unwrap_or_default(), due.slot.name);
        Submission {
            workflow: self.workflow.clone(),
            params: Value::Object(params),
            actor: Actor { name: format!("schedule:{}", self.name), via: "schedule".to_owned() },
            correlation_id: None,
            callback: None,
            not_before: None,
            // Whoever asks in person goes first.
            priority: -1,
            trace: None,
            dedupe: vec![DedupeKey { scope: SCOPE.to_owned(), key, fingerprint: None }],
            if_plan: None,
        }
    }
}

/// One `*` stands for any characters.
fn fits(pattern: &str, site: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == site,
        Some((start, end)) => {
            site.len() >= start.len() + end.len() && site.starts_with(start) && site.ends_with(end)
        }
    }
}

/// Looks what is due, and asks for it.
pub(crate) struct Scheduler<T> {
    /// As configured; a reload brings others.
    schedules: watch::Receiver<Vec<Schedule>>,
    tasks: T,
    facts: Arc<dyn Facts>,
    store: Arc<dyn Store>,
    /// Slots that are over, by schedule and site: the store would say the same.
    over: BTreeMap<(String, String), String>,
}

impl<T: Tasks> Scheduler<T> {
    pub(crate) fn new(
        schedules: watch::Receiver<Vec<Schedule>>,
        tasks: T,
        facts: Arc<dyn Facts>,
        store: Arc<dyn Store>,
    ) -> Self {
        Self { schedules, tasks, facts, store, over: BTreeMap::new() }
    }

    /// Looks every few seconds, for as long as somebody could bring other schedules.
    pub(crate) async fn run(mut self) {
        while self.schedules.wait_for(|schedules| !schedules.is_empty()).await.is_ok() {
            if let Err(error) = self.look(SystemClock.now()).await {
                tracing::warn!(%error, "the schedules could not be looked at");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// One look.
    pub(crate) async fn look(&mut self, now: Millis) -> anyhow::Result<()> {
        let sites: Vec<String> = self.facts.records(SITE)?.into_iter().map(|(name, _)| name).collect();
        let schedules = self.schedules.borrow().clone();
        for schedule in schedules {
            let since = self.known_since(&schedule.name, now).await?;
            for due in schedule.due(now, since, &sites) {
                let of = (schedule.name.clone(), due.site.clone().unwrap_or_default());
                if self.over.get(&of) == Some(&due.slot.name) || !self.ask(&schedule, &due).await {
                    continue;
                }
                self.over.insert(of, due.slot.name);
            }
        }
        let there: BTreeSet<&String> = sites.iter().collect();
        self.over.retain(|(_, site), _| site.is_empty() || there.contains(site));
        Ok(())
    }

    /// Whether the slot is over with this.
    async fn ask(&self, schedule: &Schedule, due: &Due) -> bool {
        let (name, site, slot) = (&schedule.name, due.site.as_deref().unwrap_or("-"), &due.slot.name);
        if due.missed {
            tracing::warn!(schedule = name, site, slot, "missed: its window has passed");
            return true;
        }
        match self.tasks.submit(schedule.submission(due)).await {
            Ok(Submitted::Created(task)) => {
                tracing::info!(schedule = name, site, slot, task = %task.id, "begun")
            }
            Ok(Submitted::Duplicate(_)) => {}
            Err(SubmitError::Unavailable(why) | SubmitError::Store(why)) => {
                tracing::warn!(schedule = name, site, slot, why, "not begun, tried again");
                return false;
            }
            // What does not fit now does not fit in five seconds either.
            Err(error) => tracing::warn!(schedule = name, site, slot, %error, "not begun"),
        }
        true
    }

    /// Since when the schedule is known: noted when it is seen for the first time.
    async fn known_since(&self, name: &str, now: Millis) -> anyhow::Result<Millis> {
        let key = format!("{ROWS}{name}").into_bytes();
        if let Some(bytes) = self.store.get(&key)? {
            return Ok(serde_json::from_slice(&bytes)?);
        }
        let mut batch = Batch::new();
        batch.put(key, serde_json::to_vec(&now)?);
        self.store.commit(batch).await?;
        Ok(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Millis = 3_600_000;
    /// 2026-11-28T10:00:00Z.
    const TEN: Millis = 1_795_860_000_000;

    fn schedule() -> Schedule {
        Schedule {
            name: "nightly".to_owned(),
            workflow: "backup".to_owned(),
            params: Map::new(),
            sites: vec!["*.example.test".to_owned()],
            when: When::Every(HOUR),
            window: HOUR / 2,
            jitter: 0,
            catch_up: false,
        }
    }

    fn sites(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_slot_is_due_in_its_window_for_the_sites_that_fit() {
        let all = sites(&["a.example.test", "b.example.test", "c.elsewhere.test"]);
        let due = schedule().due(TEN + 1000, 0, &all);
        let names: Vec<&str> = due.iter().filter_map(|due| due.site.as_deref()).collect();
        assert_eq!(names, ["a.example.test", "b.example.test"]);
        assert!(due.iter().all(|due| !due.missed));
        assert!(schedule().due(TEN + HOUR / 2 + 1, 0, &all).iter().all(|due| due.missed));
        let caught = Schedule { catch_up: true, ..schedule() };
        assert!(caught.due(TEN + HOUR / 2 + 1, 0, &all).iter().all(|due| !due.missed));
    }

    #[test]
    fn what_began_before_the_schedule_was_known_is_not_due() {
        assert_eq!(schedule().due(TEN + 1000, TEN + 1, &sites(&["a.example.test"])), []);
        assert_eq!(schedule().due(TEN + 1000, TEN, &sites(&["a.example.test"])).len(), 1);
    }

    #[test]
    fn sites_are_spread_and_each_keeps_its_place() {
        let schedule = Schedule { jitter: HOUR / 4, ..schedule() };
        let all: Vec<String> = (0..200).map(|n| format!("s{n}.example.test")).collect();
        let begun = |after: Millis| schedule.due(TEN + after, 0, &all).len();
        assert!(begun(0) < 20 && (50..150).contains(&begun(HOUR / 8)), "{} {}", begun(0), begun(HOUR / 8));
        assert_eq!((begun(HOUR / 4), begun(HOUR / 8)), (200, begun(HOUR / 8)));
    }

    #[test]
    fn a_submission_is_known_by_schedule_site_and_slot() {
        let due = schedule().due(TEN, 0, &sites(&["a.example.test"])).remove(0);
        let submission = schedule().submission(&due);
        assert_eq!(submission.params, serde_json::json!({ "site": "a.example.test" }));
        assert_eq!(submission.dedupe[0].key, format!("nightly\0a.example.test\0{TEN}"));
        let next = schedule().due(TEN + HOUR, 0, &sites(&["a.example.test"])).remove(0);
        assert_ne!(schedule().submission(&next).dedupe, submission.dedupe);
    }
}
