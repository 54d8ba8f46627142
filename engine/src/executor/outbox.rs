//! The outbox on a store: callbacks as rows beside the events, due ones by time. Sends nothing.

mod forget;

use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::journal::keys;
use crate::outbox::{Callback, CallbackStatus, CallbacksOf, Delivery, NewCallback, Outbox};
use crate::store::{Batch, BlobId, CommitError, MAX_VALUE, ReadError, Store};
use crate::task::{Millis, TaskView};

/// Most attempts shown of one callback: the schedule has ten, replays add some.
const MAX_DELIVERIES: usize = 200;
/// Bytes left free beside a body that is kept in its row: the row grows by a longer word for its status and by digits of its attempts
/// and times, 25 bytes at most.
const GROWTH: usize = 64;

/// The outbox of a store.
#[derive(Clone)]
pub struct StoreOutbox {
    store: Arc<dyn Store>,
    listeners: Arc<Mutex<Vec<oneshot::Sender<()>>>>,
}

/// A callback as stored: a body too large for a value is a blob.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(flatten)]
    callback: Callback,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_blob: Option<BlobId>,
}

impl Stored {
    /// Its bytes, so that `spare` more would fit: otherwise its body goes into a blob.
    async fn fit(&mut self, store: &Arc<dyn Store>, spare: usize) -> Result<Vec<u8>, CommitError> {
        let value = encode(self)?;
        if self.body_blob.is_some() || value.len() + spare <= MAX_VALUE {
            return Ok(value);
        }
        let body = std::mem::take(&mut self.callback.body);
        self.body_blob = Some(store.put_blob(body.into_bytes()).await?);
        encode(self)
    }
}

impl StoreOutbox {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, listeners: Arc::default() }
    }

    /// Tells whoever waits that something is due.
    pub(super) fn tell(&self) {
        let listeners = std::mem::take(&mut *self.listeners.lock().unwrap_or_else(PoisonError::into_inner));
        for listener in listeners {
            // Gone: it does not wait any more.
            let _ = listener.send(());
        }
    }

    /// What is wrong with a stored callback, if anything is.
    pub(super) fn flaw(&self, id: &str, value: &[u8]) -> Option<String> {
        match self.load(value) {
            Ok(callback) => {
                let CallbackStatus::Due { at } = callback.status else { return None };
                let queued = self.store.get(&keys::due(at, id));
                queued.map_or_else(
                    |error| Some(error.to_string()),
                    |place| place.is_none().then(|| "it is due, and in no queue".to_owned()),
                )
            }
            Err(error) => Some(error.to_string()),
        }
    }

    fn load(&self, value: &[u8]) -> Result<Callback, ReadError> {
        let stored: Stored =
            serde_json::from_slice(value).map_err(|error| ReadError::Damaged(error.to_string()))?;
        let mut callback = stored.callback;
        if let Some(blob) = stored.body_blob {
            let bytes = self.store.get_blob(&blob)?;
            let bytes =
                bytes.ok_or_else(|| ReadError::Damaged(format!("the body of {} is missing", callback.id)))?;
            callback.body =
                String::from_utf8(bytes).map_err(|error| ReadError::Damaged(error.to_string()))?;
        }
        Ok(callback)
    }

    /// Shows the due callbacks, longest due first, until `see` has enough. One that cannot be read must not keep the others from being
    /// delivered: it is left out, loudly.
    fn walk(&self, page: usize, mut see: impl FnMut(Millis, Callback) -> bool) -> Result<(), ReadError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = self.store.scan(keys::DUE, after.as_deref(), page)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, id) in rows {
                let id = String::from_utf8_lossy(&id);
                let why = match self.callback(&id) {
                    Ok(Some(callback)) => {
                        if see(due_time(&key), callback) {
                            continue;
                        }
                        return Ok(());
                    }
                    Ok(None) => "it is missing".to_owned(),
                    Err(ReadError::Damaged(why)) => why,
                    Err(error @ ReadError::Io(_)) => return Err(error),
                };
                tracing::error!(%id, why, "a callback cannot be delivered");
            }
        }
    }

    /// Moves a callback to a new status, demanding that nobody else did meanwhile.
    async fn change(
        &self,
        id: &str,
        delivery: Option<Delivery>,
        then: CallbackStatus,
    ) -> Result<bool, CommitError> {
        let failed = |error: ReadError| CommitError::Failed(error.to_string());
        let Some(old) = self.store.get(&keys::callback(id)).map_err(failed)? else { return Ok(false) };
        let mut stored: Stored =
            serde_json::from_slice(&old).map_err(|error| CommitError::Failed(error.to_string()))?;
        let mut batch = Batch::new();
        batch.require_equals(keys::callback(id), old);
        if let CallbackStatus::Due { at } = stored.callback.status {
            batch.delete(keys::due(at, id));
        }
        if let Some(delivery) = delivery {
            stored.callback.attempts = delivery.attempt;
            batch.put(keys::delivery(id, delivery.attempt), encode(&delivery)?);
        }
        let due = matches!(then, CallbackStatus::Due { .. });
        if let CallbackStatus::Due { at } = then {
            batch.put(keys::due(at, id), id.as_bytes());
        }
        stored.callback.status = then;
        // A row of an older version may have been left no room to grow.
        batch.put(keys::callback(id), stored.fit(&self.store, 0).await?);
        self.store.commit(batch).await?;
        if due {
            self.tell();
        }
        Ok(true)
    }
}

impl Outbox for StoreOutbox {
    fn due(&self, now: Millis, limit: usize) -> Result<Vec<Callback>, ReadError> {
        let mut due = Vec::new();
        self.walk(limit.max(1), |at, callback| {
            let wanted = at <= now && due.len() < limit;
            if wanted {
                due.push(callback);
            }
            wanted
        })?;
        Ok(due)
    }

    fn next_due(&self) -> Result<Option<Millis>, ReadError> {
        let mut next = None;
        self.walk(1, |at, _| {
            next = Some(at);
            false
        })?;
        Ok(next)
    }

    fn queued(&self) -> BoxFuture<'static, ()> {
        let (sender, receiver) = oneshot::channel();
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| !listener.is_canceled());
        listeners.push(sender);
        drop(listeners);
        receiver.map(|_| ()).boxed()
    }

    fn record(&self, delivery: Delivery, then: CallbackStatus) -> BoxFuture<'_, Result<(), CommitError>> {
        async move {
            let id = delivery.callback.clone();
            self.change(&id, Some(delivery), then).await.map(|_| ())
        }
        .boxed()
    }

    fn queue(&self, callback: Callback) -> BoxFuture<'_, Result<(), CommitError>> {
        async move {
            let mut batch = Batch::new();
            batch.require_absent(keys::callback(&callback.id));
            put_callback(&self.store, &mut batch, callback).await?;
            self.store.commit(batch).await?;
            self.tell();
            Ok(())
        }
        .boxed()
    }

    fn replay(&self, id: &str, now: Millis) -> BoxFuture<'_, Result<bool, CommitError>> {
        let id = id.to_owned();
        async move { self.change(&id, None, CallbackStatus::Due { at: now }).await }.boxed()
    }

    fn callback(&self, id: &str) -> Result<Option<Callback>, ReadError> {
        self.store.get(&keys::callback(id))?.map(|value| self.load(&value)).transpose()
    }

    fn callbacks(&self, before: Option<&str>, limit: usize) -> Result<Vec<Callback>, ReadError> {
        let mut before = before.map(keys::callback);
        let mut found = Vec::new();
        while found.len() < limit {
            let wanted = limit - found.len();
            let rows = self.store.scan_back(keys::CALLBACKS, before.as_deref(), wanted)?;
            let all = rows.len() < wanted;
            for (key, value) in rows {
                match self.load(&value) {
                    Ok(callback) => found.push(callback),
                    Err(ReadError::Damaged(why)) => {
                        let id = String::from_utf8_lossy(&key[keys::CALLBACKS.len()..]);
                        tracing::warn!(%id, why, "a callback is damaged and left out");
                    }
                    Err(error @ ReadError::Io(_)) => return Err(error),
                }
                before = Some(key);
            }
            if all {
                break;
            }
        }
        Ok(found)
    }

    fn callbacks_of(
        &self,
        of: CallbacksOf<'_>,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Callback>, ReadError> {
        let prefix = match of {
            CallbacksOf::Task(task) => keys::callbacks_of_task(task),
            CallbacksOf::Endpoint(endpoint) => keys::callbacks_to(endpoint),
        };
        let before = before.map(|id| [&prefix, id.as_bytes()].concat());
        let rows = self.store.scan_back(&prefix, before.as_deref(), limit)?;
        let ids = rows.iter().map(|(key, _)| String::from_utf8_lossy(&key[prefix.len()..]).into_owned());
        let read = |id: String| {
            let missing = || ReadError::Damaged(format!("the callback {id} is missing"));
            self.callback(&id)?.ok_or_else(missing)
        };
        ids.map(read).collect()
    }

    fn deliveries(&self, id: &str) -> Result<Vec<Delivery>, ReadError> {
        let rows = self.store.scan(&keys::deliveries(id), None, MAX_DELIVERIES)?;
        let read = |value: &[u8]| {
            serde_json::from_slice(value).map_err(|error| ReadError::Damaged(error.to_string()))
        };
        rows.iter().map(|(_, value)| read(value)).collect()
    }
}

/// Adds the callbacks of a state change to the batch that makes it (G6).
pub(super) async fn queue_callbacks(
    store: &Arc<dyn Store>,
    batch: &mut Batch,
    task: &TaskView,
    callbacks: Vec<NewCallback>,
    now: Millis,
    id: impl Fn() -> String,
) -> Result<(), CommitError> {
    for new in callbacks {
        let id = format!("msg_{}", id());
        let callback = Callback {
            id: id.clone(),
            task: task.id.clone(),
            sequence: task.sequence,
            endpoint: new.endpoint,
            event: new.event,
            state: task.state,
            body: new.body,
            created_at: now,
            attempts: 0,
            trace: task.trace.clone(),
            status: CallbackStatus::Due { at: now },
        };
        put_callback(store, batch, callback).await?;
    }
    Ok(())
}

/// Adds a callback and its places in the indexes to a batch.
async fn put_callback(
    store: &Arc<dyn Store>,
    batch: &mut Batch,
    callback: Callback,
) -> Result<(), CommitError> {
    let id = callback.id.clone();
    let (task, status) = (callback.task.clone(), callback.status.clone());
    let mut stored = Stored { callback, body_blob: None };
    let value = stored.fit(store, GROWTH).await?;
    for of in [keys::callbacks_of_task(&task), keys::callbacks_to(&stored.callback.endpoint)] {
        batch.put([&of, id.as_bytes()].concat(), b"");
    }
    batch.put(keys::callback(&id), value);
    if let CallbackStatus::Due { at } = status {
        batch.put(keys::due(at, &id), id.as_bytes());
    }
    Ok(())
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CommitError> {
    serde_json::to_vec(value).map_err(|error| CommitError::TooLarge(error.to_string()))
}

/// The blob that a stored callback's body is in, if it is in one.
pub(crate) fn body_blob(value: &[u8]) -> Option<BlobId> {
    serde_json::from_slice::<Stored>(value).ok()?.body_blob
}

fn due_time(key: &[u8]) -> Millis {
    let bytes: [u8; 8] =
        key.get(keys::DUE.len()..keys::DUE.len() + 8).and_then(|b| b.try_into().ok()).unwrap_or([0; 8]);
    Millis::from_be_bytes(bytes)
}
