//! The saga core. Pure but for the executor, which awaits ports: no runtime, disk, network or clock of its own.
pub mod outbox;
pub mod plan;
pub mod retry;
pub mod service;
pub mod step;
pub mod store;
pub mod task;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
