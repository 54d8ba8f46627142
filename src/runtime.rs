//! The real world behind the engine's small ports: time, tasks, dice. Nothing else reads the clock or rolls dice.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kedge_engine::ports::{Clock, Random, Spawner};
use kedge_engine::task::Millis;

/// Time by the machine's clock.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
    }

    fn sleep_until(&self, at: Millis) -> BoxFuture<'static, ()> {
        tokio::time::sleep(Duration::from_millis(at.saturating_sub(self.now()))).boxed()
    }
}

/// Tasks on the runtime.
pub(crate) struct TokioSpawner(pub tokio::runtime::Handle);

impl Spawner for TokioSpawner {
    fn spawn(&self, future: BoxFuture<'static, ()>) {
        self.0.spawn(future);
    }
}

/// Dice of the operating system.
pub(crate) struct SystemRandom;

impl Random for SystemRandom {
    fn id(&self) -> [u8; 16] {
        *uuid::Uuid::now_v7().as_bytes()
    }

    fn roll(&self) -> f64 {
        rand::random()
    }
}
