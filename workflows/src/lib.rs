//! The hosting tasks: one file a workflow, shared steps in `steps`, what they need from the world in `ports`. Pure: no I/O here.
pub mod encoding;
pub mod names;
pub mod ports;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
