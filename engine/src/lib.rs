//! The saga core. Pure but for the executor, which awaits ports: no runtime, disk, network or clock of its own.
pub mod store;
