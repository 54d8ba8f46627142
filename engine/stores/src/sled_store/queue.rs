//! A bounded queue from async callers to one thread: a full queue makes the caller's future wait, never its runtime thread.
//! It knows nothing of what it carries.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    limits: Limits,
}

/// What may wait at most. One item is always let in, however large.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

struct State<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
    /// Callers that wait for room, oldest first. All are woken when there is some: one that is not polled (its task waits for
    /// something else first) must not stop the others.
    waiting: BTreeMap<u64, Waker>,
    next_ticket: u64,
    closed: bool,
}

/// The queue takes nothing more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl<T> Queue<T> {
    pub(crate) fn new(limits: Limits) -> Self {
        let state = State {
            items: VecDeque::new(),
            bytes: 0,
            waiting: BTreeMap::new(),
            next_ticket: 0,
            closed: false,
        };
        Self { state: Mutex::new(state), filled: Condvar::new(), limits }
    }

    /// Puts an item of `size` bytes in line, as soon as it is polled and there is room.
    pub(crate) fn push(self: &Arc<Self>, size: usize, item: T) -> Push<T> {
        Push { queue: Arc::clone(self), item: Some((size, item)), ticket: None }
    }

    /// Puts an item in line if there is room right now.
    pub(crate) fn try_push(&self, size: usize, item: T) -> bool {
        let mut state = self.state();
        let room = !state.closed && state.has_room(size, self.limits);
        if room {
            self.enqueue(&mut state, (size, item));
        }
        room
    }

    /// Waits for items and takes what is there, oldest first and within the limits, but at least one; none once the queue is
    /// closed and empty.
    pub(crate) fn take(&self, limits: Limits) -> Option<Vec<T>> {
        let state = self.state();
        let mut state = self
            .filled
            .wait_while(state, |state| state.items.is_empty() && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(&(size, _)) = state.items.front() {
            if !taken.is_empty() && (taken.len() >= limits.items || bytes + size > limits.bytes) {
                break;
            }
            bytes += size;
            taken.extend(state.items.pop_front().map(|(_, item)| item));
        }
        state.bytes -= bytes;
        let woken = std::mem::take(&mut state.waiting);
        drop(state);
        woken.into_values().for_each(Waker::wake);
        (!taken.is_empty()).then_some(taken)
    }

    /// Takes nothing more; what is in line can still be taken.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let woken = std::mem::take(&mut state.waiting);
        drop(state);
        self.filled.notify_all();
        woken.into_values().for_each(Waker::wake);
    }

    fn enqueue(&self, state: &mut State<T>, (size, item): (usize, T)) {
        state.bytes += size;
        state.items.push_back((size, item));
        self.filled.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // No code of others runs under this lock, so a poisoned one still guards a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn has_room(&self, size: usize, limits: Limits) -> bool {
        self.items.is_empty() || (self.items.len() < limits.items && self.bytes + size <= limits.bytes)
    }
}

/// Waits for room, then is done; dropped before, its item never gets in line.
pub(crate) struct Push<T> {
    queue: Arc<Queue<T>>,
    item: Option<(usize, T)>,
    ticket: Option<u64>,
}

impl<T: Unpin> Future for Push<T> {
    type Output = Result<(), Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some((size, item)) = this.item.take() else { return Poll::Ready(Ok(())) };
        let mut state = this.queue.state();
        if state.closed {
            return Poll::Ready(Err(Closed));
        }
        if state.has_room(size, this.queue.limits) {
            this.queue.enqueue(&mut state, (size, item));
            return Poll::Ready(Ok(()));
        }
        let ticket = *this.ticket.get_or_insert_with(|| {
            state.next_ticket += 1;
            state.next_ticket
        });
        state.waiting.insert(ticket, cx.waker().clone());
        this.item = Some((size, item));
        Poll::Pending
    }
}

impl<T> Drop for Push<T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.queue.state().waiting.remove(&ticket);
        }
    }
}

/// Ends a queue with its consumer's thread, however that ends: what is still in line is dropped, so that nobody waits in vain.
pub(crate) struct CloseOnExit<'a, T>(pub(crate) &'a Queue<T>);

impl<T> Drop for CloseOnExit<'_, T> {
    fn drop(&mut self) {
        self.0.close();
        while self.0.take(Limits { items: usize::MAX, bytes: usize::MAX }).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::poll;

    use super::*;

    const THREE: Limits = Limits { items: 3, bytes: 100 };
    const ALL: Limits = Limits { items: usize::MAX, bytes: usize::MAX };

    #[test]
    fn a_full_queue_makes_the_future_wait_and_wakes_it() {
        block_on(async {
            let queue = Arc::new(Queue::new(THREE));
            for n in 0..3 {
                queue.push(1, n).await.expect("room");
            }
            assert!(!queue.try_push(1, 8));
            let mut waiting = queue.push(1, 3);
            let abandoned = queue.push(1, 9);
            assert!(poll!(&mut waiting).is_pending());
            drop(abandoned);
            assert_eq!(queue.take(Limits { items: 2, bytes: 100 }), Some(vec![0, 1]));
            waiting.await.expect("room");
            assert!(queue.try_push(1, 4));
            assert_eq!(queue.take(ALL), Some(vec![2, 3, 4]));
        });
    }

    #[test]
    fn a_future_that_is_not_polled_does_not_hold_up_others() {
        block_on(async {
            let queue = Arc::new(Queue::new(Limits { items: 1, bytes: 100 }));
            queue.push(1, 0).await.expect("room");
            let (mut first, mut second) = (queue.push(1, 1), queue.push(1, 2));
            assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
            assert_eq!(queue.take(ALL), Some(vec![0]));
            second.await.expect("room, though `first` came earlier");
            drop(first);
            assert_eq!(queue.take(ALL), Some(vec![2]));
            assert!(queue.state().waiting.is_empty());
        });
    }

    #[test]
    fn bytes_bound_the_queue_but_one_large_item_passes() {
        block_on(async {
            let queue = Arc::new(Queue::new(THREE));
            queue.push(5000, "large").await.expect("an empty queue takes anything");
            assert!(!queue.try_push(1, "small"));
            assert_eq!(queue.take(THREE), Some(vec!["large"]));
            assert!(queue.try_push(60, "a") && queue.try_push(40, "b") && !queue.try_push(1, "c"));
            assert_eq!(queue.take(Limits { items: 9, bytes: 99 }), Some(vec!["a"]));
        });
    }

    #[test]
    fn closing_wakes_both_sides_and_keeps_what_is_in_line() {
        let queue = Arc::new(Queue::new(Limits { items: 1, bytes: 100 }));
        block_on(queue.push(1, 'a')).expect("room");
        let consumer = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || std::iter::from_fn(|| queue.take(ALL)).flatten().collect::<String>())
        };
        block_on(queue.push(1, 'b')).expect("room once the consumer took the first");
        queue.close();
        assert_eq!(block_on(queue.push(1, 'c')), Err(Closed));
        assert_eq!(consumer.join().expect("consumer"), "ab");
    }
}
