//! The saga core. Pure but for the executor, which awaits ports: no runtime, disk, network or clock of its own.
pub mod step;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
