//! One piece of work for many who ask for it at once. Knows nothing about what the work is.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// Runs work one at a time; who asks while it runs shares the next run with all others that ask meanwhile.
///
/// A caller gets the result of a run that began after it asked: whatever it wrote before was there. A caller that is dropped
/// while it runs the work leaves the next waiting one to run it.
#[derive(Debug)]
pub(super) struct Coalesce<T> {
    asked: AtomicU64,
    /// The newest result, and the last caller that it answers.
    last: Mutex<Option<(u64, T)>>,
}

impl<T: Clone> Coalesce<T> {
    pub(super) fn new() -> Self {
        Self { asked: AtomicU64::new(0), last: Mutex::new(None) }
    }

    /// The result of a run that begins now or later.
    pub(super) async fn run(&self, work: impl AsyncFnOnce() -> T) -> T {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = self.last.lock().await;
        if let Some((answers, result)) = &*last
            && *answers >= mine
        {
            return result.clone();
        }
        let answers = self.asked.load(Ordering::SeqCst);
        let result = work().await;
        *last = Some((answers, result.clone()));
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn fifty_callers_need_two_runs() {
        let (shared, runs, gate) = (Coalesce::new(), AtomicUsize::new(0), Notify::new());
        let ask = || {
            shared.run(async || {
                let run = runs.fetch_add(1, Ordering::SeqCst);
                if run == 0 {
                    gate.notified().await;
                }
                run
            })
        };
        let first = ask();
        tokio::pin!(first);
        assert!(futures::poll!(&mut first).is_pending(), "the first run waits at the gate");
        let mut others = Box::pin(join_all((0..49).map(|_| ask())));
        assert!(futures::poll!(&mut others).is_pending());
        gate.notify_one();
        assert_eq!(first.await, 0);
        assert_eq!(others.await, vec![1; 49], "all others share a run that began after they asked");
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_dropped_caller_leaves_the_work_to_the_next() {
        let (shared, runs) = (Coalesce::new(), AtomicUsize::new(0));
        let mut hanging = Box::pin(shared.run(async || {
            runs.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }));
        assert!(futures::poll!(&mut hanging).is_pending());
        let mut next = Box::pin(shared.run(async || {
            runs.fetch_add(1, Ordering::SeqCst);
        }));
        assert!(futures::poll!(&mut next).is_pending());
        drop(hanging);
        next.await;
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_later_caller_gets_a_run_of_its_own() {
        let (shared, runs) = (Coalesce::new(), AtomicUsize::new(0));
        for expected in 0..3 {
            assert_eq!(shared.run(async || runs.fetch_add(1, Ordering::SeqCst)).await, expected);
        }
    }
}
