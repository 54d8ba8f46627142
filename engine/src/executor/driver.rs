//! The driver of a task: asks the machine what should be in flight, commits, starts it, and waits. The only writer of its task.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::channel::{mpsc, oneshot};
use futures::future::{AbortHandle, Either, pending, select};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use petgraph::graph::NodeIndex;

use super::Inner;
use super::flight::{Attempt, Done, Flight, Landed, Survivors};
use super::live::{Live, Mail, Verb};
use crate::context::RecordWrite;
use crate::event::{Event, FingerprintPhase, Then, Verdict};
use crate::machine::{Command, Machine, Next};
use crate::plan::Class;
use crate::retry::Policy;
use crate::service::VerbError;
use crate::step::{ErrorClass, Probe, StepError};
use crate::task::{Millis, TaskView};

/// A task's driver.
pub(super) struct Driver<P: ?Sized> {
    pub(super) inner: Arc<Inner<P>>,
    pub(super) live: Arc<Live>,
    pub(super) machine: Arc<Machine>,
    /// The head as it is in the store: demanded unchanged by every write.
    pub(super) head: Vec<u8>,
    pub(super) head_hash: String,
    pub(super) facts: Vec<Fact>,
    flights: FuturesUnordered<futures::future::BoxFuture<'static, Landed>>,
    aborts: BTreeMap<Flight, AbortHandle>,
    survivors: Arc<Survivors>,
    mailbox: mpsc::Receiver<Mail>,
    pokes: mpsc::Receiver<()>,
}

/// Something that happened and is to be journaled.
pub(super) struct Fact {
    pub(super) event: Event,
    pub(super) writes: Vec<RecordWrite>,
    /// Who is told when it is durable.
    pub(super) reply: Option<oneshot::Sender<Result<TaskView, VerbError>>>,
}

impl From<Event> for Fact {
    fn from(event: Event) -> Self {
        Self { event, writes: Vec::new(), reply: None }
    }
}

/// Something to be started once it is durable.
pub(super) struct Launch {
    pub(super) flight: Flight,
    pub(super) attempt: u32,
    pub(super) slot: Option<String>,
}

/// Why a driver ends without its task being at its end.
#[derive(Debug)]
pub(super) struct Halt(pub(super) String);

impl<P: ?Sized + Send + Sync + 'static> Driver<P> {
    /// A driver over a durable state.
    pub(super) fn new(
        inner: Arc<Inner<P>>,
        live: Arc<Live>,
        head: (Vec<u8>, String),
        survivors: Survivors,
        mailbox: mpsc::Receiver<Mail>,
        pokes: mpsc::Receiver<()>,
    ) -> Self {
        let machine = live.machine();
        Self {
            inner,
            live,
            machine,
            head: head.0,
            head_hash: head.1,
            facts: Vec::new(),
            flights: FuturesUnordered::new(),
            aborts: BTreeMap::new(),
            survivors: Arc::new(survivors),
            mailbox,
            pokes,
        }
    }

    /// Drives the task to its end, or until the engine drains or fails.
    pub(super) async fn drive(mut self) {
        let result = loop {
            match self.turn().await {
                Err(halt) => break Err(halt),
                Ok(next) => {
                    let over = self.machine.outcome().is_some();
                    if over || (self.inner.state().draining && self.flights.is_empty()) {
                        break Ok(());
                    }
                    self.wait(&next).await;
                }
            }
        };
        if let Err(Halt(why)) = result {
            self.inner.fail(&why);
        }
        if self.machine.outcome().is_some() {
            let queue = {
                let mut tables = self.inner.tables();
                tables.locks.release(&self.live.task);
                tables.slots.forget(&self.live.task);
                tables.locks.queue()
            };
            self.inner.poke(&queue);
        }
        let task = self.live.task.clone();
        self.inner.change(|state| {
            state.live.remove(&task);
        });
        self.live.close();
    }

    /// Commits what has happened and what begins, then starts it.
    async fn turn(&mut self) -> Result<Next, Halt> {
        let launches = self.commit().await?;
        for launch in launches {
            self.launch(launch);
        }
        let next = self.machine.next(self.inner.clock.now());
        for step in &next.interrupt {
            if let Some(abort) = self.aborts.get(&Flight::Run(*step)) {
                abort.abort();
            }
        }
        Ok(next)
    }

    fn launch(&mut self, launch: Launch) {
        let spec = match launch.flight {
            Flight::Run(step) | Flight::Probe(step) | Flight::Undo(step) => self.machine.plan().step(step),
            Flight::Fingerprint(_) => match &self.machine.plan().rest().fingerprint {
                Some(spec) => spec,
                None => return,
            },
        };
        // Decoded before the start was journaled; a plan does not change in between.
        let Ok(step) = self.inner.kinds.decode(&spec.kind, &spec.params) else { return };
        let (abort, registration) = AbortHandle::new_pair();
        self.aborts.insert(launch.flight, abort);
        let attempt = Attempt {
            inner: self.inner.clone(),
            live: self.live.clone(),
            machine: self.machine.clone(),
            survivors: self.survivors.clone(),
            step,
            flight: launch.flight,
            attempt: launch.attempt,
            slot: launch.slot,
        };
        self.flights.push(attempt.fly(registration));
    }

    pub(super) fn in_flight(&self, flight: Flight) -> bool {
        self.aborts.contains_key(&flight)
    }

    /// Waits for something to happen, and turns it into facts.
    async fn wait(&mut self, next: &Next) {
        let clock = self.inner.clock.clone();
        let wake = match next.wake {
            Some(at) => clock.sleep_until(at),
            None => pending().boxed(),
        };
        let landing =
            async { if self.flights.is_empty() { pending().await } else { self.flights.next().await } };
        let letters = select(self.mailbox.next(), self.pokes.next());
        let happened = match select(select(Box::pin(landing), wake), letters).await {
            Either::Left((Either::Left((landed, _)), _)) => Happened::Landed(landed.map(Box::new)),
            Either::Right((Either::Left((mail, _)), _)) => Happened::Mail(mail),
            Either::Left((Either::Right(((), _)), _)) | Either::Right((Either::Right(_), _)) => {
                Happened::Woken
            }
        };
        match happened {
            Happened::Landed(Some(landed)) => self.landed(*landed),
            Happened::Mail(Some(mail)) => self.letter(mail),
            Happened::Landed(None) | Happened::Mail(None) | Happened::Woken => {}
        }
        while let Some(Some(landed)) = self.flights.next().now_or_never() {
            self.landed(landed);
        }
    }

    fn landed(&mut self, landed: Landed) {
        self.aborts.remove(&landed.flight);
        if let Some(slot) = &landed.slot {
            let waiting = self.inner.tables().slots.give(slot);
            self.inner.poke(&waiting);
        }
        let now = self.inner.clock.now();
        let event = match landed.flight {
            Flight::Run(step) => self.run_event(step, &landed, now),
            Flight::Probe(step) => self.probe_event(step, &landed, now),
            Flight::Undo(step) => self.undo_event(step, &landed, now),
            Flight::Fingerprint(after) => self.fingerprint_event(FingerprintPhase::of(after), &landed, now),
        };
        self.facts.push(Fact { event, writes: landed.writes, reply: None });
    }

    fn run_event(&self, index: NodeIndex, landed: &Landed, now: Millis) -> Event {
        let step = self.machine.plan().step(index).name.clone();
        let attempt = landed.attempt;
        match &landed.result {
            Ok(Done::Output(output)) if output_size(output) <= self.inner.limits.output => {
                Event::AttemptSucceeded { step, attempt, output: output.clone(), adopted: false }
            }
            Ok(_) => {
                let error =
                    StepError::fatal(format!("its output is larger than {} bytes", self.inner.limits.output));
                Event::AttemptFailed { step, attempt, error, then: Then::GiveUp }
            }
            Err(error) => {
                let then = self.after_run_failure(index, error, now);
                Event::AttemptFailed { step, attempt, error: error.clone(), then }
            }
        }
    }

    /// What follows a failed attempt of a run.
    pub(super) fn after_run_failure(&self, step: NodeIndex, error: &StepError, now: Millis) -> Then {
        let spec = self.machine.plan().step(step);
        let (failures, began) = self.machine.run_failures(step);
        // A pivot in doubt may have decided: only a probe can tell, however often.
        let undecided = spec.class == Class::Pivot && error.class == ErrorClass::InDoubt;
        if self.machine.goes_back() && !undecided {
            return Then::GiveUp;
        }
        let then = self.after_failure(&spec.run_policy, error.class, failures + 1, began, now);
        if undecided && then == Then::GiveUp {
            Then::Probe { at: now + spec.run_policy.cap_ms }
        } else {
            then
        }
    }

    fn after_failure(
        &self,
        policy: &Policy,
        class: ErrorClass,
        failures: u32,
        began: Millis,
        now: Millis,
    ) -> Then {
        let at = policy.next(failures, began, now, self.inner.random.roll());
        match (class, at) {
            (ErrorClass::Fatal, _) | (_, None) => Then::GiveUp,
            (ErrorClass::Retryable, Some(at)) => Then::Retry { at },
            (ErrorClass::InDoubt, Some(at)) => Then::Probe { at },
        }
    }

    fn probe_event(&self, index: NodeIndex, landed: &Landed, now: Millis) -> Event {
        let step = self.machine.plan().step(index).name.clone();
        let verdict = |verdict| Event::Probed { step: step.clone(), verdict };
        match &landed.result {
            Ok(Done::Probed(Probe::Applied(output))) => Event::AttemptSucceeded {
                step,
                attempt: landed.attempt,
                output: output.clone(),
                adopted: true,
            },
            Ok(Done::Probed(Probe::NotApplied)) => verdict(Verdict::NotApplied),
            Ok(Done::Probed(Probe::Resumable)) => verdict(Verdict::Resumable),
            Ok(Done::Probed(Probe::Partial(what))) => verdict(Verdict::Partial { what: what.clone() }),
            Ok(Done::Probed(Probe::Unknown(why))) => verdict(Verdict::Unknown { why: why.clone() }),
            Ok(_) => verdict(Verdict::Unknown { why: "the probe answered something else".to_owned() }),
            Err(error) => {
                // A probe that fails for good says nothing about the effect: it is asked again, patiently.
                let (failures, began) = self.machine.run_failures(index);
                let then =
                    self.after_failure(&Policy::PERSISTENT, ErrorClass::Retryable, failures + 1, began, now);
                Event::ProbeFailed { step, error: error.clone(), then }
            }
        }
    }

    fn undo_event(&self, index: NodeIndex, landed: &Landed, now: Millis) -> Event {
        let step = self.machine.plan().step(index).name.clone();
        let attempt = landed.attempt;
        match &landed.result {
            Ok(_) => Event::UndoSucceeded { step, attempt },
            Err(error) => {
                let (failures, began) = self.machine.undo_failures(index);
                let policy = &self.machine.plan().step(index).undo_policy;
                let then = self.after_failure(policy, error.class, failures + 1, began, now);
                Event::UndoFailed { step, attempt, error: error.clone(), then }
            }
        }
    }

    fn letter(&mut self, mail: Mail) {
        match mail.verb {
            Verb::Cancel { reason } => {
                let event = Event::CancelRequested { actor: mail.actor, reason };
                self.facts.push(Fact { event, writes: Vec::new(), reply: Some(mail.reply) });
            }
            Verb::Resolve(resolutions) => {
                let mut reply = Some(mail.reply);
                let last = resolutions.len().saturating_sub(1);
                for (index, resolution) in resolutions.into_iter().enumerate() {
                    let event = Event::Resolved {
                        step: resolution.step,
                        verb: resolution.verb,
                        reason: resolution.reason,
                        actor: mail.actor.clone(),
                    };
                    let reply = if index == last { reply.take() } else { None };
                    self.facts.push(Fact { event, writes: Vec::new(), reply });
                }
            }
        }
    }

    fn fingerprint_event(&self, phase: FingerprintPhase, landed: &Landed, now: Millis) -> Event {
        let attempt = landed.attempt;
        let error = match &landed.result {
            Ok(Done::Listed { digest, listing }) => {
                return Event::FingerprintTaken {
                    phase,
                    attempt,
                    digest: digest.clone(),
                    listing: listing.clone(),
                };
            }
            Ok(_) => StepError::fatal("the fingerprint step gave no listing"),
            Err(error) => error.clone(),
        };
        let (failures, began) = self.machine.fingerprint_failures(phase);
        // The first one failing costs nothing but the task; the last one is the proof, so it is tried for long.
        let (policy, class) = match phase {
            FingerprintPhase::Before => (Policy::RUN, error.class),
            FingerprintPhase::After => (Policy::PERSISTENT, ErrorClass::Retryable),
        };
        let then = match self.after_failure(&policy, class, failures + 1, began, now) {
            Then::Probe { at } => Then::Retry { at },
            then => then,
        };
        Event::FingerprintFailed { phase, attempt, error, then }
    }

    /// The commands that are not in flight yet.
    pub(super) fn fresh(&self, next: &Next) -> Vec<Command> {
        let flying = |command: &Command| match *command {
            Command::Run { step, .. } => self.in_flight(Flight::Run(step)),
            Command::Probe { step } => self.in_flight(Flight::Probe(step)),
            Command::Undo { step, .. } => self.in_flight(Flight::Undo(step)),
            Command::Fingerprint { after, .. } => self.in_flight(Flight::Fingerprint(after)),
            Command::Lock | Command::Finish { .. } => false,
        };
        next.start.iter().filter(|command| !flying(command)).copied().collect()
    }
}

enum Happened {
    Landed(Option<Box<Landed>>),
    Mail(Option<Mail>),
    Woken,
}

fn output_size(output: &serde_json::Value) -> usize {
    // Small in nearly all cases; only strings and containers can be large.
    match output {
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => 8,
        serde_json::Value::String(text) => text.len(),
        serde_json::Value::Array(items) => items.iter().map(output_size).sum(),
        serde_json::Value::Object(map) => map.iter().map(|(key, value)| key.len() + output_size(value)).sum(),
    }
}
