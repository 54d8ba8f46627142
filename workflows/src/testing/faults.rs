//! Faults for the fakes of the ports: every effect passes one point before and one after it, and a test says at which point the
//! port fails or the whole world stops. Never decides anything by time or chance.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ports::{PortError, PortResult};

/// Most points that the log keeps; later ones are counted only. A task passes some hundreds.
const MAX_LOG: usize = 100_000;

/// Injects faults into fakes. Clones share one state, so that one value serves all fakes of a world.
///
/// A fake calls [`Faults::before`] ahead of every effect (and every answer of a query) and [`Faults::after`] behind it. An error
/// from `before` means: nothing was done. An error from `after` means: it was done, but the caller does not learn it.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<State>>);

/// What somebody else does meanwhile.
struct Act(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Act")
    }
}

#[derive(Debug, Default)]
struct State {
    passed: usize,
    log: Vec<Point>,
    by_number: Vec<(usize, PortError)>,
    by_name: Vec<(Moment, String, PortError)>,
    down: Option<(usize, String, PortError)>,
    meanwhile: Vec<(String, Act)>,
    stop_at: Option<usize>,
    stopped: bool,
}

/// One place where a fault can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Its number, counted from 0 since the value was made.
    pub number: usize,
    /// Ahead of the effect or behind it.
    pub moment: Moment,
    /// The port and the call: `files.rename`.
    pub op: String,
    /// What it acts on: a path, a schema, a site.
    pub detail: String,
}

/// On which side of an effect a point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing was done yet.
    Before,
    /// It was done.
    After,
}

impl Faults {
    /// No faults until asked for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Passes the point ahead of an effect.
    ///
    /// # Errors
    /// The injected one: the caller returns it without having done anything.
    pub fn before(&self, op: &str, detail: &str) -> PortResult<()> {
        let act = {
            let mut state = self.lock();
            let at = state.meanwhile.iter().position(|(name, _)| name == op);
            at.map(|at| state.meanwhile.remove(at).1)
        };
        // Without the lock: whoever acts may use the same fakes.
        if let Some(Act(act)) = act {
            act();
        }
        self.lock().pass(Moment::Before, op, detail)
    }

    /// Somebody else does this right ahead of the next call of this name, which knows nothing of it.
    pub fn meanwhile(&self, op: &str, act: impl FnOnce() + Send + 'static) {
        self.lock().meanwhile.push((op.to_owned(), Act(Box::new(act))));
    }

    /// Passes the point behind an effect.
    ///
    /// # Errors
    /// The injected one: the caller returns it instead of its result.
    pub fn after(&self, op: &str, detail: &str) -> PortResult<()> {
        self.lock().pass(Moment::After, op, detail)
    }

    /// Fails once at point `number`.
    pub fn fail_at(&self, number: usize, error: PortError) {
        self.lock().by_number.push((number, error));
    }

    /// Fails once at the next point of this call (`files.rename`) on this side of its effect.
    pub fn fail_next(&self, moment: Moment, op: &str, error: PortError) {
        self.lock().by_name.push((moment, op.to_owned(), error));
    }

    /// From point `number` on, every call whose name begins so (`database.`) fails ahead of its effect, until [`Faults::resume`].
    pub fn down_from(&self, number: usize, op: &str, error: PortError) {
        self.lock().down = Some((number, op.to_owned(), error));
    }

    /// Stops the world at point `number`: from then on every call fails with `Lost`, until [`Faults::resume`].
    pub fn stop_at(&self, number: usize) {
        self.lock().stop_at = Some(number);
    }

    /// Whether the world has stopped.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Lets a stopped world go on, and forgets every fault that was not met.
    pub fn resume(&self) {
        let mut state = self.lock();
        state.stopped = false;
        state.stop_at = None;
        state.by_number.clear();
        state.by_name.clear();
        state.down = None;
    }

    /// Points passed so far. A call refused because the world stands still passes none.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.lock().passed
    }

    /// The points passed so far, the first [`MAX_LOG`].
    #[must_use]
    pub fn log(&self) -> Vec<Point> {
        self.lock().log.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere leaves nothing half done here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn pass(&mut self, moment: Moment, op: &str, detail: &str) -> PortResult<()> {
        let number = self.passed;
        if self.stop_at == Some(number) {
            self.stopped = true;
        }
        if self.stopped {
            return Err(PortError::Lost("the world stopped".to_owned()));
        }
        self.passed += 1;
        if self.log.len() < MAX_LOG {
            self.log.push(Point { number, moment, op: op.to_owned(), detail: detail.to_owned() });
        }
        if let Some((from, name, error)) = &self.down
            && (number >= *from && moment == Moment::Before && op.starts_with(name.as_str()))
        {
            return Err(error.clone());
        }
        if let Some(i) = self.by_number.iter().position(|(n, _)| *n == number) {
            return Err(self.by_number.swap_remove(i).1);
        }
        if let Some(i) = self.by_name.iter().position(|(m, name, _)| *m == moment && name == op) {
            return Err(self.by_name.remove(i).2);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(faults: &Faults, done: &mut u32) -> PortResult<()> {
        faults.before("files.put", "/a")?;
        *done += 1;
        faults.after("files.put", "/a")
    }

    #[test]
    fn a_fault_is_met_once_and_on_its_side_of_the_effect() {
        let faults = Faults::new();
        let mut done = 0;
        faults.fail_at(0, PortError::Unavailable("down".into()));
        faults.fail_at(2, PortError::Lost("gone".into()));
        assert_eq!(effect(&faults, &mut done), Err(PortError::Unavailable("down".into())));
        assert_eq!(done, 0);
        assert_eq!(effect(&faults, &mut done), Err(PortError::Lost("gone".into())));
        assert_eq!(done, 1);
        assert_eq!(effect(&faults, &mut done), Ok(()));
        assert_eq!(faults.passed(), 5);
        assert_eq!(faults.log()[2].moment, Moment::After);
    }

    #[test]
    fn a_fault_by_name_waits_for_its_call() {
        let faults = Faults::new();
        faults.fail_next(Moment::After, "files.put", PortError::NoSpace("full".into()));
        faults.after("files.rename", "/a").unwrap();
        faults.before("files.put", "/a").unwrap();
        assert!(faults.after("files.put", "/a").is_err());
        faults.after("files.put", "/a").unwrap();
    }

    #[test]
    fn what_is_down_stays_down_until_it_is_resumed() {
        let (faults, mut done) = (Faults::new(), 0);
        faults.down_from(2, "files.", PortError::Unavailable("down".into()));
        effect(&faults, &mut done).unwrap();
        for _ in 0..3 {
            assert!(effect(&faults, &mut done).is_err());
        }
        faults.before("web_server.test", "").unwrap();
        faults.resume();
        effect(&faults, &mut done).unwrap();
        assert_eq!(done, 2);
    }

    #[test]
    fn a_stopped_world_stands_still_until_it_is_resumed() {
        let (faults, mut done) = (Faults::new(), 0);
        let twin = faults.clone();
        faults.stop_at(1);
        for _ in 0..3 {
            assert!(matches!(effect(&twin, &mut done), Err(PortError::Lost(_))));
        }
        assert_eq!((done, faults.passed(), faults.stopped()), (1, 1, true));
        faults.resume();
        effect(&twin, &mut done).unwrap();
        assert_eq!((done, faults.passed()), (2, 3));
    }
}
