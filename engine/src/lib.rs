//! The saga core. Pure but for the executor, which awaits ports: no runtime, disk, network or clock of its own.
pub mod builder;
pub mod context;
pub mod event;
pub mod executor;
pub mod journal;
mod locks;
pub mod machine;
pub mod outbox;
pub mod plan;
pub mod ports;
pub mod proof;
pub mod retry;
pub mod service;
pub mod step;
pub mod store;
pub mod task;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod workflow;
