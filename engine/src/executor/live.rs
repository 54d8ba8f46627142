//! An unfinished task in memory: what its page shows, who listens, and its mailbox. Changes nothing durable.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::{mpsc, oneshot};

use crate::machine::Machine;
use crate::service::{Resolution, VerbError};
use crate::task::{Actor, Progress, TaskId, TaskView};

/// Letters that may wait in a task's mailbox: people send them one by one; a flood is refused.
const MAX_MAIL: usize = 64;

/// An unfinished task.
pub(super) struct Live {
    pub(super) task: TaskId,
    shared: Mutex<Shared>,
    mail: Mutex<mpsc::Sender<Mail>>,
    poke: Mutex<mpsc::Sender<()>>,
}

struct Shared {
    machine: Arc<Machine>,
    progress: BTreeMap<String, Progress>,
    progress_version: u64,
    listeners: Vec<oneshot::Sender<()>>,
    /// Nothing more comes from here.
    closed: bool,
}

/// A letter to a task's driver.
pub(super) struct Mail {
    pub(super) verb: Verb,
    pub(super) actor: Actor,
    pub(super) reply: oneshot::Sender<Result<TaskView, VerbError>>,
}

/// What the letter asks for.
pub(super) enum Verb {
    Cancel { reason: String },
    Decide { approve: bool, reason: String },
    Resolve(Vec<Resolution>),
}

impl Live {
    /// A task and the ends its driver reads from.
    pub(super) fn new(machine: Arc<Machine>) -> (Arc<Self>, mpsc::Receiver<Mail>, mpsc::Receiver<()>) {
        let (mail, mailbox) = mpsc::channel(MAX_MAIL);
        let (poke, pokes) = mpsc::channel(1);
        let live = Self {
            task: machine.accepted().task.clone(),
            shared: Mutex::new(Shared {
                machine,
                progress: BTreeMap::new(),
                progress_version: 0,
                listeners: Vec::new(),
                closed: false,
            }),
            mail: Mutex::new(mail),
            poke: Mutex::new(poke),
        };
        (Arc::new(live), mailbox, pokes)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state as of the last durable event.
    pub(super) fn machine(&self) -> Arc<Machine> {
        self.shared().machine.clone()
    }

    /// Shows a new durable state.
    pub(super) fn publish(&self, machine: Arc<Machine>) {
        let listeners = {
            let mut shared = self.shared();
            shared.machine = machine;
            std::mem::take(&mut shared.listeners)
        };
        tell(listeners);
    }

    /// Shows how far a step is.
    pub(super) fn progress(&self, step: &str, progress: Progress) {
        let listeners = {
            let mut shared = self.shared();
            shared.progress.insert(step.to_owned(), progress);
            shared.progress_version += 1;
            std::mem::take(&mut shared.listeners)
        };
        tell(listeners);
    }

    /// Adds progress to a view.
    pub(super) fn add_progress(&self, view: &mut TaskView) {
        let shared = self.shared();
        view.progress_version = shared.progress_version;
        for step in &mut view.steps {
            step.progress = shared.progress.get(&step.name).cloned();
        }
    }

    /// Resolves when there is something newer. `None`: there is already, or nothing more comes from here.
    pub(super) fn listen(&self, sequence: u64, progress_version: u64) -> Option<oneshot::Receiver<()>> {
        let mut shared = self.shared();
        let newer = shared.machine.sequence() > sequence || shared.progress_version > progress_version;
        if newer || shared.closed {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        shared.listeners.retain(|listener| !listener.is_canceled());
        shared.listeners.push(sender);
        Some(receiver)
    }

    /// Tells everybody who listens that nothing more comes from here.
    pub(super) fn close(&self) {
        let listeners = {
            let mut shared = self.shared();
            shared.closed = true;
            std::mem::take(&mut shared.listeners)
        };
        tell(listeners);
    }

    /// Puts a letter into the mailbox; gives it back when there is no room.
    pub(super) fn send(&self, mail: Mail) -> Result<(), Mail> {
        let mut sender = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        sender.try_send(mail).map_err(mpsc::TrySendError::into_inner)
    }

    /// Makes the driver look again.
    pub(super) fn poke(&self) {
        let mut sender = self.poke.lock().unwrap_or_else(PoisonError::into_inner);
        // Full: it will look anyway. Closed: the task has ended.
        let _ = sender.try_send(());
    }
}

fn tell(listeners: Vec<oneshot::Sender<()>>) {
    for listener in listeners {
        // A listener that has gone away needs no news.
        let _ = listener.send(());
    }
}
