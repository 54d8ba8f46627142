//! Delivers queued callbacks until it is told to stop: what is due, in order, with fresh signatures, and every attempt recorded before
//! anything follows from it. It composes nothing; what happens to a callback is decided by the engine's schedule.

mod attempt;
mod breaker;
mod guard;
mod lanes;
mod reach;
#[cfg(test)]
mod tests;
mod unrecorded;

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kedge_engine::outbox::{Callback, CallbackStatus, Delivery, Outbox, after_failure};
use kedge_engine::ports::{Clock, Random};
use kedge_engine::store::ReadError;
use kedge_engine::task::Millis;
use serde_json::json;
use tokio::task::{Id, JoinError, JoinSet};

use attempt::Outcome;
pub use attempt::Patience;
pub(crate) use attempt::Sender;
use breaker::Breakers;
use lanes::{Lanes, Pick, Thread, thread};

use crate::api::{self, Links};
use crate::desk::Desk;
use crate::endpoint::{ENDPOINT_DISABLED, Endpoints};
use crate::metrics::Metrics;
use crate::notice::Notice;

/// Due callbacks looked at: more only when all of them have to wait for their endpoints.
const WINDOW: usize = 256;
/// At most: some 16 MB of bodies.
const MAX_WINDOW: usize = 16_384;
/// Longest time without a look at the outbox, should a wake-up have been missed.
const LOOK_MS: u64 = 30_000;
/// Pause after the outbox could not be read.
const PAUSE_MS: u64 = 5_000;
/// Older callbacks cannot be waiting for a retry any more: the schedule ends after three days and four hours.
const MAX_WAIT_MS: u64 = 4 * 86_400_000;
/// Callbacks looked at for waiting ones at the start.
const MAX_LOOKED_AT: usize = 20_000;

/// Delivers callbacks.
pub struct Deliverer {
    shared: Arc<Shared>,
    lanes: Lanes,
    window: usize,
}

struct Shared {
    outbox: Arc<dyn Outbox>,
    endpoints: Endpoints,
    links: Links,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    metrics: Metrics,
    sender: Sender,
    breakers: Mutex<Breakers>,
}

/// An attempt that has ended.
struct Done {
    callback: Callback,
    lane: String,
    again: Option<Millis>,
    /// Whether it is written down.
    recorded: bool,
}

type Running = (JoinSet<Done>, HashMap<Id, (Thread, String)>);

impl Deliverer {
    /// A deliverer; it does nothing before [`Deliverer::run`].
    pub fn new(
        outbox: Arc<dyn Outbox>,
        (endpoints, links): (Endpoints, Links),
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metrics: Metrics,
    ) -> Self {
        Self::with_patience(outbox, (endpoints, links), clock, random, metrics, Patience::default())
    }

    /// The same with other time limits.
    pub fn with_patience(
        outbox: Arc<dyn Outbox>,
        (endpoints, links): (Endpoints, Links),
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metrics: Metrics,
        patience: Patience,
    ) -> Self {
        let sender = Sender::new(patience);
        let shared = Arc::new(Shared {
            outbox,
            endpoints,
            links,
            clock,
            random,
            metrics,
            sender,
            breakers: Mutex::default(),
        });
        Self { shared, lanes: Lanes::default(), window: WINDOW }
    }

    /// Login links that mail is to hold are asked for here.
    #[must_use]
    pub fn with_desk(self, desk: Arc<dyn Desk>) -> Self {
        self.shared.sender.ask(desk);
        self
    }

    /// Delivers until `shutdown` resolves; attempts under way are ended and recorded.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        if let Err(error) = self.recover() {
            tracing::error!(target: "kedge::callbacks", %error, "waiting callbacks could not be read");
        }
        let (mut attempts, mut started): Running = (JoinSet::new(), HashMap::new());
        loop {
            let queued = self.shared.outbox.queued(); // before the look, so that nothing is missed
            let now = self.shared.clock.now();
            let wake = match self.start(now, &mut attempts, &mut started) {
                Ok(wake) => wake,
                Err(error) => {
                    tracing::error!(target: "kedge::callbacks", %error, "due callbacks could not be read");
                    now + PAUSE_MS
                }
            };
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(done) = attempts.join_next_with_id() => {
                    self.finish(done, &mut started);
                    while let Some(done) = attempts.try_join_next_with_id() {
                        self.finish(done, &mut started);
                    }
                }
                () = queued => {}
                () = self.shared.clock.sleep_until(wake) => {}
            }
        }
        while let Some(done) = attempts.join_next_with_id().await {
            self.finish(done, &mut started);
        }
    }

    /// Finds the callbacks that wait for their next attempt: others of their threads have to wait behind them.
    fn recover(&mut self) -> Result<(), ReadError> {
        let now = self.shared.clock.now();
        let mut before: Option<String> = None;
        let mut seen = 0;
        while seen < MAX_LOOKED_AT {
            let page = self.shared.outbox.callbacks(before.as_deref(), WINDOW)?;
            seen += page.len();
            for callback in &page {
                if callback.created_at.saturating_add(MAX_WAIT_MS) < now {
                    return Ok(());
                }
                // Also those that are due: of many, the window may hold later ones alone.
                if let CallbackStatus::Due { at } = callback.status {
                    self.lanes.hold(callback, at);
                }
            }
            if page.len() < WINDOW {
                return Ok(());
            }
            before = page.last().map(|callback| callback.id.clone());
        }
        Ok(())
    }

    /// Starts what can be started; gives the time of the next look.
    fn start(
        &mut self,
        now: Millis,
        attempts: &mut JoinSet<Done>,
        started: &mut HashMap<Id, (Thread, String)>,
    ) -> Result<Millis, ReadError> {
        while self.lanes.has_room() {
            let due = self.shared.outbox.due(now, self.window)?;
            let full = due.len() == self.window;
            let picks = {
                let mut breakers = self.shared.breakers();
                let admits = |stored: &str| breakers.admits(&self.shared.endpoints.account(stored), now);
                self.lanes.pick(due, now, |stored| self.shared.lane(stored), admits)
            };
            let none = picks.is_empty();
            let (mut unread, mut again) = (None, false);
            for pick in picks {
                match self.begin(pick, attempts, started) {
                    Ok(begun) => again |= !begun,
                    // The others are picked, too: nobody would give them back.
                    Err(error) => unread = Some(error),
                }
            }
            if let Some(error) = unread {
                return Err(error);
            }
            if again {
                continue;
            }
            if !none || !full {
                self.window = WINDOW;
                break;
            }
            if self.window == MAX_WINDOW {
                break;
            }
            self.window = (self.window * 4).min(MAX_WINDOW);
        }
        let stored = self.shared.outbox.next_due()?.filter(|due| *due > now);
        let pause = self.shared.breakers().next(now);
        let wake = [stored, self.lanes.next_due(now), pause].into_iter().flatten().min();
        Ok(wake.unwrap_or(u64::MAX).min(now + LOOK_MS))
    }

    /// `false`: there is nothing to send, and who waited behind it need not wait any more.
    fn begin(
        &mut self,
        pick: Pick,
        attempts: &mut JoinSet<Done>,
        started: &mut HashMap<Id, (Thread, String)>,
    ) -> Result<bool, ReadError> {
        let callback = match pick {
            Pick::Send(callback) => callback,
            Pick::Early(thread, id) => match self.shared.outbox.callback(&id) {
                Ok(Some(callback)) if matches!(callback.status, CallbackStatus::Due { .. }) => callback,
                Ok(Some(callback)) => {
                    self.lanes.finish(&callback, &self.shared.lane(&callback.endpoint), None);
                    return Ok(false);
                }
                Ok(None) => {
                    self.lanes.lost(&thread, &id, &self.shared.lane(&thread.0));
                    return Ok(false);
                }
                // It never will be: those behind it need not wait. `fsck` tells of it.
                Err(ReadError::Damaged(why)) => {
                    tracing::error!(target: "kedge::callbacks", callback = id, why, "a callback is damaged and left out");
                    self.lanes.lost(&thread, &id, &self.shared.lane(&thread.0));
                    return Ok(false);
                }
                Err(error @ ReadError::Io(_)) => {
                    self.lanes.release(&thread, &self.shared.lane(&thread.0));
                    return Err(error);
                }
            },
        };
        let lane = self.shared.lane(&callback.endpoint);
        let key = (thread(&callback), lane.clone());
        let shared = Arc::clone(&self.shared);
        let handle = attempts.spawn(async move { shared.deliver(callback, lane).await });
        started.insert(handle.id(), key);
        Ok(true)
    }

    fn finish(&mut self, done: Result<(Id, Done), JoinError>, started: &mut HashMap<Id, (Thread, String)>) {
        match done {
            Ok((id, done)) => {
                started.remove(&id);
                if done.recorded {
                    self.lanes.finish(&done.callback, &done.lane, done.again);
                } else {
                    self.lanes.unrecorded(&done.callback, &done.lane, self.shared.clock.now());
                }
            }
            Err(error) => {
                tracing::error!(target: "kedge::callbacks", %error, "an attempt broke off");
                if let Some((thread, lane)) = started.remove(&error.id()) {
                    self.lanes.release(&thread, &lane);
                }
            }
        }
    }
}

impl Shared {
    /// The name of the endpoint that a stored receiver counts for.
    fn lane(&self, stored: &str) -> String {
        self.endpoints.target(stored).map_or_else(|| stored.to_owned(), |(endpoint, _)| endpoint.name)
    }

    /// Makes one attempt and records it with what follows.
    async fn deliver(&self, callback: Callback, lane: String) -> Done {
        let at = self.clock.now();
        let mut outcome = self.attempt(&callback, at).await;
        let own = self.endpoints.is_own(&callback.endpoint);
        if outcome.is_gone() && !own {
            outcome.error = Some("it answered 410 Gone: this callback is given up".to_owned());
        }
        let now = self.clock.now();
        let attempt = callback.attempts + 1;
        let then = if outcome.is_delivered() {
            CallbackStatus::Delivered { at: now }
        } else if outcome.is_gone()
            || outcome.for_good
            || outcome.status.is_none() && self.is_hopeless(&callback)
        {
            CallbackStatus::Dead { at: now }
        } else {
            after_failure(attempt, now, self.random.roll(), outcome.retry_after_s)
        };
        // What was never sent says nothing about the receiver.
        let tried =
            self.endpoints.disabled(&lane).is_none() && self.endpoints.target(&callback.endpoint).is_some();
        let account = self.endpoints.account(&callback.endpoint);
        let hopeless =
            tried && self.breakers().note(&account, outcome.is_delivered(), now) && account == lane;
        // What a task has named beside an endpoint says nothing about that endpoint.
        if outcome.is_gone() && own {
            self.disable(&lane, &callback, &format!("it answered 410 Gone at {}", api::time(now))).await;
        } else if hopeless {
            self.disable(&lane, &callback, "nothing but failures for five days").await;
        }
        let again = match then {
            CallbackStatus::Due { at } => Some(at),
            CallbackStatus::Delivered { .. } | CallbackStatus::Dead { .. } => None,
        };
        self.tell(&callback, attempt, &outcome, &then);
        let delivery = Delivery {
            callback: callback.id.clone(),
            attempt,
            at,
            duration_ms: now.saturating_sub(at),
            status: outcome.status,
            error: outcome.error,
            answer: outcome.answer,
        };
        let recorded = self.outbox.record(delivery, then).await;
        if let Err(error) = &recorded {
            tracing::error!(target: "kedge::callbacks", %error, callback = callback.id, "an attempt could not be recorded");
        }
        Done { callback, lane, again, recorded: recorded.is_ok() }
    }

    fn breakers(&self) -> MutexGuard<'_, Breakers> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Disables an endpoint and tells the others that ask for it.
    async fn disable(&self, name: &str, callback: &Callback, reason: &str) {
        self.endpoints.set_disabled(name, Some(reason)).await;
        tracing::warn!(target: "kedge::callbacks", endpoint = name, reason, "an endpoint is disabled");
        let now = self.clock.now();
        let notice = Notice {
            event: ENDPOINT_DISABLED,
            subject: "An endpoint is disabled",
            text: format!("Kedge sends no more to the endpoint {name}: {reason}"),
            data: json!({ "endpoint": name, "reason": reason, "delivery": callback.id }),
        };
        let all = self.endpoints.all();
        for other in all.iter().filter(|other| other.name != name && other.wants(ENDPOINT_DISABLED)) {
            let id = format!("msg_{}", hex::encode(self.random.id()));
            let Some(body) = notice.body(other, &id, &self.links, now) else { continue };
            let notice = Callback {
                id,
                endpoint: other.name.clone(),
                event: ENDPOINT_DISABLED.to_owned(),
                body,
                created_at: now,
                attempts: 0,
                status: CallbackStatus::Due { at: now },
                ..callback.clone()
            };
            if let Err(error) = self.outbox.queue(notice).await {
                tracing::error!(target: "kedge::callbacks", %error, endpoint = other.name, "a notice could not be queued");
            }
        }
    }

    async fn attempt(&self, callback: &Callback, now: Millis) -> Outcome {
        let Some((endpoint, url)) = self.endpoints.target(&callback.endpoint) else {
            return Outcome::failed("no endpoint of this name or origin is configured any more");
        };
        if let Some(reason) = self.endpoints.disabled(&endpoint.name) {
            return Outcome::failed(format!("the endpoint {} is disabled: {reason}", endpoint.name));
        }
        self.sender.send(&endpoint, self.endpoints.signing(), &url, callback, now).await
    }

    /// Whether no attempt makes sense as things are configured.
    fn is_hopeless(&self, callback: &Callback) -> bool {
        match self.endpoints.target(&callback.endpoint) {
            None => true,
            Some((endpoint, _)) => self.endpoints.disabled(&endpoint.name).is_some(),
        }
    }

    fn tell(&self, callback: &Callback, attempt: u32, outcome: &Outcome, then: &CallbackStatus) {
        let result = match then {
            CallbackStatus::Delivered { .. } => "delivered",
            CallbackStatus::Due { .. } => "failed",
            CallbackStatus::Dead { .. } => "dead",
        };
        self.metrics.attempt(result);
        let endpoint = self.endpoints.label(&callback.endpoint);
        let (id, event, status) = (&callback.id, &callback.event, outcome.status);
        let error = outcome.error.as_deref();
        tracing::info!(target: "kedge::callbacks", endpoint, id, event, attempt, status, error, result, "callback");
    }
}
