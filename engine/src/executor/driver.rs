//! The driver of a task: asks the machine what should be in flight, commits, starts it, and waits. The only writer of its task.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::channel::{mpsc, oneshot};
use futures::future::{AbortHandle, Either, pending, select};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};

use super::Inner;
use super::flight::{Attempt, Flight, Landed, Survivors, clear_leftovers, panic_text};
use super::live::{Live, Mail, Verb};
use super::tables::SlotHold;
use crate::context::RecordWrite;
use crate::event::Event;
use crate::machine::{Command, Machine, Next};
use crate::service::VerbError;
use crate::task::{Millis, TaskState, TaskView};

/// Facts journaled in one batch at most: what they write has to fit into it.
const MAX_FACTS: usize = 16;

/// A task's driver.
pub(super) struct Driver<P: ?Sized> {
    pub(super) inner: Arc<Inner<P>>,
    pub(super) live: Arc<Live>,
    pub(super) machine: Arc<Machine>,
    /// The head as it is in the store: demanded unchanged by every write.
    pub(super) head: Vec<u8>,
    pub(super) head_hash: String,
    /// The state that the head tells.
    pub(super) state: TaskState,
    pub(super) facts: Vec<Fact>,
    /// How often the registry had been changed when the plan was made; of another life: not known.
    pub(super) planned_at: Option<u64>,
    pub(super) survivors: Arc<Survivors>,
    pub(super) leftovers: Leftovers,
    flights: FuturesUnordered<futures::future::BoxFuture<'static, Landed>>,
    aborts: BTreeMap<Flight, AbortHandle>,
    mailbox: mpsc::Receiver<Mail>,
    pokes: mpsc::Receiver<()>,
}

/// Something that happened and is to be journaled.
pub(super) struct Fact {
    pub(super) event: Event,
    pub(super) writes: Vec<RecordWrite>,
    /// Who is told when it is durable.
    pub(super) reply: Option<Reply>,
}

/// Who waits for a verb.
pub(super) type Reply = oneshot::Sender<Result<TaskView, VerbError>>;

impl From<Event> for Fact {
    fn from(event: Event) -> Self {
        Self { event, writes: Vec::new(), reply: None }
    }
}

/// Something to be started once it is durable.
pub(super) struct Launch {
    pub(super) flight: Flight,
    pub(super) attempt: u32,
    pub(super) slot: Option<SlotHold>,
}

/// How far ending the processes that attempts may have left behind has come, when the task is at its end otherwise.
#[derive(Default)]
pub(super) struct Leftovers {
    pub(super) failures: u32,
    pub(super) first_began: Millis,
    /// Not before this time.
    pub(super) next: Millis,
    /// Why they were given up.
    pub(super) given_up: Option<String>,
}

/// Why a driver ends without its task being at its end.
#[derive(Debug)]
pub(super) enum Halt {
    /// Nothing can be committed any more.
    Engine(String),
    /// This task cannot go on; all others can.
    Task(String),
}

impl<P: ?Sized + Send + Sync + 'static> Driver<P> {
    /// A driver over a durable state.
    pub(super) fn new(
        inner: Arc<Inner<P>>,
        live: Arc<Live>,
        (head, head_hash, state): (Vec<u8>, String, TaskState),
        survivors: Survivors,
        mailbox: mpsc::Receiver<Mail>,
        pokes: mpsc::Receiver<()>,
    ) -> Self {
        let machine = live.machine();
        Self {
            inner,
            live,
            machine,
            head,
            head_hash,
            state,
            facts: Vec::new(),
            planned_at: None,
            survivors: Arc::new(survivors),
            leftovers: Leftovers::default(),
            flights: FuturesUnordered::new(),
            aborts: BTreeMap::new(),
            mailbox,
            pokes,
        }
    }

    /// Drives the task to its end, or until the engine drains or fails.
    pub(super) async fn drive(mut self) {
        let result = AssertUnwindSafe(self.turns()).catch_unwind().await;
        let task = self.live.task.clone();
        let (inner, live, ended) = (self.inner.clone(), self.live.clone(), self.machine.outcome().is_some());
        // What is still in flight ends here: nobody listens to it any more.
        self.aborts.values().for_each(AbortHandle::abort);
        drop(self);
        let halted = match result {
            Ok(Ok(())) => None,
            Ok(Err(Halt::Task(why))) => Some(why),
            Ok(Err(Halt::Engine(why))) => {
                inner.fail(&why);
                None
            }
            Err(panic) => Some(format!("its driver panicked: {}", panic_text(&*panic))),
        };
        if let Some(why) = halted {
            tracing::error!(why, "quarantined: it cannot go on");
            inner.change(|state| {
                state.quarantined.insert(task.clone(), why);
            });
            clear_leftovers(&*inner.custody, &*inner.clock, &task).await;
        }
        let next = {
            let mut tables = inner.shared.tables();
            let mut next = tables.slots.only_wants(&task, &[]);
            if ended {
                next.extend(tables.locks.release(&task));
            }
            next
        };
        inner.shared.poke(&next);
        inner.change(|state| {
            state.live.remove(&task);
        });
        live.close();
    }

    async fn turns(&mut self) -> Result<(), Halt> {
        loop {
            let next = self.turn().await?;
            let over = self.machine.outcome().is_some();
            if over || (self.inner.shared.state().draining && self.flights.is_empty()) {
                return Ok(());
            }
            self.wait(&next).await;
        }
    }

    /// Commits what has happened and what begins, then starts it.
    async fn turn(&mut self) -> Result<Next, Halt> {
        loop {
            let waiting = self.facts.split_off(self.facts.len().min(MAX_FACTS));
            let last = waiting.is_empty();
            let (launches, next) = self.commit(last).await?;
            self.facts.extend(waiting);
            for launch in launches {
                self.launch(launch)?;
            }
            if last {
                self.interrupt(&next);
                return Ok(next);
            }
        }
    }

    fn interrupt(&self, next: &Next) {
        for step in &next.interrupt {
            for flight in [Flight::Run(*step), Flight::Probe(*step)] {
                if let Some(abort) = self.aborts.get(&flight) {
                    abort.abort();
                }
            }
        }
        if next.interrupt_fingerprint
            && let Some(abort) = self.aborts.get(&Flight::Fingerprint(false))
        {
            abort.abort();
        }
    }

    pub(super) fn launch(&mut self, launch: Launch) -> Result<(), Halt> {
        let Launch { flight, attempt: number, slot } = launch;
        let spec = match flight {
            Flight::Run(step) | Flight::Probe(step) | Flight::Undo(step) => {
                Some(self.machine.plan().step(step))
            }
            Flight::Fingerprint(_) => self.machine.plan().rest().fingerprint.as_ref(),
            Flight::Clear => None,
        };
        let step = match spec {
            Some(spec) => Some(self.inner.kinds.decode(&spec.kind, &spec.params).map_err(Halt::Task)?),
            None => None,
        };
        let (abort, registration) = AbortHandle::new_pair();
        self.aborts.insert(flight, abort);
        let attempt = Attempt {
            inner: self.inner.clone(),
            live: self.live.clone(),
            machine: self.machine.clone(),
            survivors: self.survivors.clone(),
            flight,
            attempt: number,
        };
        let flying = match step {
            Some(step) => attempt.fly(step, registration, slot),
            None => attempt.clear(),
        };
        // On its own: steps run beside each other and beside the writing of events.
        let (sender, landed) = oneshot::channel();
        self.inner.spawner.spawn(flying.map(|landed| drop(sender.send(landed))).boxed());
        self.flights
            .push(landed.map(move |landed| landed.unwrap_or_else(|_| Landed::lost(flight, number))).boxed());
        Ok(())
    }

    /// Nothing is in flight.
    pub(super) fn is_grounded(&self) -> bool {
        self.aborts.is_empty()
    }

    /// The commands that may begin: nothing of their step is in flight yet.
    pub(super) fn fresh(&self, next: &Next) -> Vec<Command> {
        let flying = |flight: Flight| self.aborts.contains_key(&flight);
        let busy = |command: &Command| match *command {
            Command::Run { step, .. } | Command::Probe { step } | Command::Undo { step, .. } => {
                flying(Flight::Run(step)) || flying(Flight::Probe(step)) || flying(Flight::Undo(step))
            }
            Command::Fingerprint { after, .. } => flying(Flight::Fingerprint(after)),
            Command::Ask | Command::Expire | Command::Lock | Command::Finish { .. } => false,
        };
        next.start.iter().filter(|command| !busy(command)).copied().collect()
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
        // What is there already goes into the same batch.
        while let Some(Some(landed)) = self.flights.next().now_or_never() {
            self.landed(landed);
        }
    }

    fn landed(&mut self, landed: Landed) {
        self.aborts.remove(&landed.flight);
        let now = self.inner.clock.now();
        if let Some(event) = self.event_of(&landed, now) {
            // Staged records belong to a success; whatever else came of it, they are dropped with it.
            let success = matches!(event, Event::AttemptSucceeded { .. } | Event::UndoSucceeded { .. });
            let writes = if success { landed.writes } else { Vec::new() };
            self.facts.push(Fact { event, writes, reply: None });
        }
    }

    fn letter(&mut self, mail: Mail) {
        match mail.verb {
            Verb::Cancel { reason } => {
                let event = Event::CancelRequested { actor: mail.actor, reason };
                self.facts.push(Fact { event, writes: Vec::new(), reply: Some(mail.reply) });
            }
            Verb::Decide { approve, reason } => {
                let actor = mail.actor;
                let event = if approve {
                    Event::Approved { actor, reason }
                } else {
                    Event::ApprovalRefused { actor, reason }
                };
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
}

enum Happened {
    Landed(Option<Box<Landed>>),
    Mail(Option<Mail>),
    Woken,
}
